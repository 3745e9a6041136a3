"""The EDF and BDF reader against files written by pyedflib, and files put together by hand from the specification."""

from datetime import date, datetime
from pathlib import Path

import numpy as np
import pyedflib
import pytest

from hubert_ecg.ecg.recording import STANDARD_LEADS, standard_12_lead
from hubert_ecg.errors import RecordingError
from hubert_ecg.formats import read_recording


def write_with_pyedflib(path: Path, kind: int, unit: str, samples: np.ndarray, rate_hz: int = 250) -> str:
    """12 leads and a respiration signal at a lower rate, with an annotation and a patient who must stay in the file."""
    low, high = (-(2**23), 2**23 - 1) if kind == pyedflib.FILETYPE_BDFPLUS else (-32768, 32767)
    with pyedflib.EdfWriter(str(path), 13, file_type=kind) as writer:
        writer.setHeader(
            {
                "technician": "",
                "recording_additional": "",
                "patientname": "Jane Roe",
                "patient_additional": "",
                "patientcode": "P17",
                "equipment": "",
                "admincode": "",
                "sex": 0,
                "startdate": datetime(2001, 2, 3),
                "birthdate": date(1970, 5, 6),
            }
        )
        for row, lead in enumerate((*STANDARD_LEADS, "Resp")):
            writer.setSignalHeader(
                row,
                {
                    "label": f"ECG {lead}" if row < 12 else lead,
                    "dimension": unit if row < 12 else "l/min",
                    "sample_frequency": rate_hz if row < 12 else 50,
                    "physical_max": 5.0 if unit == "mV" else 5000.0,
                    "physical_min": -5.0 if unit == "mV" else -5000.0,
                    "digital_max": high,
                    "digital_min": low,
                    "transducer": "",
                    "prefilter": "",
                },
            )
        writer.writeSamples([*samples, np.zeros(samples.shape[1] * 50 // rate_hz)])
        writer.writeAnnotation(0.5, -1, "a remark on Jane Roe")
    return str(path)


@pytest.mark.parametrize(
    ("kind", "suffix", "tolerance_mv"),
    [(pyedflib.FILETYPE_EDFPLUS, "edf", 10 / 65535), (pyedflib.FILETYPE_BDFPLUS, "bdf", 10 / 2**24)],
)
@pytest.mark.parametrize(("unit", "per_mv"), [("mV", 1.0), ("uV", 1000.0)])
def test_files_written_by_pyedflib_read_back(
    tmp_path: Path, kind: int, suffix: str, tolerance_mv: float, unit: str, per_mv: float
) -> None:
    samples = np.random.default_rng(5).uniform(-3, 3, size=(12, 1000))
    path = write_with_pyedflib(tmp_path / f"r.{suffix}", kind, unit, samples * per_mv)
    recording = read_recording(path)
    np.testing.assert_allclose(recording.samples, samples, rtol=0, atol=tolerance_mv + 4e-7)
    with pyedflib.EdfReader(path) as reader:
        expected = np.stack([reader.readSignal(row) for row in range(12)]) / per_mv
    np.testing.assert_allclose(recording.samples, expected, rtol=2e-6, atol=1e-7)
    assert recording.lead_names[:2] == ("ECG I", "ECG II")
    assert standard_12_lead(recording).findings == ()
    assert (recording.sampling_rate_hz, recording.patient_id, recording.sex) == (250.0, "P17", "female")
    assert recording.age_years is None
    for personal in ("Jane", "Roe", "1970", "2001", "06-MAY"):
        assert personal not in repr(recording)


LEADS = (("I", "uV", 4), ("II", "uV", 4))


def compose(
    records: list[list[bytes]],
    *,
    signals: tuple[tuple[str, str, int], ...] = LEADS,
    reserved: str = "",
    num_records: str | None = None,
    duration_s: str = "0.04",
    physical: tuple[str, str] = ("-3276.8", "3276.7"),
    digital: tuple[str, str] = ("-32768", "32767"),
    version: bytes = b"0       ",
    patient: str = "X X X X",
) -> bytes:
    """A file put together field by field: a digital step is 0.1 uV, so a step of 10,000 is 1 mV."""

    def each(width: int, values: list[str]) -> bytes:
        return b"".join(value.ljust(width).encode("latin-1") for value in values)

    count = len(signals)
    head = version + each(80, [patient, "Startdate X X X X"]) + each(8, ["03.02.01", "04.05.06"])
    head += each(8, [str(256 * (count + 1))]) + each(44, [reserved])
    head += each(8, [str(len(records)) if num_records is None else num_records, duration_s]) + each(4, [str(count)])
    head += each(16, [label for label, _, _ in signals]) + each(80, [""] * count)
    head += each(8, [unit for _, unit, _ in signals])
    for value in (*physical, *digital):
        head += each(8, [value] * count)
    head += each(80, [""] * count) + each(8, [str(number) for _, _, number in signals]) + each(32, [""] * count)
    return head + b"".join(part for record in records for part in record)


def steps(*values: int) -> bytes:
    return np.array(values, "<i2").tobytes()


TWO_RECORDS = [
    [steps(0, 10_000, -10_000, 5), steps(1, 2, 3, 4)],
    [steps(20_000, 0, 0, 32_767), steps(5, 6, 7, -32_768)],
]
EXPECTED_MV = np.array(
    [[0, 1, -1, 5e-4, 2, 0, 0, 3.2767], [1e-4, 2e-4, 3e-4, 4e-4, 5e-4, 6e-4, 7e-4, -3.2768]], np.float32
)


def write(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return str(path)


def test_bytes_put_together_by_hand_read_as_worked_out(tmp_path: Path) -> None:
    recording = read_recording(write(tmp_path / "r.edf", compose(TWO_RECORDS, patient="X F 06-MAY-1970 Jane_Roe")))
    np.testing.assert_allclose(recording.samples, EXPECTED_MV, rtol=0, atol=1e-9 + 3e-7)
    assert (recording.sampling_rate_hz, recording.lead_names, recording.record_id) == (100.0, ("I", "II"), "r")
    # Only EDF+ says where in this field the sex stands; in plain EDF it is free text, most often a name.
    assert (recording.patient_id, recording.sex) == (None, None)


def test_24_bit_steps_put_together_by_hand(tmp_path: Path) -> None:
    content = compose(
        [[b"\x01\x00\x00\xff\xff\xff", b"\x00\x00\x80\xff\xff\x7f"]],
        signals=(("I", "uV", 2), ("II", "uV", 2)),
        version=b"\xffBIOSEMI",
        physical=("-8388608", "8388607"),
        digital=("-8388608", "8388607"),
    )
    samples = read_recording(write(tmp_path / "r.bdf", content)).samples
    np.testing.assert_array_equal(samples, np.array([[1e-3, -1e-3], [-8388.608, 8388.607]], np.float32))


def test_records_that_were_never_counted_are_counted_from_the_file(tmp_path: Path) -> None:
    content = compose(TWO_RECORDS, num_records="-1")
    assert read_recording(write(tmp_path / "r.edf", content)).samples.shape == (2, 8)


def test_a_calibration_that_is_upside_down_turns_the_signal_over(tmp_path: Path) -> None:
    content = compose(TWO_RECORDS, physical=("3276.7", "-3276.8"), digital=("-32768", "32767"))
    samples = read_recording(write(tmp_path / "r.edf", content)).samples
    np.testing.assert_allclose(samples, -EXPECTED_MV - 1e-4, rtol=0, atol=1e-6)


def annotated(onsets: list[str], reserved: str = "EDF+D") -> bytes:
    notes = [onset.encode() + b"\x14\x14" for onset in onsets]
    records = [[note.ljust(20, b"\0"), *record] for note, record in zip(notes, TWO_RECORDS, strict=True)]
    return compose(records, signals=(("EDF Annotations", "", 10), *LEADS), reserved=reserved, patient="P9 M X X")


def test_a_gap_between_data_records_is_nan(tmp_path: Path) -> None:
    recording = read_recording(write(tmp_path / "r.edf", annotated(["+10", "+10.07"])))
    gap = np.full((2, 3), np.nan, np.float32)
    np.testing.assert_allclose(
        recording.samples, np.concatenate([EXPECTED_MV[:, :4], gap, EXPECTED_MV[:, 4:]], axis=1), atol=3e-7
    )
    assert (recording.patient_id, recording.sex) == ("P9", "male")


@pytest.mark.parametrize("reserved", ["EDF+C", "EDF+D"])
def test_records_without_a_gap_follow_one_another(tmp_path: Path, reserved: str) -> None:
    recording = read_recording(write(tmp_path / "r.edf", annotated(["+0", "+0.04"], reserved)))
    np.testing.assert_allclose(recording.samples, EXPECTED_MV, rtol=0, atol=3e-7)


def test_signals_named_ecg_are_read_where_no_lead_is_named(tmp_path: Path) -> None:
    content = compose(TWO_RECORDS, signals=(("ECG", "uV", 4), ("EEG Fp1", "uV", 4)))
    recording = read_recording(write(tmp_path / "r.edf", content))
    np.testing.assert_allclose(recording.samples, EXPECTED_MV[:1], rtol=0, atol=3e-7)
    assert recording.lead_names == ("ECG",)


@pytest.mark.parametrize(
    ("content", "reason", "words"),
    [
        (compose(TWO_RECORDS)[:-1], "truncated", "wanted 2 data records of 16 bytes, got 1"),
        (compose(TWO_RECORDS)[:500], "truncated", "wanted a header of 768 bytes, got 500"),
        (compose(TWO_RECORDS)[:100], "unreadable", "does not begin as one"),
        (compose(TWO_RECORDS, num_records="99999999"), "truncated", "wanted 99999999 data records"),
        (compose(TWO_RECORDS, num_records="0"), "unreadable", "at least one data record"),
        (compose(TWO_RECORDS, num_records="two"), "unreadable", "number of data records: wanted a whole number"),
        (compose(TWO_RECORDS, duration_s="0"), "unreadable", "longer than 0 s"),
        (compose(TWO_RECORDS, duration_s="inf"), "unreadable", "wanted a finite number"),
        (compose(TWO_RECORDS, physical=("1", "1")), "unreadable", "two different values"),
        (compose(TWO_RECORDS, digital=("5", "5")), "unreadable", "two different values"),
        (compose(TWO_RECORDS, physical=("0", "1e300")), "unreadable", "infinite"),
        (compose(TWO_RECORDS, signals=(("I", "mmHg", 4), ("II", "uV", 4))), "unknown unit", "lead I: .* got 'mmHg'"),
        (compose(TWO_RECORDS, signals=(("I", "uV", 2), ("II", "uV", 6))), "mixed sampling rates", "got 50, 150 Hz"),
        (compose(TWO_RECORDS, signals=(("a", "uV", 4), ("b", "uV", 4))), "missing leads", r"got \['a', 'b'\]"),
        (compose(TWO_RECORDS, signals=(("I", "uV", 9), ("II", "uV", -1))), "unreadable", "at least 0 samples"),
        (compose(TWO_RECORDS, signals=(("I", "uV", 0), ("II", "uV", 0))), "unreadable", "hold no samples"),
        (compose(TWO_RECORDS, reserved="EDF+D"), "unreadable", "annotations that say when"),
        (annotated(["+0", "later"]), "unreadable", "onset of every data record"),
        (annotated(["+0", "+0.02"]), "unreadable", "overlap"),
        (annotated(["+0", "+999999999999"]), "too large", "times with its gaps"),
    ],
)
def test_odd_files_are_refused_by_reason(tmp_path: Path, content: bytes, reason: str, words: str) -> None:
    with pytest.raises(RecordingError, match=words) as caught:
        read_recording(write(tmp_path / "o.edf", content))
    assert caught.value.reason == reason


def test_a_header_of_ten_thousand_signals_is_refused(tmp_path: Path) -> None:
    content = bytearray(compose(TWO_RECORDS))
    content[252:256] = b"-1  "
    with pytest.raises(RecordingError, match="wanted 1 to 9999 signals, got -1"):
        read_recording(write(tmp_path / "o.edf", bytes(content)))
