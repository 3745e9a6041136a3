"""The CSV reader: lead names and units in headers, times, separators, and every way a table can be odd."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hubert_ecg.ecg.recording import STANDARD_LEADS, standard_12_lead
from hubert_ecg.errors import RecordingError
from hubert_ecg.formats import ReadOptions, read_recording

SAMPLES = np.round(np.random.default_rng(9).normal(0, 0.5, size=(12, 80)), 4)


def write(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(("separator", "suffix"), [(",", "csv"), (";", "csv"), ("\t", "tsv"), (",", "txt")])
def test_a_table_written_by_pandas_reads_back_sample_by_sample(tmp_path: Path, separator: str, suffix: str) -> None:
    shuffled = np.random.default_rng(2).permutation(12)
    table = pd.DataFrame({f"Lead {STANDARD_LEADS[k]}": SAMPLES[k] for k in shuffled})
    path = tmp_path / f"r.{suffix}"
    table.to_csv(path, sep=separator, index=True)
    recording = read_recording(str(path), sampling_rate_hz=500)
    np.testing.assert_array_equal(standard_12_lead(recording).samples, SAMPLES.astype(np.float32))
    assert (recording.sampling_rate_hz, recording.record_id, recording.findings) == (500.0, "r", ())
    assert recording.lead_names[0] == f"Lead {STANDARD_LEADS[shuffled[0]]}"


def test_semicolons_with_decimal_commas(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    pd.DataFrame({"I": SAMPLES[0], "II": SAMPLES[1]}).to_csv(path, sep=";", decimal=",", index=False)
    samples = read_recording(str(path), sampling_rate_hz=500).samples
    np.testing.assert_array_equal(samples, SAMPLES[:2].astype(np.float32))


def test_empty_cells_are_nan_and_other_columns_are_not_looked_at(tmp_path: Path) -> None:
    text = "\ufeff# exported\nname,II,V1,comment\nsomebody,0.1,,a\nsomebody,NaN,0.2,\nsomebody,0.3,NA,b\n"
    recording = read_recording(write(tmp_path / "r.csv", text), sampling_rate_hz=100)
    expected = np.array([[0.1, np.nan, 0.3], [np.nan, 0.2, np.nan]], np.float32)
    np.testing.assert_array_equal(recording.samples, expected)
    assert recording.lead_names == ("II", "V1")


@pytest.mark.parametrize(
    ("header", "factor"),
    [("I (uV)", 1e-3), ("I [mV]", 1.0), ("I_mV", 1.0), ("I uV", 1e-3), ("I (µV)", 1e-3), ("I [V]", 1e3)],
)
def test_units_in_headers(tmp_path: Path, header: str, factor: float) -> None:
    recording = read_recording(write(tmp_path / "r.csv", f"{header}\n1\n2\n"), sampling_rate_hz=100)
    np.testing.assert_allclose(recording.samples, [[factor, 2 * factor]], rtol=1e-6)
    assert recording.lead_names == ("I",)


def test_without_units_the_amplitude_tells_and_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    pd.DataFrame({"I": SAMPLES[0] * 1000, "II": SAMPLES[1] * 1000}).to_csv(path, index=False)
    recording = read_recording(str(path), sampling_rate_hz=500)
    np.testing.assert_allclose(recording.samples, SAMPLES[:2], rtol=1e-6)
    assert [finding.kind for finding in recording.findings] == ["unit converted"]
    stated = read_recording(str(path), options=ReadOptions(sampling_rate_hz=500, units="uV"))
    np.testing.assert_allclose(stated.samples, SAMPLES[:2], rtol=1e-6)
    assert stated.findings == ()


@pytest.mark.parametrize(
    ("name", "unit_s", "decimals", "rate_hz"),
    [
        ("time", 1.0, 6, 250),
        ("Time (s)", 1.0, 3, 256),  # 3.90625 ms rounded to ms
        ("t", 1e-3, 4, 500),
        ("time_ms", 1e-3, 0, 1000),
        ("Time [ms]", 1e-3, 3, 360),
        ("timestamp (us)", 1e-6, 0, 500),
        ("seconds", 1.0, 9, 128),
    ],
)
def test_the_rate_comes_from_the_times(tmp_path: Path, name: str, unit_s: float, decimals: int, rate_hz: int) -> None:
    times = np.round(7.5 / unit_s + np.arange(2000) / rate_hz / unit_s, decimals)
    path = tmp_path / "r.csv"
    pd.DataFrame({name: times, "II": np.sin(np.arange(2000))}).to_csv(path, index=False)
    recording = read_recording(str(path), sampling_rate_hz=99)
    assert recording.sampling_rate_hz == pytest.approx(rate_hz, rel=1e-6)
    assert recording.lead_names == ("II",)


@pytest.mark.parametrize(
    "times",
    [[0, 0.01, 0.02, 0.05, 0.06], [0, 0.01, 0.01, 0.01, 0.02], [0.4, 0.3, 0.2, 0.1, 0], [0, 0.01, "", 0.03, 0.04]],
)
def test_times_that_are_not_even_are_refused(tmp_path: Path, times: list[object]) -> None:
    text = "time,II\n" + "".join(f"{time},0.1\n" for time in times)
    with pytest.raises(RecordingError) as caught:
        read_recording(write(tmp_path / "r.csv", text))
    assert caught.value.reason == "irregular sampling"


def test_columns_without_a_header_need_names(tmp_path: Path) -> None:
    path = write(tmp_path / "r.csv", "0.1,0.2\n0.3,0.4\n")
    options = ReadOptions(sampling_rate_hz=100, lead_names=("II", "V5"))
    recording = read_recording(path, options=options)
    np.testing.assert_allclose(recording.samples, [[0.1, 0.3], [0.2, 0.4]], rtol=1e-6)
    assert recording.lead_names == ("II", "V5")
    with pytest.raises(RecordingError, match="got a row of 2 numbers; add one or give lead_names") as caught:
        read_recording(path, sampling_rate_hz=100)
    assert caught.value.reason == "missing leads"


def test_an_only_column_keeps_its_own_name(tmp_path: Path) -> None:
    recording = read_recording(write(tmp_path / "r.csv", "time,heart\n0,0.1\n0.01,0.2\n"))
    assert (recording.lead_names, recording.sampling_rate_hz) == (("heart",), 100.0)


@pytest.mark.parametrize(
    ("text", "reason", "words"),
    [
        ("", "unreadable", "empty file"),
        ("# only a comment\n", "unreadable", "empty file"),
        ("I,II\n", "unreadable", "wanted rows of"),
        ("I,II\n1,2\n1\n", "unreadable", "rows of 2 cells"),
        ("I,II\n1,two\n", "unreadable", "numbers in the leads' columns"),
        ("I,II\n1,1e300\n", "unreadable", "infinite"),
        ("I,II\n1,1e999\n", "unreadable", "infinite"),
        ("a,b\n1,2\n", "missing leads", "got 2 columns of other names"),
        ("I,II (mmHg)\n1,2\n", "unknown unit", "lead II: wanted mV, uV or V, got 'mmHg'"),
        ("I,II\n1,2\n", "bad sampling rate", "got neither"),
        ("time,II\n0,1\n100,2\n200,2\n", "bad sampling rate", "got steps of 100; name the unit"),
    ],
)
def test_odd_tables_are_refused_by_reason(tmp_path: Path, text: str, reason: str, words: str) -> None:
    options = ReadOptions() if reason == "bad sampling rate" else ReadOptions(sampling_rate_hz=100)
    with pytest.raises(RecordingError, match=words) as caught:
        read_recording(write(tmp_path / "r.csv", text), options=options)
    assert caught.value.reason == reason


def test_a_cell_that_is_no_number_is_not_quoted(tmp_path: Path) -> None:
    """It may be a name or a date, and messages end in reports."""
    with pytest.raises(RecordingError) as caught:
        read_recording(write(tmp_path / "r.csv", "I,II\n1,Jane Roe 1970-01-01\n"), sampling_rate_hz=100)
    assert "Jane" not in str(caught.value)


def test_a_header_made_to_be_slow_to_match_is_not(tmp_path: Path) -> None:
    text = "II,a" + " " * 60_000 + "b\n0.1,1\n0.2,2\n"
    recording = read_recording(write(tmp_path / "r.csv", text), sampling_rate_hz=100)
    assert recording.lead_names == ("II",)


def test_a_table_of_a_thousand_columns_and_more_is_refused(tmp_path: Path) -> None:
    text = ",".join(["I"] + [f"c{k}" for k in range(1000)]) + "\n"
    with pytest.raises(RecordingError, match="at most 1000 columns, got 1001"):
        read_recording(write(tmp_path / "r.csv", text), sampling_rate_hz=100)
