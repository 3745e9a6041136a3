"""Feature and waveform tables with given rows, as jobs.dump and jobs.prepare would leave them, cut into any shards."""

from typing import Any

import numpy as np
import pyarrow as pa

from hubert_ecg.storage import tables
from hubert_ecg.storage.artifact import Manifest, StageOutput, begin, write_part

DESCRIPTOR = {"name": "mfcc", "sampling_rate_hz": 100}


def directions(num_rows: int, dim: int, num_blobs: int, *, seed: int = 0, spread: float = 0.5) -> np.ndarray:
    """[row, dim] float32 around `num_blobs` points, of very different length."""
    rng = np.random.default_rng(seed)
    middles = rng.standard_normal((num_blobs, dim)) + 1
    rows = middles[rng.integers(num_blobs, size=num_rows)] + spread * rng.standard_normal((num_rows, dim))
    return (rows * rng.uniform(1, 30, (num_rows, 1))).astype(np.float32)


def write_features(
    directory: str,
    rows: np.ndarray,
    *,
    tokens: int,
    shards: int,
    recorded: np.ndarray | None = None,
    descriptor: dict[str, Any] | None = None,
    inputs: dict[str, str] | None = None,
) -> Manifest:
    """A feature table of `rows` [recording * token, dim], recording r being called r<r>; `recorded` [recording * token]
    marks the tokens that were."""
    dim = rows.shape[1]
    by_recording = rows.reshape(-1, tokens * dim)
    masks = np.ones((len(by_recording), tokens), bool) if recorded is None else recorded.reshape(-1, tokens)
    described = descriptor or DESCRIPTOR
    output = begin(directory, verb="dump", config={"descriptor": described}, inputs=inputs or {"waveforms": "w"})
    assert isinstance(output, StageOutput)
    for part, numbers in enumerate(np.array_split(np.arange(len(by_recording)), shards)):
        table = pa.table(
            [
                pa.array([f"r{number}" for number in numbers], pa.string()),
                pa.array(np.zeros(len(numbers)), pa.float32()),
                tables.to_fixed_list_array(by_recording[numbers], pa.float32()),
                # Null where all tokens were recorded.
                pa.array([None if mask.all() else mask.tolist() for mask in masks[numbers]], pa.list_(pa.bool_())),
            ],
            schema=tables.feature_schema(tokens * dim),
        )
        write_part(output.directory, part, table)
    return output.finish(parts=shards, facts={"descriptor": described, "dim": dim, "tokens_per_crop": tokens})


def write_labels(
    directory: str, labels: list[list[str]], *, shards: int, names: list[str], none_is_negative: bool = False
) -> Manifest:
    """As much of a waveform table as clusters are compared with: recordings r0, r1, ... and their labels."""
    output = begin(directory, verb="prepare", config={}, inputs={})
    assert isinstance(output, StageOutput)
    for part, numbers in enumerate(np.array_split(np.arange(len(labels)), shards)):
        table = pa.table(
            {
                "record_id": [f"r{number}" for number in numbers],
                "labels.kind": pa.array([labels[number] for number in numbers], pa.list_(pa.string())),
            }
        )
        write_part(output.directory, part, table)
    described = {"name": "kind", "labels": names, "task": "multi_label", "none_is_negative": none_is_negative}
    return output.finish(parts=shards, facts={"label_sets": {"kind": described}})
