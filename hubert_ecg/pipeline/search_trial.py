"""One trial of a search, in a process of its own: runs its stages, tells Ray Tune how it goes, writes its result."""

import contextlib
import logging
import os
import queue
import shutil
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ray import tune
from ray.train import UserCallback
from ray.train.v2._internal.execution.callback import WorkerGroupCallback

from hubert_ecg.errors import ConfigError, TrainingError
from hubert_ecg.pipeline.search_records import ERROR, RESULT, trial_directory
from hubert_ecg.pipeline.search_space import Space
from hubert_ecg.pipeline.search_stages import STAGES, TRAININGS, StageRun, stage_runs
from hubert_ecg.pipeline.training_run import SCORE, Surroundings
from hubert_ecg.pipeline.user_errors import user_error
from hubert_ecg.storage import files
from hubert_ecg.storage.artifact import Manifest

VALUE, PROGRESS = "value", "progress"
"""What Ray Tune is told: the metric, and steps (or folds) done."""
TRIAL = "trial"
"""In what Ray Tune hands to a trial: its number and its parameters."""
SHARED = "shared"
HELD = "held.json"
"""Beside the stages of a trial: the placement group of its workers."""
START_TIMEOUT_S = 900
"""Longest wait for the workers of a trial to start, s."""
ABORT_S = 30.0
"""Longest wait for a training to end that is not wanted any more."""
BEGIN = "begin"
"""Beside the stages of a trial of population-based training: the checkpoint of another trial that it began from."""


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """What all trials have in common."""

    output: str
    space: Space
    metric: str
    waveforms: tuple[str, ...]
    """One table, or one per fold."""
    maker: Any
    """The actor that makes what trials share."""
    exchange: bool
    """Whether reports carry checkpoints, for population-based training."""

    @property
    def folds(self) -> bool:
        return len(self.waveforms) > 1

    def runs(self, params: dict[str, Any], own: str, fold: int = 0) -> list[StageRun]:
        """The stages of a trial, in `own`."""
        return stage_runs(
            self.space.stages,
            self.space.settings(params),
            waveforms=self.waveforms[fold],
            shared=files.join(self.output, SHARED),
            own=files.join(own, f"fold-{fold}") if self.folds else own,
        )


class Maker:
    """Makes what several trials share, one thing at a time, so that none is made twice."""

    def make(self, verb: str, config: Any) -> None:
        logging.basicConfig(level=logging.INFO, format="%(message)s")
        STAGES[verb][1](config)


class Listener(UserCallback):
    """Hands every report of a training to its trial. Lives in the controller of Ray Train.

    It waits until the trial has taken the report where that carries a checkpoint, which the next one may delete.
    """

    def __init__(self, told: Any, taken: Any | None) -> None:
        self.told, self.taken = told, taken

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
        if "step" not in metrics[0]:  # A checkpoint between validations has nothing to say.
            return
        self.told.put(("report", (metrics[0], checkpoint.path if checkpoint is not None else None)))
        if self.taken is not None:
            self.taken.get()


class Holder(WorkerGroupCallback):
    """Tells the trial which controller runs its training, and writes down what its workers have reserved.

    A controller that is killed leaves both reserved for good: Ray Train's own guard asks a dashboard, which need not be
    there.
    """

    def __init__(self, told: Any, path: str) -> None:
        self.told, self.path = told, path

    def after_worker_group_start(self, worker_group: Any) -> None:
        import ray

        group = worker_group.get_worker_group_state().placement_group_handle.placement_group
        files.write_json(self.path, {"placement_group": group.id.hex()})
        self.told.put(("controller", ray.get_runtime_context().current_actor))


class SearchTrial(tune.Trainable):
    """A trial as Ray Tune sees it: each step is the next report of its stages. Its process serves one after another.

    It runs no step of its own training: that is done by Ray Train's workers, who reserve what they need.
    """

    def setup(self, config: dict[str, Any], sweep: Sweep) -> None:
        # Workers that wait for a busy machine, or for one another's places, are no failure. Ray Train hands it on.
        os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", str(START_TIMEOUT_S))
        self.sweep = sweep
        self.running = Running(config[TRIAL], sweep)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        if not self.running.stop():
            return False
        self.running = Running(new_config[TRIAL], self.sweep)
        return True

    def step(self) -> dict[str, Any]:
        return self.running.next_report()

    def cleanup(self) -> None:
        self.running.stop()

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Of population-based training: the model and the trainer's state, for another trial to go on from."""
        if self.running.checkpoint is None:
            raise TrainingError(f"trial {self.running.number}: wanted a checkpoint with its report, got none")
        shutil.copytree(self.running.checkpoint, checkpoint_dir, dirs_exist_ok=True)

    def load_checkpoint(self, checkpoint: str) -> None:
        self.running.begin_life(checkpoint)


