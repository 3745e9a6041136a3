"""One shard of probe: the embeddings of its recordings, of every layer asked for, with their labels."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from hubert_ecg.pipeline.predict_shard import RECORDINGS_PER_BATCH
from hubert_ecg.predictor import CropConfig
from hubert_ecg.predictor.embedding import Embedder
from hubert_ecg.storage import files, tables
from hubert_ecg.storage.artifact import Manifest, write_part
from hubert_ecg.training.examples import spans_of
from hubert_ecg.training.targets import LabelTargets

TARGET = "target"


def layer_column(layer: int) -> str:
    """The column with the output of an encoder layer."""
    return f"embedding.layer_{layer}"


class EmbedShard:
    """Embeds and writes the chosen recordings of one shard per call."""

    def __init__(
        self,
        directory: str,
        waveforms: Manifest,
        checkpoint: str,
        targets: LabelTargets,
        crops: CropConfig,
        layers: Sequence[int],
    ) -> None:
        self.directory, self.waveforms, self.targets, self.layers = directory, waveforms, targets, list(layers)
        self.embedder = Embedder.load(checkpoint, crops=crops)

    def __call__(self, task: dict[str, Any]) -> dict[str, Any]:
        start = time.monotonic()
        answers = tables.LABEL_PREFIX + self.targets.label_set
        columns = ["record_id", "patient_id", "split", "counts", "valid_samples", "attended_s", answers]
        table = files.read_table(self.waveforms.part(task["part"]), columns).take(pa.array(task["rows"], pa.int64()))
        batches = [
            self._embed(table.slice(first, RECORDINGS_PER_BATCH))
            for first in range(0, len(table), RECORDINGS_PER_BATCH)
        ]
        pairs = zip(table[answers].to_pylist(), table["record_id"].to_pylist(), strict=True)
        truth = [self._truth(*pair) for pair in pairs]
        config = self.embedder.encoder.config
        found = {name: table[name] for name in ("record_id", "patient_id", "split")}
        found[TARGET] = pa.array(truth, pa.list_(pa.bool_(), len(self.targets.labels)))
        for layer in self.layers:
            empty = np.zeros((0, config.layer_size(layer)), np.float32)
            vectors = np.concatenate([empty, *(batch[layer] for batch in batches)])
            found[layer_column(layer)] = tables.to_fixed_list_array(vectors, pa.float32())
        seconds = round(time.monotonic() - start, 3)
        receipt = write_part(self.directory, task["part"], pa.table(found), seconds=seconds)
        return {"part": receipt["part"], "rows": receipt["rows"]}

    def _embed(self, table: pa.Table) -> dict[int, np.ndarray]:
        return self.embedder.embed(
            [row.reshape(12, -1) for row in tables.list_rows(table["counts"])],
            list(tables.stack_rows(table["valid_samples"])),
            spans_of(table["attended_s"]),
            layers=self.layers,
        )

    def _truth(self, answer: list[Any] | None, record_id: str) -> np.ndarray:
        """[label] bool."""
        target = self.targets.target(answer, record_id)
        if self.targets.task == "multi_class":
            target = np.eye(len(self.targets.labels))[target[0]]
        return target.astype(bool)
