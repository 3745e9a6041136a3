"""WFDB records of several segments against the wfdb package: fixed and variable layouts, and gaps."""

from pathlib import Path

import numpy as np
import pytest
import wfdb

from hubert_ecg.errors import RecordingError
from hubert_ecg.formats import read_recording, referenced_files


def write_segment(folder: Path, name: str, leads: list[str], num_samples: int, gain: float = 200.0) -> np.ndarray:
    """[lead, time] mV of a segment written by the wfdb package."""
    steps = np.random.default_rng(num_samples).integers(-400, 400, size=(num_samples, len(leads)))
    wfdb.wrsamp(
        name,
        fs=250,
        units=["mV"] * len(leads),
        sig_name=leads,
        d_signal=steps,
        fmt=["16"] * len(leads),
        adc_gain=[gain] * len(leads),
        baseline=[0] * len(leads),
        write_dir=str(folder),
    )
    return (steps.T / gain).astype(np.float32)


def write_fixed(folder: Path) -> list[np.ndarray]:
    return [write_segment(folder, "s1", ["I", "II"], 30), write_segment(folder, "s2", ["I", "II"], 50, gain=100.0)]


def test_a_fixed_layout_with_a_gap(tmp_path: Path) -> None:
    first, second = write_fixed(tmp_path)
    (tmp_path / "m.hea").write_text("m/3 2 250 100\ns1 30\n~ 20\ns2 50\n# Age: 44\n")
    recording = read_recording(str(tmp_path / "m"))
    gap = np.full((2, 20), np.nan, np.float32)
    np.testing.assert_array_equal(recording.samples, np.concatenate([first, gap, second], axis=1))
    assert (recording.lead_names, recording.sampling_rate_hz, recording.age_years) == (("I", "II"), 250.0, 44.0)


def test_a_variable_layout_equals_the_wfdb_package(tmp_path: Path) -> None:
    write_segment(tmp_path, "s1", ["I", "II"], 30)
    write_segment(tmp_path, "s2", ["II", "V1", "I"], 50, gain=100.0)
    (tmp_path / "m_layout.hea").write_text(
        "m_layout 3 250 0\n" + "".join(f"~ 0 200(0)/mV 0 0 0 0 0 {lead}\n" for lead in ("I", "II", "V1"))
    )
    (tmp_path / "m.hea").write_text("m/4 3 250 105\nm_layout 0\ns1 30\n~ 25\ns2 50\n")
    recording = read_recording(str(tmp_path / "m.hea"))
    expected = wfdb.rdrecord(str(tmp_path / "m"))
    assert recording.lead_names == tuple(expected.sig_name)
    np.testing.assert_allclose(recording.samples, expected.p_signal.T, rtol=1e-6)
    assert np.isnan(recording.samples[2, :55]).all()


def test_the_files_of_a_record_are_found_in_two_rounds(tmp_path: Path) -> None:
    """As when they are fetched from an object store: the segments' headers first, then what those refer to."""
    (tmp_path / "m.hea").write_text("m/3 2 250 100\ns1 30\n~ 20\ns2 50\n")
    assert referenced_files(str(tmp_path / "m.hea")) == ("s1.hea", "s2.hea")
    write_fixed(tmp_path)
    assert referenced_files(str(tmp_path / "m.hea")) == ("s1.hea", "s1.dat", "s2.hea", "s2.dat")


@pytest.mark.parametrize(
    ("header", "reason", "words"),
    [
        ("m/2 2 250 81\ns1 31\ns2 50", "truncated", "wanted 31 samples of segment s1, got 30"),
        ("m/2 2 250 80\ns1 30\ns3 50", "missing file", "s3.hea"),
        ("m/2 2 250 2000000030\ns1 30\n~ 2000000000", "too large", "at most 16 times the 60 samples"),
        ("m/30 2 250 900" + 30 * "\ns1 30", "too large", "at most 16 times"),
        ("m/2 2 250 80\ns1 30\nm 50", "unreadable", "wanted a single segment"),
        ("m/1 2 250 0\ns1 0", "unreadable", "holds no samples"),
        ("m/2 2 250 80\ns1 30\ns4 5", "mixed sampling rates", r"\[100.0, 250.0\] Hz"),
    ],
)
def test_segments_that_make_no_sense_are_refused_by_reason(
    tmp_path: Path, header: str, reason: str, words: str
) -> None:
    write_fixed(tmp_path)
    (tmp_path / "s4.hea").write_text("s4 1 100 5\ns1.dat 16 1/mV 16 0 0 0 0 I")
    (tmp_path / "m.hea").write_text(header)
    with pytest.raises(RecordingError, match=words) as caught:
        read_recording(str(tmp_path / "m.hea"))
    assert caught.value.reason == reason
