"""A search before anything runs: its settings, checked, and the trials that can be drawn beforehand."""

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from hubert_ecg.errors import ConfigError
from hubert_ecg.pipeline.search_space import Mode, Scheduler, Space, find_space, read_space
from hubert_ecg.pipeline.search_stages import TRAININGS, StageRun
from hubert_ecg.pipeline.search_trial import Sweep
from hubert_ecg.pipeline.training_run import SCORE, WorkersConfig
from hubert_ecg.storage import files
from hubert_ecg.storage.artifact import open_artifact
from hubert_ecg.storage.checkpoint import load_info

PBT_CAN_CHANGE = {
    "optimiser.lr",
    "optimiser.warmup_share",
    "optimiser.clip_norm",
    "masking.alpha",
    "masking.probability",
    "positive_weights",
}
"""Settings that are read anew in every step. All others are part of the model or of the optimiser's state, which a
trial takes over from another one: a change of theirs would be reported and not happen."""


@dataclass(frozen=True, kw_only=True)
class TuneConfig:
    """Search the settings of a stage: many trials, each a whole training (or clustering), on Ray Tune.

    The output directory holds the trials, a table of them (trials.csv, .parquet, .json, .txt), plots.html, the best
    settings (best.yaml, for --config of the stage) and what the best trial made (best/, an artifact as any other).
    """

    space: str
    """Search space: a name (a file of tune_spaces/, here or in the project) or the path of a YAML file."""
    output: str
    """Directory to write the search to."""
    waveforms: str | None = None
    """Waveform table W, the output of jobs.prepare."""
    folds: list[str] | None = None
    """Instead of --waveforms: one W per fold, the same archive prepared with another fold for validation each time.
    Every trial trains once per fold; its metric is the mean, and the table has the spread."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Settings of the stages that are fixed, such as "{label_set: superclass, steps: 500, optimiser.lr: 1.0e-3}"; what
    is fixed here is not searched. Those of an earlier stage of the space have its verb in front: dump.checkpoint."""
    num_samples: int | None = None
    """Trials; 12 by default. Of a grid: times that all of it is tried, 1 by default."""
    metric: str | None = None
    """What is judged: `score` (macro AUROC, R2, or minus the loss), or another number that the stage reports, such as
    val_loss. By default that of the space."""
    mode: Mode | None = None
    """Whether more or less of the metric is better; by default as the space says."""
    scheduler: Scheduler | None = None
    """asha: stop trials early that do worse than others did at the same step; pbt: population-based training, trials
    take over models of better ones and vary their settings; none: all run to their end. By default as the space
    says."""
    searcher: Literal["random", "optuna", "grid"] = "random"
    """random; optuna: proposals learn from earlier trials (TPE); grid: every combination of a space of choices."""
    first_steps: int | None = None
    """asha, pbt: steps (folds, where there are several) after which a trial may first be stopped or changed; for pbt
    also between changes. By default a fifth of the trial."""
    reduction_factor: float = 3.0
    """asha: of so many trials that come to a rung, one goes on."""
    max_concurrent: int = 0
    """Trials at a time; 0 takes as many as the cluster can train and feed."""
    time_budget_s: float | None = None
    """Seconds for all trials together; those that run then are stopped, and the best of the finished ones is taken."""
    seed: int = 0
    """Seed of the proposals; trainings have their own (--settings "{seed: 1}")."""

    def __post_init__(self) -> None:
        if (self.waveforms is None) == (self.folds is None):
            raise ConfigError("--waveforms: wanted a waveform table, or --folds with several, got both or neither")
        if self.folds is not None and len(self.folds) < 2:
            raise ConfigError(f"--folds: wanted at least 2 waveform tables, got {len(self.folds)}")
        if self.num_samples is not None and self.num_samples < 1:
            raise ConfigError(f"--num_samples: wanted at least 1, got {self.num_samples}")
        if self.reduction_factor <= 1 or self.max_concurrent < 0 or (self.first_steps or 1) < 1:
            raise ConfigError("wanted --reduction_factor above 1, --max_concurrent >= 0 and --first_steps >= 1")
        if self.time_budget_s is not None and self.time_budget_s <= 0:
            raise ConfigError(f"--time_budget_s: wanted more than 0, got {self.time_budget_s}")

    @property
    def tables(self) -> tuple[str, ...]:
        """All waveform tables."""
        return tuple(self.folds or [self.waveforms or ""])


