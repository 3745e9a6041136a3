"""A cluster of three nodes and an object store: jobs are submitted, nodes killed, and the output is as on one machine.

The nodes are raylets of their own on this machine: a head without CPUs, as in cluster.yaml, and two workers. The store
is moto's, behind a proxy that can be slowed down, so that a job is in the middle of its work when a node is killed.
"""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import boto3
import numpy as np
import pytest
import yaml

from deploy import local_cluster
from hubert_ecg.ecg.simulate import simulate_condition
from hubert_ecg.errors import ArtifactError
from hubert_ecg.storage import files
from hubert_ecg.storage.artifact import Manifest, open_artifact
from tests.job_commands import ROOT
from tests.object_store import store_environment
from tests.storage.weak_store import WeakStore, weak_store

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]

CPUS_EACH = 2
WORK = re.compile(r"ray::(?!IDLE|SPILL|RESTORE|DashboardAgent|RuntimeEnvAgent)")
"""Titles of processes that do something for a job."""
TRAINING = "--batch_size 8 --validation_interval 4 --compute.deterministic true --workers.threads_each 1"
PATIENTS = "--source simulated --simulated.simulator.num_patients 24 --simulated.simulator.sampling_rate_hz 100"
CHAIN = {
    "prepare": f"{PATIENTS} --shard_size 2 --output {{out}}/W",
    "dump": "--waveforms {out}/W --descriptor mfcc --split all --output {out}/F",
    "cluster": '--features {out}/F --num_clusters "[8]" --save_interval_s 0 --output {out}/K',
    "label": '--waveforms {out}/W --codebooks "[{out}/K/k8]" --output {out}/L',
    "pretrain": f"--waveforms {{out}}/W --labels {{out}}/L --steps 12 {TRAINING} --output {{out}}/C",
    "finetune": "--waveforms {out}/W --checkpoint {out}/C --label_set conditions --steps 4 "
    f"{TRAINING} --output {{out}}/M",
    "predict": "--waveforms {out}/W --checkpoint {out}/M --single_file false --output {out}/P",
}
"""Each stage reads what those before it have written below `out`."""


@dataclass
class Three:
    """The cluster, its store, and how jobs are sent to it."""

    state: Path
    store: WeakStore
    bucket: str
    logs: dict[str, str] = field(default_factory=dict)

    @property
    def out(self) -> str:
        return f"s3://{self.bucket}/chain"

    def send(self, verb: str, flags: str) -> "subprocess.Popen[str]":
        """A job through Ray's job server, with its log and exit code."""
        cluster = local_cluster.read(self.state)
        command = f"exec {sys.executable} -m jobs.submit {verb} {flags}"
        return subprocess.Popen(
            ["bash", "-c", command],
            cwd=ROOT,
            env=os.environ | cluster.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, verb: str, flags: str) -> str:
        """The log of a job that has to end well."""
        job = self.send(verb, flags)
        log, _ = job.communicate(timeout=600)
        assert job.returncode == 0, log[-4000:]
        return log

    def receipts(self, place: str) -> int:
        """Shards of an output that are finished; asked of the store itself, past the proxy."""
        client = boto3.client("s3", endpoint_url=f"http://{self.store.behind}")
        prefix = f"{place.removeprefix(f's3://{self.bucket}/')}/parts/"
        found = client.list_objects_v2(Bucket=self.bucket, Prefix=prefix).get("Contents", [])
        return sum(entry["Key"].endswith(".json") for entry in found)

    def kill_a_busy_node(self) -> str:
        """SIGKILL to every process of the worker node that has most to do; its place in the cluster is then free."""
        cluster = local_cluster.read(self.state)
        leaders = [pid for pid in cluster.pids[1:] if local_cluster._session(pid)]
        end = time.monotonic() + 60
        while True:  # tasks are short, and between two of them a node is idle
            work = {leader: [title for title in map(_title, local_cluster._session(leader)) if WORK.match(title)]
                    for leader in leaders}  # fmt: skip
            victim = max(leaders, key=lambda leader: ("RayTrainWorker" in str(work[leader]), len(work[leader])))
            if work[victim]:
                break
            assert time.monotonic() < end, "no node has anything to do"
        for pid in [victim, *local_cluster._session(victim)]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        return ", ".join(title.strip() for title in work[victim])


def _title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


@pytest.fixture(scope="module")
def three(s3_endpoint: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Three]:
    """Three nodes whose environment names the store, as where an administrator has set it up."""
    state = tmp_path_factory.mktemp("three")
    with weak_store(s3_endpoint) as store, pytest.MonkeyPatch.context() as patch:
        for name, value in store_environment(store.address).items():
            patch.setenv(name, value)
        boto3.client("s3").create_bucket(Bucket="three-nodes")
        local_cluster.start(state, nodes=3, cpus_each=CPUS_EACH, head_cpus=0)
        try:
            yield Three(state=state, store=store, bucket="three-nodes")
        finally:
            local_cluster.stop(state)


