"""The .npz reader: NumPy's archives with their conventions, and archives that lie about their size."""

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hubert_ecg.ecg.recording import STANDARD_LEADS
from hubert_ecg.errors import RecordingError
from hubert_ecg.formats import ReadOptions, count_recordings, read_recording, read_recordings

SAMPLES = np.random.default_rng(6).normal(size=(12, 60)).astype(np.float32)


def save(path: Path, **arrays: Any) -> str:
    np.savez_compressed(path, **arrays)
    return str(path)


@pytest.mark.parametrize("name", ["ecg", "signal", "samples", "data", "anything"])
@pytest.mark.parametrize("compressed", [True, False])
def test_the_samples_are_the_only_array_or_the_one_of_a_known_name(tmp_path: Path, name: str, compressed: bool) -> None:
    path = tmp_path / "r.npz"
    (np.savez_compressed if compressed else np.savez)(path, **{name: SAMPLES})
    recording = read_recording(str(path), sampling_rate_hz=250)
    np.testing.assert_array_equal(recording.samples, SAMPLES)
    assert (recording.lead_names, recording.sampling_rate_hz, recording.record_id) == (STANDARD_LEADS, 250, "r")


@pytest.mark.parametrize("kind", ["U", "S"])
def test_rate_names_and_unit_in_the_archive_are_followed(tmp_path: Path, kind: str) -> None:
    path = save(
        tmp_path / "r.npz",
        ecg=SAMPLES[:2].T * 1000,
        other=np.zeros(3),
        fs=400,
        leads=np.array(["V1", "II"], kind),
        units=np.array("µV".encode() if kind == "S" else "uV"),
    )
    recording = read_recording(path, options=ReadOptions(sampling_rate_hz=100, units="V", lead_names=("I",)))
    np.testing.assert_allclose(recording.samples, SAMPLES[:2], rtol=1e-6)
    assert (recording.sampling_rate_hz, recording.lead_names, recording.findings) == (400.0, ("V1", "II"), ())


def test_fortran_order_reads_as_its_values(tmp_path: Path) -> None:
    path = save(tmp_path / "f.npz", ecg=np.asfortranarray(SAMPLES))
    np.testing.assert_array_equal(read_recording(path, sampling_rate_hz=100).samples, SAMPLES)


def test_a_batch_is_counted_and_read(tmp_path: Path) -> None:
    batch = np.stack([SAMPLES, SAMPLES + 1])
    path = save(tmp_path / "b.npz", data=batch, sampling_rate_hz=100.0)
    assert count_recordings(path) == 2
    recordings = read_recordings(path)
    assert [recording.record_id for recording in recordings] == ["b#0", "b#1"]
    np.testing.assert_array_equal(read_recording(f"{path}#1").samples, batch[1])
    assert count_recordings(save(tmp_path / "s.npz", data=SAMPLES)) == 1


@pytest.mark.parametrize(
    ("arrays", "reason", "words"),
    [
        ({"ecg": SAMPLES}, "bad sampling rate", "give one in Hz"),
        ({"ecg": SAMPLES, "fs": 0.0}, "bad sampling rate", "above 0 Hz"),
        ({"ecg": SAMPLES, "fs": "fast"}, "bad sampling rate", "above 0 Hz"),
        ({"ecg": SAMPLES, "fs": 100, "unit": "mmHg"}, "unknown unit", "mmHg"),
        ({"ecg": SAMPLES, "fs": 100, "lead_names": np.arange(12)}, "missing leads", "names of leads as text"),
        ({"a": SAMPLES, "b": SAMPLES}, "unreadable", "got 2 others"),
        ({"ecg": np.array([[{}] * 4] * 12), "fs": 100}, "unreadable", "Python objects"),
        ({"ecg": SAMPLES, "fs": np.array([{}])}, "unreadable", "Python objects"),
        ({"ecg": np.full((12, 4), "a"), "fs": 100}, "unreadable", "dtype <U1"),
        ({"fs": 100}, "unreadable", "got 0 others"),
    ],
)
def test_odd_archives_are_refused_by_reason(tmp_path: Path, arrays: dict[str, Any], reason: str, words: str) -> None:
    with pytest.raises(RecordingError, match=words) as caught:
        read_recording(save(tmp_path / "o.npz", **arrays))
    assert caught.value.reason == reason


def test_a_zip_bomb_is_refused_by_its_declared_size(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("ecg.npy", "w") as member:
        np.lib.format.write_array_header_1_0(member, {"descr": "<f4", "fortran_order": False, "shape": (12, 2 << 20)})
        for _ in range(96):
            member.write(bytes(1 << 20))
    assert path.stat().st_size < 200_000
    with pytest.raises(RecordingError, match="it unpacks to 1006") as caught:
        read_recording(str(path), sampling_rate_hz=100)
    assert caught.value.reason == "too large"


def test_a_member_larger_than_declared_and_a_header_larger_than_its_member_are_unreadable(tmp_path: Path) -> None:
    path = tmp_path / "lie.npz"
    content = io.BytesIO()
    np.lib.format.write_array_header_1_0(content, {"descr": "<f4", "fortran_order": False, "shape": (12, 10**12)})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("ecg.npy", content.getvalue() + bytes(480))
    with pytest.raises(RecordingError, match="is cut short") as caught:
        read_recording(str(path), sampling_rate_hz=100)
    assert caught.value.reason == "unreadable"

    np.savez_compressed(path, ecg=np.zeros((12, 9000), np.float32))
    archived = path.read_bytes()
    size = (12 * 9000 * 4 + 128).to_bytes(4, "little")
    assert size in archived
    path.write_bytes(archived.replace(size, (200).to_bytes(4, "little")))
    with pytest.raises(RecordingError) as caught:
        read_recording(str(path), sampling_rate_hz=100)
    assert caught.value.reason == "unreadable"


@pytest.mark.parametrize("length", [0, 3, 40, 300, -1])
def test_a_file_cut_short_is_unreadable(tmp_path: Path, length: int) -> None:
    path = Path(save(tmp_path / "r.npz", ecg=SAMPLES))
    path.write_bytes(path.read_bytes()[:length])
    for read in (count_recordings, read_recording):
        with pytest.raises(RecordingError) as caught:
            read(str(path))
        assert caught.value.reason == "unreadable"
