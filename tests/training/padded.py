"""A small waveform table with short recordings, missing leads and beats, and codes for it, written by hand."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa

from hubert_ecg.datasets.source import LabelSet
from hubert_ecg.ecg.preprocess import PreprocessConfig, attention_mask, token_mask
from hubert_ecg.storage import tables
from hubert_ecg.storage.artifact import Manifest, StageOutput, begin, write_part

PREPROCESS = PreprocessConfig(min_duration_s=2.0, missing_leads="zero")
ROWS, PARTS, TOKENS = 5, 3, 93
STARTS = [0.0, 2.5, 5.0]
VALID = np.array([[1000] * 12, [320] * 12, [1000] * 6 + [0] * 6, [1000] * 12, [800] * 3 + [1000] * 9], np.int32)
SPANS = [None, None, None, [[0.2, 0.7], [3.0, 3.6], [4.1, 4.6], [6.0, 6.8], [8.1, 9.0]], None]
CLASSES = [["NORM"], ["AFIB"], ["NORM"], ["CRBBB"], ["AFIB"]]
AGES = [[61.0], [35.5], [float("nan")], [80.0], None]


def write_waveforms(
    place: Path,
    *,
    rubbish: int = 0,
    splits: Sequence[str] = ("train",) * PARTS,
    classes: Sequence[list[str]] = CLASSES,
) -> Manifest:
    """A table W of 15 recordings; `rubbish` seeds what stands where nothing was recorded; one split per shard."""
    output = begin(str(place), verb="prepare", config={"preprocess": PREPROCESS.to_dict()}, inputs={})
    assert isinstance(output, StageOutput)
    noise, other = np.random.default_rng(7), np.random.default_rng([7, rubbish])
    for part in range(PARTS):
        recorded = np.arange(1000) < VALID[..., None]
        counts = np.where(recorded, noise.integers(-9000, 9000, (ROWS, 12, 1000)), other.integers(-9000, 9000, 1000))
        counts = [row[:, :500] if row_valid.max() < 500 else row for row, row_valid in zip(counts, VALID, strict=True)]
        columns = {
            "record_id": [f"{part}-{row}" for row in range(ROWS)],
            "patient_id": pa.nulls(ROWS, pa.string()),
            "age_years": pa.nulls(ROWS, pa.float32()),
            "sex": pa.nulls(ROWS, pa.string()),
            "findings": pa.array([[]] * ROWS, pa.list_(tables.FINDING)),
            "offset_mv": tables.to_fixed_list_array(np.zeros((ROWS, 12), np.float32), pa.float32()),
            "gain_mv": tables.to_fixed_list_array(np.ones((ROWS, 12), np.float32), pa.float32()),
            "split": [splits[part]] * ROWS,
            "tags": [[]] * ROWS,
            "counts": tables.to_list_array([row.reshape(-1).astype(np.int16) for row in counts], pa.int16()),
            "valid_samples": tables.to_fixed_list_array(VALID, pa.int32()),
            "attended_s": pa.array([None if s is None else np.ravel(s) for s in SPANS], pa.list_(pa.float32())),
            "labels.classes": pa.array(classes, pa.list_(pa.string())),
            "labels.age": pa.array(AGES, pa.list_(pa.float32())),
        }
        write_part(output.directory, part, pa.table(columns), splits={splits[part]: ROWS})
    label_sets = [
        LabelSet(name="classes", labels=("AFIB", "CRBBB", "NORM"), task="multi_class"),
        LabelSet(name="age", labels=("age",), task="regression"),
    ]
    return output.finish(
        parts=PARTS,
        facts={
            "label_sets": {s.name: asdict(s) for s in label_sets},
            "splits": {s: ROWS * splits.count(s) for s in splits},
            "tags": {},
        },
    )


def write_codes(place: Path, waveforms: Manifest) -> Manifest:
    """Codes of two codebooks of 7 clusters; NO_CODE for tokens that are not attended to."""
    output = begin(str(place), verb="label", config={}, inputs={"waveforms": waveforms.fingerprint})
    assert isinstance(output, StageOutput)
    rng = np.random.default_rng(3)
    for part in range(PARTS):
        starts = [STARTS if valid.max() == 1000 else STARTS[:1] for valid in VALID]
        columns = {
            "record_id": [f"{part}-{row}" for row in range(ROWS)],
            "crop_starts_s": tables.to_list_array([np.array(s, np.float32) for s in starts], pa.float32()),
        }
        for name in ("a", "b"):
            rows = []
            for row, own in enumerate(starts):
                attended = np.concatenate([attended_tokens(row, start) for start in own])
                rows.append(np.where(attended, rng.integers(0, 7, len(attended)), tables.NO_CODE).astype(np.uint16))
            columns[f"codes.{name}"] = tables.to_list_array(rows, pa.uint16())
        write_part(output.directory, part, pa.table(columns))
    books = {name: {"num_clusters": 7} for name in ("a", "b")}
    return output.finish(parts=PARTS, facts={"codebooks": books, "tokens_per_crop": TOKENS})


def attended_tokens(row: int, start_s: float) -> np.ndarray:
    """[token] bool of a recording's crop."""
    spans = None if SPANS[row] is None else np.array(SPANS[row], np.float32)
    return token_mask(attention_mask(VALID[row], spans, start_s, PREPROCESS), PREPROCESS)