@pytest.fixture(scope="module")
def chain(three: Three) -> dict[str, Manifest]:
    """The output of every stage, submitted one after the other."""
    for verb, flags in CHAIN.items():
        since = time.monotonic()
        three.logs[verb] = three.run(verb, flags.format(out=three.out))
        print(f"\n{verb}: {time.monotonic() - since:.0f} s on the cluster", flush=True)
    return {verb: open_artifact(place_of(verb, three.out), verb=verb) for verb in CHAIN}


def place_of(verb: str, out: str) -> str:
    """Where a stage of the chain writes."""
    return CHAIN[verb].format(out=out).rpartition(" ")[2]


def identity(manifest: Manifest) -> object:
    """What is the same when the content is: of a training the weights, otherwise settings, inputs and shards."""
    return manifest.facts.get("checkpoint", manifest.fingerprint)


def outside() -> dict[str, str]:
    """The environment of a job that runs beside the cluster, not on it."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("RAY_AUTH", "RAY_ADDRESS"))}


def test_all_jobs_on_the_cluster_give_what_a_local_run_gives(
    three: Three, chain: dict[str, Manifest], tmp_path: Path
) -> None:
    stages = []
    for verb, flags in CHAIN.items():
        words = re.findall(r'--(\S+) ("[^"]*"|\S+)', flags)
        stages.append({verb: {name: value.strip('"').replace("{out}", "${out}") for name, value in words}})
    recipe = tmp_path / "chain.yaml"
    recipe.write_text(yaml.safe_dump({"variables": {"out": ""}, "stages": stages}))
    command = [sys.executable, "-m", "jobs.recipe", str(recipe), f"out={tmp_path}/out"]
    local = subprocess.run(command, cwd=ROOT, env=outside(), capture_output=True, text=True, check=False)
    assert local.returncode == 0, local.stderr[-4000:]
    for verb, there in chain.items():
        here = open_artifact(place_of(verb, f"{tmp_path}/out"), verb=verb)
        assert (here.rows, here.parts) == (there.rows, there.parts), verb
        assert identity(here) == identity(there), verb
    secret = os.environ["AWS_SECRET_ACCESS_KEY"]
    assert not [verb for verb, log in three.logs.items() if secret in log]


def test_a_fifth_of_the_stores_answers_may_fail(three: Three, chain: dict[str, Manifest]) -> None:
    out = f"s3://{three.bucket}/weak"
    for verb, flags in CHAIN.items():
        three.store.went_wrong.clear()
        three.store.share = 0.2
        try:
            since = time.monotonic()
            three.run(verb, flags.format(out=out))
        finally:
            three.store.share = 0.0
        wrong = dict(three.store.went_wrong)
        print(f"\n{verb}: {time.monotonic() - since:.0f} s though of the store's answers {wrong}", flush=True)
        assert sum(wrong.values()) >= 3, verb
        again = open_artifact(place_of(verb, out), verb=verb)
        assert (again.rows, again.parts) == (chain[verb].rows, chain[verb].parts), verb
        assert identity(again) == identity(chain[verb]), verb


@dataclass(frozen=True)
class Disturbance:
    """When a node is killed, and how slow the store is meanwhile."""

    pause_s: float
    ready: Callable[[Three, str, str], bool]
    """Of the cluster, the output's place and the log so far: whether the job is in the middle of its work."""


def shards_are_finished(three: Three, place: str, log: str) -> bool:
    return three.receipts(place) >= 3


KILLS = {
    "prepare": Disturbance(0.4, shards_are_finished),
    "dump": Disturbance(0.4, shards_are_finished),
    "cluster": Disturbance(0.4, lambda three, place, log: "cluster: " in log and " rows of " in log),
    "label": Disturbance(0.4, shards_are_finished),
    "pretrain": Disturbance(0.1, lambda three, place, log: re.search(r"step [4-8]/", log) is not None),
    "predict": Disturbance(0.4, shards_are_finished),
}


@pytest.mark.parametrize("verb", KILLS)
def test_a_killed_node_changes_nothing(three: Three, chain: dict[str, Manifest], verb: str) -> None:
    place = f"s3://{three.bucket}/killed/{verb}"
    log = killed_in_the_middle(three, verb, CHAIN[verb].format(out=three.out).rpartition(" ")[0], place)
    again = open_artifact(place, verb=verb)
    assert again.rows == chain[verb].rows
    assert identity(again) == identity(chain[verb])
    if verb == "pretrain":
        assert re.search(r"going on after", log), log[-3000:]


