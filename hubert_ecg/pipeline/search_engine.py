"""The sweep itself on Ray Tune: proposals, schedulers, how many trials at once, and records of what happens.

Ray Tune decides which trial runs and which is stopped. What it keeps for itself lies in a scratch folder and is never
read again: a search that was killed is told anew what its finished trials reported, from their records.
"""

import logging
import os
import time
from types import SimpleNamespace
from typing import Any

from ray import tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, PopulationBasedTraining
from ray.tune.search import Searcher

from hubert_ecg.errors import ConfigError
from hubert_ecg.pipeline.feed import READER_CPUS
from hubert_ecg.pipeline.search_records import OVER, TrialRecord, left_error
from hubert_ecg.pipeline.search_space import Dimension, Mode, Space
from hubert_ecg.pipeline.search_trial import PROGRESS, TRIAL, VALUE, SearchTrial, Sweep, release
from hubert_ecg.pipeline.training_run import WorkersConfig
from hubert_ecg.storage import files

log = logging.getLogger(__name__)

CLOCK = "clock.json"
"""Seconds that the search has run, over all its starts."""
TRIAL_RESOURCES = {"memory": 1}
"""Of a trial's own process, which only waits. Ray Tune wants it to reserve something, so that is one byte."""


def trials_at_once(workers: WorkersConfig | None, *, cpus: float, gpus: float) -> int:
    """How many trials a cluster runs at a time, so that each can train and read; 0: not even one.

    A trial's own process and the controllers of Ray reserve nothing. Its workers are reserved all together, so that a
    trial that waits for them holds nothing; and with a reading task's share left for every trial that trains, no
    trial can wait for data that another one keeps from being read.
    """
    if workers is None:  # Stages without workers of their own run as tasks, one CPU each, which wait for one another.
        return max(1, int(cpus))
    possible = int((cpus + 1e-9) / (workers.num * workers.cpus_each + READER_CPUS))
    if workers.use_gpu:
        possible = min(possible, workers.num and int((gpus + 1e-9) / (workers.num * workers.gpus_each)))
    return possible


class Asha(ASHAScheduler):
    """Asynchronous successive halving that never stops a trial at its end, and can be told of trials of before."""

    def __init__(self, *, length: int, first: int, reduction: float, mode: Mode) -> None:
        super().__init__(
            time_attr=PROGRESS,
            metric=VALUE,
            mode=mode,
            max_t=length,
            grace_period=first,
            reduction_factor=reduction,
            stop_last_trials=False,
        )
        self.length = length

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        decision: str = super().on_trial_result(tune_controller, trial, result)
        return self.CONTINUE if result[PROGRESS] >= self.length else decision

    def remember(self, record: TrialRecord) -> None:
        """Take what a trial reported before the search was started again as a standard for the others."""
        sign = 1.0 if self._mode == "max" else -1.0
        trial = SimpleNamespace(trial_id=f"before-{record.number}")
        for report in record.reports:
            self._brackets[0].on_result(trial, report[PROGRESS], sign * report[VALUE])


class Population(PopulationBasedTraining):
    """Population-based training in which a trial stays itself, and its settings in their ranges."""

    def __init__(self, space: Space, *, interval: int, mode: Mode) -> None:
        self.dimensions = space.dimensions
        super().__init__(
            time_attr=PROGRESS,
            metric=VALUE,
            mode=mode,
            perturbation_interval=interval,
            hyperparam_mutations={TRIAL: {dimension.name: _mutations(dimension) for dimension in space.dimensions}},
            log_config=False,
        )

    def _get_new_config(self, trial: Any, trial_to_clone: Any) -> tuple[dict[str, Any], Any]:
        """Settings near those of the better trial, which would otherwise bring its number along."""
        changed, operations = super()._get_new_config(trial, trial_to_clone)
        changed[TRIAL]["number"] = trial.config[TRIAL]["number"]
        for dimension in self.dimensions:
            if not dimension.finite:
                value = min(max(changed[TRIAL][dimension.name], dimension.low), dimension.high)
                changed[TRIAL][dimension.name] = round(value) if dimension.whole else float(value)
        return changed, operations


def _mutations(dimension: Dimension) -> Any:
    if dimension.finite:
        return list(dimension.choices)
    draw = tune.loguniform if dimension.kind == "loguniform" else tune.uniform
    return draw(dimension.low, dimension.high)


