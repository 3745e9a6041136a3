"""The DICOM reader against pydicom's own waveform decoding, and on files written out byte by byte."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.waveforms import multiplex_array
from written_files import (
    LEADS,
    counts,
    dicom_12_lead,
    dicom_channel,
    dicom_element,
    dicom_file,
    dicom_group,
    dicom_patient,
)

from hubert_ecg.ecg.recording import Recording, standard_12_lead
from hubert_ecg.errors import RecordingError
from hubert_ecg.formats.dicom import read_dicom

I_AND_II = [dicom_channel(("5.6.3-9-1", "")), dicom_channel(("5.6.3-9-2", ""))]


def read(folder: Path, content: bytes) -> Recording:
    path = folder / "r.dcm"
    path.write_bytes(content)
    return read_dicom(str(path))


def reason(folder: Path, content: bytes) -> str:
    with pytest.raises(RecordingError) as caught:
        read(folder, content)
    return caught.value.reason


def test_a_cart_recording_reads_as_pydicom_decodes_it() -> None:
    path = str(get_testdata_file("waveform_ecg.dcm", download=False))
    recording = read_dicom(path)
    rhythm = multiplex_array(pydicom.dcmread(path), 0, as_raw=False).T / 1000
    np.testing.assert_allclose(recording.samples, rhythm, atol=1e-6)
    assert (recording.lead_names, recording.sampling_rate_hz, recording.samples.shape) == (LEADS, 1000.0, (12, 10000))
    assert (recording.age_years, recording.sex, recording.patient_id) == (42.0, "female", "642341")
    assert recording.samples.dtype == np.float32
    assert recording.findings == ()


def test_a_file_written_by_hand_reads_back_sample_by_sample(tmp_path: Path) -> None:
    stored = counts(12)
    recording = read(tmp_path, dicom_12_lead(stored))
    np.testing.assert_allclose(recording.samples, stored * 0.0025, atol=1e-6)
    assert (recording.lead_names, recording.sampling_rate_hz, recording.record_id) == (LEADS, 500.0, "r")
    assert (recording.patient_id, recording.age_years, recording.sex) == ("P-17", 63.0, "male")
    assert "Doe" not in repr(recording)


@pytest.mark.parametrize(
    ("interpretation", "dtype"),
    [("SB", np.int8), ("UB", np.uint8), ("SS", np.int16), ("US", np.uint16), ("SL", np.int32), ("UL", np.uint32)],
)
def test_sensitivity_correction_and_baseline_are_applied(tmp_path: Path, interpretation: str, dtype: type) -> None:
    # 100 counts x 2.5 uV x 1.2 + 40 uV = 340 uV; 0 counts are the baseline.
    stored = np.array([[0, 100, 10]], dtype)
    channel = dicom_channel(("2:1", ""), correction="1.2", baseline="40")
    recording = read(tmp_path, dicom_file([dicom_group(stored, [channel], interpretation=interpretation)]))
    np.testing.assert_allclose(recording.samples, [[0.04, 0.34, 0.07]], atol=1e-7)
    assert recording.lead_names == ("I",)


@pytest.mark.parametrize(("unit", "mv"), [("uV", 2.5e-3), ("mV", 2.5), ("V", 2500.0), ("nV", 2.5e-6)])
def test_units_become_mv(tmp_path: Path, unit: str, mv: float) -> None:
    channel = dicom_channel(("2:1", ""), unit=unit)
    recording = read(tmp_path, dicom_file([dicom_group(np.array([[0, 1]], np.int16), [channel])]))
    np.testing.assert_allclose(recording.samples, [[0, mv]], rtol=1e-6)


@pytest.mark.parametrize(("dtype", "kind"), [(np.int16, "SS"), (np.int8, "SB")])
def test_padding_is_nothing_recorded(tmp_path: Path, dtype: type, kind: str) -> None:
    stored = np.array([[5, -128, 7], [-128, 6, 8]], dtype)
    group = dicom_group(stored, I_AND_II, padding=-128, interpretation=kind)
    nan = np.nan
    np.testing.assert_allclose(
        read(tmp_path, dicom_file([group])).samples, [[0.0125, nan, 0.0175], [nan, 0.015, 0.02]], atol=1e-7
    )


@pytest.mark.parametrize("rhythm_label", ["RHYTHM", ""])
@pytest.mark.parametrize("rhythm_first", [True, False])
def test_the_rhythm_is_read_and_not_a_longer_median_beat(tmp_path: Path, rhythm_label: str, rhythm_first: bool) -> None:
    rhythm, median = counts(2, 50), counts(2, 80, seed=9)
    groups = [
        dicom_group(rhythm, I_AND_II, label=rhythm_label),
        dicom_group(median, I_AND_II, label="MEDIAN BEAT" if rhythm_label else "", originality="DERIVED"),
    ]
    recording = read(tmp_path, dicom_file(groups if rhythm_first else groups[::-1]))
    np.testing.assert_allclose(recording.samples, rhythm * 0.0025, atol=1e-6)


def test_a_second_rhythm_group_is_reported(tmp_path: Path) -> None:
    long, short = counts(2, 80), counts(1, 50)
    recording = read(tmp_path, dicom_file([dicom_group(short, I_AND_II[:1]), dicom_group(long, I_AND_II)]))
    assert recording.samples.shape == (2, 80)
    assert [finding.kind for finding in recording.findings] == ["waveforms left out"]


@pytest.mark.parametrize(
    ("code", "meaning", "lead"),
    [
        ("5.6.3-9-63", "", "aVL"),
        ("2:64", "", "aVF"),
        ("5.6.3-9-65", "", "-aVR"),
        ("MDC_ECG_LEAD_V3", "", "MDC_ECG_LEAD_V3"),
        ("x", "Lead I (Einthoven)", "I"),
        ("x", "V4", "V4"),
        ("x", "Respiration", "Respiration"),
    ],
)
def test_leads_are_named_by_code_or_meaning(tmp_path: Path, code: str, meaning: str, lead: str) -> None:
    group = dicom_group(counts(1), [dicom_channel((code, meaning))])
    assert read(tmp_path, dicom_file([group])).lead_names == (lead,)


def test_an_inverted_lead_is_turned_over_in_the_standard_form(tmp_path: Path) -> None:
    numbers = [1, 2, 61, 65, 63, 64, 3, 4, 5, 6, 7, 8]
    stored = counts(12)
    channels = [dicom_channel((f"2:{number}", "")) for number in numbers]
    standard = standard_12_lead(read(tmp_path, dicom_file([dicom_group(stored, channels)])))
    np.testing.assert_allclose(standard.samples[3], stored[3] * -0.0025, atol=1e-6)


def test_channels_that_are_no_voltage_are_left_out(tmp_path: Path) -> None:
    stored = counts(3)
    channels = [I_AND_II[0], dicom_channel(("x", "Arterial pressure"), unit="mm[Hg]"), I_AND_II[1]]
    recording = read(tmp_path, dicom_file([dicom_group(stored, channels)]))
    assert recording.lead_names == ("I", "II")
    np.testing.assert_allclose(recording.samples, stored[[0, 2]] * 0.0025, atol=1e-6)


def test_a_shifted_channel_is_reported(tmp_path: Path) -> None:
    skew = dicom_element(0x003A, 0x0214, "DS", b"0.0004")
    channels = [I_AND_II[0], dicom_channel(("2:2", ""), extra=skew)]
    (finding,) = read(tmp_path, dicom_file([dicom_group(counts(2), channels)])).findings
    assert (finding.kind, finding.lead, finding.severity) == ("channel skew", "II", "warning")
    assert "0.0004 s" in finding.detail


def test_big_endian_and_bare_files_read_alike(tmp_path: Path) -> None:
    stored = counts(2)
    channels = [dicom_channel((f"2:{number}", ""), order=">") for number in (1, 2)]
    big = dicom_file([dicom_group(stored, channels, order=">")], transfer_syntax="1.2.840.10008.1.2.2", order=">")
    bare = dicom_file([dicom_group(stored, I_AND_II)], preamble=False)
    for content in (big, bare):
        np.testing.assert_allclose(read(tmp_path, content).samples, stored * 0.0025, atol=1e-6)


def test_implicit_value_representations_written_by_pydicom_read_back(tmp_path: Path) -> None:
    path = tmp_path / "explicit.dcm"
    path.write_bytes(dicom_12_lead(counts(12)))
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    dataset.save_as(tmp_path / "implicit.dcm")
    np.testing.assert_array_equal(read_dicom(str(tmp_path / "implicit.dcm")).samples, read_dicom(str(path)).samples)


@pytest.mark.parametrize(
    ("age", "birth", "study", "years"),
    [
        ("006M", "", "20200301", 0.5),
        ("010D", "", "20200301", 10 / 365.25),
        ("063Y", "19000101", "20200301", 63.0),
        ("", "19560301", "20200301", 64.0),
        ("", "19560302", "20200301", 63.0),
        ("", "", "20200301", None),
        ("", "19560302", "", None),
        ("999Y", "", "20200301", None),
        ("", "20210101", "20200301", None),
    ],
)
def test_age_is_given_or_reckoned_in_whole_years(
    tmp_path: Path, age: str, birth: str, study: str, years: float | None
) -> None:
    patient = dicom_patient(age=age, birth=birth, study=study)
    assert read(tmp_path, dicom_file([dicom_group(counts(2), I_AND_II)], patient=patient)).age_years == years


@pytest.mark.parametrize(("code", "sex"), [("F", "female"), ("M", "male"), ("O", None), ("", None)])
def test_sex(tmp_path: Path, code: str, sex: str | None) -> None:
    patient = dicom_patient(sex=code)
    assert read(tmp_path, dicom_file([dicom_group(counts(2), I_AND_II)], patient=patient)).sex == sex


def test_what_cannot_be_read_has_a_reason(tmp_path: Path) -> None:
    stored = counts(2)
    good = dicom_file([dicom_group(stored, I_AND_II)])

    def changed(**change: object) -> bytes:
        return dicom_file([dicom_group(stored, I_AND_II, **change)])  # type: ignore[arg-type]

    def with_channel(**change: object) -> bytes:
        return dicom_file([dicom_group(stored[:1], [dicom_channel(("2:1", ""), **change)])])  # type: ignore[arg-type]

    assert read(tmp_path, good).samples.shape == (2, 200)
    assert reason(tmp_path, b"") == "unknown format"
    assert reason(tmp_path, b"not a DICOM file" * 20) == "unknown format"
    assert reason(tmp_path, good.replace(b"10008.5.1.4.1.1.9.1.1", b"10008.5.1.4.1.1.2.0.0")) == "unknown format"
    assert reason(tmp_path, good.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99")) == "unreadable"
    assert reason(tmp_path, dicom_file([])) == "unreadable"
    assert reason(tmp_path, changed(num_samples=201)) == "truncated"
    assert reason(tmp_path, changed(num_samples=2**32 - 1)) == "truncated"
    assert reason(tmp_path, changed(num_samples=0)) == "unreadable"
    assert reason(tmp_path, changed(interpretation="MB")) == "unreadable"
    assert reason(tmp_path, changed(rate="0")) == "bad sampling rate"
    assert reason(tmp_path, changed(rate="-500")) == "bad sampling rate"
    assert reason(tmp_path, dicom_file([dicom_group(stored, I_AND_II[:1])])) == "unreadable"
    assert reason(tmp_path, with_channel(unit="mm[Hg]")) == "unknown unit"
    assert reason(tmp_path, with_channel(unit=None)) == "unknown unit"
    assert reason(tmp_path, with_channel(sensitivity=None)) == "unreadable"
    assert reason(tmp_path, with_channel(sensitivity="1e300")) == "unreadable"
    with pytest.raises(RecordingError, match="no such file"):
        read_dicom(str(tmp_path / "absent.dcm"))
