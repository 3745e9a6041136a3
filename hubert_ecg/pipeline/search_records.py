"""What a search knows of its trials, in files: the one source of truth when it is killed and started again.

OUTPUT/trials/00007/trial.json    what it was given, its state, what it reported (written by the driver)
OUTPUT/trials/00007/result.json   written by the trial when all of its stages are finished
OUTPUT/trials/00007/error.json    written by the trial when it fails
"""

from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from hubert_ecg.pipeline.search_space import Params
from hubert_ecg.storage import files

State = Literal["waiting", "running", "finished", "stopped", "failed", "out of time"]
OVER: tuple[State, ...] = ("finished", "stopped", "failed")
"""States that a search which goes on does not touch again."""

TRIALS, RECORD, RESULT, ERROR = "trials", "trial.json", "result.json", "error.json"


@dataclass(kw_only=True)
class TrialRecord:
    """One trial."""

    number: int
    params: Params
    state: State = "waiting"
    reports: list[dict[str, float]] = field(default_factory=list)
    """`progress` (steps, or folds) and `value` of the metric, as the trial went on."""
    metric: float | None = None
    """Of the checkpoint that is kept; the mean over folds where there are several. Of a trial that was stopped, the
    last that it reported."""
    folds: list[float] = field(default_factory=list)
    best_step: int | None = None
    output: str | None = None
    """What its last stage wrote."""
    seconds: float = 0.0
    error: str | None = None
    exchanges: list[dict[str, Any]] = field(default_factory=list)
    """Of population-based training: at which progress it went on from which trial's model, with which settings."""

    def save(self, output: str) -> None:
        files.write_json(files.join(trial_directory(output, self.number), RECORD), asdict(self))

    def take_result(self, output: str) -> bool:
        """Fill in what a finished trial wrote; False where it has written nothing."""
        path = files.join(trial_directory(output, self.number), RESULT)
        if not files.exists(path):
            return False
        found = files.read_json(path)
        self.state, self.error = "finished", None
        self.metric, self.folds, self.best_step = found["metric"], found["folds"], found["best_step"]
        self.output = found["output"]
        return True


def trial_directory(output: str, number: int) -> str:
    return files.join(output, TRIALS, f"{number:05d}")


def load_records(output: str) -> list[TrialRecord]:
    """All trials that were ever proposed in an output directory, in order."""
    places = sorted(Path(output, TRIALS).glob(f"*/{RECORD}"))
    return [TrialRecord(**files.read_json(str(path))) for path in places]


def left_error(output: str, number: int) -> dict[str, Any] | None:
    """What a failed trial wrote: `error` in one line, `traceback`, and whether it would be every trial's (`fatal`)."""
    path = files.join(trial_directory(output, number), ERROR)
    found: dict[str, Any] | None = files.read_json(path) if files.exists(path) else None
    return found


def best_of(records: list[TrialRecord], mode: str) -> TrialRecord | None:
    """The finished trial with the best metric, the first of equals; trials that were stopped had less training."""
    finished = [record for record in records if record.state == "finished" and record.metric is not None]
    if not finished:
        return None
    sign = 1 if mode == "max" else -1
    return max(finished, key=lambda record: (sign * (record.metric or 0.0), -record.number))


def summary(records: list[TrialRecord]) -> str:
    """How many trials are in each state, in words."""
    counts = Counter(record.state for record in records)
    return ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
