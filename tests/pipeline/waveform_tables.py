"""Small waveform tables written directly (smooth noise, any lengths and paddings), and small models for them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from hubert_ecg.ecg.preprocess import PreprocessConfig
from hubert_ecg.models import HubertECG, model_config
from hubert_ecg.storage import tables
from hubert_ecg.storage.artifact import Manifest, StageOutput, begin, write_part
from hubert_ecg.storage.checkpoint import CheckpointInfo, save_checkpoint


@dataclass(frozen=True, kw_only=True, eq=False)
class Row:
    """What a test says of one recording."""

    record_id: str
    counts: np.ndarray
    """[12, time] int16."""
    split: str = "train"
    valid_samples: tuple[int, ...] | None = None
    """Recorded samples per lead; None for all."""
    attended_s: tuple[float, ...] | None = None
    """Starts and ends, s."""


def noise(seed: int, num_samples: int = 1000) -> np.ndarray:
    """[12, time] int16: smooth noise between -1 and 1 in counts."""
    walk = np.random.default_rng(seed).standard_normal((12, num_samples)).cumsum(axis=1)
    walk -= walk.mean(axis=1, keepdims=True)
    return np.rint(walk / np.abs(walk).max(axis=1, keepdims=True) * 16384).astype(np.int16)


def noisy_rows(count: int) -> list[Row]:
    """Recordings of 10 s, two of three for training, one for testing."""
    return [Row(record_id=f"r{i:03d}", counts=noise(i), split="test" if i % 3 == 2 else "train") for i in range(count)]


def write_waveforms(
    directory: str, rows: Sequence[Row], *, shards: int = 1, preprocess: PreprocessConfig | None = None
) -> Manifest:
    """The rows as the output of jobs.prepare, cut into shards."""
    config = {"preprocess": (preprocess or PreprocessConfig()).to_dict()}
    output = begin(directory, verb="prepare", config=config, inputs={})
    assert isinstance(output, StageOutput)
    splits: dict[str, int] = {}
    for part, numbers in enumerate(np.array_split(np.arange(len(rows)), shards)):
        of_part = [rows[number] for number in numbers]
        table = _table(of_part)
        names = [row.split for row in of_part]
        counted = {name: names.count(name) for name in set(names)}
        splits = {name: splits.get(name, 0) + counted.get(name, 0) for name in {*splits, *counted}}
        write_part(directory, part, table, splits=counted)
    return output.finish(parts=shards, facts={"splits": splits, "label_sets": {}})


def _table(rows: Sequence[Row]) -> pa.Table:
    schema = tables.waveform_schema({})
    valid = [row.valid_samples or (row.counts.shape[1],) * 12 for row in rows]
    columns = {
        "record_id": pa.array([row.record_id for row in rows], pa.string()),
        "split": pa.array([row.split for row in rows], pa.string()),
        "counts": tables.to_list_array([row.counts.reshape(-1) for row in rows], pa.int16()),
        "valid_samples": tables.to_fixed_list_array(np.array(valid, np.int32).reshape(-1, 12), pa.int32()),
        "offset_mv": tables.to_fixed_list_array(np.zeros((len(rows), 12), np.float32), pa.float32()),
        "gain_mv": tables.to_fixed_list_array(np.ones((len(rows), 12), np.float32), pa.float32()),
        "attended_s": pa.array([row.attended_s for row in rows], pa.list_(pa.float32())),
    }
    return pa.table(
        [columns.get(field.name, pa.nulls(len(rows), field.type)) for field in schema],
        schema=schema,
    )


def save_model(directory: Path, **overrides: object) -> HubertECG:
    """A checkpoint of a model with random weights, 32 wide, of three layers."""
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 32, "num_hidden_layers": 3}
    model = HubertECG(model_config("tiny", vocab_sizes=(5,), **(shape | overrides))).eval()
    save_checkpoint(directory, model, CheckpointInfo(kind="ssl", preprocessing=PreprocessConfig().to_dict()))
    return model


def exploding_checkpoint(directory: Path) -> None:
    """Of a moving signal, what leaves this model's convolutions is too large for float32; of a flat one it is zero."""
    model = save_model(directory)
    with torch.no_grad():
        for block in model.feature_extractor.conv_layers[1:]:
            block.conv.weight.mul_(1e12)
    save_checkpoint(directory, model, CheckpointInfo(kind="ssl", preprocessing=PreprocessConfig().to_dict()))
