"""Kill with SIGKILL, one at a time, a worker, an actor and a node of dump and label: same rows, same codes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from processes import SECONDS, await_receipts, await_title, kill_node
from waveform_tables import Row, noise, save_model, write_waveforms

from hubert_ecg.clustering.codebook import Codebook, normalise_with
from hubert_ecg.ecg.features import DescriptorConfig
from hubert_ecg.pipeline.extract import LatentSource
from hubert_ecg.storage import files
from hubert_ecg.storage.artifact import Manifest, open_artifact
from hubert_ecg.storage.codebooks import save_codebook

ROOT = Path(__file__).resolve().parents[2]
SHARDS, ROWS_PER_SHARD = 120, 24
TASK, ACTOR = "ray::Map(_in_process)", "ray::MapWorker(Map(_Worker))"
STARTS = "--crop_starts_s [0,1,2,3,4,5]"
# With so many workers there are too few shards for actors; the cluster's CPUs are what limits the tasks.
TASKS_ONLY = "--workers 100"
JOBS = {
    "dump mfcc": f"dump --descriptor mfcc {STARTS} {TASKS_ONLY}",
    "dump latent": f"dump --descriptor latent --layer 1 {STARTS}",
    "label mfcc": f"label --codebooks [mfcc] {STARTS} {TASKS_ONLY}",
    "label latent": f"label --codebooks [latent] {STARTS}",
}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3 * SECONDS)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Waveforms, a model, a codebook of descriptors and one of latents."""
    path = tmp_path_factory.mktemp("inputs")
    rows = [Row(record_id=f"r{i:05d}", counts=noise(i)) for i in range(SHARDS * ROWS_PER_SHARD)]
    write_waveforms(str(path / "waveforms"), rows, shards=SHARDS)
    save_model(path / "model")
    rng = np.random.default_rng(0)
    mfcc = DescriptorConfig(name="mfcc")
    latent = {"name": "latent", "layer": 1, "precision": "float32"}
    model = LatentSource.open(str(path / "model")).fingerprint
    centroids = {
        n: normalise_with(rng.standard_normal((50, d)).astype("f4"), "l2") for n, d in ((0, mfcc.dim), (1, 32))
    }
    save_codebook(str(path / "mfcc"), Codebook(centroids=centroids[0], descriptor=mfcc.to_dict()))
    book = Codebook(centroids=centroids[1], descriptor=latent, layer=1, checkpoint_fingerprint=model)
    save_codebook(str(path / "latent"), book)
    return path


@pytest.fixture(scope="module")
def undisturbed(folder: Path) -> dict[str, Manifest]:
    """The output of every job when nothing happens to it."""
    for number, name in enumerate(JOBS):
        subprocess.run(job(folder, name, folder / f"undisturbed{number}"), cwd=ROOT, check=True)
    return {name: open_artifact(str(folder / f"undisturbed{number}")) for number, name in enumerate(JOBS)}


def job(folder: Path, name: str, output: Path) -> list[str]:
    verb, *settings = JOBS[name].replace("[mfcc]", f"[{folder}/mfcc]").replace("[latent]", f"[{folder}/latent]").split()
    if "latent" in name:
        settings += ["--checkpoint", str(folder / "model")]
    if verb == "dump":
        settings += ["--split", "all"]
    arguments = ["--waveforms", str(folder / "waveforms"), "--output", str(output), *settings]
    return [sys.executable, "-m", f"jobs.{verb}", *arguments]


def check_same(disturbed: Path, undisturbed: Manifest) -> None:
    """All recordings once and in order, and the very bytes of every shard."""
    manifest = open_artifact(str(disturbed))
    ids = [i for part in range(manifest.parts) for i in files.read_table(manifest.part(part))["record_id"].to_pylist()]
    times = len(ids) // (SHARDS * ROWS_PER_SHARD)
    assert times == (6 if undisturbed.verb == "dump" else 1)
    assert ids == [f"r{i:05d}" for i in range(SHARDS * ROWS_PER_SHARD) for _ in range(times)]
    assert manifest.fingerprint == undisturbed.fingerprint
    for part in range(manifest.parts):
        assert Path(manifest.part(part)).read_bytes() == Path(undisturbed.part(part)).read_bytes()


@pytest.mark.parametrize("name", JOBS)
def test_killed_workers_are_made_up_for(
    folder: Path, undisturbed: dict[str, Manifest], tmp_path: Path, name: str
) -> None:
    """A task process or an actor, in the middle of a shard; and the one that takes its place."""
    output = tmp_path / "output"
    driver = subprocess.Popen(job(folder, name, output), cwd=ROOT)
    for finished in (5, 30):
        await_receipts(output / "parts", finished, driver)
        pid = await_title(ACTOR if "latent" in name else TASK, driver.pid, driver)
        os.kill(pid, signal.SIGKILL)
        done = len(list((output / "parts").glob("part-*.json")))
        print(f"{name}: killed {'actor' if 'latent' in name else 'worker'} {pid} after {done} of {SHARDS} shards")
    assert driver.wait(SECONDS) == 0
    check_same(output, undisturbed[name])


@pytest.mark.parametrize("name", JOBS)
def test_a_killed_node_is_made_up_for(
    folder: Path, undisturbed: dict[str, Manifest], tmp_path: Path, name: str
) -> None:
    """Two nodes of one CPU; the one that the driver is not on is lost while it works on a shard."""
    from ray.cluster_utils import Cluster

    output = tmp_path / "output"
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        lost = cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        environment = os.environ | {"RAY_ADDRESS": cluster.address}
        driver = subprocess.Popen(job(folder, name, output), cwd=ROOT, env=environment)
        raylet = lost.all_processes["raylet"][0].process.pid
        await_receipts(output / "parts", 5, driver)
        await_title(ACTOR if "latent" in name else TASK, raylet, driver)
        kill_node(raylet)
        done = len(list((output / "parts").glob("part-*.json")))
        print(f"{name}: killed the node of raylet {raylet} after {done} of {SHARDS} shards")
        assert driver.wait(SECONDS) == 0
    finally:
        cluster.shutdown()
    check_same(output, undisturbed[name])
