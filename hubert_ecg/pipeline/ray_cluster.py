"""Connect to the Ray cluster that is there, or start one on this machine, quietly and without telemetry."""

import logging
import os
import warnings
from collections.abc import Callable
from typing import Any

from hubert_ecg.errors import ConfigError, ResourceError

log = logging.getLogger(__name__)

LIMITS = "HUBERT_ECG_CLUSTER_LIMITS"
RETRIES = 10
"""A task is begun again when its worker or node dies; ten deaths of one task mean that something else is wrong."""

# Forwarded lines that say nothing of the user's run: Ray Train polling a dashboard that we do not start; a warning of
# lost constructor arguments that Ray Data gives for every actor although it holds on to them; and Ray Train's echo of
# every report, which our own progress lines give already.
NOISE = "|".join(
    (
        "Failed to query Ray Train Controller actor state",
        "has constructor arguments in the object store",
        "Reporting training result",
    )
)


def start_ray(*, num_cpus: int | None = None) -> None:
    """Join the cluster named by `RAY_ADDRESS` (set inside `ray job submit`), else start one of this machine's cores.

    Does nothing when this process is connected already. Ray's usage statistics stay off unless the user turned them
    on: a hospital's machines do not report anywhere by default.
    """
    _be_quiet()
    import ray

    if not ray.is_initialized():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            address = os.environ.get("RAY_ADDRESS")
            if address:
                ray.init(address=address, logging_level=logging.WARNING)
            else:
                ray.init(num_cpus=num_cpus, include_dashboard=False, logging_level=logging.WARNING)
        log.info("Ray: %d CPUs, %d GPUs", available("CPU"), available("GPU"))
    quiet_ray_data()


def _be_quiet() -> None:
    """Settings that Ray reads when it is imported or started."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray would otherwise announce a change of default that this project does not depend on, at every start.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", NOISE)
    # That a local cluster guards itself with a token is as it should be, and no warning.
    logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)


def quiet_ray_data() -> Any:
    """The Ray Data context of this process, with its bars and announcements off; ours carry counts and rates.

    What a task raises comes back as it is: Ray Data would raise an error of its own, whose cause is lost on the way.
    """
    from ray.data import DataContext

    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.raise_original_map_exception = True
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)
    return context


def available(resource: str) -> int:
    """How much of a resource the cluster has in all, busy or not, or may grow to where machines come by need.

    Ray does not tell a job how far its cluster may grow, and a cluster without work has no workers at all; so whoever
    starts it says so in HUBERT_ECG_CLUSTER_LIMITS, as in `CPU=128,GPU=8`.
    """
    return int(_total(resource))


def _total(resource: str) -> float:
    import ray

    return max(float(ray.cluster_resources().get(resource, 0)), float(cluster_limits().get(resource, 0)))


def cluster_limits() -> dict[str, int]:
    """Resource -> how much of it HUBERT_ECG_CLUSTER_LIMITS promises. Raises ConfigError."""
    text = os.environ.get(LIMITS, "")
    try:
        pairs = [pair.split("=") for pair in text.split(",") if pair.strip()]
        return {name.strip(): int(count) for name, count in pairs}
    except ValueError as error:
        raise ConfigError(f"{LIMITS}: wanted the like of CPU=128,GPU=8, got {text!r}") from error


def cluster_resources_of(address: str) -> dict[str, float]:
    """Resource -> how much of it a running cluster has now. Nothing is left connected that was not before."""
    _be_quiet()
    import ray

    if ray.is_initialized():
        return dict(ray.cluster_resources())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    try:
        return dict(ray.cluster_resources())
    finally:
        ray.shutdown()


def require_cpus(wanted: float, what: str) -> None:
    """ResourceError unless the cluster has that many CPUs in all, so that work is refused rather than left waiting."""
    total = _total("CPU")
    if wanted > total:
        raise ResourceError(
            f"{what}: wanted {wanted:g} CPUs, the Ray cluster has {total:g}; ask for fewer workers or join a "
            f"larger cluster"
        )


def remote(function: Callable[..., Any], **options: Any) -> Any:
    """A function as a Ray task, of one CPU unless said otherwise; Ray keeps its numpy to as many threads."""
    import ray

    # Said outright: a task of a search's trial would else go into the trial's placement group, which holds no CPU.
    settings = {"num_cpus": 1, "max_retries": RETRIES, "scheduling_strategy": "DEFAULT"}
    return ray.remote(function).options(**(settings | options))
