"""A cluster of several nodes on this machine, to try things: `make cluster-local`, `make cluster-local-stop`.

Every node is a raylet of its own, with its own ports, workers and object store; the first one also runs the job server
and the dashboard. The cluster asks for a token, listens on 127.0.0.1 only, and keeps its files in a folder of its own,
so that it neither finds nor disturbs another Ray on this machine. STATE/env holds what a shell needs to speak to it.
"""

import argparse
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

HOST = "127.0.0.1"
STORE_BYTES = 128 * 1024 * 1024
"""Shared memory of each node: Ray's default would be a third of this machine's for every one of them."""
START_S, STOP_S = 240.0, 30.0
STATE = "cluster.json"


@dataclass(frozen=True, kw_only=True)
class LocalCluster:
    """What has been started, as it stands in STATE/cluster.json."""

    pids: tuple[int, ...]
    """`ray start --block` of each node, the head's first; each is the leader of its own session."""
    started: tuple[str, ...]
    """When each of them began, in the kernel's clock ticks: a process id alone may have gone to another one."""
    address: str
    """Of the head, for other nodes and drivers."""
    dashboard: str
    folder: str
    """Ray's files, and the token."""

    @property
    def environment(self) -> dict[str, str]:
        """What clients and nodes need to be let in."""
        return {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": f"{self.folder}/token",
            "RAY_API_SERVER_ADDRESS": self.dashboard,
            "RAY_USAGE_STATS_ENABLED": "0",
        }


def start(state: Path, *, nodes: int, cpus_each: int, head_cpus: int | None = None) -> LocalCluster:
    """Start head and workers, and wait until the job server answers. Everything is ended when one of them fails.

    `head_cpus`: what the head offers where it is not as much as every other node; 0 keeps work away from it.
    """
    if (state / STATE).exists():
        sys.exit(f"{state}: a cluster was started there already; end it first: make cluster-local-stop")
    # Sockets have to lie at a path of at most 107 characters.
    folder = tempfile.mkdtemp(prefix="hubert-ecg-")
    token = Path(folder) / "token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    port, dashboard_port = _free_port(), _free_port()
    planned = LocalCluster(
        pids=(), started=(), address=f"{HOST}:{port}", dashboard=f"http://{HOST}:{dashboard_port}", folder=folder
    )
    head = ["--head", f"--port={port}", "--include-dashboard=true", f"--dashboard-host={HOST}"]
    head += [f"--dashboard-port={dashboard_port}", f"--temp-dir={folder}/ray"]
    processes = [_node(planned, head, cpus_each if head_cpus is None else head_cpus)]
    try:
        _wait_for_server(planned, processes)
        # One after the other: nodes that start on one machine at once choose their ports at once.
        for there in range(2, nodes + 1):
            processes.append(_node(planned, [f"--address={planned.address}"], cpus_each))
            _wait_for_nodes(planned, processes, there)
    except BaseException:
        _end([(process.pid, _began(process.pid)) for process in processes])
        shutil.rmtree(folder, ignore_errors=True)
        raise
    pids = tuple(process.pid for process in processes)
    cluster = replace(planned, pids=pids, started=tuple(map(_began, pids)))
    state.mkdir(parents=True, exist_ok=True)
    (state / STATE).write_text(json.dumps(asdict(cluster), indent=2))
    exports = "".join(f"export {name}={value}\n" for name, value in cluster.environment.items())
    (state / "env").write_text(exports)
    return cluster


def add_node(state: Path, *, cpus: int, nodes: int) -> None:
    """One worker more, as where a machine that was lost is replaced; waits until `nodes` are there."""
    cluster = read(state)
    process = _node(cluster, [f"--address={cluster.address}"], cpus)
    _wait_for_nodes(cluster, [process], nodes)
    more = replace(cluster, pids=(*cluster.pids, process.pid), started=(*cluster.started, _began(process.pid)))
    (state / STATE).write_text(json.dumps(asdict(more), indent=2))


def read(state: Path) -> LocalCluster:
    """The cluster that was started there."""
    content = json.loads((state / STATE).read_text())
    return LocalCluster(**content | {"pids": tuple(content["pids"]), "started": tuple(content["started"])})


def stop(state: Path) -> None:
    """End what `start` has started there, and nothing else."""
    if not (state / STATE).exists():
        print(f"{state}: no cluster was started there; nothing to do")
        return
    cluster = read(state)
    _end(list(zip(cluster.pids, cluster.started, strict=True))[::-1])
    shutil.rmtree(cluster.folder, ignore_errors=True)
    for name in (STATE, "env"):
        (state / name).unlink(missing_ok=True)


