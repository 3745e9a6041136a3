"""The model deployment: processes that hold checkpoints and answer batches of prepared recordings."""

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from ray import serve

from hubert_ecg.ecg.preprocess import Waveform

if TYPE_CHECKING:
    from hubert_ecg.predictor import Predictor
    from hubert_ecg.predictor.explain import Explanation

MODELS_PER_REPLICA = 8
"""Checkpoints that a process keeps loaded; the one not used for longest makes way."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Scores:
    """What the model says of one recording."""

    probabilities: np.ndarray
    """[label] float32, calibrated if the checkpoint is."""
    spread: np.ndarray
    """[label] float32: standard deviation over crops; NaN for a recording of one crop."""
    batch_size: int
    """Recordings that went through the model together."""
    process: str
    """The process that did it."""
    served: int
    """Recordings that have gone through it, these among them."""


class Models:
    """One process of the deployment. Every request names its checkpoint, and batches hold requests of one only."""

    def __init__(
        self, checkpoints: dict[str, str], *, num_crops: int, threads: int, max_batch_size: int, batch_wait_s: float
    ) -> None:
        import torch

        torch.set_num_threads(threads)
        self.checkpoints, self.num_crops = checkpoints, num_crops
        self.name, self.served = serve.get_replica_context().replica_id.unique_id, 0
        self.predict.set_max_batch_size(max_batch_size)
        self.predict.set_batch_wait_timeout_s(batch_wait_s)

    async def reconfigure(self, _: Any) -> None:
        """Called once before the first request: load the checkpoints, so that none waits for it."""
        for name in list(self.checkpoints)[:MODELS_PER_REPLICA]:
            await self.loaded(name)

    @serve.multiplexed(max_num_models_per_replica=MODELS_PER_REPLICA)
    async def loaded(self, name: str) -> "Predictor":
        """The checkpoint of that name, loaded when it is first asked for."""
        return await asyncio.to_thread(_load, self.checkpoints[name], self.num_crops)

    @serve.batch
    async def predict(self, waveforms: list[Waveform]) -> list[Scores]:
        """Scores of prepared recordings; Serve hands over those that wait for one checkpoint."""
        predictor = await self.loaded(serve.get_multiplexed_model_id())
        # In a thread, so that this process goes on taking requests, and notices when one is cancelled.
        outputs = await asyncio.to_thread(predictor.apply, *_columns(waveforms))
        self.served += len(waveforms)
        return [
            Scores(
                probabilities=probabilities,
                spread=spread,
                batch_size=len(waveforms),
                process=self.name,
                served=self.served,
            )
            for probabilities, spread in zip(outputs.probabilities, outputs.spread, strict=True)
        ]

    async def ping(self) -> None:
        """Answer, once the checkpoint of the request is loaded."""
        await self.loaded(serve.get_multiplexed_model_id())

    async def embed(self, waveform: Waveform) -> np.ndarray:
        """[hidden] float32: the mean over tokens and crops of the last layer."""
        predictor = await self.loaded(serve.get_multiplexed_model_id())
        return await asyncio.to_thread(_embedding, predictor, waveform)

    async def explain(self, waveform: Waveform, label: str) -> "Explanation":
        """Which samples speak for a label; takes about as long as a hundred predictions."""
        from hubert_ecg.predictor.explain import Explainer

        explainer = Explainer(await self.loaded(serve.get_multiplexed_model_id()))
        return await asyncio.to_thread(
            explainer.explain_waveform, waveform.counts, label, waveform.valid_samples, waveform.attended_s
        )


def _load(place: str, num_crops: int) -> "Predictor":
    from hubert_ecg.predictor import CropConfig, Predictor

    return Predictor.load(place, crops=CropConfig(num_crops=num_crops))


def _embedding(predictor: "Predictor", waveform: Waveform) -> np.ndarray:
    last = predictor.model.config.num_hidden_layers - 1
    return predictor.apply(*_columns([waveform]), layers=[last]).embeddings[last][0]


def _columns(waveforms: list[Waveform]) -> tuple[list[Any], list[Any], list[Any]]:
    return [w.counts for w in waveforms], [w.valid_samples for w in waveforms], [w.attended_s for w in waveforms]
