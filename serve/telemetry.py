"""What the service tells Prometheus: requests, latency by stage, batch sizes, refusals, and drift of its predictions.

No metric carries anything of a recording or of its sender.
"""

from collections import Counter as Counts
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

CONTENT_TYPE = CONTENT_TYPE_LATEST
PATHS = frozenset(
    {"/v1/predict", "/v1/embed", "/v1/explain", "/v1/models", "/health", "/ready", "/version", "/metrics"}
)
RECENT = 1000
"""Predictions over which the share of positives is taken."""
_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)


class Telemetry:
    """The metrics of one process. Take `of_this_process`: the middlewares and the ingress share them."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self.registry = registry
        self.requests = Counter("hubert_ecg_requests", "Answered requests.", ["path", "status"], registry=registry)
        self.refusals = Counter("hubert_ecg_refusals", "Refused requests by reason.", ["code"], registry=registry)
        self.latency = Histogram(
            "hubert_ecg_stage_seconds", "Time of a request's stages.", ["stage"], buckets=_SECONDS, registry=registry
        )
        self.batches = Histogram(
            "hubert_ecg_batch_size", "Recordings in the forward pass that a recording went through.",
            buckets=(1, 2, 4, 8, 16, 32, 64), registry=registry,
        )  # fmt: skip
        self.recordings = Gauge(
            "hubert_ecg_model_recordings", "Recordings that have gone through a model process.",
            ["process"], registry=registry,
        )  # fmt: skip
        self.waiting = Gauge("hubert_ecg_waiting", "Recordings accepted and not yet answered.", registry=registry)
        self.share = Gauge(
            "hubert_ecg_positive_share", f"Share of positives among the last {RECENT} predictions.",
            ["model", "label"], registry=registry,
        )  # fmt: skip
        self.drift = Gauge(
            "hubert_ecg_drift", "That share less the label's share of the training recordings.",
            ["model", "label"], registry=registry,
        )  # fmt: skip
        self.prevalence: dict[str, Mapping[str, float]] = {}
        """Per checkpoint the share of its training recordings that carried each label."""
        self._recent: dict[str, deque[frozenset[str]]] = {}
        self._counts: dict[str, Counts[str]] = {}
        """Per checkpoint how many of those are positive for each label."""

    def predicted(self, model: str, labels: Sequence[str], positive: Iterable[str]) -> None:
        """Note the positives of one recording."""
        recent = self._recent.setdefault(model, deque(maxlen=RECENT))
        counts = self._counts.setdefault(model, Counts())
        if len(recent) == RECENT:
            counts.subtract(recent[0])
        recent.append(frozenset(positive))
        counts.update(recent[-1])
        for label in labels:
            share = counts[label] / len(recent)
            self.share.labels(model, label).set(share)
            if label in self.prevalence.get(model, {}):
                self.drift.labels(model, label).set(share - self.prevalence[model][label])

    def answered(self, path: str, status: int) -> None:
        """Note an answer. Paths that are none of ours count together: there is no end of them."""
        self.requests.labels(path if path in PATHS else "other", status).inc()

    def exposition(self) -> bytes:
        """All metrics in Prometheus' text form."""
        return generate_latest(self.registry)


@cache
def of_this_process() -> Telemetry:
    """The one set of metrics of this process."""
    return Telemetry()
