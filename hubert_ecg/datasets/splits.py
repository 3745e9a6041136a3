"""Train, validation and test splits that never part the recordings of one patient."""

import hashlib
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hubert_ecg.errors import ConfigError, InputError

SPLITS = ("train", "val", "test")


def check_fractions(val_fraction: float, test_fraction: float) -> None:
    """Raises ConfigError unless both are shares that leave something to train on."""
    if val_fraction < 0 or test_fraction < 0 or not val_fraction + test_fraction < 1:
        raise ConfigError(
            f"val_fraction and test_fraction: wanted shares of 0 or more that leave some for training, got "
            f"{val_fraction} and {test_fraction}; lower them"
        )


def patient_disjoint_split(
    patient_ids: Sequence[str | None],
    record_ids: Sequence[str],
    *,
    val_fraction: float,
    test_fraction: float,
    seed: int,
) -> np.ndarray:
    """The split of each recording, drawn per patient; a recording without patient id is a patient of its own.

    A patient's split depends on the seed and its id alone (a hash), so that adding recordings to an archive moves none
    of the others; the price is that the fractions hold on average, not exactly.
    """
    check_fractions(val_fraction, test_fraction)
    drawn: dict[tuple[str, str], str] = {}
    splits = []
    for patient_id, record_id in zip(patient_ids, record_ids, strict=True):
        group = ("record", record_id) if patient_id is None else ("patient", patient_id)
        if group not in drawn:
            place = _uniform(f"{seed}/{group[0]}/{group[1]}")
            drawn[group] = (
                "test" if place < test_fraction else "val" if place < test_fraction + val_fraction else "train"
            )
        splits.append(drawn[group])
    return np.array(splits, dtype=object)


def check_disjoint(table: pa.Table) -> None:
    """Raises InputError naming some patients when a listing has one in two splits: their scores would be too good."""
    pairs = table.select(["patient_id", "split"]).drop_null().group_by(["patient_id", "split"]).aggregate([])
    counts = pairs.group_by("patient_id").aggregate([("split", "count")])
    shared = sorted(counts.filter(pc.greater(counts["split_count"], 1))["patient_id"].to_pylist())
    if shared:
        raise InputError(
            f"wanted every patient in one split, got {len(shared)} in several: {', '.join(shared[:5])}"
            f"{', ...' if len(shared) > 5 else ''}; split by patient"
        )


def _uniform(text: str) -> float:
    """A number in [0, 1) that is a hash of the text."""
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
