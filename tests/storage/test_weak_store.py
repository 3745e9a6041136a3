"""An object store that refuses, cuts connections or goes away; and how often a store is asked at all."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import boto3
import numpy as np
import pyarrow as pa
import pytest

from hubert_ecg.datasets.files_folder import FilesSource
from hubert_ecg.errors import ArtifactError, InputError, RecordingError
from hubert_ecg.pipeline.prepare_shard import read_ahead
from hubert_ecg.storage import files
from hubert_ecg.storage.artifact import StageOutput, begin, open_artifact, write_part
from hubert_ecg.storage.local_copy import local_copy
from tests.job_commands import ROOT
from tests.storage.weak_store import WeakStore, weak_store


@pytest.fixture
def between(s3_bucket: str, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[WeakStore]:
    """A proxy that all clients speak to; it does no harm until it is told to."""
    with weak_store(s3_endpoint, seed=3) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.address)
        yield server


def test_a_listing_asks_once_per_thousand_names(s3_bucket: str, between: WeakStore) -> None:
    from moto.core import DEFAULT_ACCOUNT_ID
    from moto.s3.models import s3_backends

    store = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
    bucket = s3_bucket.removeprefix("s3://")
    for place in range(3500):
        store.put_object(bucket, f"in/{place % 50}/{place}.npy", b"")
    listing = FilesSource(input=f"{s3_bucket}/in").listing()
    assert listing.table.num_rows == 3500
    assert between.asked["LIST"] <= 3500 // 1000 + 3
    assert sum(between.asked.values()) <= 3500 // 1000 + 6


def test_a_file_is_asked_for_as_seldom_as_can_be(s3_bucket: str, between: WeakStore) -> None:
    files.write_bytes(f"{s3_bucket}/a/e.npy", b"x" * 1000)
    assert dict(between.asked) == {"PUT": 1}
    between.asked.clear()
    files.write_bytes(f"{s3_bucket}/a/r.hea", b"r 1 500 4\nr.dat 16 1000/mV 16 0 0 0 0 I\n")
    files.write_bytes(f"{s3_bucket}/a/r.dat", b"x" * 8)
    for name, made_of in (("e.npy", 1), ("r.hea", 2)):
        between.asked.clear()
        with local_copy(f"{s3_bucket}/a/{name}"):
            pass
        assert dict(between.asked) == {"HEAD": made_of, "GET": made_of}


def test_receipts_of_many_shards_come_at_the_same_time(s3_bucket: str, between: WeakStore) -> None:
    paths = [f"{s3_bucket}/r/{place}.json" for place in range(40)]
    for place, path in enumerate(paths):
        files.write_json(path, {"part": place})
    assert [receipt["part"] for receipt in files.read_jsons(paths)] == list(range(40))
    with pytest.raises(InputError, match="no such file"):
        files.read_jsons([*paths, f"{s3_bucket}/r/absent.json"])


def test_what_broke_off_in_the_middle_is_read_again(s3_bucket: str, between: WeakStore) -> None:
    paths = [f"{s3_bucket}/r/{place}.json" for place in range(40)]
    table = pa.table({"x": list(range(3000))})
    files.write_table(f"{s3_bucket}/t.parquet", table)
    for place, path in enumerate(paths):
        files.write_json(path, {"part": place, "padding": "x" * 300})
    between.share, between.fates = 0.4, ("cut after",)
    assert [receipt["part"] for receipt in files.read_jsons(paths)] == list(range(40))
    assert all(files.read_table(f"{s3_bucket}/t.parquet").equals(table) for _ in range(5))
    assert between.went_wrong["cut after"] >= 10


def test_recordings_read_ahead_come_in_order_with_their_errors(s3_bucket: str, tmp_path: Path) -> None:
    for place in range(20):
        np.save(tmp_path / "x.npy", np.full((12, 100), place, np.float32))
        content = b"damaged" if place == 13 else (tmp_path / "x.npy").read_bytes()
        files.write_bytes(f"{s3_bucket}/in/{place:02d}.npy", content)
    source = FilesSource(input=f"{s3_bucket}/in", sampling_rate_hz=100)
    rows = sorted(source.listing().table.to_pylist(), key=lambda row: row["record_id"])
    files.delete(f"{s3_bucket}/in/07.npy")
    seen = []
    for row, read in read_ahead(source, rows):
        try:
            seen.append((row["record_id"], float(np.asarray(read().samples)[0, 0])))
        except RecordingError as error:
            seen.append((row["record_id"], error.reason))
    assert [name for name, _ in seen] == [f"{place:02d}" for place in range(20)]
    assert seen[7][1] == "missing file"
    assert isinstance(seen[13][1], str)
    # The unit is guessed from the amplitudes, so only their order is known.
    values = [value for _, value in seen[:5] if isinstance(value, float)]
    assert values == sorted(values)
    assert len(set(values)) == 5
    local = FilesSource(input=str(tmp_path), sampling_rate_hz=100)
    [(_, read)] = read_ahead(local, local.listing().table.to_pylist())
    assert read().samples.shape == (12, 100)


def test_a_job_finishes_though_a_fifth_of_the_requests_fails(
    s3_bucket: str, between: WeakStore, tmp_path: Path
) -> None:
    """The whole command, in a process of its own; what it wrote is what it writes to a disk."""
    between.share = 0.2
    for output in (f"{s3_bucket}/s", str(tmp_path / "s")):
        command = [sys.executable, "-m", "jobs.sample", "--output", output]
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
        assert result.returncode == 0, result.stderr
        assert os.environ["AWS_SECRET_ACCESS_KEY"] not in result.stdout + result.stderr
    for name in files.list_names(f"{s3_bucket}/s"):
        assert files.read_bytes(f"{s3_bucket}/s/{name}") == (tmp_path / "s" / name).read_bytes()
    assert len(files.list_names(f"{s3_bucket}/s")) == 8
    assert {"503", "cut before"} <= set(between.went_wrong)
    assert between.went_wrong.total() >= 3


def test_an_artifact_survives_a_weak_store_whole(s3_bucket: str, between: WeakStore) -> None:
    between.share = 0.2
    output = begin(f"{s3_bucket}/f", verb="dump", config={}, inputs={})
    assert isinstance(output, StageOutput)
    for part in range(4):
        write_part(output.directory, part, pa.table({"x": list(range(part * 10, part * 10 + 10))}))
    manifest = output.finish(parts=4, facts={})
    found = [files.read_table(manifest.part(part))["x"].to_pylist() for part in range(4)]
    assert [value for part in found for value in part] == list(range(40))
    assert between.went_wrong.total() >= 3


@pytest.mark.slow
def test_a_store_that_is_gone_is_one_clear_error_and_nothing_half_written(s3_bucket: str, between: WeakStore) -> None:
    output = begin(f"{s3_bucket}/f", verb="dump", config={}, inputs={})
    assert isinstance(output, StageOutput)
    write_part(output.directory, 0, pa.table({"x": [1]}))
    between.gone = True
    began = time.monotonic()
    with pytest.raises(InputError, match="the object store refused.*check bucket, network and credentials") as caught:
        output.finish(parts=1, facts={})
    assert "\n" not in str(caught.value)
    command = [sys.executable, "-m", "jobs.sample", "--output", f"{s3_bucket}/s"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1, result.stderr
    assert result.stderr.startswith("error: s3://")
    assert time.monotonic() - began < 240
    between.gone = False
    assert files.list_names(f"{s3_bucket}/s") == []
    with pytest.raises(ArtifactError, match="unfinished"):
        open_artifact(f"{s3_bucket}/f")
    again = begin(f"{s3_bucket}/f", verb="dump", config={}, inputs={})
    assert isinstance(again, StageOutput)
    assert again.finish(parts=1, facts={}).rows == 1


@pytest.mark.parametrize(
    "flags",
    [
        "dump --waveforms s3://AKIAKEY:hunter2@b/W --output F",
        "dump --waveforms s3://AKIAKEY:hunter2@b/W --output F --dry_run",
        "prepare --source files --input s3://AKIAKEY:hunter2@b/in --output W",
        "sample --output s3://AKIAKEY:hunter2@b/W",
    ],
)
def test_a_key_in_a_path_is_refused_and_not_repeated(flags: str, tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", *f"jobs.{flags}".split()]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 2, result.stderr
    assert "without credentials" in result.stderr
    assert "hunter2" not in result.stdout + result.stderr
    assert "AKIAKEY" not in result.stdout + result.stderr


def test_nothing_that_is_written_holds_a_credential(s3_bucket: str) -> None:
    output = begin(f"{s3_bucket}/f", verb="dump", config={"x": 1}, inputs={})
    assert isinstance(output, StageOutput)
    write_part(output.directory, 0, pa.table({"x": [1]}))
    output.finish(parts=1, facts={})
    client, bucket = boto3.client("s3"), s3_bucket.removeprefix("s3://")
    for entry in client.list_objects_v2(Bucket=bucket)["Contents"]:
        content = client.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read()
        assert os.environ["AWS_SECRET_ACCESS_KEY"].encode() not in content
        assert os.environ["AWS_ACCESS_KEY_ID"].encode() not in content
