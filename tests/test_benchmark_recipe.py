"""benchmarks.recipe: rows are named after the recipe's directories and hold what its evaluations wrote."""

import argparse
import json
from pathlib import Path

import pytest

from benchmarks.recipe import given, rows
from hubert_ecg.errors import ConfigError
from tests.pipeline.waveform_tables import save_model

METRICS = {
    "recordings": 429,
    "auroc_intervals": {
        "macro": {"estimate": 0.87, "lower": 0.84, "upper": 0.89},
        "per_label": {
            "NORM": {"estimate": 0.9, "lower": 0.85, "upper": 0.93},
            "PSVT": {"estimate": None, "lower": None, "upper": None},
            "AFLT": {"estimate": 1.0, "lower": None, "upper": None},
        },
    },
    "per_label": {"NORM": {"positives": 196}, "PSVT": {"positives": 0}, "AFLT": {"positives": 3}},
}
COMPARISON = {
    "recordings": 429,
    "differences": {"auroc": {"macro": {"difference": 0.012, "lower": -0.01, "upper": 0.03, "p_value": 0.2}}},
}


def written(folder: Path, name: str, content: object) -> list[str]:
    folder.mkdir(parents=True)
    (folder / name).write_text(json.dumps(content))
    return ["--output", str(folder)]


def test_rows_are_named_after_directories(tmp_path: Path) -> None:
    stages = [
        ("prepare", ["--output", str(tmp_path / "waveforms")]),
        ("evaluate", written(tmp_path / "form" / "from_scratch", "metrics.json", METRICS)),
        ("compare", written(tmp_path / "form" / "gain", "comparison.json", COMPARISON)),
    ]
    found = {row.name: row for row in rows(stages, {})}
    assert list(found) == ["form, from scratch", "form, from scratch, NORM", "form, from scratch, AFLT", "form, gain"]
    macro, norm, flutter, gain = found.values()
    assert (macro.ours, macro.interval, macro.facts) == ((0.87,), (0.84, 0.89), {"recordings": 429})
    assert norm.facts == {"recordings": 429, "positives": 196}
    assert flutter.interval is None
    assert (gain.ours, gain.interval) == ((0.012,), (-0.01, 0.03))


@pytest.mark.parametrize("gpu", [False, True])
def test_a_training_says_how_fast_it_was(tmp_path: Path, gpu: bool) -> None:
    """The first three rows of its table are its start, and no figure."""
    speeds = [1, 1, 1, 100, 200, 400]
    lines = [f"{10 * n},0.5,0.001,{speed},0.25{f',{n}.5' if gpu else ''}" for n, speed in enumerate(speeds)]
    head = "step,loss,lr,ecgs_per_s,waiting_share" + ",gpu_memory_gb" * gpu
    output = tmp_path / "small" / "pretrained"
    save_model(output)
    (output / "training.csv").write_text("\n".join([head, *lines]) + "\n")
    stages = [("prepare", ["--output", str(tmp_path / "w")]), ("pretrain", ["--output", str(output)])]
    if gpu:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("torch.cuda.get_device_name", lambda: "NVIDIA H200")
            [row] = rows(stages, {str(output): 87.0})
        assert row.facts["GPU memory, GB"] == 5.5
        assert row.facts["GPU busy, %"] == 87.0
        share = row.facts["model FLOP utilisation, % of the bf16 peak"]
        assert share == pytest.approx(100 * row.facts["TFLOP/s"] / 989.4)
    else:
        [row] = rows(stages, {})
        assert set(row.facts) == {"waiting for data, %"}
    assert (row.name, row.ours, row.unit) == ("small, pretrained, training", (200.0,), "ECGs/s")
    assert row.facts["waiting for data, %"] == 25


def test_places_do_not_get_into_a_saved_command() -> None:
    options = argparse.Namespace(variables=["threads=1"], input="/x", output=None)
    assert given(options) == {"threads": "1", "input": "/x"}
    options.variables.append("out=/y")
    with pytest.raises(ConfigError, match="wanted --input and --output"):
        given(options)
