"""Bad recordings are set aside with their reasons and the job goes on; with none left it ends with 2 and one line."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hubert_ecg.ecg.simulate import simulate_condition

ROOT = Path(__file__).resolve().parents[2]
GOOD = ["good_a.npy", "good_b.npy"]
BAD = {
    "cut_short.npy": "too short",
    "cut_file.npy": "unreadable",
    "all_nan.npy": "not a number",
    "three_leads.npy": "missing leads",
    "not_there.npy": "missing file",
}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    ecg = simulate_condition(["AFIB"], seed=3)[0].samples
    for name in GOOD:
        np.save(folder / name, ecg)
    np.save(folder / "cut_short.npy", ecg[:, :2000])
    whole = (folder / GOOD[0]).read_bytes()
    (folder / "cut_file.npy").write_bytes(whole[: len(whole) // 2])
    np.save(folder / "all_nan.npy", np.full_like(ecg, np.nan))
    np.save(folder / "three_leads.npy", ecg[:3])
    return folder


def prepare(archive: Path, names: list[str], output: Path) -> subprocess.CompletedProcess[str]:
    with open(archive / "manifest.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["filename", "age", "sex", "patient_id", "AFIB", "NORM"])
        writer.writerows([name, 60, "female", name, 1, 0] for name in names)
    command = [sys.executable, "-m", "jobs.prepare", "--source", "manifest", "--input", str(archive)]
    return subprocess.run([*command, "--output", str(output)], capture_output=True, text=True, cwd=ROOT, check=False)


def test_each_bad_recording_is_named_with_its_reason_and_the_job_goes_on(archive: Path, tmp_path: Path) -> None:
    result = prepare(archive, [*BAD, *GOOD], tmp_path / "w")
    assert result.returncode == 0, result.stderr
    report = json.loads((tmp_path / "w" / "report.json").read_text())
    reasons = {entry["record_id"]: entry["reason"] for entry in report["set_aside"]}
    assert reasons == {Path(name).stem: reason for name, reason in BAD.items()}
    assert (report["listed"], report["prepared"]) == (7, 2)
    assert all(entry["record_id"] in entry["detail"] for entry in report["set_aside"])


def test_with_every_recording_bad_the_job_ends_with_2_and_one_line(archive: Path, tmp_path: Path) -> None:
    result = prepare(archive, list(BAD), tmp_path / "w")
    assert result.returncode == 2
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "not one of 5 recordings could be used" in errors[0]
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "w" / "manifest.json").exists()
