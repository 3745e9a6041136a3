"""predict on all of the shared PTB-XL, raw and prepared: evaluate says the same, and nothing is lost when killed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hubert_ecg.datasets.ptbxl import PtbxlSource
from hubert_ecg.ecg.simulate import CONDITIONS
from hubert_ecg.pipeline.evaluate import EvaluateConfig, evaluate
from hubert_ecg.pipeline.predict import PREDICTIONS, PredictConfig, predict
from hubert_ecg.pipeline.prepare import PrepareConfig, prepare
from hubert_ecg.storage import files
from hubert_ecg.storage.artifact import Manifest, open_artifact
from hubert_ecg.storage.checkpoint import save_checkpoint
from tests.pipeline.processes import await_receipts
from tests.predictor.classifiers import classifier, info_of

ROOT = Path(__file__).resolve().parents[2]
PROBABILITIES = [f"probability.{label}" for label in CONDITIONS]
RECORDINGS = 4860


def by_id(manifest: Manifest) -> pd.DataFrame:
    """[record_id] probabilities, sorted; no record stands twice."""
    parts = [files.read_table(manifest.part(part), ["record_id", *PROBABILITIES]) for part in range(manifest.parts)]
    table = pd.concat([part.to_pandas() for part in parts]).set_index("record_id").sort_index()
    assert table.index.is_unique
    return table


@pytest.mark.slow
def test_predict_equals_evaluate_and_survives_being_killed(ray_cluster: None, ptbxl_dir: Path, tmp_path: Path) -> None:
    waveforms, checkpoint, out = (str(tmp_path / name) for name in ("w", "m", "raw"))
    source = PtbxlSource(val_fold=8, test_fold=9, rate_hz=100)
    manifest = prepare(
        PrepareConfig(source="ptbxl", input=str(ptbxl_dir), ptbxl=source, leaks="keep", output=waveforms)
    )
    assert manifest.rows == RECORDINGS
    save_checkpoint(checkpoint, classifier(labels=CONDITIONS), info_of(labels=CONDITIONS))

    judged, split_wise = [], []
    for split in ("train", "val", "test"):
        config = {"waveforms": waveforms, "checkpoint": checkpoint, "split": split}
        judged.append(
            by_id(
                evaluate(
                    EvaluateConfig(
                        **config, label_set="conditions", bootstrap_draws=100, output=str(tmp_path / f"e_{split}")
                    )
                )
            )
        )
        split_wise.append(by_id(predict(PredictConfig(**config, output=str(tmp_path / f"p_{split}")))))
        np.testing.assert_array_equal(split_wise[-1], judged[-1])
        assert split_wise[-1].index.equals(judged[-1].index)
    everything = pd.concat(judged).sort_index()
    assert len(everything) == RECORDINGS
    prepared = by_id(predict(PredictConfig(waveforms=waveforms, checkpoint=checkpoint, output=str(tmp_path / "p"))))
    np.testing.assert_allclose(prepared, everything, atol=1e-5)
    print(f"\nidentical on {RECORDINGS} recordings batch by batch; other batches differ by at most")
    print(f"{float(np.abs(prepared - everything).max(axis=None)):.1e}")

    command = [sys.executable, "-m", "jobs.predict", "--source", "ptbxl", "--input", str(ptbxl_dir)]
    command += ["--rate_hz", "100", "--val_fold", "8", "--test_fold", "9"]
    command += ["--checkpoint", checkpoint, "--output", out]
    process = subprocess.Popen(command, cwd=ROOT)
    await_receipts(Path(out, "parts"), 3, process)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    done = len(list(Path(out, "parts").glob("part-*.json")))
    assert not Path(out, "manifest.json").exists()
    again = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    print(f"killed after {done} of {open_artifact(out).parts} shards")
    print(next(line for line in again.stderr.splitlines() if "going on" in line))
    raw = by_id(open_artifact(out))
    assert raw.index.equals(prepared.index)
    np.testing.assert_allclose(raw, everything, atol=1e-5)
    print(f"raw files: {int((raw == prepared).all(axis=1).sum())} of {RECORDINGS} rows identical to prepared ones")
    single = pd.read_parquet(f"{out}/{PREDICTIONS}")
    assert sorted(single["record_id"]) == list(raw.index)
