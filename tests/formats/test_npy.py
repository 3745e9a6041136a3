"""The .npy reader: orientations, the eight independent leads, and every way a file can be odd."""

import io
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hubert_ecg.ecg.recording import STANDARD_LEADS, Recording, standard_12_lead
from hubert_ecg.errors import RecordingError
from hubert_ecg.formats import read_recording


def save(path: Path, array: np.ndarray) -> str:
    np.save(path, array)
    return str(path)


def test_leads_by_time_and_time_by_leads_read_the_same(tmp_path: Path) -> None:
    samples = np.arange(12 * 500, dtype=np.float64).reshape(12, 500) / 1000
    rows = read_recording(save(tmp_path / "rows.npy", samples), sampling_rate_hz=500)
    columns = read_recording(save(tmp_path / "columns.npy", samples.T), sampling_rate_hz=500)
    np.testing.assert_array_equal(rows.samples, samples.astype(np.float32))
    np.testing.assert_array_equal(columns.samples, rows.samples)
    assert rows.samples.dtype == columns.samples.dtype == np.float32
    assert rows.lead_names == STANDARD_LEADS
    assert (rows.record_id, rows.sampling_rate_hz) == ("rows", 500)


def test_fortran_order_and_integers_read_as_their_values(tmp_path: Path) -> None:
    samples = np.asfortranarray(np.arange(12 * 7, dtype=np.int16).reshape(12, 7))
    recording = read_recording(save(tmp_path / "f.npy", samples), sampling_rate_hz=100, record_id="mine")
    np.testing.assert_array_equal(recording.samples, samples.astype(np.float32))
    assert recording.record_id == "mine"


def test_eight_leads_are_the_independent_ones(tmp_path: Path) -> None:
    samples = np.random.default_rng(0).normal(size=(8, 300)).astype(np.float32)
    recording = standard_12_lead(read_recording(save(tmp_path / "8.npy", samples), sampling_rate_hz=100))
    np.testing.assert_array_equal(recording.samples[6:], samples[2:])
    np.testing.assert_allclose(recording.samples[2], samples[1] - samples[0])


def test_nan_stays_nan(tmp_path: Path) -> None:
    recording = read_recording(save(tmp_path / "n.npy", np.full((12, 50), np.nan)), sampling_rate_hz=100)
    assert np.isnan(recording.samples).all()


@pytest.mark.parametrize(
    ("array", "reason", "words"),
    [
        (np.zeros((3, 5000)), "missing leads", "wanted 12 leads, got 3"),
        (np.zeros((5000, 3)), "missing leads", "wanted 12 leads, got 3"),
        (np.zeros(5000), "wrong shape", r"\(5000,\)"),
        (np.zeros((2, 12, 50)), "wrong shape", r"\(2, 12, 50\)"),
        (np.array([[{}] * 4] * 12), "unreadable", "Python objects"),
        (np.full((12, 4), "a"), "unreadable", "dtype <U1"),
        (np.zeros((12, 4), dtype=complex), "unreadable", "dtype complex128"),
        (np.zeros((12, 4), dtype=bool), "unreadable", "dtype bool"),
        (np.full((12, 4), 1e300), "unreadable", "infinite"),
        (np.zeros((12, 0)), "unreadable", "empty"),
    ],
)
def test_odd_arrays_are_refused_by_reason(tmp_path: Path, array: np.ndarray, reason: str, words: str) -> None:
    path = save(tmp_path / "odd.npy", array)
    with pytest.raises(RecordingError, match=words) as caught:
        read_recording(path, sampling_rate_hz=500)
    assert caught.value.reason == reason
    assert path in str(caught.value)


def test_missing_rate_missing_file_and_unknown_format_are_refused_by_reason(tmp_path: Path) -> None:
    (tmp_path / "a.edf").write_bytes(b"0")
    good = save(tmp_path / "a.npy", np.zeros((12, 10)))
    for path, rate, reason in [
        (good, None, "bad sampling rate"),
        (good, -1.0, "bad sampling rate"),
        (str(tmp_path / "absent.npy"), 500.0, "missing file"),
        (str(tmp_path / "absent"), 500.0, "missing file"),
        (str(tmp_path / "a.edf"), 500.0, "unknown format"),
        (str(tmp_path), 500.0, "missing file"),
    ]:
        with pytest.raises(RecordingError) as caught:
            read_recording(path, sampling_rate_hz=rate)
        assert caught.value.reason == reason


def test_a_header_that_promises_terabytes_costs_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "huge.npy"
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": (12, 10**12)})
        file.write(bytes(800))
    with pytest.raises(RecordingError) as caught:
        read_recording(str(path), sampling_rate_hz=500)
    assert caught.value.reason == "unreadable"


def _npy_bytes() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.random.default_rng(3).normal(size=(12, 20)).astype(np.float32))
    return buffer.getvalue()


NPY = _npy_bytes()


@settings(max_examples=150, deadline=None)
@given(
    length=st.integers(0, len(NPY)),
    flips=st.lists(st.tuples(st.integers(0, 160), st.integers(0, 7)), max_size=6),
)
def test_cut_and_flipped_bytes_give_a_recording_or_a_recording_error(length: int, flips: list[tuple[int, int]]) -> None:
    content = bytearray(NPY)
    for position, bit in flips:
        content[position] ^= 1 << bit
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "r.npy"
        path.write_bytes(content[:length])
        try:
            recording = read_recording(str(path), sampling_rate_hz=500)
        except RecordingError:
            return
        assert isinstance(recording, Recording)
        assert not np.isinf(recording.samples).any()


@pytest.mark.parametrize("length", [0, 5, 60, 127, 128, 129, len(NPY) - 1])
def test_a_file_cut_short_is_unreadable(tmp_path: Path, length: int) -> None:
    (tmp_path / "cut.npy").write_bytes(NPY[:length])
    with pytest.raises(RecordingError) as caught:
        read_recording(str(tmp_path / "cut.npy"), sampling_rate_hz=500)
    assert caught.value.reason == "unreadable"