class Proposals(Searcher):
    """Optuna's proposals, each put on record before it runs; those of before come first, or count as known."""

    def __init__(self, space: Space, records: list[TrialRecord], *, total: int, seed: int, mode: Mode, output: str):
        import optuna
        from ray.tune.search.optuna import OptunaSearch

        super().__init__(metric=VALUE, mode=mode)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.waiting = [record for record in records if record.state not in OVER]
        self.inner = OptunaSearch(
            {dimension.name: optuna_distribution(dimension) for dimension in space.dimensions},
            metric=VALUE,
            mode=mode,
            # What is proposed after a restart must not repeat what was proposed from the same seed before.
            seed=seed + len(records),
            points_to_evaluate=[record.params for record in self.waiting],
        )
        for record in records:
            if record.state in OVER:
                failed = record.state == "failed" or record.metric is None
                self.inner.add_evaluated_point(record.params, record.metric, error=failed)
        self.records, self.total, self.output = records, total, output

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        if self.waiting:
            self.inner.suggest(trial_id)  # the one that was put into its queue
            record = self.waiting.pop(0)
        elif len(self.records) >= self.total:
            finished: Any = Searcher.FINISHED
            return finished
        else:
            params = self.inner.suggest(trial_id)
            if params is None:
                return None
            record = TrialRecord(number=len(self.records), params=params)
            self.records.append(record)
            record.save(self.output)
        return {TRIAL: {"number": record.number} | record.params}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        self.inner.on_trial_result(trial_id, result)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        self.inner.on_trial_complete(trial_id, result, error)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the records are enough."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the records are enough."""


def optuna_distribution(dimension: Dimension) -> Any:
    from optuna import distributions

    if dimension.finite:
        return distributions.CategoricalDistribution(list(dimension.choices))
    if dimension.whole:
        step = int(dimension.step or 1)
        places = int(dimension.high - dimension.low) // step
        return distributions.IntDistribution(int(dimension.low), int(dimension.low) + places * step, step=step)
    if dimension.step is None:
        log_scale = dimension.kind == "loguniform"
        return distributions.FloatDistribution(dimension.low, dimension.high, log=log_scale)
    return distributions.FloatDistribution(dimension.low, dimension.high, step=dimension.step)


class Recorder(tune.Callback):
    """Keeps the record of every trial up to date on disk, and says in one line how each ends."""

    def __init__(self, records: list[TrialRecord], sweep: Sweep) -> None:
        self.records, self.sweep = records, sweep
        self.began: dict[int, float] = {}
        self.fatal: str | None = None
        """An error that every trial would end with."""

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        record = self._of(trial)
        record.state = "running"
        self.began[record.number] = time.monotonic()
        if self.sweep.exchange:
            self._note_exchange(record, trial)
        record.save(self.sweep.output)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        record = self._of(trial)
        record.reports.append({PROGRESS: result[PROGRESS], VALUE: result[VALUE]})
        record.metric = result[VALUE]
        self._count_seconds(record)
        record.save(self.sweep.output)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._end(self._of(trial), "stopped")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        record = self._of(trial)
        found = left_error(self.sweep.output, record.number)
        record.error = found["error"] if found else "its process died, for want of memory or by a signal"
        release(self.sweep.output, record.number)
        if found and found["fatal"]:
            self.fatal = record.error
        self._end(record, "failed")

    def close(self, *, out_of_time: bool) -> None:
        """Settle what is still on record as running when the sweep is over."""
        for record in self.records:
            if record.state == "running":
                self._end(record, "out of time" if out_of_time else "stopped")
            elif record.state == "waiting" and out_of_time:
                record.state = "out of time"
                record.save(self.sweep.output)

    def _end(self, record: TrialRecord, state: Any) -> None:
        self._count_seconds(record)
        self.began.pop(record.number, None)
        record.state = state
        if state == "failed" or not record.take_result(self.sweep.output):
            record.state = state
        record.save(self.sweep.output)
        over = sum(each.state not in ("waiting", "running") for each in self.records)
        told = record.error or f"{self.sweep.metric} {record.metric}"
        log.info("tune: trial %d %s (%d of %d over): %s", record.number, record.state, over, len(self.records), told)

    def _of(self, trial: Any) -> TrialRecord:
        return self.records[trial.config[TRIAL]["number"]]

    def _count_seconds(self, record: TrialRecord) -> None:
        now = time.monotonic()
        record.seconds = round(record.seconds + now - self.began.get(record.number, now), 3)
        self.began[record.number] = now

    def _note_exchange(self, record: TrialRecord, trial: Any) -> None:
        """Population-based training changes a trial's settings while it is paused; what it went on with is noted."""
        params = {name: value for name, value in trial.config[TRIAL].items() if name != "number"}
        if params != record.params:
            at = record.reports[-1][PROGRESS] if record.reports else 0
            record.exchanges.append({PROGRESS: at, "before": record.params, "after": params})
            record.params = params


