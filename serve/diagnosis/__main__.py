"""`python -m serve.diagnosis`: the app, and together with it the service on this machine; Ctrl-C or SIGTERM end both.

With `--service_url` only the app is started, for a service that runs somewhere already.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from hubert_ecg.errors import ConfigError
from hubert_ecg.pipeline.commands import guarded
from serve.client import DEFAULT_URL, KEY_VARIABLE
from serve.diagnosis.settings import OPENAI_KEY_VARIABLE, URL_VARIABLE, AppSettings
from serve.diagnosis.style import THEME
from serve.diagnosis.uploads import DEFAULT_MAX_MIB
from serve.exposure import is_loopback

APP = Path(__file__).resolve().parents[1] / "streamlit_app.py"
_ENDING_S = 30.0
"""From the end of the service's work, which may take its drain_s, to the end of its process."""
_LOOK_S = 0.3
_SHELLS_CODE = 128


def main(arguments: Sequence[str] | None = None) -> None:
    """Start what was asked for and stay until one of them ends, with its exit code, or a signal comes."""
    flags = _flags(arguments)
    environment = dict(os.environ)
    if flags.service_url:
        environment[URL_VARIABLE] = flags.service_url
    else:
        environment[URL_VARIABLE] = f"http://127.0.0.1:{flags.service_port}"
    warn_if_exposed(flags.host, AppSettings.of_environment(environment))
    commands = [] if flags.service_url else [_service(flags)]
    max_upload_mib, drain_s = _limits(flags)
    commands.append(_app(flags, max_upload_mib))
    stopped: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _: stopped.append(received))
    running = [subprocess.Popen(command, env=environment) for command in commands]
    print(f"the app: http://{flags.host}:{flags.port} (the service needs about a minute to start)", flush=True)
    try:
        while not stopped and all(process.poll() is None for process in running):
            time.sleep(_LOOK_S)
    finally:
        ended = _end(running, drain_s)
    if not stopped and any(ended):
        sys.exit(next(code for code in ended if code))


def warn_if_exposed(host: str, settings: AppSettings) -> None:
    """Say so when others reach the app, which asks nobody who they are, and it holds keys that they could use."""
    held = {OPENAI_KEY_VARIABLE: settings.openai_key, KEY_VARIABLE: settings.service_key}
    names = " and ".join(name for name, key in held.items() if key)
    if names and not is_loopback(host):
        print(
            f"WARNING: the app listens on {host} and holds {names}: whoever reaches it uses them. Listen on 127.0.0.1 "
            f"and put a proxy in front that asks for a login, or start the app without them",
            file=sys.stderr,
            flush=True,
        )


def _end(running: Sequence[subprocess.Popen[bytes]], drain_s: float) -> list[int]:
    """SIGTERM to whoever runs, and their exit codes. A second signal of the user's must not leave one behind."""
    for process in running:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
    codes = []
    for process in running:
        try:
            codes.append(process.wait(drain_s + _ENDING_S))
        except subprocess.TimeoutExpired:
            process.kill()
            codes.append(process.wait())
    return [code if code >= 0 else _SHELLS_CODE - code for code in codes]


def _limits(flags: argparse.Namespace) -> tuple[float, float]:
    """MiB that the service takes, and seconds that it may take to end. Raises ConfigError for what it would refuse."""
    if flags.service_url:
        return DEFAULT_MAX_MIB, 0.0
    # What the service imports takes seconds, and an app that stands alone does not need it.
    from serve.__main__ import CONFIG, read_config, settings_of

    settings = settings_of(read_config(CONFIG), flags.checkpoint, flags.set)
    return settings.max_body_mib, settings.drain_s


def _service(flags: argparse.Namespace) -> list[str]:
    command = [sys.executable, "-m", "serve", "--host", "127.0.0.1", "--port", str(flags.service_port)]
    for checkpoint in flags.checkpoint:
        command += ["--checkpoint", checkpoint]
    for change in flags.set:
        command += ["--set", change]
    return command


def _app(flags: argparse.Namespace, max_upload_mib: float) -> list[str]:
    """Streamlit, on loopback unless told otherwise, telling nobody about it, with the service's limit of uploads."""
    options = {
        "server.address": flags.host,
        "server.port": flags.port,
        "server.headless": "true",
        "server.maxUploadSize": max(1, int(max_upload_mib)),
        "server.fileWatcherType": "none",
        "browser.gatherUsageStats": "false",
        "client.toolbarMode": "minimal",
        "client.showErrorDetails": "none",
        **{f"theme.{name}": value for name, value in THEME.items()},
    }
    command = [sys.executable, "-m", "streamlit", "run", str(APP)]
    for name, value in options.items():
        command += [f"--{name}", str(value)]
    return command


def _flags(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m serve.diagnosis", description="The diagnosis app and its service.")
    parser.add_argument("--host", default="127.0.0.1", help="address of the app; 127.0.0.1 is this machine only")
    parser.add_argument("--port", type=int, default=8501, help="port of the app")
    parser.add_argument("--service_url", help=f"a service that runs already, {DEFAULT_URL} say; none is started then")
    parser.add_argument("--service_port", type=int, default=8000, help="port of the service that is started")
    parser.add_argument(
        "--checkpoint", action="append", default=[], metavar="[NAME=]DIR", help="a classifier to serve; several times"
    )
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of the service")
    flags = parser.parse_args(arguments)
    if flags.service_url and flags.checkpoint:
        raise ConfigError("checkpoint: wanted none beside service_url, as no service is started; leave one of them out")
    return flags


if __name__ == "__main__":
    sys.exit(guarded(main))