class Running:
    """The stages of one trial, in a thread, and what comes out of it."""

    def __init__(self, assigned: dict[str, Any], sweep: Sweep) -> None:
        params = dict(assigned)
        self.number: int = params.pop("number")
        self.params, self.sweep = params, sweep
        self.directory = trial_directory(sweep.output, self.number)
        self.events: queue.Queue[tuple[str, Any]] = queue.Queue()
        self.thread: threading.Thread | None = None
        self.told: Any = None
        """A queue between processes: what the training's controller tells this trial."""
        self.taken: Any = None
        """Another one: that this trial has taken a checkpoint."""
        self.controllers: list[Any] = []
        self.checkpoint: str | None = None
        """Of the training, at its last report."""
        self.stopping = False

    def next_report(self) -> dict[str, Any]:
        """Wait for the next report, the result, or the error, which was left in a file and is raised."""
        if self.thread is None:
            files.delete(files.join(self.directory, ERROR))
            self._open_queues()
            self.thread = threading.Thread(target=self._run, daemon=True)
            self.thread.start()
        elif self.taken is not None:
            self.taken.put(True)
        kind, content = self._next_event()
        if kind == "error":
            raise content
        if kind == "report":
            metrics, self.checkpoint = content
            return {PROGRESS: metrics["step"], VALUE: self._value(metrics)}
        if kind == "fold":
            return {PROGRESS: len(content), VALUE: float(np.mean(content))}
        files.write_json(files.join(self.directory, RESULT), content)
        return {PROGRESS: content["progress"], VALUE: content["metric"], "done": True}

    def stop(self) -> bool:
        """End a training that goes on although the trial is over: its workers, and what is reserved for them.

        Returns whether nothing of it is left.
        """
        import ray

        self.stopping = True
        if self.taken is not None:  # Its controller may be waiting for that.
            self.taken.put(True)
        deadline = time.monotonic() + ABORT_S
        while self.thread is not None and self.thread.is_alive() and time.monotonic() < deadline:
            while self.told is not None and not self.told.empty():
                self._take(*self.told.get())
            while self.controllers:
                # One that has ended by itself, as a controller that aborts does, answers with an error.
                with contextlib.suppress(ray.exceptions.RayError, TimeoutError):
                    ray.get(self.controllers.pop().abort.remote(), timeout=ABORT_S)
            self.thread.join(0.5)
        return self.thread is None or not self.thread.is_alive()

    def begin_life(self, checkpoint: str) -> None:
        """Begin a new life in a directory of its own, because the settings may have changed, from that checkpoint."""
        life = Path(self.directory, f"life-{len(self._lives())}")
        with tempfile.TemporaryDirectory(dir=self.directory) as temporary:
            shutil.copytree(checkpoint, Path(temporary, "life", BEGIN))
            Path(temporary, "life").rename(life)

    def _lives(self) -> list[Path]:
        return sorted(Path(self.directory).glob("life-*"), key=lambda path: int(path.name.split("-")[1]))

    def _value(self, metrics: dict[str, Any]) -> float:
        try:
            return value_of(metrics, self.sweep.metric)
        except (UnknownMetricError, TrainingError) as error:
            self._leave(error)
            raise

    def _leave(self, error: Exception) -> None:
        fatal = isinstance(error, UnknownMetricError)
        described = {"error": reason(error), "fatal": fatal, "traceback": "".join(traceback.format_exception(error))}
        files.write_json(files.join(self.directory, ERROR), described)

    def _open_queues(self) -> None:
        from ray.util.queue import Queue

        if any(verb in TRAININGS for verb in self.sweep.space.stages):
            self.told = Queue(actor_options={"num_cpus": 0})
            self.taken = Queue(actor_options={"num_cpus": 0}) if self.sweep.exchange else None

    def _take(self, kind: str, content: Any) -> bool:
        """Note a controller; True for anything else."""
        if kind == "controller":
            self.controllers.append(content)
        return kind != "controller"

    def _next_event(self) -> tuple[str, Any]:
        """What the training tells comes before what the thread says at its end."""
        from ray.util.queue import Empty

        while True:
            over = not self.events.empty()
            if self.told is not None:
                try:
                    told = self.told.get(timeout=0.01 if over else 0.2)
                    if self._take(*told):
                        return told
                    continue
                except Empty:
                    if not over:
                        continue
            try:
                return self.events.get(timeout=0.2)
            except queue.Empty:
                continue

    def _run(self) -> None:
        """In the thread: all stages, then the result or the error as the last event."""
        try:
            self.events.put(("result", self._run_folds() if self.sweep.folds else self._run_once()))
        except Exception as error:
            if not self.stopping:
                self._leave(error)
            self.events.put(("error", error))

    def _run_folds(self) -> dict[str, Any]:
        """All folds one after the other; the mean so far is reported after each."""
        values: list[float] = []
        outputs: list[str] = []
        for fold in range(len(self.sweep.waveforms)):
            runs = self.sweep.runs(self.params, self.directory, fold)
            self._prepare(runs)
            manifest = self._train(runs[-1], listen=False)
            values.append(value_of(judged(manifest), self.sweep.metric))
            outputs.append(manifest.directory)
            if fold + 1 < len(self.sweep.waveforms):
                self.events.put(("fold", list(values)))
        return _result(float(np.mean(values)), outputs[0], None, len(values), values)

    def _run_once(self) -> dict[str, Any]:
        own, begin_from = self.directory, None
        if self.sweep.exchange:
            life = (self._lives() or [Path(self.directory, "life-0")])[-1]
            own, begin_from = str(life), str(life / BEGIN) if (life / BEGIN).exists() else None
        runs = self.sweep.runs(self.params, own)
        self._prepare(runs)
        manifest = self._train(runs[-1], listen=True, begin_from=begin_from)
        row = judged(manifest)
        progress = manifest.facts.get("steps_done", 1)
        return _result(value_of(row, self.sweep.metric), manifest.directory, row.get("step"), progress, folds=[])

    def _prepare(self, runs: list[StageRun]) -> None:
        """Run all stages before the last."""
        import ray

        for run in runs[:-1]:
            if run.shared:
                ray.get(self.sweep.maker.make.remote(run.verb, run.config))
            else:
                self._train(run, listen=False)

    def _train(self, run: StageRun, *, listen: bool, begin_from: str | None = None) -> Manifest:
        """Run a stage; a training tells this trial of its controller and, where asked to, of every report."""
        if self.stopping:
            raise TrainingError(f"trial {self.number}: was stopped before {run.verb}")
        if run.verb not in TRAININGS:
            return STAGES[run.verb][1](run.config)
        callbacks: list[Any] = [Holder(self.told, files.join(self.directory, HELD))]
        if listen:
            callbacks.append(Listener(self.told, self.taken))
        surroundings = Surroundings(callbacks=tuple(callbacks), begin_from=begin_from)
        return STAGES[run.verb][1](run.config, surroundings)


