"""The parts of a search by themselves: trials at once, early stopping, proposals after a restart, the report."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from ray.train import ControllerError

from hubert_ecg.errors import ConfigError, TrainingError
from hubert_ecg.pipeline.finetune import FinetuneConfig
from hubert_ecg.pipeline.inspect import inspect
from hubert_ecg.pipeline.search_engine import CLOCK, Asha, Limits, Population, Proposals, Recorder, trials_at_once
from hubert_ecg.pipeline.search_plan import SearchPlan, TuneConfig
from hubert_ecg.pipeline.search_plots import importances, plots_page
from hubert_ecg.pipeline.search_records import TrialRecord, best_of, load_records
from hubert_ecg.pipeline.search_report import trial_table, write_best_config, write_report
from hubert_ecg.pipeline.search_space import Space, read_space
from hubert_ecg.pipeline.search_stages import StageRun
from hubert_ecg.pipeline.search_trial import UnknownMetricError, reason, value_of
from hubert_ecg.pipeline.training_run import WorkersConfig
from jobs.cli import parse

TEXT = """
about: A test
stages: [finetune]
settings: {label_set: x}
search:
  optimiser.lr: {loguniform: [1.0e-4, 1.0e-2]}
  head: {choice: [linear, mlp]}
  optimiser.warmup_share: {uniform: [0.0, 0.2]}