def _node(cluster: LocalCluster, arguments: list[str], cpus: int) -> "subprocess.Popen[bytes]":
    """One node: `ray start --block`, which ends its own processes when it is asked to end."""
    command = [str(Path(sys.executable).with_name("ray")), "start", "--block", *arguments]
    command += [f"--node-ip-address={HOST}", f"--num-cpus={cpus}", f"--object-store-memory={STORE_BYTES}"]
    # Ports that Ray would otherwise give to every node alike; 0 lets worker processes take any that is free.
    command += [f"--dashboard-agent-listen-port={_free_port()}", "--min-worker-port=0", "--max-worker-port=0"]
    # A session of its own: Ctrl-C in the terminal that started the cluster is not meant for it.
    # What a job calls `python` is this one.
    path = f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}"
    environment = os.environ | cluster.environment | {"PATH": path}
    with open(f"{cluster.folder}/nodes.log", "ab") as log:
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)


def _wait_for_server(cluster: LocalCluster, processes: "list[subprocess.Popen[bytes]]") -> None:
    _wait(lambda: _answer(cluster, "/api/version") is not None, cluster, processes, "the job server answers")


def _wait_for_nodes(cluster: LocalCluster, processes: "list[subprocess.Popen[bytes]]", nodes: int) -> None:
    def all_there() -> bool:
        answer = _answer(cluster, "/nodes?view=summary")
        found = [] if answer is None else answer["data"]["summary"]
        return sum(node["raylet"].get("state") == "ALIVE" for node in found) >= nodes

    _wait(all_there, cluster, processes, f"{nodes} nodes have joined")


def _wait(
    ready: Callable[[], bool], cluster: LocalCluster, processes: "list[subprocess.Popen[bytes]]", what: str
) -> None:
    end = time.monotonic() + START_S
    while not ready():
        if time.monotonic() > end or any(process.poll() is not None for process in processes):
            log = Path(cluster.folder, "nodes.log").read_text(errors="replace")[-2000:]
            raise SystemExit(f"wanted that {what}, but it did not come to that; Ray said:\n{log}")
        time.sleep(0.3)


def _answer(cluster: LocalCluster, path: str) -> Any:
    """What the dashboard says, or None as long as it says nothing."""
    token = Path(cluster.folder, "token").read_text()
    request = urllib.request.Request(cluster.dashboard + path, headers={"Authorization": f"Bearer {token}"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=5) as response:
            return json.load(response)
    except (urllib.error.URLError, OSError, ValueError):
        return None


def _end(nodes: list[tuple[int, str]]) -> None:
    """SIGTERM to each node, then SIGKILL to what is left of its session."""
    alive = [pid for pid, began in nodes if _began(pid) == began != ""]
    for pid in alive:
        os.kill(pid, signal.SIGTERM)
    end = time.monotonic() + STOP_S
    while time.monotonic() < end and any(_began(pid) and not _reaped(pid) for pid in alive):
        time.sleep(0.1)
    for pid in alive:
        for member in _session(pid):
            os.kill(member, signal.SIGKILL)


def _session(leader: int) -> list[int]:
    """Processes whose session this process leads or led."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rsplit(")", 1)[1].split()
        except OSError:  # has ended meanwhile
            continue
        if int(fields[3]) == leader and fields[0] != "Z":
            found.append(int(entry.parent.name))
    return found


def _reaped(pid: int) -> bool:
    """Whether it was a child of this process and has ended."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return False


def _began(pid: int) -> str:
    """When a process began; empty when there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["start", "stop"])
    parser.add_argument("--state", type=Path, default=Path("runs/cluster-local"), help="folder that remembers it")
    parser.add_argument("--nodes", type=int, default=3, help="raylets")
    parser.add_argument("--cpus_each", type=int, default=1, help="cores that each of them offers")
    options = parser.parse_args()
    if options.what == "stop":
        stop(options.state)
        return
    cluster = start(options.state, nodes=options.nodes, cpus_each=options.cpus_each)
    print(f"{options.nodes} nodes of {options.cpus_each} CPUs; dashboard and job server: {cluster.dashboard}")
    print(f"  source {options.state}/env")
    print(f"  python -m jobs.submit prepare --source simulated --output {Path.cwd()}/runs/local/W")
    print(f"  ray job submit --working-dir . -- python -m jobs.dump --waveforms {Path.cwd()}/runs/local/W ...")
    print("  make cluster-local-stop")


if __name__ == "__main__":
    main()
