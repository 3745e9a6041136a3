"""Bring the application up, or let another take its place, in a way that signals can end."""

import logging
import queue
import signal
import time
from typing import Any

from hubert_ecg.pipeline.ray_cluster import cluster_limits
from serve.placement import check_roll_over, check_room
from serve.settings import ServiceSettings

log = logging.getLogger("serve")

APPLICATION, MODELS = "hubert-ecg", "Models"
POLL_S, REMIND_S = 0.2, 30.0
Signals = queue.SimpleQueue[int]


def check_place(settings: ServiceSettings) -> None:
    """ResourceError unless the Ray that is connected has room for the model's processes, or may grow to have it."""
    import ray

    nodes: list[dict[str, float]] = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if limits := cluster_limits():
        nodes = [{name: float(max(count, ray.cluster_resources().get(name, 0))) for name, count in limits.items()}]
    fit = check_room(settings, nodes)
    if fit < settings.max_replicas:
        log.warning("max_replicas is %d, but no more than %d will find room here", settings.max_replicas, fit)


def deploy(settings: ServiceSettings, signals: Signals, *, before: ServiceSettings | None = None) -> int | None:
    """Start the application, or take the place of the one with the settings `before`; returns None when it answers.

    A signal to end that comes first is returned at once. Raises ResourceError for a roll-over without room, and
    RuntimeError for what cannot be deployed.
    """
    import ray
    from ray import serve
    from ray.serve import RunTarget

    from serve.app import build_app

    if before is not None:
        check_roll_over(before, settings, _running(), ray.available_resources())
    serve.run_many(
        [RunTarget(target=build_app(settings), name=APPLICATION, route_prefix="/")],
        wait_for_applications_running=False,
    )
    return _answering(signals)


def _answering(signals: Signals) -> int | None:
    """None when the application answers, or the signal to end that came before; others are kept for afterwards."""
    kept: list[int] = []
    reminded = time.monotonic()
    try:
        while (status := _status()).status != "RUNNING":
            if status.status == "DEPLOY_FAILED":
                raise RuntimeError(f"the service does not start: {status.message}")
            if time.monotonic() - reminded > REMIND_S:
                reminded = time.monotonic()
                log.warning("still waiting for the model's processes: %s", status.deployments[MODELS].message)
            try:
                received = signals.get(timeout=POLL_S)
            except queue.Empty:
                continue
            if received != signal.SIGHUP:
                return received
            kept.append(received)
        return None
    finally:
        for received in kept[:1]:
            signals.put(received)


def _status() -> Any:
    from ray import serve

    return serve.status().applications[APPLICATION]


def _running() -> int:
    """Model processes that are there."""
    return int(_status().deployments[MODELS].replica_states.get("RUNNING", 0))
