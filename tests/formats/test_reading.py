"""The front door: formats told from content, and one entry for all of them."""

import gzip
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hubert_ecg.errors import RecordingError
from hubert_ecg.formats import count_recordings, detect_format, read_recording, read_recordings

NPY_SAMPLES = np.sin(np.arange(12 * 40) / 5).reshape(12, 40).astype(np.float32)


def write(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return str(path)


def npy_bytes(folder: Path) -> bytes:
    np.save(folder / "source.npy", NPY_SAMPLES)
    return (folder / "source.npy").read_bytes()


CONTENTS = {
    "edf": b"0       " + bytes(248),
    "bdf": b"\xffBIOSEMI" + bytes(248),
    "dicom": bytes(128) + b"DICM" + bytes(20),
    "aecg": b'<?xml version="1.0"?>\n<AnnotatedECG xmlns="urn:hl7-org:v3"/>',
    "muse": b'<?xml version="1.0"?>\n<!-- <AnnotatedECG> -->\n<!DOCTYPE RestingECG SYSTEM "restecg.dtd">\n<RestingECG>',
    "philips": '<?xml version="1.0" encoding="UTF-16"?><restingecgdata>'.encode("utf-16"),
    "csv": b"\xef\xbb\xbftime,Lead I,V1 (uV)\n0,1,2\n",
}


@pytest.mark.parametrize("suffix", [".npy", ".xml", ".hea", ""])
@pytest.mark.parametrize("name", sorted(CONTENTS))
def test_content_wins_over_the_name(tmp_path: Path, name: str, suffix: str) -> None:
    assert detect_format(write(tmp_path / f"r{suffix}", CONTENTS[name])) == name


def test_more_content_that_tells(tmp_path: Path) -> None:
    np.savez(tmp_path / "z.dat", ecg=NPY_SAMPLES)
    assert detect_format(str(tmp_path / "z.dat.npz")) == "npz"
    assert detect_format(write(tmp_path / "a.edf", npy_bytes(tmp_path))) == "npy"
    assert detect_format(write(tmp_path / "n.xml", b'<hl7:AnnotatedECG xmlns:hl7="urn:hl7-org:v3">')) == "aecg"
    assert detect_format(write(tmp_path / "d", b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100")) == "dicom"
    assert detect_format(write(tmp_path / "u.csv", b"\x00\x01\x02")) == "csv"
    internal = b'<!DOCTYPE RestingECG [<!ENTITY a "<AnnotatedECG>">]>\n<RestingECG/>'
    assert detect_format(write(tmp_path / "i.xml", internal)) == "muse"


def test_a_wfdb_record_is_known_by_its_header(tmp_path: Path) -> None:
    write(tmp_path / "r.hea", b"# comment\nr 2 500 10\nr.dat 16 200 16 0 0 0 0 I\nr.dat 16 200 16 0 0 0 0 II\n")
    write(tmp_path / "r.dat", bytes(40))
    write(tmp_path / "100.a", bytes(40))
    write(tmp_path / "100.a.hea", b"100.a 1 500 20\n100.a 16 200 16 0 0 0 0 I\n")
    for name in ("r.hea", "r.dat", "r", "100.a"):
        assert detect_format(str(tmp_path / name)) == "wfdb"
        assert read_recording(str(tmp_path / name)).sampling_rate_hz == 500
    assert count_recordings(str(tmp_path / "r")) == 1
    # Samples that happen to read as a DICOM element, or as a lead's name, do not mislead.
    for samples in (b"\x08\x00\x05\x00CS\x0a\x00" * 5, b"V1,II\n" * 7):
        write(tmp_path / "r.dat", samples)
        assert detect_format(str(tmp_path / "r.dat")) == "wfdb"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (gzip.compress(b"I,II\n1,2\n"), "compressed with gzip; unpack it first"),
        (bytes(16) + b"SCPECG" + bytes(40), "SCP-ECG is not read; convert it"),
        (b"PK\x03\x04" + bytes(60), "an archive; unpack it first"),
        (b"\x7fELF" + bytes(60), "wanted NumPy .* got something else$"),
        (b"dear reader,\nthis is prose\n", "something else"),
        (b"<html><body>I</body></html>", "something else"),
        (b"", "something else"),
    ],
)
def test_what_is_not_known_is_refused_with_what_is(tmp_path: Path, content: bytes, words: str) -> None:
    for call in (detect_format, read_recording, read_recordings, count_recordings):
        with pytest.raises(RecordingError, match=words) as caught:
            call(write(tmp_path / "x.bin", content))
        assert caught.value.reason == "unknown format"


def test_missing_files_are_named(tmp_path: Path) -> None:
    for name in ("x.npy", "x", "x.edf", "x.npy#3"):
        with pytest.raises(RecordingError, match="no such file") as caught:
            read_recording(str(tmp_path / name))
        assert caught.value.reason == "missing file"


def test_the_file_is_read_by_its_content_and_named_after_its_stem(tmp_path: Path) -> None:
    recording = read_recording(write(tmp_path / "patient.edf", npy_bytes(tmp_path)), sampling_rate_hz=100)
    np.testing.assert_array_equal(recording.samples, NPY_SAMPLES)
    assert recording.record_id == "patient"
    (single,) = read_recordings(str(tmp_path / "patient.edf"), sampling_rate_hz=100)
    assert single.record_id == "patient"
    assert read_recording(str(tmp_path / "patient.edf"), sampling_rate_hz=100, record_id="mine").record_id == "mine"


def test_a_number_behind_a_file_of_one_recording_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "r.csv", b"I,II\n1,2\n")
    with pytest.raises(RecordingError, match="wanted recording 2 of a batch, got a csv file") as caught:
        read_recording(f"{path}#2", sampling_rate_hz=100)
    assert caught.value.reason == "no such recording"


def test_an_implausible_amplitude_is_a_finding_whatever_the_format(tmp_path: Path) -> None:
    """200 uV that were labelled V make 200,000 mV."""
    path = write(tmp_path / "r.csv", b"I (V),II (V)\n" + b"0,0\n200,200\n" * 50)
    recording = read_recording(path, sampling_rate_hz=100)
    assert [(finding.kind, finding.severity) for finding in recording.findings] == [("wrong units", "severe")]
    assert "2e+05 mV" in recording.findings[0].detail


def test_readers_are_imported_when_they_are_needed(tmp_path: Path) -> None:
    """Opening one format must not cost the import of another's packages."""
    path = write(tmp_path / "r.npy", npy_bytes(tmp_path))
    heavy = "{'pydicom', 'pyarrow', 'pandas', 'wfdb', 'soundfile', 'scipy', 'sierraecg', 'defusedxml'}"
    code = (
        "import sys; from hubert_ecg.formats import read_recording; "
        f"read_recording({path!r}, sampling_rate_hz=100); print(sorted({heavy} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
