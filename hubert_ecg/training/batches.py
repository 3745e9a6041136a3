"""From a table of training examples to the tensors of one step."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from hubert_ecg.models.loss import IGNORED_CODE
from hubert_ecg.storage import tables
from hubert_ecg.training.examples import INPUT, MASK, TARGET
from hubert_ecg.training.step import Batch


def to_batch(table: pa.Table, device: torch.device) -> Batch:
    """A table of examples as tensors."""
    # Copies: Ray's shared memory is read-only, and torch would warn of it.
    inputs = tables.stack_rows(table[INPUT]).copy()
    masks = stack_masks(table[MASK], inputs.shape[1])
    return Batch(
        record_ids=table["record_id"].to_pylist(),
        inputs=torch.from_numpy(inputs).to(device, non_blocking=True),
        targets=torch.from_numpy(for_loss(tables.stack_rows(table[TARGET]))).to(device, non_blocking=True),
        attention_mask=None if masks is None else torch.from_numpy(masks).to(device, non_blocking=True),
    )


def for_loss(targets: np.ndarray) -> np.ndarray:
    """Targets of any shape as the losses take them: a copy, codes as int64 with `IGNORED_CODE` where there is none."""
    if targets.dtype != np.uint16:
        return targets.copy()
    return np.where(targets == tables.NO_CODE, IGNORED_CODE, targets.astype(np.int64))


def stack_masks(column: pa.ChunkedArray, num_samples: int) -> np.ndarray | None:
    """[row, sample] bool of a mask column, ones where it is null; None when all of it is."""
    if column.null_count == len(column):
        return None
    masks = np.ones((len(column), num_samples), bool)
    present = pc.is_valid(column).to_numpy()
    flat = pa.concat_arrays(column.chunks).drop_null().flatten().to_numpy(zero_copy_only=False)
    masks[present] = flat.reshape(-1, num_samples)
    return masks
