"""An object store: the same functions as on a disk, artifacts that are complete or absent, and clear refusals."""

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from hubert_ecg.errors import ArtifactError, InputError, RecordingError
from hubert_ecg.formats import read_recording
from hubert_ecg.storage import files
from hubert_ecg.storage.artifact import Manifest, StageOutput, begin, open_artifact, write_part
from hubert_ecg.storage.local_copy import local_copy

RUN = {"verb": "dump", "config": {"seed": 0}, "inputs": {"waveforms": "abc"}}


def put(target: str, *paths: Path) -> None:
    for path in paths:
        files.write_bytes(files.join(target, path.name), path.read_bytes())


def save_array(path: Path, array: np.ndarray) -> Path:
    np.save(path, array)
    return path


def test_an_artifact_is_absent_until_its_manifest_is_written(s3_bucket: str) -> None:
    directory = f"{s3_bucket}/runs/f"
    output = begin(directory, **RUN)
    assert isinstance(output, StageOutput)
    assert output.finished_parts() == set()
    write_part(directory, 0, pa.table({"x": [1, 2]}))
    # Killed between a shard and its receipt.
    files.write_table(files.join(directory, "parts", "part-00001.parquet"), pa.table({"x": [3]}))
    with pytest.raises(ArtifactError, match="unfinished"):
        open_artifact(directory)
    again = begin(directory, **RUN)
    assert isinstance(again, StageOutput)
    assert again.finished_parts() == {0}
    write_part(directory, 1, pa.table({"x": [3]}))
    finished = again.finish(parts=2, facts={})
    assert files.list_names(directory) == ["manifest.json"]
    manifest = open_artifact(directory, verb="dump")
    assert (manifest.rows, manifest.fingerprint) == (3, finished.fingerprint)
    assert files.read_table(manifest.part(0))["x"].to_pylist() == [1, 2]
    assert isinstance(begin(directory, **RUN), Manifest)
    with pytest.raises(ArtifactError, match="input waveforms: there abc, here xyz"):
        begin(directory, **(RUN | {"inputs": {"waveforms": "xyz"}}))


def test_a_file_of_many_pieces_comes_back_byte_by_byte(s3_bucket: str, tmp_path: Path) -> None:
    data = np.random.default_rng(0).bytes(21 * 1024 * 1024)
    files.write_bytes(f"{s3_bucket}/large", data)
    assert files.read_bytes(f"{s3_bucket}/large") == data
    files.download(f"{s3_bucket}/large", str(tmp_path / "copy"))
    assert (tmp_path / "copy").read_bytes() == data
    files.delete(f"{s3_bucket}/large")
    assert not files.exists(f"{s3_bucket}/large")


def test_a_walk_lists_everything_below_in_pages(s3_bucket: str) -> None:
    """More objects than one answer of the store holds, put straight into the store: by HTTP it would take long."""
    from moto.core import DEFAULT_ACCOUNT_ID
    from moto.s3.models import s3_backends

    store = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
    bucket = s3_bucket.removeprefix("s3://")
    wanted = {f"f{place % 7}/{place:04d}.npy": place % 3 for place in range(1100)}
    for path, size in wanted.items():
        store.put_object(bucket, f"in/{path}", b"x" * size)
    store.put_object(bucket, "in/f1/", b"")
    store.put_object(bucket, "inside-not.npy", b"")
    assert dict(files.walk(f"{s3_bucket}/in")) == wanted


def test_what_is_not_there_or_refused_is_said_without_secrets(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="nothing: no such file"):
        files.read_bytes(f"{s3_bucket}/nothing")
    with pytest.raises(InputError, match="no such folder"):
        list(files.walk(f"{s3_bucket}/nowhere"))
    with pytest.raises(InputError, match="refused.*check bucket"):
        list(files.walk("s3://no-such-bucket/a"))
    with pytest.raises(InputError, match="s3://no-such-bucket/a: the object store refused"):
        files.write_bytes("s3://no-such-bucket/a", b"1")
    with pytest.raises(InputError) as caught:
        files.read_bytes("s3://AKIAKEY:hunter2@bucket/a")
    assert "without credentials" in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert "AKIAKEY" not in str(caught.value)


def test_a_local_walk_lists_what_a_second_way_finds(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "x").write_bytes(b"12")
    (tmp_path / "y").write_bytes(b"1")
    (tmp_path / "a" / "circle").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "dangling").symlink_to(tmp_path / "absent")
    assert dict(files.walk(str(tmp_path))) == {"a/b/x": 2, "y": 1}
    with pytest.raises(InputError, match="no such folder"):
        list(files.walk(str(tmp_path / "absent")))


def test_a_local_path_is_its_own_copy(tmp_path: Path) -> None:
    with local_copy(str(tmp_path / "anything")) as path:
        assert path == str(tmp_path / "anything")


def test_a_record_is_fetched_with_what_its_header_names_and_goes_afterwards(s3_bucket: str, shared_dir: Path) -> None:
    folder = shared_dir / "data" / "cinc2021"
    put(f"{s3_bucket}/g1", folder / "A0001.hea", folder / "A0001.mat")
    wanted = read_recording(str(folder / "A0001.hea"))
    for name in ("A0001.hea", "A0001.mat", "A0001"):
        with local_copy(f"{s3_bucket}/g1/{name}") as path:
            assert os.path.basename(path) == name
            np.testing.assert_array_equal(read_recording(path).samples, wanted.samples)
        assert not os.path.exists(os.path.dirname(path))


def test_a_record_of_several_segments_is_fetched_whole(s3_bucket: str, tmp_path: Path) -> None:
    import wfdb

    samples = np.random.default_rng(0).normal(size=(400, 2)).round(2)
    for place in range(2):
        wfdb.wrsamp(
            f"part{place}", fs=100, units=["mV"] * 2, sig_name=["I", "II"], fmt=["16"] * 2, write_dir=str(tmp_path),
            p_signal=samples[place * 200 : place * 200 + 200],
        )  # fmt: skip
    (tmp_path / "whole.hea").write_text("whole/2 2 100 400\npart0 200\npart1 200\n")
    put(f"{s3_bucket}/r", *tmp_path.iterdir())
    with local_copy(f"{s3_bucket}/r/whole.hea") as path:
        np.testing.assert_allclose(read_recording(path).samples, samples.T, atol=1e-3)


def test_a_missing_record_or_part_of_it_is_named(s3_bucket: str, shared_dir: Path) -> None:
    put(s3_bucket, shared_dir / "data" / "cinc2021" / "A0001.hea")
    for name, words in (("A0001.hea", "A0001.mat: no such file"), ("absent.npy", "absent.npy: no such file")):
        with pytest.raises(RecordingError, match=words) as caught, local_copy(f"{s3_bucket}/{name}"):
            pass
        assert caught.value.reason == "missing file"


def test_a_batch_is_fetched_once_for_all_its_recordings_and_anew_when_it_changes(
    s3_bucket: str, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    for size in (3, 4):
        batch = rng.normal(size=(size, 12, 300)).astype(np.float32)
        put(s3_bucket, save_array(tmp_path / "batch.npy", batch))
        kept = set()
        for place in range(size):
            with local_copy(f"{s3_bucket}/batch.npy#{place}") as path:
                np.testing.assert_array_equal(read_recording(path, sampling_rate_hz=100).samples, batch[place])
                kept.add(path.partition("#")[0])
        assert len(kept) == 1
