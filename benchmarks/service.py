"""A real service in a process of its own: started by its command, spoken to over HTTP, ended by a signal."""

import io
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import torch
import yaml

from hubert_ecg.ecg.preprocess import PreprocessConfig
from hubert_ecg.ecg.simulate import CONDITIONS, simulate_condition
from hubert_ecg.models import HubertECG, HubertECGClassifier, model_config
from hubert_ecg.storage.checkpoint import CheckpointInfo, save_checkpoint

START_S = 240
KEY = "a-key-for-this-machine-only"
ROOT = Path(__file__).resolve().parents[1]


def save_classifier(directory: Path, *, seed: int = 0, size: str = "tiny", **info: Any) -> str:
    """A classifier of the six conditions with random weights whose probabilities differ between recordings."""
    torch.manual_seed(seed)
    encoder = HubertECG(model_config(size, vocab_sizes=(2,)))  # type: ignore[arg-type]
    model = HubertECGClassifier.from_encoder(encoder, label_names=CONDITIONS)
    with torch.no_grad():
        model.classifier.weight.mul_(20)
    prevalence = [0.4, 0.1, 0.05, 0.15, 0.15, 0.15]
    settings = {
        "kind": "classifier",
        "task": "multi_label",
        "label_names": CONDITIONS,
        "thresholds": (0.5,) * len(CONDITIONS),
        "preprocessing": PreprocessConfig().to_dict(),
        "provenance": {"prevalence": prevalence},
    }
    save_checkpoint(directory, model, CheckpointInfo(**(settings | info)))
    return str(directory)


def ecg(seed: int = 0, condition: str = "NORM") -> np.ndarray:
    """[12, 5000] float32 mV at 500 Hz."""
    return simulate_condition([condition], seed=seed)[0].samples.astype(np.float32)


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(kw_only=True)
class Service:
    """A service that runs."""

    url: str
    process: subprocess.Popen[str]
    lines: "queue.Queue[str]"
    """What it says, both streams."""
    key: str | None

    def http(self, **settings: Any) -> httpx.Client:
        headers = {"authorization": f"Bearer {self.key}"} if self.key else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=120, trust_env=False, **settings)

    def said(self) -> list[str]:
        return list(self.lines.queue)

    def end(self) -> int:
        """SIGTERM, and the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(120)
        finally:
            if self.process.poll() is None:
                self.process.kill()


@contextmanager
def running(
    checkpoints: dict[str, str], *, key: str | None = KEY, config: Path | None = None, **settings: Any
) -> Iterator[Service]:
    """Start `python -m serve` and wait until it says that it serves."""
    port = free_port()
    command = [sys.executable, "-m", "serve", "--port", str(port), *(["--config", str(config)] if config else [])]
    for name, place in checkpoints.items():
        command += ["--checkpoint", f"{name}={place}"]
    for name, value in settings.items():
        command += ["--set", f"{name}={yaml.safe_dump(value, default_flow_style=True).removesuffix('...')}".strip()]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    environment |= {"PYTHONPATH": str(ROOT)} | ({"HUBERT_ECG_API_KEYS": f"tests:{key}"} if key else {})
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    lines: queue.Queue[str] = queue.Queue()
    service = Service(url=f"http://127.0.0.1:{port}", process=process, lines=lines, key=key)
    serving = threading.Event()
    threading.Thread(target=_listen, args=(process, lines, serving), daemon=True).start()
    try:
        _await(serving, service)
        yield service
    finally:
        service.end()


def _listen(process: subprocess.Popen[str], lines: "queue.Queue[str]", serving: threading.Event) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        lines.put(line)
        if line.startswith("serving "):
            serving.set()
    serving.set()  # it has ended; whoever waits looks


def _await(serving: threading.Event, service: Service) -> None:
    if not serving.wait(START_S) or not any(line.startswith("serving ") for line in service.said()):
        raise RuntimeError("the service did not start:\n" + "".join(service.said()))
