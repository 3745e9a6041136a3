"""Train, validation and test splits that never part the recordings of one patient: the settings and the draw."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hubert_ecg.errors import ConfigError, InputError

SPLITS = ("train", "val", "test")
_FEWEST_FOLDS = 3


@dataclass(frozen=True, kw_only=True)
class SplitConfig:
    """How a data set without official splits is thinned out and divided; patients are never parted."""

    val_fraction: float = 0.1
    """Share for validation: of patients on average (`hash`), of recordings as nearly as can be (`stratified`)."""
    test_fraction: float = 0.1
    """Share for the final test."""
    seed: int = 0
    """Seed of the split and of what is dropped."""
    method: Literal["hash", "stratified"] = "hash"
    """`hash`: by the patient's id alone, so that a growing archive moves nobody. `stratified`: every split gets its
    share of every label."""
    stratify_by: str = ""
    """Label set to stratify by; empty means all of them."""
    num_folds: int = 0
    """k of a k-fold cross-validation, at least 3; 0 splits by the fractions. Fold `fold` is the test, the next one
    validates, the others train; the table's `fold` column counts from 1."""
    fold: int = 1
    """Which of the folds is the test, 1 to num_folds."""
    rare_labels: Literal["keep", "original"] = "keep"
    """`original`: recordings with a label that one patient alone has are dropped; of a label that two patients have,
    one goes to train and one to test; of three, one to each split."""
    min_count: int = 0
    """Labels with fewer recordings than this are removed; their recordings stay."""
    drop_unlabelled_fraction: float = 0.0
    """Share of the recordings without any label to leave out, drawn at random."""

    def __post_init__(self) -> None:
        check_fractions(self.val_fraction, self.test_fraction)
        if self.method not in ("hash", "stratified"):
            raise ConfigError(f"method: wanted hash or stratified, got {self.method}")
        if self.rare_labels not in ("keep", "original"):
            raise ConfigError(f"rare_labels: wanted keep or original, got {self.rare_labels}")
        if self.num_folds and self.num_folds < _FEWEST_FOLDS:
            raise ConfigError(
                f"num_folds: wanted 0 or at least {_FEWEST_FOLDS} (train, val and test), got {self.num_folds}"
            )
        if self.num_folds and not 1 <= self.fold <= self.num_folds:
            raise ConfigError(f"fold: wanted 1 to {self.num_folds}, got {self.fold}")
        if self.num_folds and self.rare_labels == "original":
            raise ConfigError("rare_labels: original places labels in train, val and test, not in folds; drop one")
        if self.min_count < 0:
            raise ConfigError(f"min_count: wanted 0 or more recordings, got {self.min_count}")
        if not 0 <= self.drop_unlabelled_fraction <= 1:
            raise ConfigError(f"drop_unlabelled_fraction: wanted 0 to 1, got {self.drop_unlabelled_fraction}")

    def shares(self) -> np.ndarray:
        """[part] wanted share of each fold, or of train, val and test."""
        if self.num_folds:
            return np.full(self.num_folds, 1 / self.num_folds)
        return np.array([1 - self.val_fraction - self.test_fraction, self.val_fraction, self.test_fraction])

    def split_of_fold(self) -> tuple[str, ...]:
        """The split that each fold, from the first on, belongs to."""
        test = self.fold - 1
        val = self.fold % self.num_folds
        return tuple("test" if f == test else "val" if f == val else "train" for f in range(self.num_folds))


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
    places = np.array([draw(p, r, seed) for p, r in zip(patient_ids, record_ids, strict=True)], np.float64)
    in_test, in_val = places < test_fraction, places < test_fraction + val_fraction
    return np.where(in_test, "test", np.where(in_val, "val", "train")).astype(object)


def draw(patient_id: str | None, record_id: str, seed: int) -> float:
    """A number in [0, 1) that is a hash of seed and patient, or of the recording where the patient is not known."""
    group, name = ("record", record_id) if patient_id is None else ("patient", patient_id)
    digest = hashlib.blake2b(f"{seed}/{group}/{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


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
