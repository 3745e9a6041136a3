"""`python -m jobs.submit VERB --flag ...`: run a job on a cluster as if it ran here.

It is `ray job submit --working-dir . -- python -m jobs.VERB ...` with what that leaves out: flags are parsed here
before anything is sent, the exit code is the job's (2 for what you can fix), where Ray's command has 1 for all, and a
job that is stopped has time to save. The cluster is the one of RAY_API_SERVER_ADDRESS, or --address.
"""

import argparse
import asyncio
import logging
import os
import re
import shlex
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from hubert_ecg.errors import ConfigError, ResourceError
from hubert_ecg.pipeline.commands import EXIT_STOPPED, guarded, set_up_logging
from jobs.cli import parse
from jobs.prepare import spelled_out

ROOT = Path(__file__).resolve().parents[1]
NO_SETTINGS = ("recipe", "inspect", "demo")
"""Jobs that read their arguments in a way of their own; they are checked on the cluster."""
SECONDS_TO_SAVE = "300"
"""From `ray job stop` to SIGKILL of a job that has not ended by itself; Ray's own 3 s are too few for a checkpoint."""
SECRET = re.compile("KEY|SECRET|TOKEN|PASSWORD|CREDENTIAL|SALT", re.IGNORECASE)


def submit(arguments: list[str]) -> int:
    """Run a job on the cluster; returns its exit code. Raises ConfigError, ResourceError."""
    options = _options(arguments)
    check(options.verb, options.flags)
    environment = {"RAY_JOB_STOP_WAIT_TIME_S": SECONDS_TO_SAVE} | passed_on(options.env)
    entrypoint = shlex.join(["python", "-m", f"jobs.{options.verb}", *options.flags])
    client = _client(options.address)
    submission = client.submit_job(
        entrypoint=entrypoint, runtime_env={"working_dir": str(ROOT), "env_vars": environment}
    )
    print(f"{submission}: {entrypoint}", file=sys.stderr, flush=True)
    if options.no_wait:
        return 0
    try:
        asyncio.run(_show_log(client, submission))
    except KeyboardInterrupt:
        print(f"it goes on without you; to stop it: ray job stop {submission}", file=sys.stderr)
        return 130
    return exit_code(client.get_job_info(submission))


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m jobs.submit", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--address", help="the job server, such as http://127.0.0.1:8265 (RAY_API_SERVER_ADDRESS)")
    parser.add_argument(
        "--env", action="append", default=[], metavar="NAME", help="variable whose value here the job gets; no secrets"
    )
    parser.add_argument("--no_wait", action="store_true", help="return once it is submitted")
    parser.add_argument("verb", help="prepare, dump, cluster, ...")
    parser.add_argument("flags", nargs=argparse.REMAINDER, help="what the job itself takes")
    return parser.parse_args(arguments)


def check(verb: str, flags: list[str]) -> None:
    """ConfigError for a job that there is not, or flags that it would refuse."""
    if verb in NO_SETTINGS:
        return
    if verb in ("cli", "submit", "__init__") or not (ROOT / "jobs" / f"{verb}.py").exists():
        raise ConfigError(f"jobs.{verb}: wanted a job, got no module of that name; see jobs/")
    module = import_module("jobs.sample" if verb == "sample" else f"hubert_ecg.pipeline.{verb}")
    config_class: Any = getattr(module, f"{verb.capitalize()}Config")
    spelled = spelled_out(flags, config_class) if verb in ("prepare", "predict") else flags
    parse(verb, config_class, spelled)


def passed_on(names: list[str]) -> dict[str, str]:
    """The variables of these names. Secrets are refused: what goes with a job stands in logs and on the dashboard."""
    for name in names:
        if SECRET.search(name):
            raise ConfigError(
                f"--env {name}: a secret would be shown on the dashboard; give it to the nodes instead (an instance "
                f"profile, or the environment that Ray is started in)"
            )
        if name not in os.environ:
            raise ConfigError(f"--env {name}: wanted a variable that is set here, got none; export it first")
    return {name: os.environ[name] for name in names}


def exit_code(info: Any) -> int:
    """What the job's own process ended with; where it has none, 143 for a job that was stopped and 1 otherwise."""
    if info.driver_exit_code is not None:
        return int(info.driver_exit_code) % 256
    if info.status == "SUCCEEDED":
        return 0
    if info.status == "STOPPED":
        return EXIT_STOPPED
    print(info.message, file=sys.stderr)
    return 1


def _client(address: str | None) -> Any:
    # Ray's own default, said aloud: otherwise it announces it at every job.
    os.environ.setdefault("RAY_OVERRIDE_RUNTIME_ENV_DEFAULT_EXCLUDES", ".git,.venv,venv,__pycache__")
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    # What is of interest comes from the job; that its files are packed is not.
    for name in ("ray", "ray.dashboard", "ray._private"):
        logging.getLogger(name).setLevel(logging.WARNING)
    address = address or os.environ.get("RAY_API_SERVER_ADDRESS")
    if not address:
        raise ConfigError("--address: wanted the job server of a cluster, got none; see `ray dashboard` or README.md")
    try:
        return JobSubmissionClient(address)
    except (AuthenticationError, ConnectionError, RuntimeError) as error:
        raise ResourceError(
            f"{address}: wanted a job server that lets us in, got: {error}; is it up, is RAY_AUTH_MODE=token set, and "
            f"is this its token?"
        ) from error


async def _show_log(client: Any, submission: str) -> None:
    async for lines in client.tail_job_logs(submission):
        print(lines, end="", flush=True)


if __name__ == "__main__":
    set_up_logging()
    ended: list[int] = []
    sys.exit(guarded(lambda: ended.append(submit(sys.argv[1:]))) or ended[0])
