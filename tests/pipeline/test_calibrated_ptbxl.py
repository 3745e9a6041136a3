"""Calibration on real recordings: fitted on fold 8, the calibration error falls on fold 9, which nothing has seen."""

from pathlib import Path

import pytest

from hubert_ecg.datasets.ptbxl import PtbxlSource
from hubert_ecg.pipeline.calibrate import AbstentionConfig, CalibrateConfig, calibrate
from hubert_ecg.pipeline.compare import CompareConfig, compare
from hubert_ecg.pipeline.evaluate import METRICS, PAGE, EvaluateConfig, evaluate
from hubert_ecg.pipeline.finetune import FinetuneConfig, finetune
from hubert_ecg.pipeline.prepare import PrepareConfig, prepare
from hubert_ecg.pipeline.training_run import WorkersConfig
from hubert_ecg.storage import files
from hubert_ecg.training.optimiser import OptimiserConfig


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_the_calibration_error_falls_on_recordings_that_nothing_has_seen(ptbxl_dir: Path, tmp_path: Path) -> None:
    """Superclasses; trained on folds 1 to 7, whose enriched recordings make conditions commoner than they are."""
    place = {name: str(tmp_path / name) for name in ("w", "m", "temperature", "platt", "e0", "e1", "e2", "c")}
    source = PtbxlSource(rate_hz=100, val_fold=8, test_fold=9)
    prepare(PrepareConfig(source="ptbxl", input=str(ptbxl_dir), ptbxl=source, output=place["w"]))
    finetune(
        FinetuneConfig(
            waveforms=place["w"],
            label_set="superclass",
            steps=300,
            batch_size=32,
            validation_interval=100,
            optimiser=OptimiserConfig(lr=1e-3),
            workers=WorkersConfig(threads_each=1),
            output=place["m"],
        )
    )
    for method in ("temperature", "platt"):
        calibrate(
            CalibrateConfig(
                checkpoint=place["m"],
                waveforms=place["w"],
                tag="natural",
                method=method,  # type: ignore[arg-type]
                abstention=AbstentionConfig(severe_leads=3, spread_share=0.05),
                output=place[method],
            )
        )
    found = []
    for checkpoint, output in (("m", "e0"), ("temperature", "e1"), ("platt", "e2")):
        evaluate(
            EvaluateConfig(waveforms=place["w"], checkpoint=place[checkpoint], tag="natural", output=place[output])
        )
        found.append(files.read_json(f"{place[output]}/{METRICS}"))
    for name, metrics in zip(("as trained", "temperature", "Platt"), found, strict=True):
        errors = metrics["calibration"]["macro"]
        print(f"{name}: {errors}, macro AUROC {metrics['macro_auroc']}")
    plain, _, platt = (metrics["calibration"]["macro"] for metrics in found)
    assert platt["ece_equal_mass"] < plain["ece_equal_mass"]
    assert platt["ece_equal_width"] < plain["ece_equal_width"]
    assert platt["brier"] < plain["brier"]
    assert found[2]["calibration"]["before"]["macro"] == pytest.approx(plain)
    # Neither way of scaling changes the order of recordings; the calibrated checkpoint says the same of each.
    assert found[2]["macro"]["auroc"] == pytest.approx(found[0]["macro"]["auroc"], abs=1e-6)
    compare(CompareConfig(evaluations=[place["e0"], place["e2"]], output=place["c"]))
    assert Path(place["e2"], PAGE).stat().st_size > 100_000
