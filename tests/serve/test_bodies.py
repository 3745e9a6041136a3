"""Bodies become recordings, or refusals that name the field."""

import io
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hubert_ecg.ecg.leads import STANDARD_LEADS
from hubert_ecg.ecg.simulate import simulate_condition
from hubert_ecg.formats import ReadOptions
from serve import bodies
from serve.bodies import Limits
from serve.problems import Refusal
from serve.schemas import RecordingIn

LIMITS = Limits(max_recordings=3, max_duration_s=60.0, max_bytes=1 << 24)
AT_500_HZ = ReadOptions(sampling_rate_hz=500, max_bytes=LIMITS.max_bytes)
ECG = simulate_condition(["NORM"], seed=1)[0].samples.astype(np.float32)


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def refusal(make: Any, *arguments: Any, **settings: Any) -> Refusal:
    with pytest.raises(Refusal) as caught:
        make(*arguments, **settings)
    return caught.value


def given(samples: np.ndarray, **more: Any) -> RecordingIn:
    return RecordingIn(samples=samples.tolist(), sampling_rate_hz=500, **more)


def test_numbers_in_any_order_of_leads() -> None:
    turned = list(reversed(STANDARD_LEADS))
    [received] = bodies.from_json([given(ECG[::-1], leads=turned, age_years=50)], single=True, limits=LIMITS)
    assert received.recording.lead_names == tuple(turned)
    assert received.recording.age_years == 50
    np.testing.assert_array_equal(received.recording.samples, ECG[::-1])


def test_null_is_not_recorded() -> None:
    rows = ECG.tolist()
    rows[3][7] = None
    recording = RecordingIn(samples=rows, sampling_rate_hz=500)
    [received] = bodies.from_json([recording], single=True, limits=LIMITS)
    assert np.argwhere(np.isnan(received.recording.samples)).tolist() == [[3, 7]]


@pytest.mark.parametrize("shape", ["leads first", "time first", "batch"])
def test_a_npy_of_any_shape(shape: str) -> None:
    array = {"leads first": ECG, "time first": ECG.T, "batch": np.stack([ECG, 2 * ECG])}[shape]
    received = bodies.from_npy(npy(array), AT_500_HZ, paced=True, limits=LIMITS)
    assert len(received) == (2 if shape == "batch" else 1)
    np.testing.assert_array_equal(received[0].recording.samples, ECG)
    assert received[0].paced


def test_the_files_of_a_wfdb_record_are_one_recording(tmp_path: Path) -> None:
    counts = np.rint(ECG * 1000).astype("<i2")
    lines = [f"patient_name.dat 16 1000 16 0 0 0 0 {lead}" for lead in STANDARD_LEADS]
    header = "\n".join([f"patient_name 12 500 {counts.shape[1]}", *lines]) + "\n"
    files = [("patient_name.dat", counts.T.tobytes()), ("../x/patient_name.hea", header.encode())]
    [received] = bodies.from_files(files, ReadOptions(), paced=False, limits=LIMITS)
    np.testing.assert_allclose(received.recording.samples, ECG, atol=6e-4)
    # What the sender calls its files may name a person.
    assert "patient_name" not in repr(received.recording)
    assert received.place == "files.1"


def header(name: str, samples: int, *signal_files: str) -> tuple[str, bytes]:
    lines = [f"{file} 16 1000 16 0 0 0 0 {lead}" for file, lead in zip(signal_files, STANDARD_LEADS, strict=True)]
    return f"{name}.hea", "\n".join([f"{name} {len(lines)} 500 {samples}", *lines, ""]).encode()


def test_what_a_header_names_is_read_with_it_whatever_it_is_called() -> None:
    limb, chest = bytes(6 * 2 * 5000), bytes(6 * 2 * 5000)
    files = [header("s", 5000, *["s.dat"] * 6, *["s.xyz"] * 6), ("s.dat", limb), ("s.xyz", chest)]
    assert len(bodies.from_files(files, ReadOptions(), paced=False, limits=LIMITS)) == 1
    parts = [
        file for name in "ab" for file in (header(name, 500, *[f"{name}.dat"] * 12), (f"{name}.dat", bytes(12000)))
    ]
    whole = [("m.hea", b"m/2 12 500 1000\na 500\nb 500\n"), *parts]
    [received] = bodies.from_files(whole, ReadOptions(), paced=False, limits=LIMITS)
    assert received.recording.samples.shape == (12, 1000)


