"""make cluster-local: several nodes, a token, the job's own exit codes; stopping ends what was started and no more."""

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray._private.runtime_env.packaging import get_excludes_from_ignore_files

from deploy import local_cluster
from tests.job_commands import ROOT


def test_what_is_sent_holds_the_code_and_little_else() -> None:
    ignored = get_excludes_from_ignore_files(ROOT, include_gitignore=True)
    sent = [
        path.relative_to(ROOT)
        for path in ROOT.rglob("*")
        if path.is_file()
        and not set(path.relative_to(ROOT).parts) & {".git", ".venv", "__pycache__"}
        and not any(excluded(path) for excluded in ignored)
    ]
    folders = {path.parts[0] for path in sent if len(path.parts) > 1}
    assert {"hubert_ecg", "jobs", "serve", "tune_spaces"} <= folders
    assert not folders & {"tests", "benchmarks", "deploy", "runs", "docs"}
    assert (ROOT / "jobs" / "configs" / "demo.yaml").relative_to(ROOT) in sent
    assert sum((ROOT / path).stat().st_size for path in sent) < 10 * 1024 * 1024


def test_ending_a_process_asks_it_first_and_leaves_others_alone(tmp_path: Path) -> None:
    polite = "trap 'touch asked; exit 0' TERM; touch up; while true; do sleep 0.05; done"
    node = subprocess.Popen(["bash", "-c", polite], cwd=tmp_path, start_new_session=True)
    stubborn = subprocess.Popen(["bash", "-c", "sleep 600 & exec sleep 600"], start_new_session=True)
    other = subprocess.Popen(["sleep", "600"], start_new_session=True)
    try:
        while not (tmp_path / "up").exists():
            time.sleep(0.02)
        # A process id that has gone to another process since is not ended.
        local_cluster._end([(p.pid, local_cluster._began(p.pid)) for p in (node, stubborn)] + [(other.pid, "1")])
        assert (tmp_path / "asked").exists()
        assert not local_cluster._session(stubborn.pid)
        assert other.poll() is None
    finally:
        for process in (node, stubborn, other):
            process.kill()
            process.wait()


def test_stopping_nothing_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    local_cluster.stop(tmp_path)
    assert "no cluster was started there" in capsys.readouterr().out


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """`make cluster-local` with two nodes."""
    state = tmp_path_factory.mktemp("state")
    settings = [f"CLUSTER_STATE={state}", "NODES=2"]
    try:
        subprocess.run(["make", "cluster-local", *settings], cwd=ROOT, check=True, timeout=200)
        yield state
    finally:
        cluster = local_cluster.read(state) if (state / local_cluster.STATE).exists() else None
        subprocess.run(["make", "cluster-local-stop", *settings], cwd=ROOT, check=True, timeout=100)
        if cluster is not None:
            assert not [pid for leader in cluster.pids for pid in local_cluster._session(leader)]
            assert not Path(cluster.folder).exists()


def run(state: Path, *command: str) -> "subprocess.CompletedProcess[str]":
    """A command in a shell that has sourced STATE/env."""
    line = f"source {shlex.quote(str(state / 'env'))} && {shlex.join(command)}"
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-c", line], cwd=ROOT, env=os.environ | {"PATH": path}, capture_output=True, text=True, timeout=300
    )


@pytest.mark.slow
def test_jobs_are_submitted_with_their_log_and_exit_code(state: Path, tmp_path: Path) -> None:
    good = run(state, "python", "-m", "jobs.submit", "sample", "--output", str(tmp_path / "s"))
    assert good.returncode == 0, good.stdout + good.stderr
    assert "single_ecg.npy  (12, 5000)" in good.stdout
    assert (tmp_path / "s" / "single_ecg.npy").exists()

    wrong = run(state, "python", "-m", "jobs.submit", "dump", "--waveforms", "/nowhere", "--output", str(tmp_path))
    assert wrong.returncode == 2, wrong.stdout + wrong.stderr
    assert "wanted the output of jobs.prepare as --waveforms" in wrong.stdout
    assert "Traceback" not in wrong.stdout

    lost = run(state, "python", "-m", "jobs.submit", "prepare", "--source", "simulated", "--output", "runs/W")
    assert lost.returncode == 2, lost.stdout + lost.stderr
    assert "wanted an absolute path or s3://" in lost.stdout

    plain = run(
        state, *shlex.split("ray job submit --working-dir . -- python -m jobs.dump --waveforms /no --output /no")
    )
    assert plain.returncode == 1
    assert "exit code 2" in plain.stdout


@pytest.mark.slow
def test_without_the_token_nobody_is_let_in(state: Path) -> None:
    token = "RAY_AUTH_TOKEN_PATH=/dev/null RAY_AUTH_TOKEN=" + "0" * 64
    refused = run(state, "env", *token.split(), "python", "-m", "jobs.submit", "sample", "--output", "/tmp/never")
    assert refused.returncode == 2, refused.stdout + refused.stderr
    assert "wanted a job server that lets us in" in refused.stderr
    secret = Path(local_cluster.read(state).folder, "token").read_text()
    assert secret not in refused.stdout + refused.stderr
    assert secret not in json.dumps((state / "env").read_text())
