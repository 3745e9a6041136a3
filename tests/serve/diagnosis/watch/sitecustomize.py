"""Put before the modules of an app under test: tells on stderr which files its server's Python code opens to write."""

import os
import sys

if "streamlit" in sys.orig_argv:

    def _tell(event: str, arguments: tuple[object, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                os.write(2, f"WRITES {path}\n".encode())

    sys.addaudithook(_tell)
