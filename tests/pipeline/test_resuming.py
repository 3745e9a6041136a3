"""Going on with a finished training: what is taken over, and what is refused."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from small_training import checkpointed, config, result, write_inputs

from hubert_ecg.errors import ArtifactError, ConfigError
from hubert_ecg.models.adapt import LoraConfig
from hubert_ecg.pipeline.finetune import FinetuneConfig
from hubert_ecg.pipeline.pretrain import PretrainConfig, pretrain
from hubert_ecg.pipeline.resuming import open_resumed, take_over
from hubert_ecg.pipeline.training_run import MODEL, WorkersConfig
from hubert_ecg.pipeline.training_setup import describe
from hubert_ecg.storage.artifact import StageOutput, begin
from hubert_ecg.storage.run_checkpoints import RunCheckpoints
from hubert_ecg.training.state import STATE, TrainerState

INPUTS = {"waveforms": "11", "labels": "22"}


def settings(folder: Path, **changes: Any) -> PretrainConfig:
    made = {"waveforms": "W", "labels": "L", "output": str(folder / "longer"), "resume": str(folder / "done")}
    return PretrainConfig(**made | {"steps": 24, "patience": 3} | changes)


@pytest.fixture
def done(tmp_path: Path) -> Path:
    """What a training of 12 steps has left: its best checkpoint after 8 and its last one after 12."""
    began = settings(tmp_path, steps=12, resume=None)
    output = begin(str(tmp_path / "done"), verb="pretrain", config=describe(began), inputs=INPUTS)
    assert isinstance(output, StageOutput)
    checkpoints = RunCheckpoints(directory=f"{output.directory}/trainer/run", keep=3)
    for step, score in ((4, -3.0), (8, -1.0), (12, -2.0)):
        local = tmp_path / f"made{step}"
        (local / MODEL).mkdir(parents=True)
        (local / MODEL / "weights").write_text(f"of step {step}")
        state = TrainerState(step=step, stale_validations=2)
        (local / STATE).write_text(json.dumps({"state": asdict(state)}))
        checkpoints.add(local, name=checkpoints.new_name(step), step=step, score=score)
    output.finish(parts=0, facts={"steps_done": 12, "counts": {"train": 10, "val": 5}})
    return tmp_path


def test_the_best_and_the_last_checkpoint_are_taken_over_once(done: Path) -> None:
    source = open_resumed(settings(done), verb="pretrain", inputs=INPUTS)
    for _ in range(2):  # As after a kill.
        take_over(source, str(done / "longer"), keep=3)
        ours = RunCheckpoints(directory=f"{done}/longer/trainer/run", keep=3)
        assert [(one.step, one.score) for one in ours.saved()] == [(8, -1.0), (12, -2.0)]
    texts = [(Path(ours.path(one.name)) / MODEL / "weights").read_text() for one in ours.saved()]
    assert texts == ["of step 8", "of step 12"]
    assert [one.step for one in replace(ours, directory=f"{done}/done/trainer/run").saved()] == [4, 8, 12]


def test_a_fine_tuning_is_resumed_by_its_own_settings(done: Path, tmp_path: Path) -> None:
    """Some of them are tuples, which a manifest holds as lists."""
    made = FinetuneConfig(waveforms="W", label_set="x", output=str(tmp_path / "tuned"), steps=12)
    output = begin(made.output, verb="finetune", config=describe(made), inputs=INPUTS)
    assert isinstance(output, StageOutput)
    take_over(open_resumed(settings(done), verb="pretrain", inputs=INPUTS), output.directory, keep=3)
    output.finish(parts=0, facts={"steps_done": 12})
    longer = replace(made, steps=24, resume=made.output)
    assert open_resumed(longer, verb="finetune", inputs=INPUTS) is not None
    with pytest.raises(ArtifactError, match=r"got lora\.targets"):
        open_resumed(replace(longer, lora=LoraConfig(targets=("q_proj",))), verb="finetune", inputs=INPUTS)


def test_nothing_is_resumed_unless_asked_for(tmp_path: Path) -> None:
    assert open_resumed(settings(tmp_path, resume=None), verb="pretrain", inputs=INPUTS) is None
    take_over(None, str(tmp_path / "longer"), keep=3)
    assert not (tmp_path / "longer").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 5}, r"wanted the settings of that training but for steps, .*got seed: there 0, here 5"),
        ({"steps": 12}, "has done 12 steps, wanted more, got 12; raise --steps"),
        ({"patience": 2}, "ended after 2 validations without progress, wanted --patience above that or 0, got 2"),
    ],
)
def test_what_would_be_another_training_is_refused(done: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises((ArtifactError, ConfigError), match=message):
        open_resumed(settings(done, **changes), verb="pretrain", inputs=INPUTS)


def test_other_inputs_and_lost_checkpoints_are_refused(done: Path) -> None:
    with pytest.raises(ArtifactError, match="got input labels: there 22, here 33"):
        open_resumed(settings(done), verb="pretrain", inputs=INPUTS | {"labels": "33"})
    with pytest.raises(ArtifactError, match=r"wanted the output of jobs\.finetune as --resume"):
        open_resumed(settings(done), verb="finetune", inputs=INPUTS)
    (receipt,) = (done / "done" / "trainer" / "run").glob("step-000000012-*.json")
    receipt.unlink()
    with pytest.raises(ArtifactError, match=r"wanted its checkpoint after step 12 in trainer/run, got none"):
        open_resumed(settings(done), verb="pretrain", inputs=INPUTS)


@pytest.mark.slow
def test_a_resumed_training_goes_on_after_the_last_step(ray_cluster: None, tmp_path: Path) -> None:
    inputs = write_inputs(tmp_path / "inputs")
    short = config(inputs, tmp_path / "short", WorkersConfig(cpus_each=0.5, threads_each=1), steps=24)
    longer = config(
        inputs,
        tmp_path / "longer",
        WorkersConfig(cpus_each=0.5, threads_each=1),
        steps=40,
        resume=str(tmp_path / "short"),
    )
    pretrain(short)
    before = result(tmp_path / "short")
    manifest = pretrain(longer)
    assert result(tmp_path / "short") == before
    first, second = (pd.read_csv(tmp_path / name / "history.csv") for name in ("short", "longer"))
    pd.testing.assert_frame_equal(second[: len(first)], first)
    assert second["step"].tolist() == [16, 24, 32, 40]
    # Only the steps after the 24th were gone through, at the rates of the schedule over 40: no warm-up is left.
    steps = pd.read_csv(tmp_path / "longer" / "training.csv")
    assert steps["step"].min() > 24
    warmup = round(longer.optimiser.warmup_share * 40)
    for step, rate in zip(steps["step"], steps["lr"], strict=True):
        assert rate == pytest.approx(longer.optimiser.lr * (41 - step) / (40 - warmup))
    assert checkpointed(tmp_path / "longer")[-1] == 40
    assert manifest.facts["steps_done"] == 40
    assert pretrain(longer) == manifest  # Finished is finished.
