"""Header gains that contradict one another are found, replaced and reported; consistent ones are left alone."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hubert_ecg.ecg.finding import STATED_PACING
from hubert_ecg.ecg.recording import standard_12_lead
from hubert_ecg.formats import read_recording

RNG = np.random.default_rng(12)
I_STEPS = np.round(400 * np.sin(np.arange(500) / 11) + RNG.normal(0, 9, 500))
II_STEPS = np.round(700 * np.sin(np.arange(500) / 11 + 0.4) + RNG.normal(0, 9, 500))


def write(folder: Path, gains: list[str], steps: list[np.ndarray], names: str = "i ii iii v1") -> str:
    lines = [f"r.dat 16 {gain} 16 0 0 0 0 {name}" for gain, name in zip(gains, names.split(), strict=False)]
    (folder / "r.hea").write_text("\n".join([f"r {len(lines)} 100 500", *lines]))
    np.stack(steps[: len(lines)], axis=1).astype("<i2").tofile(folder / "r.dat")
    return str(folder / "r.hea")


def limb_leads(rounding: float = 0.0) -> list[np.ndarray]:
    return [I_STEPS, II_STEPS, II_STEPS - I_STEPS + np.round(rounding * np.sin(np.arange(500))), I_STEPS]


def test_gains_of_each_leads_own_are_replaced_by_a_step_of_1_uv(tmp_path: Path) -> None:
    path = write(tmp_path, ["800(3)/mV", "1400(-2)/mV", "600/mV", "1000/mV"], limb_leads(rounding=1.4))
    recording = read_recording(path)
    np.testing.assert_array_equal(recording.samples, np.stack(limb_leads(rounding=1.4)).astype(np.float32) / 1000)
    assert [(finding.kind, finding.severity) for finding in recording.findings] == [("inconsistent gains", "warning")]
    detail = recording.findings[0].detail
    assert "(600 to 1400 steps per mV)" in detail
    assert "Read with 1000 steps per mV for all, 1 uV a step" in detail


def test_the_gain_that_half_of_the_leads_share_is_taken(tmp_path: Path) -> None:
    recording = read_recording(write(tmp_path, ["500/mV", "900/mV", "500/mV", "500/mV"], limb_leads()))
    np.testing.assert_array_equal(recording.samples, np.stack(limb_leads()).astype(np.float32) / 500)
    assert "Read with 500 steps per mV for all, which 3 of 4 leads have" in recording.findings[0].detail


def test_gains_that_differ_rightly_are_followed(tmp_path: Path) -> None:
    """Here the samples in mV fulfil Einthoven's law, and the steps do not."""
    steps = [I_STEPS, II_STEPS * 2, (II_STEPS - I_STEPS) * 4, I_STEPS]
    recording = read_recording(write(tmp_path, ["1000/mV", "2000/mV", "4000/mV", "1000/mV"], steps))
    np.testing.assert_allclose(recording.samples[2], (II_STEPS - I_STEPS) / 1000, rtol=1e-6)
    assert recording.findings == ()


@pytest.mark.parametrize(
    ("names", "steps"),
    [
        ("i ii v1", [I_STEPS, II_STEPS, I_STEPS]),
        ("i ii iii v1", [I_STEPS, II_STEPS, II_STEPS - I_STEPS + RNG.normal(0, 30, 500), I_STEPS]),
    ],
)
def test_where_nothing_can_be_told_the_header_is_followed(tmp_path: Path, names: str, steps: list[np.ndarray]) -> None:
    recording = read_recording(write(tmp_path, ["1000/mV", "1700/mV", "900/mV", "1000/mV"], steps, names))
    np.testing.assert_allclose(recording.samples[1], II_STEPS / 1700, rtol=1e-6)
    assert recording.findings == ()


def test_one_wrong_gain_beyond_the_limb_leads_does_not_matter(tmp_path: Path) -> None:
    recording = read_recording(write(tmp_path, ["1000/mV", "1000/mV", "1000/mV", "900/mV"], limb_leads()))
    np.testing.assert_allclose(recording.samples[3], I_STEPS / 900, rtol=1e-6)
    assert recording.findings == ()


def test_all_of_ludb_is_read_with_one_gain_and_fulfils_einthovens_law(shared_dir: Path, tmp_path: Path) -> None:
    unpack = [sys.executable, str(shared_dir / "data" / "unpack.py"), str(tmp_path), "ludb"]
    subprocess.run(unpack, check=True)
    headers = sorted(tmp_path.rglob("*.hea"))
    assert len(headers) >= 100
    for header in headers:
        recording = standard_12_lead(read_recording(str(header)))
        i, ii, iii = recording.samples[:3].astype(np.float64)
        assert np.abs(ii - i - iii).max() < 0.002
        # Some of them are paced, and say so.
        kinds = [finding.kind for finding in recording.findings if finding.kind != STATED_PACING]
        assert kinds == ["inconsistent gains"]
        assert 0.2 < np.median(np.ptp(recording.samples, axis=1)) < 8
