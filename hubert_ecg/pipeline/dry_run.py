"""What a job would take, said before anything starts or is written: `python -m jobs.<verb> ... --dry_run`."""

from collections.abc import Iterator
from dataclasses import dataclass

from hubert_ecg.pipeline.room import Room
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
    together: int = 1
    """Pieces that only work together: the processes of one training."""
    cpus_each: float = 1.0
    gpus_each: float = 0.0

    def at_once(self, room: Room) -> int:
        """Pieces at work in a room; where not even those that work together fit, as if they did."""
        shares = ((room.cpus, self.cpus_each), (room.gpus, self.gpus_each))
        fit = int(min(whole / share for whole, share in shares if share))
        most = min(self.pieces, self.workers or fit, fit)
        return max(self.together, most - most % self.together)

    def lacks(self, room: Room) -> str:
        """What a room would have to have for the job to be taken at all; empty where it has it."""
        wanted = {
            "CPUs": (room.cpus, self.cpus_each * self.together),
            "GPUs": (room.gpus, self.gpus_each * self.together),
        }
        short = [f"{need:g} {name}" for name, (whole, need) in wanted.items() if need > whole]
        return f"; wanted at least {' and '.join(short)}, so it would be refused there" if short else ""

    def hours(self, room: Room) -> float:
        """From start to end in a room; a piece computes on its CPUs and on its GPUs one after the other."""
        seconds = self.core_s / max(self.cpus_each, 1e-9) + (self.gpu_s / self.gpus_each if self.gpus_each else 0.0)
        return seconds / self.at_once(room) / 3600


def described(verb: str, estimate: Estimate, output: str, room: Room) -> Iterator[str]:
    """Lines for people: rows, bytes, resources, hours and what the output directory holds already."""
    finished, state = _state(output, estimate.pieces if estimate.pieces_are == "shard" else 0)
    left = 1 - finished
    kind = f"{estimate.pieces_are}{'' if estimate.pieces == 1 else 's'}"
    each = f"{estimate.cpus_each:g} CPU" + (f" and {estimate.gpus_each:g} GPU" if estimate.gpus_each else "") + " each"
    there = f" on {room}{estimate.lacks(room)}"
    alone = ((estimate.core_s, "core"), (estimate.gpu_s, "GPU"))
    of_one = " and ".join(f"{_hours(seconds / 3600 * left)} of one {unit}" for seconds, unit in alone if seconds)
    yield f"{verb}: dry run, nothing is started and nothing written"
    yield f"{verb}: rows       {estimate.rows:,} recordings"
    yield f"{verb}: bytes      {_bytes(estimate.input_bytes)} to read, about {_bytes(estimate.output_bytes)} to write"
    yield f"{verb}: resources  {estimate.pieces:,} {kind}, {each}; {estimate.at_once(room):,} at once{there}"
    yield f"{verb}: hours      {_hours(estimate.hours(room) * left)} on {room}, {of_one} ({estimate.basis})"
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
