"""The HL7 aECG reader on documents written out by hand, with the values worked out."""

from pathlib import Path

import numpy as np
import pytest
from written_files import LEADS, aecg_file, aecg_series, counts

from hubert_ecg.ecg.recording import Recording, standard_12_lead
from hubert_ecg.errors import RecordingError
from hubert_ecg.formats.aecg import read_aecg


def read(folder: Path, content: bytes) -> Recording:
    path = folder / "r.xml"
    path.write_bytes(content)
    return read_aecg(str(path))


def reason(folder: Path, content: bytes) -> str:
    with pytest.raises(RecordingError) as caught:
        read(folder, content)
    return caught.value.reason


def test_the_rhythm_reads_back_sample_by_sample(tmp_path: Path) -> None:
    stored = counts(12)
    beat = aecg_series(counts(12, 80, seed=9), code="REPRESENTATIVE_BEAT")
    recording = read(tmp_path, aecg_file(beat, aecg_series(stored)))
    np.testing.assert_allclose(recording.samples, stored * 0.0025, atol=1e-6)
    assert standard_12_lead(recording).lead_names == LEADS
    np.testing.assert_array_equal(standard_12_lead(recording).samples, recording.samples)
    assert (recording.sampling_rate_hz, recording.record_id, recording.findings) == (500.0, "r", ())
    assert (recording.patient_id, recording.age_years, recording.sex) == ("P-17", 63.0, "female")
    assert "Doe" not in repr(recording)


@pytest.mark.parametrize(
    ("origin", "scale", "expected"),
    [
        # 10 x digit + 500 uV; the origin may have a unit of its own, or none, or be left out.
        ('<origin value="500" unit="uV"/>', '<scale value="10" unit="uV"/>', [0.5, 0.51, 0.47]),
        ('<origin value="0.5" unit="mV"/>', '<scale value="10" unit="uV"/>', [0.5, 0.51, 0.47]),
        ('<origin value="0.5"/>', '<scale value="0.01" unit="mV"/>', [0.5, 0.51, 0.47]),
        ("", '<scale value="0.00001" unit="V"/>', [0.0, 0.01, -0.03]),
        ("", '<scale value="10000" unit="nV"/>', [0.0, 0.01, -0.03]),
    ],
)
def test_a_value_is_origin_plus_scale_times_digit(
    tmp_path: Path, origin: str, scale: str, expected: list[float]
) -> None:
    series = aecg_series(np.array([[0, 1, -3]]), names=("II",), origin=origin, scale=scale)
    np.testing.assert_allclose(read(tmp_path, aecg_file(series)).samples, [expected], atol=1e-7)


@pytest.mark.parametrize(
    ("code", "increment", "rate_hz"),
    [
        ("TIME_ABSOLUTE", 'value="0.002" unit="s"', 500.0),
        ("TIME_RELATIVE", 'value="4" unit="ms"', 250.0),
        ("TIME_RELATIVE", 'value="1000" unit="us"', 1000.0),
        ("TIME_ABSOLUTE", 'value="0.00390625" unit="s"', 256.0),
        ("TIME_ABSOLUTE", 'value="0.003" unit="s"', 333.333333),
    ],
)
def test_the_increment_gives_the_rate(tmp_path: Path, code: str, increment: str, rate_hz: float) -> None:
    time = f'<code code="{code}"/><value xsi:type="GLIST_PQ"><head value="0" unit="s"/><increment {increment}/></value>'
    assert read(tmp_path, aecg_file(aecg_series(counts(12), time=time))).sampling_rate_hz == rate_hz


@pytest.mark.parametrize(
    ("birth", "reported", "years"),
    [("19560301", "", 64.0), ("195603021430", "", 63.0), ("", "", None), ("19560301", "70", 70.0), ("1956", "", None)],
)
def test_age_is_reported_or_reckoned(tmp_path: Path, birth: str, reported: str, years: float | None) -> None:
    content = aecg_file(aecg_series(counts(12)), birth=birth, reported_age=reported)
    assert read(tmp_path, content).age_years == years


