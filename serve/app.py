"""The service as a Ray Serve application: `serve run serve.app:build_app checkpoints=...`, or `python -m serve`."""

from typing import Any

from ray import serve
from ray.serve import Application

from serve.api import make_api
from serve.catalogue import Catalogue
from serve.ingress import Ingress
from serve.keys import KeyRing
from serve.model import Models
from serve.settings import ServiceSettings

QUIET = {"enable_access_log": False}
"""Requests are counted, not logged one by one."""


def build_app(settings: ServiceSettings) -> Application:
    """The application: one ingress process in front of the model's replicas.

    Raises CheckpointError here, before anything starts, for a checkpoint that cannot be served.
    """
    Catalogue(settings.checkpoints)
    # Keys of the environment are looked up here, by whoever deploys: a cluster's processes have another environment.
    settings = settings.model_copy(update={"key_hashes": dict(KeyRing.of(settings.key_hashes).hashes)})
    models = _deployment(Models, settings).bind(
        settings.checkpoints,
        num_crops=settings.num_crops,
        threads=settings.threads_per_replica or max(1, round(settings.cpus_per_replica)),
        max_batch_size=settings.max_batch_size,
        batch_wait_s=settings.batch_wait_ms / 1000,
    )
    front = serve.deployment(serve.ingress(make_api(settings))(Ingress))
    options: dict[str, Any] = {
        "name": "Ingress",
        # One process counts who waits, limits rates and holds the metrics. It computes little: see benchmarks/serve.py.
        "num_replicas": 1,
        "ray_actor_options": {"num_cpus": 0},
        "max_ongoing_requests": 2 * settings.max_waiting + 64,
        "graceful_shutdown_timeout_s": settings.drain_s,
        "max_surge_percent": 100,
        "logging_config": QUIET,
    }
    return front.options(**options).bind(models, settings)


def _deployment(kind: type, settings: ServiceSettings) -> Any:
    """The model's deployment: batches, replicas by load, and a queue that ends."""
    scaling: dict[str, Any] = {"num_replicas": settings.min_replicas}
    if settings.max_replicas > settings.min_replicas:
        scaling = {
            "autoscaling_config": {
                "min_replicas": settings.min_replicas,
                "max_replicas": settings.max_replicas,
                "target_ongoing_requests": settings.max_batch_size,
            }
        }
    return serve.deployment(kind).options(
        name="Models",
        ray_actor_options={"num_cpus": settings.cpus_per_replica, "num_gpus": settings.gpus_per_replica},
        # All that wait do so in the replica, in the order in which they came. Those that a full replica leaves waiting
        # outside are overtaken by newcomers there, without end as long as there are newcomers.
        max_ongoing_requests=settings.max_waiting,
        max_queued_requests=settings.max_waiting,
        user_config={},
        graceful_shutdown_timeout_s=settings.drain_s,
        health_check_period_s=2,
        health_check_timeout_s=10,
        max_surge_percent=100,
        logging_config=QUIET,
        **scaling,
    )
