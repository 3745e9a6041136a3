"""The checkpoints of a training that is under way, local or `s3://`: complete or not there, the best and latest kept.

    DIRECTORY/step-000001200-3fa9c1/...     the files of one checkpoint, whatever they are
    DIRECTORY/step-000001200-3fa9c1.json    its receipt, written after them: the checkpoint is complete

A process killed while it writes leaves files without a receipt, which count for nothing and are deleted by the next
run. Names end at random, so that a process that has not noticed yet that its run was killed and begun anew cannot
write into a checkpoint of its successor. (Ray Train's own bookkeeping is one file, overwritten in place: a kill at that
moment would cost all checkpoints.)
"""

import logging
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path

from hubert_ecg.storage import files

log = logging.getLogger(__name__)

PREFIX, RECEIPT = "step-", ".json"


@dataclass(frozen=True, kw_only=True)
class Saved:
    """A complete checkpoint."""

    name: str
    step: int
    """Steps done when it was made."""
    score: float | None
    """Of a validation of these very weights, higher is better; None: they were not validated."""
    files: dict[str, int]
    """Path below its directory -> bytes."""


@dataclass(frozen=True, kw_only=True)
class RunCheckpoints:
    """The checkpoints of one run."""

    directory: str
    keep: int
    """How many are kept: the best and the latest ones, in any case at least these two."""

    def saved(self) -> list[Saved]:
        """All complete ones, by step."""
        # Where callbacks listen, as in a search, Ray Train keeps a record of its own beside them.
        names = [n for n in files.list_names(self.directory) if n.startswith(PREFIX) and n.endswith(RECEIPT)]
        found = [Saved(**files.read_json(files.join(self.directory, name))) for name in names]
        return sorted((one for one in found if self._is_whole(one)), key=lambda one: (one.step, one.name))

    def latest(self) -> Saved | None:
        return max(self.saved(), key=lambda one: one.step, default=None)

    def best(self) -> Saved | None:
        """The one with the highest score, of equals the earliest."""
        return best_of(self.saved())

    def path(self, name: str) -> str:
        return files.join(self.directory, name)

    def new_name(self, step: int) -> str:
        return f"{PREFIX}{step:09d}-{uuid.uuid4().hex[:6]}"

    def add(self, local: Path, *, name: str, step: int, score: float | None) -> Saved:
        """Copy a local directory into a new checkpoint, and delete what need not be kept any more."""
        written = {}
        for path in sorted(p for p in local.rglob("*") if p.is_file()):
            below = path.relative_to(local).as_posix()
            files.upload(str(path), files.join(self.directory, name, below))
            written[below] = path.stat().st_size
        saved = Saved(name=name, step=step, score=score, files=written)
        files.write_json(files.join(self.directory, name + RECEIPT), asdict(saved))
        self.prune()
        return saved

    def fetch(self, saved: Saved, target: Path) -> Path:
        """A local directory with its files: the checkpoint itself where it is local, else a copy in `target`."""
        if "://" not in self.directory:
            return Path(self.path(saved.name))
        for below in saved.files:
            local = target / below
            local.parent.mkdir(parents=True, exist_ok=True)
            files.download(files.join(self.directory, saved.name, below), str(local))
        return target

    def prune(self) -> None:
        """Delete all but the best and the latest ones."""
        there = self.saved()
        wanted = {one.name for one in worth_keeping(there, self.keep)}
        for one in there:
            if one.name not in wanted:
                files.delete(files.join(self.directory, one.name + RECEIPT))
                files.delete_directory(self.path(one.name))

    def clear_unfinished(self) -> None:
        """Delete what killed processes have left; only for a run of which no process is writing."""
        whole = {one.name for one in self.saved()}
        for name in files.list_names(self.directory):
            if name.endswith(RECEIPT) and name.removesuffix(RECEIPT) not in whole:
                files.delete(files.join(self.directory, name))
        for name in files.list_directories(self.directory):
            if name not in whole:
                log.info("deleting %s, a checkpoint that was not completed", self.path(name))
                files.delete_directory(self.path(name))

    def _is_whole(self, one: Saved) -> bool:
        """Whether all its files are there: a receipt may be left of a checkpoint that was being deleted."""
        return all(
            files.version(files.join(self.directory, one.name, below))[0] == size for below, size in one.files.items()
        )


def best_of(saved: list[Saved]) -> Saved | None:
    scored = [one for one in saved if one.score is not None]
    return max(scored, key=lambda one: (one.score, -one.step), default=None)


def worth_keeping(saved: list[Saved], keep: int) -> list[Saved]:
    """The best one and the latest ones, `keep` in all, but both in any case."""
    best = best_of(saved)
    others = sorted((one for one in saved if one != best), key=lambda one: one.step)
    room = keep - (best is not None)
    if best is None or (others and others[-1].step > best.step):
        room = max(1, room)  # The latest is none of the best.
    kept = others[len(others) - min(room, len(others)) :]
    return kept + ([best] if best is not None else [])