@dataclass(frozen=True, kw_only=True)
class SearchPlan:
    """A search, checked, before anything runs."""

    config: TuneConfig
    space: Space
    metric: str
    mode: Mode
    scheduler: Scheduler
    drawn: list[dict[str, Any]] | None
    """The parameters of all trials; None where proposals follow from results."""
    total: int

    @classmethod
    def make(cls, config: TuneConfig) -> "SearchPlan":
        """Raises ConfigError for anything that would fail later and can be known now."""
        space = read_space(find_space(config.space)).with_settings(config.settings)
        scheduler = config.scheduler or space.scheduler
        if space.last not in TRAININGS and not config.folds and scheduler == "asha":
            scheduler = "none"  # A stage that reports once cannot be stopped before its end.
        drawn = None if config.searcher == "optuna" else draw_trials(space, config)
        plan = cls(
            config=config,
            space=space,
            metric=config.metric or space.metric,
            mode=config.mode or (space.mode if config.metric in (None, space.metric) else "max"),
            scheduler=scheduler,
            drawn=drawn,
            total=len(drawn) if drawn is not None else config.num_samples or 12,
        )
        plan.check()
        return plan

    def check(self) -> None:
        """Every value of every dimension makes settings, and so does every trial that is drawn already."""
        sweep = self.sweep(files.absolute(self.config.output), None)
        base = {dimension.name: dimension.extremes()[0] for dimension in self.space.dimensions}
        for dimension in self.space.dimensions:
            if any(name == "target_metric" for _, name in dimension.sets()) and self.metric == SCORE:
                raise ConfigError(
                    f"{self.space.place}: search: {dimension.name}: with another target_metric `score` means another "
                    f"thing; fix it with --settings, or give a --metric that all trials report"
                )
            if dimension.name.split(".")[-2:-1] == ["workers"] or "/" in dimension.name:
                raise ConfigError(
                    f"{self.space.place}: search: {dimension.name}: resources (and names with /) cannot be searched"
                )
            if self.config.searcher == "optuna" and dimension.kind == "grid":
                raise ConfigError(f"{self.space.place}: search: {dimension.name}: optuna takes `choice`, not `grid`")
            if self.drawn is None:
                for value in dimension.extremes():
                    self._try(sweep, base | {dimension.name: value})
        for params in self.drawn or []:
            self._try(sweep, params)
        if self.scheduler == "pbt":
            self._check_pbt()
        if self.scheduler != "none":
            _ = self.length

    def _try(self, sweep: Sweep, params: dict[str, Any]) -> None:
        try:
            sweep.runs(params, sweep.output)
        except ConfigError as error:
            raise ConfigError(
                f"{self.space.place}: a trial with {params} cannot be: {error} (settings that belong together are best "
                f"searched as `options`)"
            ) from error

    def _check_pbt(self) -> None:
        searched = {name for dimension in self.space.dimensions for _, name in dimension.sets()}
        fixed = sorted(searched - PBT_CAN_CHANGE)
        if fixed:
            raise ConfigError(
                f"--scheduler pbt: wanted settings that may change while a model trains "
                f"({', '.join(sorted(PBT_CAN_CHANGE))}), got {', '.join(fixed)}, which are part of the model or the "
                f"optimiser that a trial takes over; fix them with --settings, or use asha"
            )
        if self.config.folds or self.config.searcher != "random" or self.space.last not in TRAININGS:
            raise ConfigError("--scheduler pbt: wanted a training as last stage, --searcher random and no --folds")
        if self.total < 2:
            raise ConfigError("--scheduler pbt: wanted a population of at least 2 (--num_samples), got 1")

    def sweep(self, output: str, maker: Any) -> Sweep:
        return Sweep(
            output=output,
            space=self.space,
            metric=self.metric,
            waveforms=tuple(files.absolute(table) for table in self.config.tables),
            maker=maker,
            exchange=self.scheduler == "pbt",
        )

    def describe(self) -> dict[str, Any]:
        """What shapes the search; resources are left out."""
        config = self.config
        return {
            "space": {
                "stages": list(self.space.stages),
                "fixed": self.space.fixed,
                "search": {
                    d.name: [d.kind, [str(value) for value in d.extremes()], d.step] for d in self.space.dimensions
                },
            },
            "metric": self.metric,
            "mode": self.mode,
            "scheduler": self.scheduler,
            "searcher": config.searcher,
            "num_samples": self.total,
            "first_steps": config.first_steps,
            "reduction_factor": config.reduction_factor,
            "time_budget_s": config.time_budget_s,
            "seed": config.seed,
        }

    def inputs(self) -> dict[str, str]:
        """Fingerprints of the waveforms and of every artifact that the settings name."""
        names = ["waveforms"] if self.config.waveforms else [f"waveforms {i}" for i in range(len(self.config.tables))]
        found = {}
        for name, table in zip(names, self.config.tables, strict=True):
            role = "--waveforms" if self.config.waveforms else "--folds"
            found[name] = open_artifact(table, verb="prepare", role=role).fingerprint
        for verb, values in self.space.fixed.items():
            if values.get("checkpoint"):
                found[f"{verb}.checkpoint"] = load_info(values["checkpoint"]).fingerprint
            if values.get("labels"):
                found[f"{verb}.labels"] = open_artifact(values["labels"], verb="label", role="labels").fingerprint
        return found

    @property
    def length(self) -> int:
        """How far a whole trial goes, in what it reports: steps, or folds."""
        if self.config.folds:
            return len(self.config.folds)
        return max(self._steps(params) for params in self._lengths())

    def _lengths(self) -> list[dict[str, Any]]:
        """Parameters of one trial for every number of steps that is searched."""
        base = {dimension.name: dimension.extremes()[0] for dimension in self.space.dimensions}
        longer = [d for d in self.space.dimensions if (self.space.last, "steps") in d.sets()]
        return [base] + [base | {d.name: value} for d in longer for value in d.extremes()]

    def _steps(self, params: dict[str, Any]) -> int:
        settings = self._example_runs(params)[-1].config
        if getattr(settings, "epochs", None) is not None:
            raise ConfigError(
                f"--scheduler {self.scheduler}: compares trials by their steps, wanted steps for {self.space.last}, "
                f"got epochs; give --settings steps, or --scheduler none"
            )
        steps = getattr(settings, "steps", None) or getattr(settings, "default_steps", None)
        return 1 if steps is None else int(steps)

    def _example_runs(self, params: dict[str, Any]) -> list[StageRun]:
        return self.sweep(files.absolute(self.config.output), None).runs(params, "unused")

    def workers(self) -> WorkersConfig | None:
        """Of the training that wants most."""
        found = [run.config.workers for run in self._example_runs(self._lengths()[0]) if run.verb in TRAININGS]
        return max(found, key=lambda workers: workers.num * workers.cpus_each) if found else None


def draw_trials(space: Space, config: TuneConfig) -> list[dict[str, Any]]:
    """The parameters of all trials of a random search or a grid, the same for the same seed."""
    rng = np.random.default_rng(config.seed)
    crossed = [d for d in space.dimensions if d.kind == "grid" or config.searcher == "grid"]
    endless = [dimension.name for dimension in crossed if not dimension.finite]
    if endless:
        raise ConfigError(
            f"--searcher grid: wanted choices, options or grids only, got ranges of {', '.join(endless)}; list "
            f"values in the space, fix them with --settings, or take another searcher"
        )
    points: list[dict[str, Any]] = [{}]
    for dimension in crossed:
        points = [point | {dimension.name: value} for point in points for value in dimension.choices]
    times = config.num_samples or (1 if crossed else 12)
    others = [dimension for dimension in space.dimensions if dimension not in crossed]
    trials = [point | {d.name: d.draw(rng) for d in others} for _ in range(times) for point in points]
    order = [dimension.name for dimension in space.dimensions]
    return [{name: params[name] for name in order} for params in trials]
