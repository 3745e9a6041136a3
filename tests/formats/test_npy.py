"""The .npy reader: orientations, batches, units, the eight independent leads, and every way a file can be odd."""

import io
import re
import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hubert_ecg.ecg.recording import STANDARD_LEADS, Recording, standard_12_lead
from hubert_ecg.errors import ConfigError, RecordingError
from hubert_ecg.formats import ReadOptions, count_recordings, read_recording, read_recordings
from hubert_ecg.formats.options import Units


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


def test_one_lead_has_an_unknown_name_and_is_no_12_lead_recording(tmp_path: Path) -> None:
    samples = np.sin(np.arange(300) / 9).astype(np.float32)
    for name, array in [("flat", samples), ("row", samples[None]), ("column", samples[:, None])]:
        recording = read_recording(save(tmp_path / f"{name}.npy", array), sampling_rate_hz=100)
        np.testing.assert_array_equal(recording.samples, samples[None])
        assert recording.lead_names == ("unknown",)
        with pytest.raises(RecordingError, match="wanted 12 leads, got 1"):
            standard_12_lead(recording, missing="zero")


def test_other_numbers_of_leads_need_names(tmp_path: Path) -> None:
    samples = np.sin(np.arange(900) / 9).astype(np.float32).reshape(3, 300)
    path = save(tmp_path / "3.npy", samples.T)
    options = ReadOptions(sampling_rate_hz=100, lead_names=("I", "II", "V2"))
    recording = read_recording(path, options=options)
    np.testing.assert_array_equal(recording.samples, samples)
    assert recording.lead_names == ("I", "II", "V2")
    with pytest.raises(RecordingError, match="wanted 2 leads, as many as names were given"):
        read_recording(path, options=ReadOptions(sampling_rate_hz=100, lead_names=("I", "II")))


@pytest.mark.parametrize("leads_first", [True, False])
def test_a_batch_is_read_whole_or_one_by_one(tmp_path: Path, leads_first: bool) -> None:
    samples = np.random.default_rng(7).normal(size=(3, 12, 40)).astype(np.float32)
    path = save(tmp_path / "b.npy", samples if leads_first else samples.swapaxes(1, 2))
    recordings = read_recordings(path, sampling_rate_hz=100)
    assert [recording.record_id for recording in recordings] == ["b#0", "b#1", "b#2"]
    for index, recording in enumerate(recordings):
        one = read_recording(f"{path}#{index}", sampling_rate_hz=100)
        np.testing.assert_array_equal(recording.samples, samples[index])
        np.testing.assert_array_equal(one.samples, samples[index])
        assert one.record_id == recording.record_id
    assert count_recordings(path) == 3
    assert count_recordings(f"{path}#1") == 1
    with pytest.raises(RecordingError, match="wanted recording 3, the file holds 3, from 0 on") as caught:
        read_recording(f"{path}#3", sampling_rate_hz=100)
    assert caught.value.reason == "no such recording"


def test_a_batch_of_one_and_a_name_with_a_number_sign_read_plainly(tmp_path: Path) -> None:
    samples = np.random.default_rng(7).normal(size=(1, 12, 40)).astype(np.float32)
    single = read_recording(save(tmp_path / "b.npy", samples), sampling_rate_hz=100)
    np.testing.assert_array_equal(single.samples, samples[0])
    path = str(tmp_path / "odd#2")
    (tmp_path / "odd#2").write_bytes((tmp_path / "b.npy").read_bytes())
    assert read_recording(path, sampling_rate_hz=100).record_id == "odd#2"
    assert count_recordings(path) == 1


ECG_MV = np.tile(np.array([0, 0, 0, 0.1, 0, 1.0, -0.2, 0, 0.2, 0], np.float32), (12, 50))
"""Beats of 1.2 mV; of 500 samples each value is held by at least 50, so percentiles are plain."""


@pytest.mark.parametrize(
    ("per_mv", "kinds", "words"),
    [
        (1.0, [], ""),
        (8.0, [], ""),
        (0.1, [], ""),
        (
            1000.0,
            [("unit converted", "warning")],
            "an ECG's in uV and not in mV, so the values were multiplied by 0.001",
        ),
        (1e-3, [("unit converted", "warning")], "an ECG's in V and not in mV, so the values were multiplied by 1000"),
        (40.0, [("wrong units", "severe")], "48 mV"),
        (1e9, [("wrong units", "severe")], r"1.2e\+09 mV"),
    ],
)
def test_the_unit_is_found_from_the_amplitude_and_reported(
    tmp_path: Path, per_mv: float, kinds: list[tuple[str, str]], words: str
) -> None:
    recording = read_recording(save(tmp_path / "u.npy", ECG_MV * np.float32(per_mv)), sampling_rate_hz=100)
    assert [(finding.kind, finding.severity) for finding in recording.findings] == kinds
    converted = 1.0 if kinds and kinds[0][0] == "unit converted" else per_mv
    np.testing.assert_allclose(recording.samples, ECG_MV * np.float32(converted), rtol=1e-5)
    if kinds:
        assert re.search(words, recording.findings[0].detail)


