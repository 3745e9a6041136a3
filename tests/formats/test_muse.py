"""The GE MUSE reader on documents written out by hand."""

from pathlib import Path

import numpy as np
import pytest
from written_files import EIGHT_LEADS, LEADS, counts, muse_file, muse_lead, muse_waveform

from hubert_ecg.ecg.recording import Recording, standard_12_lead
from hubert_ecg.errors import RecordingError
from hubert_ecg.formats.muse import read_muse


def read(folder: Path, content: bytes) -> Recording:
    path = folder / "r.xml"
    path.write_bytes(content)
    return read_muse(str(path))


def reason(folder: Path, content: bytes) -> str:
    with pytest.raises(RecordingError) as caught:
        read(folder, content)
    return caught.value.reason


def one_lead(lead: str) -> bytes:
    return muse_file(f"<Waveform><WaveformType>Rhythm</WaveformType><SampleBase>500</SampleBase>{lead}</Waveform>")


def test_the_rhythm_reads_back_sample_by_sample_and_not_the_median(tmp_path: Path) -> None:
    stored = counts(8)
    recording = read(tmp_path, muse_file(muse_waveform(counts(8, 60, seed=9), kind="Median"), muse_waveform(stored)))
    np.testing.assert_allclose(recording.samples, stored * 0.00488, atol=1e-6)
    assert (recording.lead_names, recording.sampling_rate_hz, recording.record_id) == (EIGHT_LEADS, 500.0, "r")
    assert (recording.patient_id, recording.age_years, recording.sex) == ("P-17", 63.0, "female")
    assert recording.findings == ()
    assert "öe" not in repr(recording)


def test_twelve_leads_follow_from_the_eight(tmp_path: Path) -> None:
    stored = counts(8)
    standard = standard_12_lead(read(tmp_path, muse_file(muse_waveform(stored))))
    i, ii = stored[:2] * 0.00488
    assert standard.lead_names == LEADS
    np.testing.assert_allclose(standard.samples[2], ii - i, atol=1e-6)
    np.testing.assert_allclose(standard.samples[3], -(i + ii) / 2, atol=1e-6)


@pytest.mark.parametrize(("units", "mv"), [("MICROVOLTS", 0.005), ("MILLIVOLTS", 5.0), ("uV", 0.005), ("VOLTS", 5e3)])
def test_units_become_mv(tmp_path: Path, units: str, mv: float) -> None:
    lead = muse_lead("II", np.array([0, 1, -2]), units=units, per_bit="5")
    np.testing.assert_allclose(read(tmp_path, one_lead(lead)).samples, [[0, mv, -2 * mv]], rtol=1e-6)


def test_the_whole_range_of_16_bits_is_read(tmp_path: Path) -> None:
    lead = muse_lead("II", np.array([-32768, 32767]), per_bit="1")
    np.testing.assert_allclose(read(tmp_path, one_lead(lead)).samples, [[-32.768, 32.767]], rtol=1e-6)


@pytest.mark.parametrize(
    ("base", "exponent", "rate_hz"), [("250", "0", 250.0), ("5", "2", 500.0), ("4000", "-1", 400.0)]
)
def test_the_rate_has_an_exponent(tmp_path: Path, base: str, exponent: str, rate_hz: float) -> None:
    content = muse_file(muse_waveform(counts(8), base=base, exponent=exponent))
    assert read(tmp_path, content).sampling_rate_hz == pytest.approx(rate_hz)


@pytest.mark.parametrize(
    ("age", "years"),
    [
        ("<PatientAge>63</PatientAge><AgeUnits>YEARS</AgeUnits>", 63.0),
        ("<PatientAge>6</PatientAge><AgeUnits>MONTHS</AgeUnits>", 0.5),
        ("<PatientAge>2</PatientAge><AgeUnits>WEEKS</AgeUnits>", 14 / 365.25),
        # Born 15 June 1956, recorded 1 March 2020.
        ("", 63.0),
        ("<PatientAge>400</PatientAge><AgeUnits>YEARS</AgeUnits>", 63.0),
    ],
)
def test_age_is_given_or_reckoned(tmp_path: Path, age: str, years: float) -> None:
    assert read(tmp_path, muse_file(muse_waveform(counts(8)), age=age)).age_years == pytest.approx(years)


def test_what_the_cart_flagged_is_found(tmp_path: Path) -> None:
    lead = muse_lead("V2", np.arange(5), extra="<MuscleNoise>TRUE</MuscleNoise><BaselineSway>FALSE</BaselineSway>")
    content = one_lead(lead.replace("<LeadOff>FALSE", "<LeadOff>TRUE"))
    found = {(finding.kind, finding.severity, finding.lead) for finding in read(tmp_path, content).findings}
    assert found == {("lead off", "severe", "V2"), ("noise", "warning", "V2")}


def test_a_further_rhythm_is_reported(tmp_path: Path) -> None:
    first, second = counts(8), counts(8, 50, seed=9)
    recording = read(tmp_path, muse_file(muse_waveform(first), muse_waveform(second)))
    np.testing.assert_allclose(recording.samples, first * 0.00488, atol=1e-6)
    assert [finding.kind for finding in recording.findings] == ["waveforms left out"]


def test_what_cannot_be_read_has_a_reason(tmp_path: Path) -> None:
    good = muse_file(muse_waveform(counts(8)))

    def changed(old: bytes, new: bytes) -> str:
        assert old in good
        return reason(tmp_path, good.replace(old, new, 1))

    assert read(tmp_path, good).samples.shape == (8, 200)
    assert reason(tmp_path, good[:-200]) == "unreadable"
    assert reason(tmp_path, b"<AnnotatedECG/>") == "unknown format"
    assert reason(tmp_path, muse_file()) == "unreadable"
    assert reason(tmp_path, muse_file(muse_waveform(counts(8), kind="Median"))) == "unreadable"
    assert reason(tmp_path, one_lead("")) == "missing leads"
    assert reason(tmp_path, one_lead(muse_lead("I", np.arange(3)) + muse_lead("II", np.arange(4)))) == "truncated"
    assert reason(tmp_path, one_lead(muse_lead("I", np.arange(0)))) == "truncated"
    assert changed(b"SampleCountTotal>200", b"SampleCountTotal>201") == "truncated"
    assert changed(b"SampleCountTotal>200", b"SampleCountTotal>99999999999") == "truncated"
    assert changed(b"SampleCountTotal>200", b"SampleCountTotal>199") == "unreadable"
    assert changed(b"<WaveFormData>\n", b"<WaveFormData>\n!") == "unreadable"
    assert changed(b"<WaveFormData>\n", b"<WaveFormData>\nAA") == "unreadable"
    assert changed(b"<LeadSampleSize>2", b"<LeadSampleSize>4") == "unreadable"
    assert changed(b"MICROVOLTS", b"CUBITS") == "unknown unit"
    assert changed(b"UnitsPerBit>4.88", b"UnitsPerBit>0") == "unreadable"
    assert changed(b"UnitsPerBit>4.88", b"UnitsPerBit>") == "unreadable"
    assert changed(b"<SampleBase>500", b"<SampleBase>0") == "bad sampling rate"
    assert changed(b"<SampleBase>500", b"<SampleBase>") == "bad sampling rate"
    with pytest.raises(RecordingError, match="no such file"):
        read_muse(str(tmp_path / "absent.xml"))
