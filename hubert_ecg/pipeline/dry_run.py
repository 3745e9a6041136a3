"""What a job would take, said before anything starts or is written: `python -m jobs.<verb> ... --dry_run`."""

import os
from collections.abc import Iterator
from dataclasses import dataclass

from hubert_ecg.storage import files
from hubert_ecg.storage.artifact import MANIFEST, PARTS


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """The work of one stage."""

    rows: int
    """Recordings that are read; 0 for stages of other things."""
    input_bytes: float
    output_bytes: float
    basis: str
    """What the hours were derived from."""
    core_s: float = 0.0
    """Seconds of one core."""
    gpu_s: float = 0.0
    """Seconds of one GPU."""
    pieces: int = 1
    """Shards, or processes, that can work at once."""
    pieces_are: str = "shard"
    workers: int = 0
    """Pieces at once as the settings have it; 0: as many as there are CPUs (or GPUs)."""
    cpus_each: float = 1.0
    gpus_each: float = 0.0

    def at_once(self, cpus: int) -> int:
        """Pieces at work on a machine or cluster of so many CPUs."""
        fit = self.pieces if self.gpus_each else max(1, int(cpus / max(self.cpus_each, 1e-9)))
        return max(1, min(self.pieces, self.workers or fit, fit))

    def hours(self, cpus: int) -> float:
        """From start to end on so many CPUs, and as many GPUs as the settings ask for."""
        pieces = self.at_once(cpus)
        seconds = self.gpu_s / (pieces * self.gpus_each) if self.gpus_each else self.core_s / (pieces * self.cpus_each)
        return seconds / 3600


def described(verb: str, estimate: Estimate, output: str, *, cpus: int | None = None) -> Iterator[str]:
    """Lines for people: rows, bytes, resources, hours and what the output directory holds already."""
    cpus = cpus or len(os.sched_getaffinity(0))
    finished, state = _state(output, estimate.pieces if estimate.pieces_are == "shard" else 0)
    left = 1 - finished
    kind = f"{estimate.pieces_are}{'' if estimate.pieces == 1 else 's'}"
    each = f"{estimate.cpus_each:g} CPU" + (f" and {estimate.gpus_each:g} GPU" if estimate.gpus_each else "") + " each"
    at_once = estimate.at_once(cpus)
    hours, unit = (estimate.gpu_s, "GPU") if estimate.gpus_each else (estimate.core_s, "core")
    where = f"{at_once * estimate.gpus_each:g} GPUs" if estimate.gpus_each else f"the {cpus} CPUs of this machine"
    yield f"{verb}: dry run, nothing is started and nothing written"
    yield f"{verb}: rows       {estimate.rows:,} recordings"
    yield f"{verb}: bytes      {_bytes(estimate.input_bytes)} to read, about {_bytes(estimate.output_bytes)} to write"
    yield f"{verb}: resources  {estimate.pieces:,} {kind}, {each}; {at_once:,} at once here"
    yield (
        f"{verb}: hours      {_hours(estimate.hours(cpus) * left)} on {where}, "
        f"{_hours(hours / 3600 * left)} of one {unit} ({estimate.basis})"
    )
    yield f"{verb}: output     {output}: {state}"


def stored_bytes(directory: str) -> int:
    """Bytes of the shards of a table, from its listing: a request per thousand files."""
    return sum(size for _, size in files.walk(files.join(directory, PARTS)))


def _state(output: str, parts: int) -> tuple[float, str]:
    """(share that is finished, in words)."""
    directory = files.absolute(output)
    if files.exists(files.join(directory, MANIFEST)):
        return 1.0, "finished, nothing to do if by the same settings"
    names = files.list_names(files.join(directory, PARTS)) if parts else []
    done = sum(name.endswith(".json") for name in names)
    if done:
        return min(1.0, done / parts), f"begun, {done:,} of {parts:,} shards are finished"
    return 0.0, "new" if not files.list_names(directory) else "begun"


def _bytes(count: float) -> str:
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f} B"


def _hours(hours: float) -> str:
    return f"{hours:,.1f} h" if hours >= 1 else f"{hours * 60:.1f} min" if hours * 60 >= 1 else f"{hours * 3600:.1f} s"
