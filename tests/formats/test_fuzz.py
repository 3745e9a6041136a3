"""Every reader on damaged files: a Recording or a RecordingError, in memory of the file's own scale, and nothing else.

Valid files are cut, bit-flipped, overwritten, and their numbers blown up. Warnings are errors here as everywhere, so
that a reader that lets NumPy overflow fails too. A hang ends in the timeout of the test.
"""

import contextlib
import io
import re
import struct
import tempfile
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyedflib
import pytest
import scipy.io
import wfdb
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from written_files import (
    LEADS,
    aecg_file,
    aecg_series,
    counts,
    dicom_12_lead,
    dicom_element,
    dicom_file,
    muse_file,
    muse_waveform,
    philips_file,
    philips_xli,
)

from hubert_ecg.ecg.recording import Recording
from hubert_ecg.errors import RecordingError
from hubert_ecg.formats import ReadOptions, detect_format, read_recordings
from hubert_ecg.formats.aecg import read_aecg
from hubert_ecg.formats.dicom import read_dicom
from hubert_ecg.formats.muse import read_muse
from hubert_ecg.formats.philips import read_philips

NUM_SAMPLES = 120
RATE_HZ = 500

MEMORY_PER_BYTE = 64
MEMORY_AT_LEAST = 32 << 20
"""A reader may take this many times the file's bytes, or this many bytes where that is more."""

HUGE_NUMBERS = [
    b"0", b"-1", b"1", b"65536", b"4294967295", b"99999999999", b"9" * 30, b"9" * 5000,
    b"1e308", b"1e-308", b"-1e9", b"nan", b"inf", b"", b"x",
]  # fmt: skip
HUGE_BYTES = [b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x7f\xff\xff\xff", b"\0\0\0\0", b"\0\0\0\x80", b"\xff\xff"]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A valid recording: its files by name, and how it is read."""

    files: dict[str, bytes]
    main: str
    read: Callable[[str], list[Recording]]


def front_door(path: str) -> list[Recording]:
    return read_recordings(path, options=ReadOptions(sampling_rate_hz=RATE_HZ))


def npy_sample(*shape: int) -> Sample:
    buffer = io.BytesIO()
    np.save(buffer, np.resize(counts(12, NUM_SAMPLES) / 1000, shape))
    return Sample(files={"r.npy": buffer.getvalue()}, main="r.npy", read=front_door)


def npz_sample(compressed: bool) -> Sample:
    buffer = io.BytesIO()
    save = np.savez_compressed if compressed else np.savez
    save(buffer, ecg=counts(12, NUM_SAMPLES) / 1000, fs=RATE_HZ, leads=np.array(LEADS))
    return Sample(files={"r.npz": buffer.getvalue()}, main="r.npz", read=front_door)


def csv_sample() -> Sample:
    rows = [",".join(("time", *LEADS))]
    rows += [
        ",".join(f"{value:.3f}" for value in (index / RATE_HZ, *column))
        for index, column in enumerate(counts(12, NUM_SAMPLES).T / 1000)
    ]
    return Sample(files={"r.csv": "\n".join(rows).encode()}, main="r.csv", read=front_door)


def wfdb_sample(fmt: str, read_as: str = "") -> Sample:
    """`read_as` is a format that the wfdb package does not write: the same bytes under another name."""
    with tempfile.TemporaryDirectory() as folder:
        wfdb.wrsamp(
            "r",
            fs=RATE_HZ,
            units=["mV"] * 3,
            sig_name=["I", "II", "V1"],
            p_signal=counts(3, NUM_SAMPLES).T / 1000,
            fmt=[fmt] * 3,
            adc_gain=[100.0] * 3,
            baseline=[0] * 3,
            comments=["Age: 61", "Sex: Female"],
            write_dir=folder,
        )
        files = {path.name: path.read_bytes() for path in Path(folder).iterdir()}
    if read_as:
        files["r.hea"] = files["r.hea"].replace(f"r.dat {fmt} ".encode(), f"r.dat {read_as} ".encode())
    return Sample(files=files, main="r.hea", read=front_door)


def matlab_sample() -> Sample:
    """As CinC 2021 has them: version 4, int16, 24 bytes of header."""
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, {"val": counts(3, NUM_SAMPLES)}, format="4")
    lines = [f"r 3 {RATE_HZ} {NUM_SAMPLES}"]
    lines += [f"r.mat 16+24 1000/mV 16 0 0 0 0 {lead}" for lead in ("I", "II", "V1")]
    header = "\n".join([*lines, "#Age: 61", "#Sex: Male", ""]).encode()
    return Sample(files={"r.hea": header, "r.mat": buffer.getvalue()}, main="r.hea", read=front_door)


