"""`python -m serve`: the service on this machine, from a settings file and flags, until it is told to end.

SIGTERM or Ctrl-C finish what was accepted and end, a second Ctrl-C ends at once. SIGHUP reads the settings again and
rolls over to them: new processes start and load before the old ones, which finish what they have, go.
"""

import argparse
import logging
import os
import queue
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from hubert_ecg.errors import ConfigError, HubertEcgError
from hubert_ecg.pipeline.commands import guarded, set_up_logging
from hubert_ecg.pipeline.ray_cluster import start_ray
from serve.catalogue import Catalogue
from serve.deploying import APPLICATION, Signals, check_place, deploy
from serve.exposure import is_loopback
from serve.keys import KeyRing
from serve.settings import ServiceSettings

log = logging.getLogger("serve")

CONFIG = Path(__file__).with_name("config.yaml")
CANCELLED_S = 10.0
"""What a call that is taken back may take to notice."""
RAY_SETTINGS = {
    # Somebody waits for an answer: no lower priority than other work of this machine, as Ray's workers have.
    "RAY_worker_niceness": "0",
    # A busy machine takes longer to start a process than Serve gives its proxy, three times 5 s.
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
}
"""For a Ray that is started here; one that runs already has its own."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Start, say where, and stay until a signal says otherwise."""
    flags = _flags(arguments)
    config = read_config(flags.config)
    settings = settings_of(config, flags.checkpoint, flags.set)
    http = config.get("http_options") or {}
    host, port = flags.host or http.get("host", "127.0.0.1"), flags.port or http.get("port", 8000)
    warn_if_exposed(host, settings)
    signals: Signals = queue.SimpleQueue()
    _listen_to(signals)
    start({**http, "host": host, "port": port}, settings)
    _listen_to(signals)  # Ray has put handlers of its own in their place, which end the process on the spot.
    answers = deploy(settings, signals) is None
    if answers:
        print(f"serving {', '.join(settings.checkpoints)} at http://{host}:{port} (documentation: /docs)", flush=True)
        while signals.get() == signal.SIGHUP:
            settings, ended = _roll_over(flags, settings, signals)
            if ended:
                break
    stop(signals, drain_s=settings.drain_s if answers else 0.0)


def _listen_to(signals: Signals) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda received, _: signals.put(received))


def _roll_over(flags: argparse.Namespace, before: ServiceSettings, signals: Signals) -> tuple[ServiceSettings, bool]:
    """Deploy what the settings file says now; what cannot be deployed leaves the service as it is.

    Returns the settings in use, and whether a signal to end came meanwhile.
    """
    try:
        settings = settings_of(read_config(flags.config), flags.checkpoint, flags.set)
        ended = deploy(settings, signals, before=before) is not None
    except (HubertEcgError, RuntimeError) as error:
        log.error("settings not taken over, the service goes on as it was: %s", error)
        return before, False
    if not ended:
        print(f"serving {', '.join(settings.checkpoints)} (rolled over)", flush=True)
    return settings, ended


def start(http_options: Mapping[str, Any], settings: ServiceSettings) -> None:
    """Look at the checkpoints and for room, start Ray where there is none, and Serve on it."""
    Catalogue(settings.checkpoints)
    for name, value in RAY_SETTINGS.items():
        os.environ.setdefault(name, value)
    start_ray()
    check_place(settings)
    from ray import serve

    serve.start(http_options=dict(http_options), proxy_location="HeadOnly", logging_config={"enable_access_log": False})


def stop(signals: Signals, *, drain_s: float) -> None:
    """Refuse what is new, finish what was accepted if anything can have been (drain_s > 0), end."""
    import ray
    from ray import serve

    finished = True
    if drain_s:
        log.info("ending: finishing what was accepted; Ctrl-C ends at once")
        finished = _drain(signals, drain_s)
    else:
        log.info("ending before the service was up")
    if finished or os.environ.get("RAY_ADDRESS"):
        serve.shutdown()
    else:
        # Serve, too, would wait for what was accepted. The Ray that was started here takes it with it, of which threads
        # of Serve's in this process would tell at length.
        logging.disable(logging.CRITICAL)
    ray.shutdown()


def _drain(signals: Signals, drain_s: float) -> bool:
    """Wait until all that was accepted is answered, the time is over, or Ctrl-C comes; False for the last."""
    from ray import serve
    from ray.exceptions import TaskCancelledError
    from ray.serve.exceptions import RequestCancelledError

    answered = serve.get_app_handle(APPLICATION).drain.remote()
    done = 0

    def wait() -> None:
        try:
            answered.result(timeout_s=drain_s)
        except TimeoutError:
            log.warning("some requests took longer than drain_s = %g s and are given up", drain_s)
        except (RequestCancelledError, TaskCancelledError):
            pass
        finally:
            signals.put(done)

    waiting = threading.Thread(target=wait, daemon=True)
    waiting.start()
    # SIGTERM may well come twice, as when Ctrl-C in a terminal reaches this process and the one that started it.
    while (received := signals.get()) != done:
        if received == signal.SIGINT:
            log.warning("ending at once: what was accepted is given up")
            answered.cancel()
            waiting.join(CANCELLED_S)  # A thread that asks Ray for something after its end would end the process.
            return False
    return True


def read_config(path: Path) -> dict[str, Any]:
    """A file in the form of `serve deploy`, with one application. Raises ConfigError for anything else."""
    try:
        content = yaml.safe_load(path.read_text())
        dict(content["applications"][0]["args"])
    except (OSError, yaml.YAMLError, TypeError, ValueError, KeyError, IndexError) as error:
        raise ConfigError(
            f"{path}: wanted a Serve configuration with an application and its args, got {type(error).__name__} "
            f"{error}; see serve/config.yaml"
        ) from error
    return dict(content)


def settings_of(config: Mapping[str, Any], checkpoints: Sequence[str], changes: Sequence[str]) -> ServiceSettings:
    """The application's arguments, with what was given on the command line. Raises ConfigError."""
    values = dict(config["applications"][0]["args"])
    if checkpoints:
        pairs = [each.split("=", 1) if "=" in each else [Path(each).name, each] for each in checkpoints]
        values["checkpoints"] = {name: place for name, place in pairs}
    for change in changes:
        name, equals, text = change.partition("=")
        if not equals:
            raise ConfigError(f"--set: wanted name=value, got {change}")
        try:
            values[name] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"--set {name}: wanted a value as in YAML, got {text}") from error
    try:
        return ServiceSettings(**values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{name or 'settings'}: {first['msg']}; see serve/settings.py for all settings") from error


def warn_if_exposed(host: str, settings: ServiceSettings) -> None:
    """Say so when others can reach the service and anybody may call it."""
    if not is_loopback(host) and not KeyRing.of(settings.key_hashes).hashes:
        log.warning(
            "WARNING: the service listens on %s without keys: whoever reaches it can use it. Set key_hashes "
            "(python -m serve.keys NAME) or listen on 127.0.0.1, and put a proxy with TLS in front",
            host,
        )


def _flags(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m serve", description="Serve classifiers over HTTP.")
    parser.add_argument("--config", type=Path, default=CONFIG, help="settings, in the form of `serve deploy`")
    parser.add_argument(
        "--checkpoint",
        action="append",
        default=[],
        metavar="[NAME=]DIR",
        help="a classifier to serve, instead of those of the settings; may be given several times",
    )
    parser.add_argument("--host", help="address to listen on; 127.0.0.1 is reached from this machine only")
    parser.add_argument("--port", type=int, help="port to listen on")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of ServiceSettings")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    set_up_logging()
    sys.exit(guarded(main))
