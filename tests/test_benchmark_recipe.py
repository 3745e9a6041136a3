"""benchmarks.recipe: rows are named after the recipe's directories and hold what its evaluations wrote."""

import argparse
import json
from pathlib import Path

import pytest

from benchmarks.recipe import given, rows
from hubert_ecg.errors import ConfigError

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
    found = {row.name: row for row in rows(stages)}
    assert list(found) == ["form, from scratch", "form, from scratch, NORM", "form, from scratch, AFLT", "form, gain"]
    macro, norm, flutter, gain = found.values()
    assert (macro.ours, macro.interval, macro.facts) == ((0.87,), (0.84, 0.89), {"recordings": 429})
    assert norm.facts == {"recordings": 429, "positives": 196}
    assert flutter.interval is None
    assert (gain.ours, gain.interval) == ((0.012,), (-0.01, 0.03))


def test_places_do_not_get_into_a_saved_command() -> None:
    options = argparse.Namespace(variables=["threads=1"], input="/x", output=None)
    assert given(options) == {"threads": "1", "input": "/x"}
    options.variables.append("out=/y")
    with pytest.raises(ConfigError, match="wanted --input and --output"):
        given(options)
