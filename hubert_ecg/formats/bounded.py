"""Keep what comes out of a file within bounds: its content in memory, and its words in messages."""

import os

from hubert_ecg.errors import RecordingError

MAX_BYTES = 256 << 20
"""Files above this are refused before they are read: a day of three leads at 500 Hz and 16 bits is 250 MiB."""


def read_bounded(path: str, max_bytes: int = MAX_BYTES) -> bytes:
    """The file's content. Raises RecordingError: `missing file`, `too large`, `unreadable`."""
    if not os.path.isfile(path):
        raise RecordingError("missing file", f"{path}: no such file; check the data set's folder")
    try:
        with open(path, "rb") as file:
            content = file.read(max_bytes + 1 if os.path.getsize(path) > max_bytes else -1)
    except OSError as error:
        raise RecordingError("unreadable", f"{path}: cannot be read; {error}") from error
    if len(content) > max_bytes:
        raise RecordingError(
            "too large", f"{path}: wanted at most {max_bytes} bytes, got more; split the recording into shorter ones"
        )
    return content


def clipped(words: object, length: int = 200) -> str:
    """The beginning of a text that a file or a package made up, for a message that people read."""
    text = str(words)
    return text if len(text) <= length else text[: length - 3] + "..."