def segments_sample(variable: bool) -> Sample:
    files = {}
    for name, seed in (("a", 1), ("b", 2)):
        with tempfile.TemporaryDirectory() as folder:
            wfdb.wrsamp(
                name,
                fs=RATE_HZ,
                units=["mV", "mV"],
                sig_name=["I", "II"],
                p_signal=counts(2, NUM_SAMPLES, seed=seed).T / 1000,
                fmt=["16", "16"],
                adc_gain=[100.0, 100.0],
                baseline=[0, 0],
                write_dir=folder,
            )
            files |= {path.name: path.read_bytes() for path in Path(folder).iterdir()}
    layout = f"l 2 {RATE_HZ} 0\n~ 0 100(0)/mV 0 0 0 0 0 I\n~ 0 100(0)/mV 0 0 0 0 0 II\n".encode()
    if variable:
        segments = f"l 0\na {NUM_SAMPLES}\n~ 50\nb {NUM_SAMPLES}\n"
        header = f"r/4 2 {RATE_HZ} {2 * NUM_SAMPLES + 50}\n{segments}"
        files |= {"l.hea": layout}
    else:
        header = f"r/2 2 {RATE_HZ} {2 * NUM_SAMPLES}\na {NUM_SAMPLES}\nb {NUM_SAMPLES}\n"
    return Sample(files=files | {"r.hea": header.encode()}, main="r.hea", read=front_door)


def edf_sample(file_type: int, name: str) -> Sample:
    rate_hz = 100
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / name)
        with pyedflib.EdfWriter(path, 2, file_type=file_type) as writer:
            for channel, lead in enumerate(("ECG I", "ECG II")):
                writer.setSignalHeader(
                    channel,
                    {
                        "label": lead,
                        "dimension": "mV",
                        "sample_frequency": rate_hz,
                        "physical_max": 5.0,
                        "physical_min": -5.0,
                        "digital_max": 32767,
                        "digital_min": -32768,
                        "transducer": "",
                        "prefilter": "",
                    },
                )
            writer.writeSamples(list(counts(2, 2 * rate_hz).astype(np.float64) / 1000))
        content = Path(path).read_bytes()
    return Sample(files={name: content}, main=name, read=front_door)


def xml_or_dicom(name: str, content: bytes, reader: Callable[[str], Recording]) -> Sample:
    """Read through the front door, and by its reader alone even where the front door no longer knows the format."""

    def read(path: str) -> list[Recording]:
        with contextlib.suppress(RecordingError):
            front_door(path)
        return [reader(path)]

    return Sample(files={name: content}, main=name, read=read)


