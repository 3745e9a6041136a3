"""A training on real Ray workers: user errors end it at once, and padded recordings, classes and numbers go through."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray.cloudpickle
from torch import nn

from hubert_ecg.ecg.preprocess import PreprocessConfig
from hubert_ecg.errors import ArtifactError, ConfigError
from hubert_ecg.pipeline.evaluate import METRICS, EvaluateConfig, evaluate, read_table_text
from hubert_ecg.pipeline.finetune import FinetuneConfig, finetune
from hubert_ecg.pipeline.pretrain import PretrainConfig, pretrain
from hubert_ecg.pipeline.training_run import ERROR, TrainingJob, WorkersConfig, run_training
from hubert_ecg.pipeline.training_setup import one_pass
from hubert_ecg.pipeline.user_errors import leave_error
from hubert_ecg.predictor import Predictor
from hubert_ecg.storage import files
from hubert_ecg.storage.artifact import Manifest, StageOutput, begin
from hubert_ecg.storage.checkpoint import load_info
from hubert_ecg.training.examples import ExampleReader
from hubert_ecg.training.loop import LoopConfig
from hubert_ecg.training.optimiser import OptimiserConfig
from tests.training.padded import PREPROCESS, write_codes, write_waveforms

ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])

TRAIN: dict[str, Any] = {"steps": 2, "batch_size": 6, "validation_interval": 2}


@pytest.fixture(scope="module")
def waveforms(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return write_waveforms(tmp_path_factory.mktemp("w") / "w", splits=("train", "val", "test"))


@dataclass(frozen=True, kw_only=True)
class Unwilling(TrainingJob):
    """A job whose every start is noted, and fails for a reason that the user has to mend."""

    notes: str

    def make_module(self, directory: Path | None) -> nn.Module:
        with open(self.notes, "a") as file:
            file.write("started\n")
        raise ConfigError("--head: wanted another one")

    def step_loss(self, *_: Any) -> Any: ...
    def validate(self, *_: Any) -> Any: ...
    def save(self, *_: Any) -> Any: ...


@pytest.mark.slow
def test_a_user_error_in_a_worker_is_not_tried_again(ray_cluster: None, waveforms: Manifest, tmp_path: Path) -> None:
    rows = tuple(np.arange(5) for _ in range(waveforms.parts))
    reader = ExampleReader(waveforms=waveforms, preprocess=PreprocessConfig(), targets=None, seed=0)
    job = Unwilling(
        loop=LoopConfig(steps=1, validation_interval=1, patience=0, seed=0),
        optimiser=OptimiserConfig(),
        plan=one_pass(rows, 4),
        reader=reader,
        validation_plan=one_pass(rows, 4),
        validation_reader=reader,
        workers=WorkersConfig(max_failures=3),
        notes=str(tmp_path / "notes"),
    )
    output = begin(str(tmp_path / "out"), verb="finetune", config={}, inputs={})
    assert isinstance(output, StageOutput)
    # What an earlier run left there does not count.
    leave_error(f"{output.directory}/trainer/{ERROR}", ArtifactError("of yesterday"))
    with pytest.raises(ConfigError, match="--head: wanted another one"):
        run_training(job, output)
    assert (tmp_path / "notes").read_text() == "started\n"


@pytest.mark.slow
def test_padded_recordings_are_pretrained_on(ray_cluster: None, waveforms: Manifest, tmp_path: Path) -> None:
    codes = write_codes(tmp_path / "l", waveforms)
    output = str(tmp_path / "c")
    manifest = pretrain(PretrainConfig(waveforms=waveforms.directory, labels=codes.directory, output=output, **TRAIN))
    best = manifest.facts["best"]
    # Two codebooks of 7 clusters by chance: 2 ln 7 = 3.9, and more where cosines are not yet calibrated.
    assert 2 < best["val_loss"] < 12
    assert PreprocessConfig.from_dict(load_info(output).preprocessing) == PREPROCESS


@pytest.mark.slow
def test_classes_and_numbers_from_labels_to_metrics(ray_cluster: None, waveforms: Manifest, tmp_path: Path) -> None:
    for label_set, metric in (("classes", "accuracy"), ("age", "mean_r2")):
        model, result = str(tmp_path / label_set), str(tmp_path / f"{label_set}-result")
        finetune(FinetuneConfig(waveforms=waveforms.directory, label_set=label_set, output=model, **TRAIN))
        evaluate(EvaluateConfig(waveforms=waveforms.directory, checkpoint=model, output=result, bootstrap_draws=100))
        assert metric in files.read_json(f"{result}/{METRICS}")
        assert len(read_table_text(result).splitlines()) > 1
    predictor = Predictor.load(tmp_path / "age")
    # The training recordings are 61, 35.5 and 80 years old.
    standard = predictor.info.calibration["standard"]
    np.testing.assert_allclose((standard["mean"], standard["std"]), ([58.8333], [18.2316]), atol=1e-3)
    numbers = predictor.probabilities([np.zeros((12, 1000), np.int16)])
    assert 0 < numbers[0, 0] < 120


@pytest.mark.slow
def test_an_error_of_one_of_two_workers_ends_both(ray_cluster: None, tmp_path: Path) -> None:
    """The error is that of a task which reads for one worker, while the other waits for their common step."""
    classes = [["NORM"]] * 4 + [["AFIB", "NORM"]]
    broken = write_waveforms(tmp_path / "w", splits=("train", "val", "test"), classes=classes)
    workers = WorkersConfig(num=2, cpus_each=0.5)
    config = FinetuneConfig(
        waveforms=broken.directory, label_set="classes", output=str(tmp_path / "m"), workers=workers, **TRAIN
    )
    with pytest.raises(ArtifactError, match=r"0-4: wanted exactly one class of classes, got \['AFIB', 'NORM'\]"):
        finetune(config)


@pytest.mark.slow
def test_two_workers_train_on_padded_recordings_as_one_does(
    ray_cluster: None, waveforms: Manifest, tmp_path: Path
) -> None:
    codes = write_codes(tmp_path / "l", waveforms)
    found = []
    for num in (1, 2):
        workers = WorkersConfig(num=num, cpus_each=1 / num)
        places = {"waveforms": waveforms.directory, "labels": codes.directory, "output": str(tmp_path / f"c{num}")}
        best = pretrain(PretrainConfig(workers=workers, **places, **TRAIN)).facts["best"]
        found.append((best["train_loss"], best["val_loss"]))
    assert found[1] == pytest.approx(found[0], rel=1e-4)