def test_a_subject_may_be_absent(tmp_path: Path) -> None:
    content = aecg_file(aecg_series(counts(12))).replace(b"trialSubject", b"nobody")
    recording = read(tmp_path, content)
    assert (recording.patient_id, recording.age_years, recording.sex) == (None, None, None)


def test_further_rhythm_series_are_reported(tmp_path: Path) -> None:
    first, second = counts(12), counts(12, 80, seed=9)
    recording = read(tmp_path, aecg_file(aecg_series(first), aecg_series(second)))
    np.testing.assert_allclose(recording.samples, first * 0.0025, atol=1e-6)
    assert [finding.kind for finding in recording.findings] == ["waveforms left out"]


def test_other_sequences_are_left_out(tmp_path: Path) -> None:
    series = aecg_series(counts(2), names=("II", "PACE")).replace("MDC_ECG_LEAD_PACE", "MDC_PACE_FLAG")
    before, _, after = series.rpartition('unit="uV"')
    recording = read(tmp_path, aecg_file(before + 'unit="1"' + after))
    assert recording.lead_names == ("II",)


def test_a_lead_that_stands_twice_is_not_chosen_between(tmp_path: Path) -> None:
    recording = read(tmp_path, aecg_file(aecg_series(counts(12), names=(*LEADS[:11], "V5"))))
    with pytest.raises(RecordingError, match="V5 stands twice"):
        standard_12_lead(recording)


def test_utf_16_reads_alike(tmp_path: Path) -> None:
    stored = counts(12)
    text = aecg_file(aecg_series(stored)).decode().replace('encoding="UTF-8"', 'encoding="UTF-16"')
    np.testing.assert_allclose(read(tmp_path, text.encode("utf-16")).samples, stored * 0.0025, atol=1e-6)


def declaring(entities: bytes) -> bytes:
    return b'<?xml version="1.0"?><!DOCTYPE a [' + entities + b"]><AnnotatedECG>&x;</AnnotatedECG>"


@pytest.mark.parametrize(
    "entities", [b'<!ENTITY y "ha"><!ENTITY x "&y;&y;&y;&y;">', b'<!ENTITY x SYSTEM "file:///etc/hostname">']
)
def test_entities_are_refused(tmp_path: Path, entities: bytes) -> None:
    assert reason(tmp_path, declaring(entities)) == "unreadable"


def test_what_cannot_be_read_has_a_reason(tmp_path: Path) -> None:
    good = aecg_file(aecg_series(counts(12)))

    def changed(old: bytes, new: bytes) -> str:
        assert old in good
        return reason(tmp_path, good.replace(old, new, 1))

    assert read(tmp_path, good).samples.shape == (12, 200)
    assert reason(tmp_path, good[:-100]) == "unreadable"
    assert reason(tmp_path, b"") == "unreadable"
    assert reason(tmp_path, b"<RestingECG/>") == "unknown format"
    assert reason(tmp_path, aecg_file()) == "unreadable"
    assert reason(tmp_path, aecg_file(aecg_series(counts(12), code="REPRESENTATIVE_BEAT"))) == "unreadable"
    assert reason(tmp_path, aecg_file(aecg_series(counts(0), names=()))) == "missing leads"
    assert changed(b'unit="s"', b'unit="fortnight"') == "bad sampling rate"
    assert changed(b'value="0.002"', b'value="0"') == "bad sampling rate"
    assert changed(b'value="0.002"', b'value="nan"') == "bad sampling rate"
    assert changed(b'<scale value="2.5" unit="uV"/>', b'<scale value="2.5" unit="mm"/>') == "unknown unit"
    assert changed(b'<scale value="2.5"', b'<scale value=""') == "unreadable"
    assert changed(b'<scale value="2.5"', b'<scale value="0"') == "unreadable"
    assert changed(b'<scale value="2.5"', b'<scale value="1e300"') == "unreadable"
    assert changed(b"<digits>", b"<digits>1 ") == "truncated"
    assert changed(b"<digits>", b"<digits>one ") == "unreadable"
    with pytest.raises(RecordingError, match="no such file"):
        read_aecg(str(tmp_path / "absent.xml"))