SAMPLES: dict[str, Callable[[], Sample]] = {
    "npy": lambda: npy_sample(12, NUM_SAMPLES),
    "npy batch": lambda: npy_sample(3, NUM_SAMPLES, 12),
    "npz": lambda: npz_sample(False),
    "npz compressed": lambda: npz_sample(True),
    "csv": csv_sample,
    "wfdb 16": lambda: wfdb_sample("16"),
    "wfdb 212": lambda: wfdb_sample("212"),
    "wfdb 310": lambda: wfdb_sample("16", read_as="310"),
    "wfdb 8": lambda: wfdb_sample("16", read_as="8"),
    "wfdb flac": lambda: wfdb_sample("516"),
    "wfdb matlab": matlab_sample,
    "wfdb segments": lambda: segments_sample(False),
    "wfdb variable segments": lambda: segments_sample(True),
    "edf": lambda: edf_sample(pyedflib.FILETYPE_EDF, "r.edf"),
    "edf plus": lambda: edf_sample(pyedflib.FILETYPE_EDFPLUS, "r.edf"),
    "bdf": lambda: edf_sample(pyedflib.FILETYPE_BDF, "r.bdf"),
    "dicom": lambda: xml_or_dicom("r.dcm", dicom_12_lead(counts(12, NUM_SAMPLES)), read_dicom),
    "aecg": lambda: xml_or_dicom("r.xml", aecg_file(aecg_series(counts(12, NUM_SAMPLES))), read_aecg),
    "muse": lambda: xml_or_dicom("r.xml", muse_file(muse_waveform(counts(8, NUM_SAMPLES))), read_muse),
    "philips": lambda: xml_or_dicom(
        "r.xml", philips_file(philips_xli(counts(12, NUM_SAMPLES)), NUM_SAMPLES), read_philips
    ),
    "philips plain": lambda: xml_or_dicom(
        "r.xml",
        philips_file(
            " ".join(map(str, counts(12, NUM_SAMPLES).ravel())), NUM_SAMPLES, attributes='dataencoding="Plain"'
        ),
        read_philips,
    ),
}


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """The content with one to four injuries."""
    for _ in range(draw(st.integers(1, 4))):
        content = draw(st.sampled_from([cut, flip, overwrite, blow_up, remove, repeat]))(draw, content)
    return content


def position(draw: st.DrawFn, content: bytes) -> int:
    """Anywhere, and as often in the first kilobyte, where headers are."""
    return draw(st.integers(0, len(content)) | st.integers(0, min(len(content), 1024)))


def cut(draw: st.DrawFn, content: bytes) -> bytes:
    return content[: position(draw, content)]


