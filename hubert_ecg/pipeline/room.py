"""How many CPUs and GPUs a job would find: the cluster's that it would join, or this machine's; nothing is started."""

import os
import socket
from dataclasses import dataclass
from pathlib import Path

from hubert_ecg.errors import ResourceError
from hubert_ecg.pipeline.ray_cluster import cluster_limits, cluster_resources_of

ANSWER_S = 5.0
"""A cluster that does not open a connection within this time is not there."""


@dataclass(frozen=True, kw_only=True)
class Room:
    """What the pieces of a job share."""

    cpus: int
    gpus: int = 0
    place: str = "this machine"

    def __str__(self) -> str:
        parts = [f"{count:,} {name}{'' if count == 1 else 's'}" for count, name in self._counts if count]
        return f"{' and '.join(parts)} of {self.place}"

    @property
    def _counts(self) -> tuple[tuple[int, str], ...]:
        return (self.cpus, "CPU"), (self.gpus, "GPU")


def room_of_job() -> Room:
    """The room of a job that started now. Raises ResourceError where RAY_ADDRESS names a cluster that does not answer.

    As when it starts: RAY_ADDRESS, else the cluster that `ray start` began on this machine, else the machine alone; and
    as much as HUBERT_ECG_CLUSTER_LIMITS promises where that is more.
    """
    address, limits = _address(), cluster_limits()
    if address:
        found, place = _of_cluster(address), f"the Ray cluster at {address}"
    else:
        found, place = {"CPU": len(os.sched_getaffinity(0)), "GPU": _gpus_here()}, "this machine"
    room = {name: max(count, limits.get(name, 0)) for name, count in found.items()}
    if room != found:
        place = f"{place}, as far as it may grow" if address else "a cluster that may grow so far"
    return Room(cpus=room["CPU"], gpus=room["GPU"], place=place)


def _address() -> str | None:
    """Of the cluster that `ray.init` would join; None where it would start one of its own."""
    named = os.environ.get("RAY_ADDRESS", "")
    if named == "local":
        return None
    if named and named != "auto":
        return named
    left = Path(os.environ.get("RAY_TMPDIR", "/tmp")) / "ray" / "ray_current_cluster"
    return left.read_text().strip() if left.exists() else None


def _of_cluster(address: str) -> dict[str, int]:
    host, _, port = address.rpartition("://")[2].rpartition(":")
    try:
        # Ray itself would go on asking for a minute.
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_S).close()
        total = cluster_resources_of(address)
    except (OSError, ValueError) as error:
        raise ResourceError(
            f"--dry_run: wanted the Ray cluster at {address} to say how many CPUs it has, got: {error}; is it up? To "
            f"run on this machine alone: RAY_ADDRESS=local"
        ) from error
    return {name: int(total.get(name, 0)) for name in ("CPU", "GPU")}


def _gpus_here() -> int:
    """GPUs of this machine that a job may use. torch is asked only where there is a driver: importing it takes long."""
    if not Path("/dev/nvidiactl").exists() and not Path("/dev/dxg").exists():
        return 0
    import torch

    return torch.cuda.device_count()
