"""The front door: HTTP in, recordings prepared, the model asked, answers out."""

import asyncio
import json
import math
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError
from ray.serve.handle import DeploymentHandle
from starlette.requests import Request
from starlette.responses import Response

from hubert_ecg.storage.artifact import code_version
from serve.answers import Prepared, answer, explained, prepare
from serve.bodies import Limits
from serve.catalogue import Catalogue, Entry
from serve.keys import KeyRing, RateLimit
from serve.problems import Refusal
from serve.requests import Asked, understand
from serve.schemas import (
    EmbedRequest,
    EmbedResponse,
    ExplainRequest,
    ExplainResponse,
    ExplanationOut,
    ModelsResponse,
    Options,
    PredictionOut,
    PredictRequest,
    PredictResponse,
    Timings,
)
from serve.settings import ServiceSettings
from serve.telemetry import CONTENT_TYPE, of_this_process

TRIES = 3
"""Times that a recording is handed to the model when the process that had it dies: to predict twice does no harm."""


class Ingress:
    """One process; its state is who waits, who has called how often, and the metrics."""

    def __init__(self, models: DeploymentHandle, settings: ServiceSettings) -> None:
        self.models, self.settings = models, settings
        self.catalogue = Catalogue(settings.checkpoints)
        self.keys = KeyRing(hashes=settings.key_hashes)
        self.rate = RateLimit(per_minute=settings.rate_limit_per_minute)
        self.telemetry = of_this_process()
        self.telemetry.prevalence = {name: entry.prevalence for name, entry in self.catalogue.entries.items()}
        self.limits = Limits(
            max_recordings=min(settings.max_recordings, settings.max_waiting),
            max_duration_s=settings.max_duration_s,
            max_bytes=4 * settings.max_body_bytes,
        )
        self.waiting = 0
        self.draining = False

    async def predict(self, request: Request) -> Response:
        """Probabilities of one recording or a batch: as JSON numbers, a raw .npy, or files of any known format."""
        began = time.perf_counter()
        self._admit(request)
        asked = await understand(request, PredictRequest, self.limits)
        entry = self.catalogue.choose(asked.options.model)
        self._check_explained(asked, entry, field="explain")
        read = time.perf_counter()
        async with self._places(len(asked.received)):
            prepared = await self._prepare(asked, entry, measurements=asked.options.measurements)
            ready = time.perf_counter()
            predictions = await self._ask(prepared, entry, asked.options)
            if asked.options.explain:
                explanations = await self._explain(prepared, entry, asked.options.explain)
                for prediction, explanation in zip(predictions, explanations, strict=True):
                    prediction.explanation = explanation
        done = time.perf_counter()
        self._note(entry, predictions)
        timings = self._timed(began, read, ready, done)
        response = PredictResponse(
            model=entry.name,
            fingerprint=entry.fingerprint,
            task=entry.info.task or "multi_label",
            predictions=predictions,
            timings_ms=timings,
        )
        return _json(response)

    async def embed(self, request: Request) -> Response:
        """One vector per recording: the mean over tokens and crops of the last encoder layer."""
        self._admit(request)
        asked = await understand(request, EmbedRequest, self.limits)
        entry = self.catalogue.choose(asked.options.model)
        async with self._places(len(asked.received)):
            prepared = await self._prepare(asked, entry, measurements=False)
            rows = await asyncio.gather(*(self._call("embed", entry, each.waveform) for each in prepared))
        embeddings = [np.asarray(row, np.float64).tolist() for row in rows]
        return _json(EmbedResponse(model=entry.name, fingerprint=entry.fingerprint, embeddings=embeddings))

    async def explain(self, request: Request) -> Response:
        """Which samples of which lead speak for a label, by integrated gradients."""
        self._admit(request)
        asked = await understand(request, ExplainRequest, self.limits)
        entry = self.catalogue.choose(asked.options.model)
        self._check_explained(asked, entry, field="label")
        async with self._places(len(asked.received)):
            prepared = await self._prepare(asked, entry, measurements=False)
            explanations = await self._explain(prepared, entry, str(asked.options.explain))
        return _json(ExplainResponse(model=entry.name, fingerprint=entry.fingerprint, explanations=explanations))

    async def models_there(self, request: Request) -> Response:
        """The checkpoints of this service."""
        self._admit(request)
        return _json(ModelsResponse(models=self.catalogue.described()))

    async def health(self, _: Request) -> Response:
        """Whether this process answers."""
        return Response(b'{"status": "ok"}', media_type="application/json")

    async def ready(self, _: Request) -> Response:
        """Whether the model answers too."""
        entry = self.catalogue.choose(None)
        try:
            async with asyncio.timeout(5):
                await self._call("ping", entry)
        except Exception as error:  # whatever it is, the model does not answer
            raise Refusal(
                503, "not ready", "the model does not answer yet; try again", headers=self._later()
            ) from error
        return Response(b'{"status": "ready"}', media_type="application/json")

    async def version(self, _: Request) -> Response:
        """Version of the code."""
        return Response(json.dumps(code_version()), media_type="application/json")

    async def metrics(self, _: Request) -> Response:
        """Metrics in Prometheus' text form."""
        return Response(self.telemetry.exposition(), media_type=CONTENT_TYPE)

    async def drain(self) -> None:
        """Refuse what is new, and return when all that was accepted is answered."""
        self.draining = True
        while self.waiting:
            await asyncio.sleep(0.05)

    def _admit(self, request: Request) -> None:
        """Check key, rate and room, before the body is read. Raises a Refusal."""
        caller = self.keys.caller(request.headers.get("authorization"))
        if caller is None:
            raise Refusal(
                401,
                "bad key",
                "authorization: wanted 'Bearer KEY' with a known key; ask whoever runs this service for one",
                field="authorization",
                headers={"www-authenticate": "Bearer"},
            )
        wait_s = self.rate.wait_s(caller)
        if wait_s:
            raise Refusal(
                429,
                "too many requests",
                f"wanted at most {self.settings.rate_limit_per_minute} requests per minute; wait {wait_s:.1f} s",
                headers={"retry-after": str(math.ceil(wait_s))},
            )
        self._check_room(1)

    def _check_room(self, count: int) -> None:
        if self.draining:
            raise Refusal(503, "ending", "this service is about to end; try again later", headers=self._later())
        if self.waiting + count > self.settings.max_waiting:
            raise Refusal(
                503,
                "overloaded",
                f"{self.waiting} recordings are waiting, wanted at most {self.settings.max_waiting}; try again later",
                headers=self._later(),
            )

    def _later(self) -> dict[str, str]:
        return {"retry-after": str(self.settings.retry_after_s)}

    @asynccontextmanager
    async def _places(self, count: int) -> AsyncIterator[None]:
        """Hold places of the queue for some recordings, until they are answered or their sender has gone."""
        self._check_room(count)
        self.waiting += count
        self.telemetry.waiting.set(self.waiting)
        try:
            yield
        finally:
            self.waiting -= count
            self.telemetry.waiting.set(self.waiting)

    async def _prepare(self, asked: Asked, entry: Entry, *, measurements: bool) -> list[Prepared]:
        return await asyncio.to_thread(
            lambda: [
                prepare(received, index, entry.preprocess, measurements=measurements)
                for index, received in enumerate(asked.received)
            ]
        )

    async def _ask(self, prepared: Sequence[Prepared], entry: Entry, options: Options) -> list[PredictionOut]:
        scores = await asyncio.gather(*(self._call("predict", entry, each.waveform) for each in prepared))
        for each in scores:
            self.telemetry.batches.observe(each.batch_size)
            self.telemetry.recordings.labels(each.process).set(each.served)
        return [
            answer(index, each, found, entry, uncertainty=options.uncertainty)
            for index, (each, found) in enumerate(zip(prepared, scores, strict=True))
        ]

    def _check_explained(self, asked: Asked, entry: Entry, *, field: str) -> None:
        label, most = asked.options.explain, self.settings.max_explained
        if label is None:
            return
        if label not in entry.info.label_names:
            wanted = ", ".join(entry.info.label_names)
            raise Refusal(422, "unknown label", f"{field}: wanted one of {wanted}, got {label[:100]}", field=field)
        if len(asked.received) > most:
            message = f"{field}: wanted at most {most} recordings to explain at once, got {len(asked.received)}"
            raise Refusal(413, "too many recordings", f"{message}; send several requests", field=field)

    async def _explain(self, prepared: Sequence[Prepared], entry: Entry, label: str) -> list[ExplanationOut]:
        found = await asyncio.gather(*(self._call("explain", entry, each.waveform, label) for each in prepared))
        return [explained(each) for each in found]

    async def _call(self, method: str, entry: Entry, *arguments: Any) -> Any:
        """Call the model for a checkpoint; again if the process that had the call dies."""
        handle = self.models.options(multiplexed_model_id=entry.name)
        for left in reversed(range(TRIES)):
            try:
                return await getattr(handle, method).remote(*arguments)
            except RayActorError:
                if not left:
                    raise Refusal(
                        503, "model lost", "the model's process died; try again", headers=self._later()
                    ) from None
            except BackPressureError:
                raise Refusal(503, "overloaded", "too many recordings are waiting", headers=self._later()) from None
        raise AssertionError("unreachable")

    def _note(self, entry: Entry, predictions: Sequence[PredictionOut]) -> None:
        for prediction in predictions:
            positive = [label.label for label in prediction.labels if label.positive]
            self.telemetry.predicted(entry.name, entry.info.label_names, positive)

    def _timed(self, began: float, read: float, ready: float, done: float) -> Timings:
        seconds = {"read": read - began, "prepare": ready - read, "model": done - ready, "total": done - began}
        for stage, value in seconds.items():
            self.telemetry.latency.labels(stage).observe(value)
        return Timings(**{stage: round(1000 * value, 3) for stage, value in seconds.items()})


def _json(model: Any) -> Response:
    return Response(model.model_dump_json(), media_type="application/json")