def test_many_headers_of_one_signal_file_do_not_multiply_it() -> None:
    files = [header(f"r{i}", 5000, *["d.dat"] * 12) for i in range(3)] + [("d.dat", bytes(120_000))]
    one = 12 * 5000 * 4
    few = replace(LIMITS, max_bytes=2 * one)
    assert len(bodies.from_files([*files[:2], files[3]], ReadOptions(), paced=False, limits=few)) == 2
    found = refusal(bodies.from_files, files, ReadOptions(), paced=False, limits=few)
    assert (found.status, found.problem.field) == (413, "files")
    # The first that is too long ends it: the second would not even be readable.
    long = [header("long", 40_000, *["d.dat"] * 12), ("d.dat", bytes(960_000)), ("b.npy", b"no npy")]
    found = refusal(bodies.from_files, long, ReadOptions(), paced=False, limits=LIMITS)
    assert found.problem.code == "too long"


def test_several_files_are_several_recordings() -> None:
    files = [("a.npy", npy(ECG)), ("b.npy", npy(2 * ECG))]
    received = bodies.from_files(files, AT_500_HZ, paced=False, limits=LIMITS)
    assert [each.recording.samples[0, 5] for each in received] == [ECG[0, 5], 2 * ECG[0, 5]]


def test_refusals_of_numbers_name_the_field() -> None:
    ragged = RecordingIn(samples=[[1.0, 2.0], [1.0]], sampling_rate_hz=500, leads=["I", "II"])
    faults = [
        ([ragged], "recording.samples", 422),
        ([given(ECG[:3])], "recording.leads", 422),
        ([given(ECG, leads=["I"])], "recording.leads", 422),
        ([given(np.tile(ECG[:, :100], 400))], "recording.samples", 413),
    ]
    for recordings, field, status in faults:
        found = refusal(bodies.from_json, recordings, single=True, limits=LIMITS)
        assert (found.problem.field, found.status) == (field, status)
        assert found.problem.recording == 0
    found = refusal(bodies.from_json, [given(ECG)] * 4, single=False, limits=LIMITS)
    assert (found.status, found.problem.field) == (413, "recordings")


def test_refusals_of_files_name_them_and_not_our_folder() -> None:
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("ecg.npy", npy(np.zeros((12, 1_000_000))))
    huge = (
        b"\x93NUMPY\x01\x00v\x00"
        + b"{'descr': '<f4', 'fortran_order': False, 'shape': (12, 1000000000), }".ljust(117)
        + b"\n"
    )
    pickled = io.BytesIO()
    np.save(pickled, np.array([{}], object), allow_pickle=True)
    faults = [
        (("a.txt", b"no ecg"), "unknown format", 422),
        (("a.npz", bomb.getvalue()), "too large", 413),
        (("a.npy", huge), "unreadable", 422),
        (("a.npy", pickled.getvalue()), "unreadable", 422),
        (("a.dcm", bytes(128) + b"DICM" + b"\x02\x00"), "unknown format", 422),
        (("a.dat", b"\1\2\3\4"), "missing file", 422),
        (("..", b""), "bad file name", 422),
    ]
    for file, code, status in faults:
        found = refusal(bodies.from_files, [file], AT_500_HZ, paced=False, limits=LIMITS)
        assert (found.status, found.problem.code) == (status, code), found.problem
        assert found.problem.field == "files.0"
        assert "/tmp" not in found.problem.message
        assert "/dev/shm" not in found.problem.message
    assert refusal(bodies.from_files, [], AT_500_HZ, paced=False, limits=LIMITS).problem.field == "files"
    twice = [("a.npy", npy(ECG)), ("b/a.npy", npy(ECG))]
    assert refusal(bodies.from_files, twice, AT_500_HZ, paced=False, limits=LIMITS).problem.code == "duplicate file"


def test_a_rate_must_come_from_somewhere() -> None:
    found = refusal(bodies.from_npy, npy(ECG), ReadOptions(), paced=False, limits=LIMITS)
    assert found.problem.field == "sampling_rate_hz"
    assert refusal(bodies.from_npy, b"no npy", AT_500_HZ, paced=False, limits=LIMITS).problem.field == "body"
    assert refusal(bodies.options_of, -1.0, "mV", None, LIMITS).problem.field == "sampling_rate_hz"