"""


@pytest.fixture
def space(tmp_path: Path) -> Space:
    (tmp_path / "s.yaml").write_text(TEXT)
    return read_space(tmp_path / "s.yaml")


def record(number: int, metric: float | None, state: Any = "finished", **values: Any) -> TrialRecord:
    rng = np.random.default_rng(number)
    params = {
        "optimiser.lr": float(10 ** rng.uniform(-4, -2)),
        "head": ["linear", "mlp"][number % 2],
        "optimiser.warmup_share": float(rng.uniform(0, 0.2)),
    }
    return TrialRecord(number=number, params=params, state=state, metric=metric, **values)


@pytest.mark.parametrize(
    ("workers", "cpus", "gpus", "wanted"),
    [
        ({"num": 1, "cpus_each": 1.0}, 2, 0, 1),  # two would leave nothing to read with
        ({"num": 1, "cpus_each": 0.5}, 2, 0, 2),
        ({"num": 2, "cpus_each": 1.0}, 2, 0, 0),
        ({"num": 2, "cpus_each": 1.0}, 10, 0, 4),
        ({"num": 1, "cpus_each": 0.1}, 0.6, 0, 1),
        ({"num": 1, "cpus_each": 1.0, "use_gpu": True}, 64, 4, 4),
        ({"num": 1, "cpus_each": 1.0, "use_gpu": True, "gpus_each": 0.25}, 64, 1, 4),
        ({"num": 4, "cpus_each": 1.0, "use_gpu": True, "gpus_each": 0.5}, 64, 3, 1),
        (None, 8, 0, 8),
    ],
)
def test_as_many_trials_at_once_as_can_train_and_read(
    workers: dict[str, Any] | None, cpus: float, gpus: float, wanted: int
) -> None:
    config = None if workers is None else WorkersConfig(**workers)
    assert trials_at_once(config, cpus=cpus, gpus=gpus) == wanted


class Named:
    """All that the schedulers ask of a trial."""

    config: dict[str, Any]

    def __init__(self, trial_id: str) -> None:
        self.trial_id = trial_id


def test_a_trial_that_does_worse_is_stopped_but_never_at_its_end() -> None:
    asha = Asha(length=90, first=10, reduction=3.0, mode="max")
    for number, value in enumerate((0.9, 0.6, 0.3)):
        reports = [{"progress": 10.0, "value": value}, {"progress": 30.0, "value": value + 0.01}]
        asha.remember(record(number, value, reports=reports))
    # One of three goes on: at step 10 the bar is the upper third of 0.9, 0.6 and 0.3, which is 0.7.
    for name, step, value, decision in (
        ("a", 10, 0.69, "STOP"),
        ("b", 5, 0.0, "CONTINUE"),
        ("c", 10, 0.95, "CONTINUE"),
        ("c", 30, 0.5, "STOP"),
        ("d", 90, 0.0, "CONTINUE"),
    ):
        trial = Named(name)
        if name not in asha._trial_info:
            asha.on_trial_add(None, trial)
        assert asha.on_trial_result(None, trial, {"progress": step, "value": value}) == decision, (name, step)


def test_less_is_better_where_the_mode_says_so() -> None:
    asha = Asha(length=90, first=10, reduction=3.0, mode="min")
    for number, value in enumerate((0.1, 0.4, 0.7)):
        asha.remember(record(number, value, reports=[{"progress": 10.0, "value": value}]))
    for name, value, decision in (("a", 0.5, "STOP"), ("b", 0.05, "CONTINUE")):
        asha.on_trial_add(None, Named(name))
        assert asha.on_trial_result(None, Named(name), {"progress": 10, "value": value}) == decision


def test_a_trial_of_a_population_stays_itself_and_in_range(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(
        "stages: [finetune]\nsearch:\n  optimiser.lr: {loguniform: [1.0e-4, 1.0e-2]}\n  lora.rank: {randint: [0, 9]}"
    )
    space = read_space(tmp_path / "s.yaml")
    population = Population(space, interval=5, mode="max")
    trial, better = Named("a"), Named("b")
    trial.config = {"trial": {"number": 3, "optimiser.lr": 1e-4, "lora.rank": 0}}
    better.config = {"trial": {"number": 7, "optimiser.lr": 9.9e-3, "lora.rank": 9}}
    rates = []
    for _ in range(40):
        config, _ = population._get_new_config(trial, better)
        assert config["trial"]["number"] == 3
        assert 1e-4 <= config["trial"]["optimiser.lr"] <= 1e-2
        assert isinstance(config["trial"]["lora.rank"], int)
        assert 0 <= config["trial"]["lora.rank"] <= 9
        rates.append(config["trial"]["optimiser.lr"])
    # Mostly 0.8 or 1.2 times that of the better one, the latter cut at the end of the range.
    assert sum(rate in (pytest.approx(0.8 * 9.9e-3), 1e-2) for rate in rates) > 15
    assert better.config["trial"]["number"] == 7


def test_proposals_after_a_restart_run_what_was_begun_and_learn_from_what_is_over(space: Space, tmp_path: Path) -> None:
    records = [record(0, 0.7), record(1, None, "waiting"), record(2, None, "failed"), record(3, 0.6, "stopped")]
    begun = dict(records[1].params)
    proposals = Proposals(space, records, total=6, seed=0, mode="max", output=str(tmp_path))
    known = {trial.state.name for trial in proposals.inner._ot_study.trials}
    assert known == {"COMPLETE", "FAIL", "WAITING"}
    first = proposals.suggest("a")
    assert first == {"trial": {"number": 1} | begun}
    new = [proposals.suggest("b"), proposals.suggest("c")]
    assert [trial["trial"]["number"] for trial in new if trial] == [4, 5]
    assert proposals.suggest("d") == Proposals.FINISHED
    # A new proposal is on record before it runs.
    assert [each.number for each in load_records(str(tmp_path))] == [4, 5]
    assert new[0]["trial"]["optimiser.lr"] not in [each.params["optimiser.lr"] for each in records[:4]]
    proposals.on_trial_result("b", {"value": 0.5, "training_iteration": 1})
    proposals.on_trial_complete("b", {"value": 0.5})


def test_the_table_has_the_best_first_and_names_what_failed(space: Space, tmp_path: Path) -> None:
    records = [
        record(0, 0.7, folds=[0.6, 0.8]),
        record(1, 0.9, "stopped"),
        record(2, None, "failed", error="step 3, rank 0: the loss is nan"),
        record(3, 0.8, folds=[0.8, 0.8]),
    ]
    best = best_of(records, "max")
    assert best is not None
    assert best.number == 3  # what was stopped had less training
    assert best_of(records, "min").number == 0  # type: ignore[union-attr]
    frame = trial_table(records, space, "max")
    assert frame["trial"].tolist() == [3, 0, 1, 2]
    assert frame["std"].tolist()[:2] == pytest.approx([0.0, 0.1 * np.sqrt(2)])
    assert frame["error"].tolist()[3] == "step 3, rank 0: the loss is nan"
    write_report(records, space, str(tmp_path), metric="score", mode="max")
    rows = json.loads((tmp_path / "trials.json").read_text())
    assert [row["trial"] for row in rows] == [3, 0, 1, 2]
    assert rows[0]["settings"]["finetune"]["label_set"] == "x"
    assert pq.read_table(tmp_path / "trials.parquet")["trial"].to_pylist() == [3, 0, 1, 2]
    text = (tmp_path / "trials.txt").read_text()
    assert "1 failed, 2 finished, 1 stopped" in text
    assert "the loss is nan" in text


def test_the_plots_need_no_network_and_show_every_setting(space: Space) -> None:
    records = [record(number, 0.5 + 0.01 * number) for number in range(4)]
    page = plots_page(records, space, metric="score", mode="max")
    for name in ("optimiser.lr", "head", "optimiser.warmup_share", "parcoords"):
        assert name in page
    # The library is in the page; nothing is fetched.
    assert len(page) > 1_000_000
    assert 'src="http' not in page


def test_importance_is_that_of_the_setting_which_decides(space: Space) -> None:
    many = [record(number, None) for number in range(30)]
    for each in many:
        each.metric = float(np.log10(each.params["optimiser.lr"]))  # type: ignore[arg-type]
    found, how = importances(many, space)
    assert "functional ANOVA over 30" in how
    assert next(iter(found)) == "optimiser.lr"
    assert found["optimiser.lr"] > 0.9
    few = [record(number, float(value)) for number, value in enumerate((1, 5, 3, 5))]
    found, how = importances(few, space)
    assert "each setting alone" in how
    # Choices linear (1, 3) and mlp (5, 5): between them 4 x 1.5^2 = 9 of a total of 11.
    assert found["head"] == pytest.approx(9 / 11)
    assert importances(few[:2], space)[0]["head"] == 0


def test_the_best_settings_are_a_file_that_the_stage_takes(tmp_path: Path) -> None:
    config = FinetuneConfig(waveforms="/w", output="/t/trials/0/finetune", label_set="x", train_blocks=2)
    write_best_config(StageRun(verb="finetune", config=config, shared=False), str(tmp_path))
    made = parse("finetune", FinetuneConfig, ["--config", str(tmp_path / "best.yaml")])
    assert made == FinetuneConfig(waveforms="/w", output=f"{tmp_path}/retrained", label_set="x", train_blocks=2)
    assert "jobs.finetune --config" in (tmp_path / "best.yaml").read_text().splitlines()[0]
    assert yaml.safe_load((tmp_path / "best.yaml").read_text())["lora"]["rank"] == 0


def test_metrics_are_named_and_must_be_numbers() -> None:
    row = {"step": 3, "score": 0.5, "val_macro_auroc": None, "thresholds": [0.5]}
    assert value_of(row, "score") == 0.5
    with pytest.raises(UnknownMetricError, match="--metric: wanted one of score, got auroc"):
        value_of(row, "auroc")
    with pytest.raises(TrainingError, match="wanted a number, got None; try score"):
        value_of(row, "val_macro_auroc")


def test_the_reason_of_a_failure_is_its_innermost_cause() -> None:
    class WorkerGroupError(RuntimeError):
        worker_failures = {0: MemoryError("Unable to allocate 12 GiB")}  # noqa: RUF012

    assert reason(WorkerGroupError("Training failed\nlong text")) == "MemoryError: Unable to allocate 12 GiB"
    assert reason(ConfigError("--head: no\nsuch")) == "--head: no such"


def test_the_reason_of_a_failed_controller_is_what_failed_it() -> None:
    died = RuntimeError("The actor died unexpectedly before finishing this task.\n\tclass_name: RayTrainWorker")
    failed = ControllerError(died)
    assert reason(failed) == "RuntimeError: The actor died unexpectedly before finishing this task."
    assert reason(ControllerError(ConfigError("--head: no such"))) == "--head: no such"


def plan(tmp_path: Path, text: str, **settings: Any) -> SearchPlan:
    (tmp_path / "s.yaml").write_text(text)
    given = {"waveforms": "W", "output": str(tmp_path / "o"), "space": str(tmp_path / "s.yaml")}
    return SearchPlan.make(TuneConfig(**(given | settings)))


def test_population_based_training_refuses_what_it_could_not_change(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="got head, which are part of the model or the optimiser"):
        plan(tmp_path, TEXT, scheduler="pbt")
    with pytest.raises(ConfigError, match="--searcher random and no --folds"):
        plan(tmp_path, TEXT, scheduler="pbt", searcher="optuna", settings={"head": "mlp"})
    found = plan(tmp_path, TEXT, scheduler="pbt", settings={"head": "mlp"}, num_samples=3)
    assert found.total == 3
    assert found.sweep("/o", None).exchange


def test_the_length_of_a_trial_is_known_in_steps_or_folds(tmp_path: Path) -> None:
    assert plan(tmp_path, TEXT).length == FinetuneConfig.default_steps
    assert plan(tmp_path, TEXT, settings={"steps": 70}).length == 70
    assert plan(tmp_path, TEXT, waveforms=None, folds=["a", "b", "c"]).length == 3
    searched = "stages: [finetune]\nsettings: {label_set: x}\nsearch: {steps: {choice: [50, 200, 100]}}"
    assert plan(tmp_path, searched).length == 200
    with pytest.raises(ConfigError, match="--scheduler asha: compares trials by their steps"):
        plan(tmp_path, TEXT, settings={"epochs": 2.0})
    assert plan(tmp_path, TEXT, settings={"epochs": 2.0}, scheduler="none").total == 12


def test_impossible_trials_are_refused_before_anything_runs(tmp_path: Path) -> None:
    text = "stages: [finetune]\nsettings: {label_set: x}\nsearch: {lora.rank: {choice: [0, 4]}}"
    with pytest.raises(ConfigError, match=r"a trial with \{'lora.rank': 4\} cannot be: --lora.rank: wanted a --check"):
        plan(tmp_path, text, searcher="optuna")
    with pytest.raises(ConfigError, match="value: many"):
        plan(tmp_path, "stages: [finetune]\nsettings: {label_set: x}\nsearch: {steps: {choice: [many]}}")
    with pytest.raises(ConfigError, match="required: label_set"):
        plan(tmp_path, "stages: [finetune]\nsearch: {steps: {choice: [3]}}")
    with pytest.raises(ConfigError, match="resources"):
        plan(tmp_path, "stages: [finetune]\nsettings: {label_set: x}\nsearch: {workers.num: {choice: [1, 2]}}")


def test_the_time_of_earlier_starts_counts_and_what_it_ends_is_named(space: Space, tmp_path: Path) -> None:
    (tmp_path / CLOCK).write_text('{"seconds": 7.5}')
    records = [record(0, 0.7), record(1, 0.2, "running"), record(2, None, "waiting")]
    sweep = plan(tmp_path, TEXT).sweep(str(tmp_path), None)
    recorder = Recorder(records, sweep)
    assert not Limits(recorder, None, str(tmp_path)).stop_all()
    assert not Limits(recorder, 3600, str(tmp_path)).stop_all()
    limits = Limits(recorder, 7, str(tmp_path))
    assert limits.stop_all()
    recorder.close(out_of_time=limits.out_of_time)
    assert [each.state for each in records] == ["finished", "out of time", "out of time"]
    assert "trials: 2 out of time" in inspect(str(unfinished(tmp_path)))


def unfinished(output: Path) -> Path:
    config: dict[str, Any] = {}
    (output / "plan.json").write_text(json.dumps({"verb": "tune", "config": config, "inputs": {}}))
    return output


@pytest.mark.parametrize(
    "settings",
    [
        {"waveforms": None},
        {"folds": ["a", "b"]},
        {"waveforms": None, "folds": ["a"]},
        {"num_samples": 0},
        {"reduction_factor": 1.0},
        {"time_budget_s": 0.0},
    ],
)
def test_settings_that_contradict_each_other(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="wanted"):
        TuneConfig(**({"space": "s", "output": "o", "waveforms": "W"} | settings))
