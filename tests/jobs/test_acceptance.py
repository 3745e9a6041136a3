"""The recipes on real recordings, as a user runs them: counts, and results that must not get worse."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run_recipe(name: str, source: Path, out: Path) -> None:
    command = [sys.executable, "-m", "jobs.recipe", f"jobs/configs/{name}.yaml", f"input={source}", f"out={out}"]
    subprocess.run(command, check=True, cwd=ROOT)


def macro(evaluation: Path) -> str:
    interval = json.loads((evaluation / "metrics.json").read_text())["auroc_intervals"]["macro"]
    return f"{interval['estimate']:.3f} ({interval['lower']:.3f} to {interval['upper']:.3f})"


@pytest.mark.slow
def test_superclasses_of_ptbxl(ptbxl_dir: Path, tmp_path: Path) -> None:
    run_recipe("ptbxl_superclass", ptbxl_dir, tmp_path)
    report = json.loads((tmp_path / "waveforms" / "report.json").read_text())
    assert (report["listed"], report["prepared"], report["set_aside"]) == (4860, 4860, [])
    with open(ptbxl_dir / "ptbxl_database.csv") as file:
        natural = [r for r in csv.DictReader(file) if r["strat_fold"] == "9" and r["sample"] == "natural"]
    assert len(natural) == 440
    for name in ("evaluation", "evaluation_from_scratch"):
        metrics = json.loads((tmp_path / name / "metrics.json").read_text())
        # A few recordings carry no diagnostic statement and are left out.
        assert 410 <= metrics["recordings"] <= 440
        print(f"\n{name}: macro AUROC {macro(tmp_path / name)}")
        assert metrics["macro"]["auroc"] > 0.75


@pytest.mark.slow
def test_a_classifier_of_simulated_ecgs_recognises_real_ones(ptbxl_dir: Path, tmp_path: Path) -> None:
    run_recipe("simulated_to_ptbxl", ptbxl_dir, tmp_path)
    metrics = json.loads((tmp_path / "evaluation" / "metrics.json").read_text())
    auroc = {label: values["auroc"] for label, values in metrics["per_label"].items()}
    print(f"\nPTB-XL fold 9, trained on simulated ECGs alone: {auroc}")
    assert metrics["recordings"] == 539
    assert auroc["AFIB"] >= 0.80
    assert auroc["CLBBB"] >= 0.80