def test_a_spike_or_a_dead_lead_does_not_mislead_the_search_for_the_unit(tmp_path: Path) -> None:
    spiked = ECG_MV.copy()
    spiked[:, 7], spiked[3] = 300, 0
    assert read_recording(save(tmp_path / "s.npy", spiked), sampling_rate_hz=100).findings == ()
    assert read_recording(save(tmp_path / "z.npy", np.zeros((12, 50))), sampling_rate_hz=100).findings == ()


@pytest.mark.parametrize(("unit", "mv_per_unit"), [("mV", 1.0), ("uV", 1e-3), ("V", 1e3)])
def test_a_unit_that_is_given_is_followed_and_an_implausible_result_reported(
    tmp_path: Path, unit: Units, mv_per_unit: float
) -> None:
    path = save(tmp_path / "u.npy", ECG_MV)
    recording = read_recording(path, options=ReadOptions(sampling_rate_hz=100, units=unit))
    np.testing.assert_allclose(recording.samples, ECG_MV * mv_per_unit, rtol=1e-6)
    assert [finding.kind for finding in recording.findings] == ([] if unit == "mV" else ["wrong units"])


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ConfigError, match="wanted auto, mV, uV or V, got 'nV'"):
        ReadOptions(units="nV")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="wanted at least one name"):
        ReadOptions(lead_names=())
    with pytest.raises(ConfigError, match="max_bytes: wanted at least 1"):
        ReadOptions(max_bytes=0)


def test_a_file_above_the_bound_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "b.npy", np.zeros((12, 100)))
    with pytest.raises(RecordingError, match="wanted at most 500 bytes, got 9728; raise max_bytes") as caught:
        read_recording(path, options=ReadOptions(sampling_rate_hz=100, max_bytes=500))
    assert caught.value.reason == "too large"


def test_nan_stays_nan(tmp_path: Path) -> None:
    recording = read_recording(save(tmp_path / "n.npy", np.full((12, 50), np.nan)), sampling_rate_hz=100)
    assert np.isnan(recording.samples).all()


@pytest.mark.parametrize(
    ("array", "reason", "words"),
    [
        (np.zeros((3, 5000)), "missing leads", "wanted 12 leads, got 3"),
        (np.zeros((5000, 3)), "missing leads", "wanted 12 leads, got 3"),
        (np.zeros((1, 2, 12, 50)), "wrong shape", r"\(1, 2, 12, 50\)"),
        (np.zeros(()), "wrong shape", r"\(\)"),
        (np.zeros((2, 12, 50)), "several recordings", "batch of 2"),
        (np.zeros((2, 3, 50)), "missing leads", "got 3"),
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
    (tmp_path / "a.wav").write_bytes(b"0")
    good = save(tmp_path / "a.npy", np.zeros((12, 10)))
    for path, rate, reason in [
        (good, None, "bad sampling rate"),
        (str(tmp_path / "absent.npy"), 500.0, "missing file"),
        (str(tmp_path / "absent"), 500.0, "missing file"),
        (str(tmp_path / "a.wav"), 500.0, "unknown format"),
        (str(tmp_path), 500.0, "missing file"),
    ]:
        with pytest.raises(RecordingError) as caught:
            read_recording(path, sampling_rate_hz=rate)
        assert caught.value.reason == reason
    with pytest.raises(ConfigError, match="above 0 Hz, got -1.0"):
        read_recording(good, sampling_rate_hz=-1.0)


def test_a_header_that_promises_terabytes_costs_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "huge.npy"
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": (12, 10**12)})
        file.write(bytes(800))
    with pytest.raises(RecordingError) as caught:
        read_recording(str(path), sampling_rate_hz=500)
    assert caught.value.reason == "unreadable"


@pytest.mark.parametrize("version", [b"\x02\x00", b"\x03\x00"])
def test_a_header_that_promises_to_be_gigabytes_long_costs_no_memory(tmp_path: Path, version: bytes) -> None:
    path = tmp_path / "huge.npy"
    path.write_bytes(b"\x93NUMPY" + version + b"\x00\x00\x00\x70" + bytes(500))
    tracemalloc.start()
    with pytest.raises(RecordingError) as caught:
        read_recording(str(path), sampling_rate_hz=500)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert caught.value.reason == "unreadable"
    assert peak < 1 << 22


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
