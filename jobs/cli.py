"""The command line of every job: settings from flags and YAML, one-line errors, exit codes, and the next command."""

import logging
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

from jsonargparse import ActionConfigFile, ArgumentParser, Namespace

from hubert_ecg.errors import ConfigError, HubertEcgError
from hubert_ecg.storage.artifact import Manifest

EXIT_DONE, EXIT_BUG, EXIT_USER = 0, 1, 2


def parse(verb: str, config_class: type, arguments: list[str] | None = None) -> Any:
    """The settings of a job as its dataclass; exits with 2 and one line when a flag is unknown or impossible."""
    parser = ArgumentParser(
        prog=f"python -m jobs.{verb}", description=config_class.__doc__, default_env=False, exit_on_error=True
    )
    parser.add_argument("--config", action=ActionConfigFile, help="YAML file of settings; flags after it win")
    parser.add_class_arguments(config_class, as_group=False)
    settings: Namespace = parser.parse_args(arguments)
    made = parser.instantiate_classes(settings)
    return config_class(**{name: value for name, value in made.items() if name != "config"})


def run_job(verb: str, config_class: type, stage: Callable[[Any], Manifest], next_command: Callable[[Any], str]) -> None:
    """Parse, start Ray, run the stage, say where its output is and what to do next; then exit."""
    set_up_logging()
    sys.exit(guarded(lambda: _run(parse(verb, config_class), verb, stage, next_command)))


def guarded(work: Callable[[], None]) -> int:
    """Exit code of some work: 0, or 2 after one line for an error that the user can fix. Bugs keep their traceback."""
    try:
        work()
    except HubertEcgError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USER
    except KeyboardInterrupt:
        print("stopped; the same command goes on from the finished shards or the last checkpoint", file=sys.stderr)
        return 130
    return EXIT_DONE


def _run(config: Any, verb: str, stage: Callable[[Any], Manifest], next_command: Callable[[Any], str]) -> None:
    from hubert_ecg.pipeline.ray_cluster import start_ray
    from hubert_ecg.storage import files
    from hubert_ecg.storage.artifact import MANIFEST

    began = time.monotonic()
    there_before = files.exists(files.join(files.absolute(config.output), MANIFEST))
    if not there_before:
        start_ray()
    manifest = stage(config)
    if there_before:
        print(f"{verb}: nothing to do, this run is finished already")
    else:
        print(f"{verb}: done in {time.monotonic() - began:.0f} s")
    print(f"{verb}: output {manifest.directory} (fingerprint {manifest.fingerprint}); next: {next_command(config)}")


def set_up_logging() -> None:
    """Progress lines to stderr, without the noise of libraries."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    for name in ("ray", "jax", "numba", "matplotlib", "fsspec"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Ray Data's own settings object warns of its deprecated fields whenever it is made.
    warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"ray\..*")


__all__ = ["ConfigError", "guarded", "parse", "run_job", "set_up_logging"]
