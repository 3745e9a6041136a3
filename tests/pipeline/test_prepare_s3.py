"""jobs.prepare from s3:// to s3://, on a real S3 API: the same table as from a local folder, the manifest last."""

import json
import os
import subprocess
import sys
from pathlib import Path

import boto3
import numpy as np
import pytest
import wfdb

from hubert_ecg.ecg.recording import STANDARD_LEADS
from hubert_ecg.ecg.simulate import CONDITIONS, simulate_condition

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """WFDB pairs and .npy files, one of them damaged, in two wards."""
    folder = tmp_path_factory.mktemp("local")
    for ward in ("a", "b"):
        (folder / ward).mkdir()
    for index, condition in enumerate(CONDITIONS):
        samples = simulate_condition([condition], seed=index)[0].samples
        np.save(folder / "a" / f"ecg{index}.npy", samples)
        wfdb.wrsamp(
            f"rec{index}",
            fs=500,
            units=["mV"] * 12,
            sig_name=list(STANDARD_LEADS),
            p_signal=samples[:, ::-1].T.astype(np.float64),
            fmt=["16"] * 12,
            write_dir=str(folder / "b"),
        )
    (folder / "a" / "damaged.npy").write_bytes(b"\x93NUMPY and nothing more")
    return folder


def objects(bucket: str) -> dict[str, bytes]:
    """Key -> content of all that the bucket holds."""
    client, name = boto3.client("s3"), bucket.removeprefix("s3://")
    found = client.list_objects_v2(Bucket=name).get("Contents", [])
    return {entry["Key"]: client.get_object(Bucket=name, Key=entry["Key"])["Body"].read() for entry in found}


def test_from_s3_to_s3_as_from_folder_to_folder(s3_bucket: str, folder: Path, tmp_path: Path) -> None:
    client = boto3.client("s3")
    for path in folder.rglob("*.*"):
        client.upload_file(str(path), s3_bucket.removeprefix("s3://"), f"raw/{path.relative_to(folder)}")
    script = (
        "from hubert_ecg.pipeline.commands import guarded, set_up_logging; import sys\n"
        "from hubert_ecg.pipeline.prepare import PrepareConfig, prepare\n"
        "set_up_logging()\n"
        "for archive, output in zip(sys.argv[1::2], sys.argv[2::2]):\n"
        "    config = PrepareConfig(source='files', input=archive, output=output, shard_size=5)\n"
        "    assert guarded(lambda: prepare(config)) == 0\n"
    )
    here, there = str(tmp_path / "w"), f"{s3_bucket}/w"
    command = [sys.executable, "-c", script, str(folder), here, f"{s3_bucket}/raw", there]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert result.returncode == 0, result.stderr
    assert os.environ["AWS_SECRET_ACCESS_KEY"] not in result.stdout + result.stderr

    # An empty object may stand for the folder itself.
    made = {key.removeprefix("w/"): data for key, data in objects(s3_bucket).items() if key.startswith("w/") and data}
    local = {str(path.relative_to(here)): path.read_bytes() for path in Path(here).rglob("*.*")}
    assert set(made) == set(local)
    assert {name for name in made if name.endswith(".parquet")} == {f"parts/part-{n:05d}.parquet" for n in range(3)}
    assert all(made[name] == local[name] for name in made if name.endswith(".parquet"))
    manifests = [json.loads(content["manifest.json"]) for content in (made, local)]
    assert manifests[0]["fingerprint"] == manifests[1]["fingerprint"]
    report = json.loads(made["report.json"])
    assert (report["listed"], report["prepared"]) == (13, 12)
    assert [entry["record_id"] for entry in report["set_aside"]] == ["a/damaged"]