def test_raw_recordings_come_through_faults_and_the_loss_of_a_node(three: Three, tmp_path: Path) -> None:
    """Both at once, with recordings that the workers read from the store themselves; one of them is damaged."""
    client, archive = boto3.client("s3", endpoint_url=f"http://{three.store.behind}"), tmp_path / "archive"
    archive.mkdir()
    for index in range(24):
        np.save(archive / f"ecg{index:02d}.npy", simulate_condition(["NORM"], seed=index)[0].samples)
    (archive / "damaged.npy").write_bytes(b"\x93NUMPY and nothing more")
    for path in archive.iterdir():
        client.upload_file(str(path), three.bucket, f"raw/{path.name}")
    place, flags = f"s3://{three.bucket}/prepared", "--source files --shard_size 2 --sampling_rate_hz 500"
    three.store.went_wrong.clear()
    three.store.share = 0.2
    try:
        killed_in_the_middle(three, "prepare", f"{flags} --input s3://{three.bucket}/raw --output", place)
    finally:
        three.store.share = 0.0
    print(f"of the store's answers {dict(three.store.went_wrong)}", flush=True)
    assert three.store.went_wrong.total() >= 3
    command = [sys.executable, "-m", "jobs.prepare", *flags.split(), "--input", str(archive), "--output"]
    local = subprocess.run(
        [*command, f"{tmp_path}/W"], cwd=ROOT, env=outside(), capture_output=True, text=True, check=False
    )
    assert local.returncode == 0, local.stderr[-4000:]
    here, there = open_artifact(f"{tmp_path}/W", verb="prepare"), open_artifact(place, verb="prepare")
    assert (there.rows, there.fingerprint) == (24, here.fingerprint)
    assert set_aside(place) == set_aside(f"{tmp_path}/W") == ["damaged"]


def set_aside(place: str) -> list[str]:
    """Recordings that a prepared table lacks."""
    return [entry["record_id"] for entry in json.loads(files.read_bytes(f"{place}/report.json"))["set_aside"]]


def test_a_store_gone_for_good_ends_a_job_with_one_clear_error(three: Three, chain: dict[str, Manifest]) -> None:
    place = f"s3://{three.bucket}/gone"
    flags = CHAIN["dump"].format(out=three.out).rpartition(" ")[0] + f" {place}"
    three.store.pause_s = 0.4
    try:
        job = in_the_middle(three, "dump", flags, place)
        three.store.gone, since = True, time.monotonic()
        code = job.wait(600)
        seconds = time.monotonic() - since
    finally:
        three.store.pause_s, three.store.gone = 0.0, False
    errors = [line for line in job.lines if line.startswith("error: ")]
    print(f"\ndump: ended with {code} {seconds:.0f} s after the store was gone: {errors}", flush=True)
    assert code == 2, job.log[-4000:]
    assert len(errors) == 1, job.log[-4000:]
    assert re.search(r"s3://three-nodes/\S+: the object store .*check bucket, network and credentials", errors[0])
    assert "Traceback" not in job.log, job.log[-4000:]
    with pytest.raises(ArtifactError, match="unfinished"):
        open_artifact(place)
    finished = three.receipts(place)
    log = three.run("dump", flags)
    assert re.search(rf"going on, {finished} of \d+ shards were finished before", log), log[-3000:]
    assert identity(open_artifact(place, verb="dump")) == identity(chain["dump"])


@dataclass
class Running:
    """A job that runs, and the lines of its log so far."""

    process: "subprocess.Popen[str]"
    lines: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._reading = threading.Thread(target=lambda: self.lines.extend(self.process.stdout or []), daemon=True)
        self._reading.start()

    @property
    def log(self) -> str:
        return "".join(self.lines)

    def wait(self, timeout_s: float) -> int:
        """The exit code, once all of the log has come."""
        code = self.process.wait(timeout_s)
        self._reading.join(10)
        return code


def killed_in_the_middle(three: Three, verb: str, flags: str, place: str) -> str:
    """The log of a job, which writes to `place`, that lost a busy node and yet has to end well; the node comes back."""
    three.store.pause_s = KILLS[verb].pause_s
    try:
        job = in_the_middle(three, verb, f"{flags} {place}", place)
        finished_before, killed = three.receipts(place), three.kill_a_busy_node()
        three.store.pause_s = 0.0
        code = job.wait(500)
    finally:
        three.store.pause_s = 0.0
    print(f"\n{verb}: killed a node with {killed}; {finished_before} shards were finished", flush=True)
    local_cluster.add_node(three.state, cpus=CPUS_EACH, nodes=3)
    assert code == 0, job.log[-4000:]
    return job.log


def in_the_middle(three: Three, verb: str, flags: str, place: str) -> Running:
    """A job that has done some of its work."""
    job = Running(three.send(verb, flags))
    end = time.monotonic() + 300
    while not KILLS[verb].ready(three, place, job.log):
        assert job.process.poll() is None, "ended before it could be disturbed:\n" + job.log[-3000:]
        assert time.monotonic() < end, job.log[-3000:]
        time.sleep(0.1)
    return job
