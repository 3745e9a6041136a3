"""Ten minutes of requests: memory stays flat, and what is answered is what jobs.predict writes."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest

from hubert_ecg.ecg.simulate import CONDITIONS
from serve.client import Client
from tests.serve.service import KEY, ROOT, Service, ecg, running, save_classifier

pytestmark = pytest.mark.slow

LOAD_S = float(os.environ.get("HUBERT_ECG_LOAD_S", 600))
SETTLED = 0.3
"""Share of the load after which caches, threads and pools are as large as they get."""
CLIENTS = 4


def memory_mib(service: Service) -> dict[int, float]:
    """Process id -> proportional set size, of the service's own. (Titles change with what a process does.)"""
    found: dict[int, float] = {}
    for process in [psutil.Process(service.process.pid), *psutil.Process(service.process.pid).children(recursive=True)]:
        try:
            title = " ".join(process.cmdline())
            if "ServeReplica" in title or "ProxyActor" in title or "ServeController" in title:
                found[process.pid] = process.memory_full_info().pss / 2**20
        except psutil.NoSuchProcess:
            continue
    return found


def test_memory_is_flat_and_predictions_are_those_of_the_job(tmp_path: Path) -> None:
    checkpoint = save_classifier(tmp_path / "c")
    recordings = {f"r{i}": ecg(i, CONDITIONS[i % len(CONDITIONS)]) for i in range(12)}
    wanted = predicted_by_the_job(checkpoint, recordings, tmp_path)
    answers: list[int] = []
    wrong: list[str] = []
    ended = threading.Event()

    def ask(service: Service, first: int) -> None:
        with Client(service.url, key=KEY) as client:
            turn = first
            while not ended.is_set():
                name = f"r{turn % len(recordings)}"
                answer = client.predict(recordings[name], sampling_rate_hz=500, measurements=turn % 5 == 0)
                got = [label.probability for label in answer.predictions[0].labels]
                if np.abs(np.array(got) - wanted[name]).max() > 1e-5:
                    wrong.append(f"{name}: {got} for {wanted[name]}")
                answers.append(turn)
                turn += 1

    seen: list[dict[int, float]] = []
    with running({"c": checkpoint}, cpus_per_replica=0.5) as service:
        threads = [threading.Thread(target=ask, args=(service, i)) for i in range(CLIENTS)]
        for thread in threads:
            thread.start()
        began = time.monotonic()
        while time.monotonic() - began < LOAD_S:
            time.sleep(LOAD_S / 60)
            seen.append(memory_mib(service))
        titles = {pid: psutil.Process(pid).name() for pid in seen[-1]}
        ended.set()
        for thread in threads:
            thread.join()
    assert not wrong, wrong[:3]
    settled = seen[int(SETTLED * len(seen)) :]
    third = len(settled) // 3
    print(f"\n{len(answers)} requests in {LOAD_S:.0f} s, all within 1e-5 of jobs.predict")
    for pid in settled[-1]:
        sizes, name = [each[pid] for each in settled], f"{titles[pid]} {pid}"
        early, late = float(np.median(sizes[:third])), float(np.median(sizes[-third:]))
        print(f"{name:<60} {early:7.1f} MiB, later {late:7.1f} MiB ({late - early:+.1f})")
        assert late - early < 0.02 * early + 4, f"{name} grows: {sizes}"


def predicted_by_the_job(checkpoint: str, recordings: dict[str, np.ndarray], folder: Path) -> dict[str, np.ndarray]:
    """Record id -> probabilities, from the command."""
    source = folder / "source"
    source.mkdir()
    for name, samples in recordings.items():
        np.save(source / f"{name}.npy", samples)
    command = [sys.executable, "-m", "jobs.predict", "--checkpoint", checkpoint, "--input", str(source)]
    command += ["--output", str(folder / "predicted")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    table = pd.read_parquet(folder / "predicted" / "predictions.parquet").set_index("record_id")
    columns = [f"probability.{label}" for label in CONDITIONS]
    return {name: row[columns].to_numpy(float) for name, row in table.iterrows()}