class Limits(tune.Stopper):
    """Ends the whole search when its time is over, or when every trial would fail alike."""

    def __init__(self, recorder: Recorder, budget_s: float | None, output: str) -> None:
        self.recorder, self.budget_s = recorder, budget_s
        self.path = files.join(output, CLOCK)
        self.before = files.read_json(self.path)["seconds"] if files.exists(self.path) else 0.0
        self.began = self.noted = time.monotonic()

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        if time.monotonic() - self.noted > 1:
            self.noted = time.monotonic()
            files.write_json(self.path, {"seconds": round(self.spent_s, 3)})
        return self.out_of_time or self.recorder.fatal is not None

    @property
    def spent_s(self) -> float:
        return float(self.before + time.monotonic() - self.began)

    @property
    def out_of_time(self) -> bool:
        return self.budget_s is not None and self.spent_s >= self.budget_s


def make_scheduler(kind: str, space: Space, *, mode: Mode, length: int, first: int, reduction: float) -> Any:
    """Ray Tune's scheduler: `length` is that of a whole trial, `first` when one may first be stopped or changed."""
    if kind == "asha":
        return Asha(length=length, first=min(first, length), reduction=reduction, mode=mode)
    if kind == "none":
        return FIFOScheduler()
    return Population(space, interval=first, mode=mode)


def run_sweep(
    sweep: Sweep,
    records: list[TrialRecord],
    *,
    scheduler: Any,
    proposals: Proposals | None,
    mode: Mode,
    at_once: int,
    budget_s: float | None,
    scratch: str,
) -> None:
    """Run every trial that is not over. Returns when all are, or the time is; raises what no trial could mend."""
    # Ray Tune would write tables and TensorBoard files of its own.
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    # Its newer display announces a folder that is about to be deleted.
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    # A trial in the middle of a step hears of the end of the search only after it.
    os.environ.setdefault("TUNE_FORCE_TRIAL_CLEANUP_S", "60")
    waiting = [record for record in records if record.state not in OVER]
    recorder = Recorder(records, sweep)
    limits = Limits(recorder, budget_s, sweep.output)
    if isinstance(scheduler, Asha):
        for record in records:
            if record.state in OVER:
                scheduler.remember(record)

    space: dict[str, Any] = {}
    if proposals is None:
        space = {TRIAL: tune.grid_search([{"number": record.number} | record.params for record in waiting])}
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(SearchTrial, sweep=sweep), TRIAL_RESOURCES),
        param_space=space,
        tune_config=tune.TuneConfig(
            # Tune wants to know the metric once: a scheduler that knows it already must not be told again.
            metric=VALUE if type(scheduler) is FIFOScheduler else None,
            mode=mode if type(scheduler) is FIFOScheduler else None,
            scheduler=scheduler,
            search_alg=proposals,
            num_samples=proposals.total if proposals is not None else 1,
            max_concurrent_trials=at_once,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="search",
            storage_path=scratch,
            verbose=0,
            callbacks=[recorder],
            stop=limits,
            failure_config=tune.FailureConfig(max_failures=0),
            # Tune copies a checkpoint where a population exchanges them; a trial that has ended keeps its own.
            checkpoint_config=tune.CheckpointConfig(num_to_keep=4 if sweep.exchange else None, checkpoint_at_end=False),
        ),
    )
    tuner.fit()
    recorder.close(out_of_time=limits.out_of_time)
    if recorder.fatal is not None:
        raise ConfigError(recorder.fatal)
