"""Fixtures shared by all tests: shared recordings and reference values where they exist, and one local Ray cluster."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

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
    target = tmp_path_factory.mktemp("recordings")
    subprocess.run([sys.executable, str(shared_dir / "data" / "unpack.py"), str(target), "ptbxl"], check=True)
    return target / "ptbxl"


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """A real Ray cluster on this machine, started once for all tests that need one."""
    import ray

    from hubert_ecg.pipeline.ray_cluster import start_ray

    start_ray()
    yield
    ray.shutdown()
