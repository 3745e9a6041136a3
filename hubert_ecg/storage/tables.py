"""The Arrow tables of waveforms, features and token labels: their columns, and the step from column to array.

Row r of part p describes the same recording in a waveform table and in every table made from it.
"""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

FINDING = pa.struct(
    [
        pa.field("kind", pa.string()),
        pa.field("severity", pa.string()),
        pa.field("detail", pa.string()),
        pa.field("lead", pa.string()),
        pa.field("start_s", pa.float32()),
        pa.field("end_s", pa.float32()),
    ]
)
"""The fields of `hubert_ecg.ecg.finding.Finding`."""

WAVEFORM_COLUMNS = {
    "record_id": pa.string(),
    "patient_id": pa.string(),
    "age_years": pa.float32(),
    "sex": pa.string(),
    "split": pa.string(),
    "fold": pa.int16(),
    "tags": pa.list_(pa.string()),
    "source_rate_hz": pa.float32(),
    # [12 * time] scaled signal, lead after lead; see Waveform for the way back to mV.
    "counts": pa.list_(pa.int16()),
    "offset_mv": pa.list_(pa.float32(), 12),
    "gain_mv": pa.list_(pa.float32(), 12),
    # Samples per lead that were recorded, counted from the start; 0 for a lead that is missing. The rest is padding.
    "valid_samples": pa.list_(pa.int32(), 12),
    # [2 * span] starts and ends in seconds of what the model may attend to; null: everything that was recorded.
    "attended_s": pa.list_(pa.float32()),
    "findings": pa.list_(FINDING),
    # What tells the same signal under two names: see datasets/duplicates.py.
    "content_hash": pa.binary(),
    "signature": pa.binary(),
}
LABEL_PREFIX = "labels."

NO_CODE = 65_535
"""Stands in a code table for a token that lies outside of what was recorded or attended to; never a cluster."""


def label_type(task: str) -> pa.DataType:
    """What a label column holds: names of the labels that apply, or for regression one number per label (NaN: none)."""
    return pa.list_(pa.float32()) if task == "regression" else pa.list_(pa.string())


def waveform_schema(label_tasks: Mapping[str, str]) -> pa.Schema:
    """`label_tasks`: name of each label set -> its task."""
    labels = {LABEL_PREFIX + name: label_type(task) for name, task in label_tasks.items()}
    return pa.schema([pa.field(name, kind) for name, kind in (WAVEFORM_COLUMNS | labels).items()])


def feature_schema(row_length: int) -> pa.Schema:
    """One row per recording and crop start: `features` holds [token, dim] flattened, `row_length` numbers.

    `token_mask` [token] is null where every token was recorded; rows of tokens that were not are zero and not to be
    used.
    """
    return pa.schema(
        [
            pa.field("record_id", pa.string()),
            pa.field("crop_start_s", pa.float32()),
            pa.field("features", pa.list_(pa.float32(), row_length)),
            pa.field("token_mask", pa.list_(pa.bool_())),
        ]
    )


def code_schema(codebooks: list[str]) -> pa.Schema:
    """One row per recording: the declared crop starts it is long enough for, and per codebook [crop, token] codes.

    A token that was not recorded or not attended to has `NO_CODE`.
    """
    codes = [pa.field(f"codes.{name}", pa.list_(pa.uint16())) for name in codebooks]
    fixed = [pa.field("record_id", pa.string()), pa.field("crop_starts_s", pa.list_(pa.float32()))]
    return pa.schema(fixed + codes)


def list_rows(column: pa.ChunkedArray) -> list[np.ndarray]:
    """The rows of a list column as arrays that share its memory."""
    rows: list[np.ndarray] = []
    for chunk in column.chunks:
        if pa.types.is_fixed_size_list(chunk.type):
            values = chunk.flatten().to_numpy(zero_copy_only=False)
            rows += list(values.reshape(len(chunk), chunk.type.list_size))
        else:
            if len(chunk) == 0:
                continue
            offsets = chunk.offsets.to_numpy()
            values = chunk.values.to_numpy(zero_copy_only=False)[offsets[0] : offsets[-1]]
            rows += np.split(values, offsets[1:-1] - offsets[0])
    return rows


def stack_rows(column: pa.ChunkedArray) -> np.ndarray:
    """A fixed-size list column as one [row, size] array."""
    size = column.type.list_size
    return column.combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(len(column), size)


def to_list_array(rows: list[np.ndarray], value_type: pa.DataType) -> pa.ListArray:
    """Arrays of any length -> one list column, without a Python object per number."""
    lengths = np.array([0] + [len(row) for row in rows], np.int64)
    flat = np.concatenate(rows) if rows else np.zeros(0, value_type.to_pandas_dtype())
    offsets = pa.array(np.cumsum(lengths), pa.int32())
    return pa.ListArray.from_arrays(offsets, pa.array(flat, value_type))


def to_fixed_list_array(rows: np.ndarray, value_type: pa.DataType) -> pa.FixedSizeListArray:
    """[row, size] -> one fixed-size list column."""
    return pa.FixedSizeListArray.from_arrays(
        pa.array(np.ascontiguousarray(rows).reshape(-1), value_type), rows.shape[1]
    )