def release(output: str, number: int) -> None:
    """Give back what the workers of a failed trial had reserved, where that was not done; nothing where it was.

    Ray Train does not when workers die while their group starts, and cannot when the trial's own process has died.
    """
    import ray
    from ray.util.placement_group import PlacementGroup, remove_placement_group

    path = files.join(trial_directory(output, number), HELD)
    if files.exists(path):
        group = PlacementGroup(ray.PlacementGroupID(bytes.fromhex(files.read_json(path)["placement_group"])))
        remove_placement_group(group)
        files.delete(path)


def _result(metric: float, output: str, best_step: int | None, progress: int, folds: list[float]) -> dict[str, Any]:
    return {"metric": metric, "output": output, "best_step": best_step, "progress": progress, "folds": folds}


class UnknownMetricError(ConfigError):
    """The last stage does not report the metric; no trial will."""


def judged(manifest: Manifest) -> dict[str, Any]:
    """What a finished last stage says of its result: the validation of its best checkpoint, or a codebook's quality."""
    row: dict[str, Any] = manifest.facts["quality"][0] if manifest.verb == "cluster" else manifest.facts["best"]
    return row


def value_of(row: dict[str, Any], metric: str) -> float:
    """The metric in what a stage reports; UnknownMetricError where it has none of that name."""
    numbers = sorted(
        n for n, v in row.items() if isinstance(v, int | float) and not isinstance(v, bool) and n != "step"
    )
    if metric not in row:
        raise UnknownMetricError(f"--metric: wanted one of {', '.join(numbers)}, got {metric}")
    value = row[metric]
    if value is None or not np.isfinite(value):
        raise TrainingError(f"--metric {metric}: wanted a number, got {value}; try {SCORE}")
    return float(value)


def reason(error: BaseException) -> str:
    """One line: the error of this project behind it, or else the innermost error and its kind."""
    known = user_error(error)
    if known is not None:
        return " ".join(str(known).split())
    innermost = error
    for step in _chain(error):
        innermost = step
    text = str(innermost).strip().splitlines() or [""]
    told = text[-1] if len(text) > 1 and "Error" in text[-1] else text[0]
    return f"{type(innermost).__name__}: {told}"[:400]


def _chain(error: BaseException) -> list[BaseException]:
    """An error and the causes behind it, from the outside in."""
    found: list[BaseException] = []
    next_of: Callable[[BaseException], list[Any]] = lambda e: [  # noqa: E731
        *getattr(e, "worker_failures", {}).values(),
        getattr(e, "controller_failure", None),
        getattr(e, "cause", None),
        e.__cause__,
    ]
    current: BaseException | None = error
    while current is not None and current not in found:
        found.append(current)
        current = next((cause for cause in next_of(current) if isinstance(cause, BaseException)), None)
    return found
