"""The predictor over rows of waveform tables, in the same batches for every verb: evaluate, predict and calibrate.

On one device, in one precision and with one number of threads, equal batches give equal probabilities to the last bit.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from hubert_ecg.predictor import CropConfig, Outputs, Predictor
from hubert_ecg.storage import tables
from hubert_ecg.training.examples import spans_of

RECORDINGS_PER_BATCH = 32


class TablePredictor:
    """A checkpoint's predictor, built once per worker, and its application to the rows of a table."""

    COLUMNS = ("counts", "valid_samples", "attended_s")
    """The columns of a waveform table that it reads."""

    def __init__(self, checkpoint: str, crops: CropConfig, *, layers: Sequence[int] = ()) -> None:
        self.predictor = Predictor.load(checkpoint, crops=crops)
        self.layers = tuple(layers)

    def __call__(self, table: pa.Table) -> Outputs:
        """What the classifier says of the rows of a table, none or more, in their order."""
        starts = range(0, len(table), RECORDINGS_PER_BATCH)
        batches = [self._batch(table.slice(start, RECORDINGS_PER_BATCH)) for start in starts]
        if not batches:
            return self._nothing()
        return Outputs(
            probabilities=np.concatenate([batch.probabilities for batch in batches]),
            raw=np.concatenate([batch.raw for batch in batches]),
            spread=np.concatenate([batch.spread for batch in batches]),
            embeddings={layer: np.concatenate([batch.embeddings[layer] for batch in batches]) for layer in self.layers},
        )

    def _batch(self, table: pa.Table) -> Outputs:
        return self.predictor.apply(
            [row.reshape(12, -1) for row in tables.list_rows(table["counts"])],
            list(tables.stack_rows(table["valid_samples"])),
            spans_of(table["attended_s"]),
            layers=self.layers,
        )

    def _nothing(self) -> Outputs:
        empty = np.zeros((0, len(self.predictor.labels)), np.float32)
        config = self.predictor.model.config
        embeddings = {layer: np.zeros((0, config.layer_size(layer)), np.float32) for layer in self.layers}
        return Outputs(probabilities=empty, raw=empty, spread=empty, embeddings=embeddings)
