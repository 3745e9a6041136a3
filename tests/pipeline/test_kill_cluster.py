"""Kill with SIGKILL, one at a time, workers, a node and the driver of jobs.cluster: the codebooks stay the same."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from feature_tables import directions, write_features
from processes import SECONDS, await_title, kill_node

from hubert_ecg.storage.artifact import Manifest, open_artifact
from hubert_ecg.storage.codebooks import STATES_DESCRIPTION
from hubert_ecg.storage.files import read_json

ROOT = Path(__file__).resolve().parents[2]
FIT = "--num_clusters [60,120] --kmeans.batch_size 20000 --kmeans.max_steps 400 --kmeans.max_no_improvement null"
FEW_BATCHES = "--kmeans.lloyd_passes 4 --batches_mb 200 --save_interval_s 0.5"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2 * SECONDS)]


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = str(tmp_path_factory.mktemp("features") / "f")
    write_features(path, directions(300_000, 39, 80), tokens=100, shards=12)
    return path


@pytest.fixture(scope="module")
def undisturbed(features: str, tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    path = tmp_path_factory.mktemp("undisturbed") / "k"
    subprocess.run(job(features, path), cwd=ROOT, check=True)
    return open_artifact(str(path))


def job(features: str, output: Path) -> list[str]:
    settings = [*FIT.split(), *FEW_BATCHES.split()]
    return [sys.executable, "-m", "jobs.cluster", "--features", features, "--output", str(output), *settings]


def same(one: Manifest, other: Manifest) -> bool:
    """The very bytes of all codebooks."""
    return all(
        Path(one.directory, name, file).read_bytes() == Path(other.directory, name, file).read_bytes()
        for name in ("k60", "k120")
        for file in ("codebook.safetensors", "codebook.json")
    )


def test_killed_workers_are_made_up_for(features: str, undisturbed: Manifest, tmp_path: Path) -> None:
    driver = subprocess.Popen(job(features, tmp_path / "k"), cwd=ROOT)
    for name in ("_draw", "_take_steps", "sums_of_shards", "_judge"):
        pid = await_title(f"ray::{name}", driver.pid, driver)
        os.kill(pid, signal.SIGKILL)
        print(f"killed {name}, process {pid}")
    assert driver.wait(SECONDS) == 0
    assert same(open_artifact(str(tmp_path / "k")), undisturbed)


@pytest.mark.parametrize("task", ["_take_steps", "sums_of_shards"])
def test_a_killed_node_is_made_up_for(features: str, undisturbed: Manifest, tmp_path: Path, task: str) -> None:
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        lost = cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        environment = os.environ | {"RAY_ADDRESS": cluster.address}
        driver = subprocess.Popen(job(features, tmp_path / "k"), cwd=ROOT, env=environment)
        raylet = lost.all_processes["raylet"][0].process.pid
        await_title(f"ray::{task}", raylet, driver)
        kill_node(raylet)
        print(f"killed the node with process {raylet} while it ran {task}")
        assert driver.wait(SECONDS) == 0
    finally:
        cluster.shutdown()
    assert same(open_artifact(str(tmp_path / "k")), undisturbed)


def test_a_killed_driver_goes_on_from_its_last_state(features: str, undisturbed: Manifest, tmp_path: Path) -> None:
    driver = subprocess.Popen(job(features, tmp_path / "k"), cwd=ROOT)
    deadline = time.monotonic() + SECONDS
    saved = tmp_path / "k" / "state" / STATES_DESCRIPTION
    while not (saved.exists() and min(fit["step"] for fit in read_json(str(saved))["fits"].values()) >= 100):
        assert driver.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    assert not (tmp_path / "k" / "manifest.json").exists()
    again = subprocess.run(job(features, tmp_path / "k"), cwd=ROOT, check=True, capture_output=True, text=True)
    print(next(row for row in again.stderr.splitlines() if "going on from" in row))
    assert same(open_artifact(str(tmp_path / "k")), undisturbed)
