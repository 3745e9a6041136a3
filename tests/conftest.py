"""Fixtures shared by all tests: shared recordings and reference values where they exist, and one local Ray cluster."""

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.object_store import store_environment

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ.setdefault("HF_HUB_OFFLINE", "1")

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder with reference values and real recordings; the test is skipped where it is absent."""
    path = Path(os.environ.get("HUBERT_ECG_SHARED", REPOSITORY.parent / "shared"))
    if not (path / "reference").is_dir():
        pytest.skip(f"{path}/reference is absent; set HUBERT_ECG_SHARED to the folder of reference values")
    return path


@pytest.fixture(scope="session")
def ptbxl_dir(shared_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """PTB-XL in its official layout, unpacked once per test session."""
    return _unpacked("ptbxl", shared_dir, tmp_path_factory)


@pytest.fixture(scope="session")
def ludb_dir(shared_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LUDB in its official layout, unpacked once per test session."""
    return _unpacked("ludb", shared_dir, tmp_path_factory)


def _unpacked(name: str, shared_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("recordings")
    subprocess.run([sys.executable, str(shared_dir / "data" / "unpack.py"), str(target), name], check=True)
    return target / name


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """A real Ray cluster on this machine, started once for all tests that need one."""
    import ray

    from hubert_ecg.pipeline.ray_cluster import start_ray

    start_ray()
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """The address of an object store on this machine: moto's, which speaks S3 over HTTP."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3_bucket(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """`s3://` and the name of an empty bucket; where it is stands in the environment, as it would for a user."""
    import boto3

    for name, value in store_environment(s3_endpoint).items():
        monkeypatch.setenv(name, value)
    name = f"archive-{uuid.uuid4().hex[:12]}"
    boto3.client("s3").create_bucket(Bucket=name)
    return f"s3://{name}"