def flip(draw: st.DrawFn, content: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(draw(st.integers(1, 8)) if content else 0):
        changed[min(position(draw, content), len(content) - 1)] ^= 1 << draw(st.integers(0, 7))
    return bytes(changed)


def overwrite(draw: st.DrawFn, content: bytes) -> bytes:
    start = position(draw, content)
    new = draw(st.sampled_from(HUGE_BYTES) | st.binary(min_size=1, max_size=32))
    return content[:start] + new + content[start + len(new) :]


def blow_up(draw: st.DrawFn, content: bytes) -> bytes:
    """A number of a text becomes another."""
    found = [match.span() for match in re.finditer(rb"-?\d+(?:\.\d+)?", content[:4096])]
    if not found:
        return content
    start, end = draw(st.sampled_from(found))
    return content[:start] + draw(st.sampled_from(HUGE_NUMBERS)) + content[end:]


def remove(draw: st.DrawFn, content: bytes) -> bytes:
    start = position(draw, content)
    return content[:start] + content[start + draw(st.integers(1, 64)) :]


def repeat(draw: st.DrawFn, content: bytes) -> bytes:
    start = position(draw, content)
    return content[:start] + content[start : start + draw(st.integers(1, 512))] * 2 + content[start:]


def outcome(sample: Sample, files: dict[str, bytes], folder: Path) -> list[Recording] | RecordingError:
    """What reading gives; any other exception, and memory beyond the bound, fails the test."""
    for name, content in files.items():
        (folder / name).write_bytes(content)
    tracemalloc.start()
    try:
        result: list[Recording] | RecordingError = sample.read(str(folder / sample.main))
    except RecordingError as error:
        result = error
    finally:
        taken = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    size = sum(map(len, files.values()))
    assert taken <= max(MEMORY_AT_LEAST, MEMORY_PER_BYTE * size), f"{taken} bytes of memory for a file of {size}"
    return result


def check(sample: Sample, data: st.DataObject, folder: Path) -> None:
    name = data.draw(st.sampled_from(sorted(sample.files)))
    files = sample.files | {name: data.draw(damaged(sample.files[name]))}
    check_outcome(outcome(sample, files, folder))


def check_outcome(result: list[Recording] | RecordingError) -> None:
    if isinstance(result, RecordingError):
        assert result.reason
        assert result.reason == result.reason.strip()
        assert len(str(result)) < 4000
        return
    for recording in result:
        assert recording.samples.dtype == np.float32
        assert recording.samples.shape[0] == len(recording.lead_names)
        assert not np.isinf(recording.samples).any()
        assert np.isfinite(recording.sampling_rate_hz)


@pytest.mark.parametrize("kind", SAMPLES)
def test_the_undamaged_file_is_read(kind: str, tmp_path: Path) -> None:
    sample = SAMPLES[kind]()
    for name, content in sample.files.items():
        (tmp_path / name).write_bytes(content)
    recordings = sample.read(str(tmp_path / sample.main))
    assert recordings
    assert all(np.isfinite(recording.samples).mean() > 0.5 for recording in recordings)
    assert detect_format(str(tmp_path / sample.main))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", SAMPLES)
def test_damage_ends_in_a_recording_or_its_error(kind: str, tmp_path: Path) -> None:
    fuzz(kind, tmp_path, settings(max_examples=60, deadline=None, derandomize=True, database=None))


def aecg_of(content: bytes) -> bytes:
    return b"<AnnotatedECG>" + content + b"</AnnotatedECG>"


NUM_BYTES = 2 << 20
CRAFTED: dict[str, Callable[[], Sample]] = {
    "tiny elements": lambda: xml_or_dicom("r.xml", aecg_of(b"<a/>" * (NUM_BYTES // 4)), read_aecg),
    "tiny attributes": lambda: xml_or_dicom("r.xml", aecg_of(b'<a b=""/>' * (NUM_BYTES // 9)), read_aecg),
    "nested elements": lambda: xml_or_dicom(
        "r.xml", aecg_of(b"<a>" * (NUM_BYTES // 7) + b"</a>" * (NUM_BYTES // 7)), read_aecg
    ),
    "short numbers": lambda: xml_or_dicom(
        "r.xml", philips_file("1 " * (NUM_BYTES // 2), 10, attributes='dataencoding="Plain"'), read_philips
    ),
    "sequence items": lambda: xml_or_dicom("r.dcm", dicom_file([b""] * (NUM_BYTES // 8)), read_dicom),
    "nested sequences": lambda: xml_or_dicom("r.dcm", nested_sequences(), read_dicom),
    "elements": lambda: xml_or_dicom("r.dcm", dicom_file([], patient=tiny_dicom_elements()), read_dicom),
}
"""Files made to take as much memory as their size allows."""


def nested_sequences() -> bytes:
    """Each of undefined length, opened and never closed."""
    opening = struct.pack("<HH2sxxIHHI", 0x5400, 0x0100, b"SQ", 0xFFFFFFFF, 0xFFFE, 0xE000, 0xFFFFFFFF)
    return dicom_file([opening * 20_000])


def tiny_dicom_elements() -> bytes:
    numbers = range(NUM_BYTES // 8)
    return b"".join(dicom_element(0x0009 + 2 * (number >> 16), number & 0xFFFF, "SH", b"") for number in numbers)


@pytest.mark.slow
@pytest.mark.parametrize("kind", CRAFTED)
def test_files_made_to_fill_the_memory_do_not(kind: str, tmp_path: Path) -> None:
    sample = CRAFTED[kind]()
    check_outcome(outcome(sample, sample.files, tmp_path))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", SAMPLES)
def test_thousands_of_damaged_files(kind: str, tmp_path: Path) -> None:
    fuzz(kind, tmp_path, settings(max_examples=3000, deadline=None, database=None, print_blob=True))


def fuzz(kind: str, folder: Path, how: settings) -> None:
    sample = SAMPLES[kind]()
    outcome(sample, sample.files, folder)  # imports what the reader imports late, so that it is not counted

    @settings(how, suppress_health_check=list(HealthCheck))
    @given(data=st.data())
    def run(data: st.DataObject) -> None:
        check(sample, data, folder)

    run()
