"""A listing thinned out and divided into splits as its settings say."""

import logging
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hubert_ecg.datasets.labels import LabelSet, Positives, find_positives, unlabelled, without_labels
from hubert_ecg.datasets.splits import SPLITS, SplitConfig, draw
from hubert_ecg.datasets.stratify import stratify
from hubert_ecg.errors import ConfigError, InputError

log = logging.getLogger(__name__)

_AT_ONCE = 1 << 16
_FEW = {2: (0, 2), 3: (0, 1, 2)}
"""Patients that have a rare label -> the parts (train, val, test) they are spread over."""


def divide(
    table: pa.Table, label_sets: dict[str, LabelSet], config: SplitConfig, *, given: bool
) -> tuple[pa.Table, dict[str, LabelSet], dict[str, int]]:
    """The listing with rare labels and unlabelled recordings left out and, unless splits are `given`, divided.

    Also returns how many labels and recordings were left out, by reason. Raises InputError when nothing is left.
    """
    if config.stratify_by and config.stratify_by not in label_sets:
        raise ConfigError(f"stratify_by: wanted one of {sorted(label_sets)}, got {config.stratify_by}")
    rng = np.random.default_rng(config.seed)
    table, label_sets, left_out = _without_small_labels(table, label_sets, config)
    if config.rare_labels == "original" and not given:
        table, label_sets, alone = _without_lone_labels(table, label_sets)
        left_out |= alone
    table, dropped = _without_some_unlabelled(table, label_sets, config, rng)
    left_out |= dropped
    if table.num_rows == 0:
        raise InputError(f"wanted at least one recording, the split's settings left none ({left_out}); relax them")
    if not given:
        table = _with_splits(table, label_sets, config, rng)
    return table, label_sets, {reason: count for reason, count in left_out.items() if count}


def _without_small_labels(
    table: pa.Table, label_sets: dict[str, LabelSet], config: SplitConfig
) -> tuple[pa.Table, dict[str, LabelSet], dict[str, int]]:
    if not config.min_count:
        return table, label_sets, {}
    positives = find_positives(table, label_sets)
    small = np.flatnonzero(positives.counts() < config.min_count)
    table, label_sets = without_labels(table, label_sets, {positives.names[label] for label in small})
    return table, label_sets, {f"labels with fewer than {config.min_count} recordings": len(small)}


def _without_lone_labels(
    table: pa.Table, label_sets: dict[str, LabelSet]
) -> tuple[pa.Table, dict[str, LabelSet], dict[str, int]]:
    """Labels of one patient alone can be learnt or tested, not both: they go, and their recordings with them."""
    positives = find_positives(table, label_sets)
    labels, _, _ = _pairs(_groups(table), positives)
    counts = np.bincount(labels, minlength=len(positives.names))
    gone = np.unique(positives.rows[counts[positives.labels] == 1])
    table, label_sets = without_labels(table, label_sets, {positives.names[n] for n in np.flatnonzero(counts <= 1)})
    kept = np.delete(np.arange(table.num_rows), gone)
    reasons = {
        "labels that fewer than two patients have": int((counts <= 1).sum()),
        "recordings with a label that no other patient has": len(gone),
    }
    return table.take(pa.array(kept)), label_sets, reasons


def _without_some_unlabelled(
    table: pa.Table, label_sets: Mapping[str, LabelSet], config: SplitConfig, rng: np.random.Generator
) -> tuple[pa.Table, dict[str, int]]:
    if not config.drop_unlabelled_fraction:
        return table, {}
    empty = np.flatnonzero(unlabelled(table, label_sets))
    gone = rng.permutation(empty)[: round(config.drop_unlabelled_fraction * len(empty))]
    kept = np.delete(np.arange(table.num_rows), gone)
    return table.take(pa.array(kept)), {"recordings without labels": len(gone)}


def _with_splits(
    table: pa.Table, label_sets: Mapping[str, LabelSet], config: SplitConfig, rng: np.random.Generator
) -> pa.Table:
    """The columns `split` and, for folds, `fold`."""
    groups = _groups(table)
    chosen = {name: s for name, s in label_sets.items() if config.stratify_by in ("", name)}
    positives = find_positives(table, chosen)
    fixed = np.full(int(groups.max()) + 1, -1, np.int64)
    if config.rare_labels == "original":
        fixed = _spread_few(groups, positives, config, rng)
    parts = (
        _drawn(table, groups, config, fixed)
        if config.method == "hash"
        else _stratified(groups, positives, config, fixed, rng)
    )[groups]
    names = config.split_of_fold() if config.num_folds else SPLITS
    table = table.set_column(
        table.column_names.index("split"), "split", pa.array(np.array(names, object)[parts], pa.string())
    )
    if config.num_folds:
        table = table.set_column(table.column_names.index("fold"), "fold", pa.array(parts + 1, pa.int16()))
    return table


def _drawn(table: pa.Table, groups: np.ndarray, config: SplitConfig, fixed: np.ndarray) -> np.ndarray:
    """[group] part, by a hash of the patient's id alone."""
    _, firsts = np.unique(groups, return_index=True)
    places = np.empty(len(firsts))
    for start in range(0, len(firsts), _AT_ONCE):
        chosen = table.select(["patient_id", "record_id"]).take(pa.array(firsts[start : start + _AT_ONCE])).to_pydict()
        ids = zip(chosen["patient_id"], chosen["record_id"], strict=True)
        places[start : start + _AT_ONCE] = [draw(patient, record, config.seed) for patient, record in ids]
    if config.num_folds:
        parts = (places * config.num_folds).astype(np.int64)
    else:
        parts = np.where(places < config.test_fraction, 2, places < config.test_fraction + config.val_fraction)
    return np.where(fixed >= 0, fixed, parts)


def _stratified(
    groups: np.ndarray, positives: Positives, config: SplitConfig, fixed: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    labels, patients, counts = _pairs(groups, positives)
    return stratify(patients, labels, counts, np.bincount(groups), config.shares(), rng=rng, fixed=fixed)


def _spread_few(groups: np.ndarray, positives: Positives, config: SplitConfig, rng: np.random.Generator) -> np.ndarray:
    """[group] the part that a rare label sends it to, -1 for all others; the rarest labels decide first."""
    fixed = np.full(int(groups.max()) + 1, -1, np.int64)
    labels, patients_of, _ = _pairs(groups, positives)
    counts = np.bincount(labels, minlength=len(positives.names))
    starts = np.searchsorted(labels, np.arange(len(counts)))
    crowded = 0
    for label in sorted(np.flatnonzero((counts == 2) | (counts == 3)).tolist(), key=lambda n: (counts[n], n)):
        patients = rng.permutation(patients_of[starts[label] : starts[label] + counts[label]])
        wanted = [part for part in _FEW[int(counts[label])] if config.shares()[part] > 0]
        wanted = [part for part in wanted if part not in fixed[patients]]
        free = patients[fixed[patients] < 0]
        fixed[free[: len(wanted)]] = wanted[: len(free)]
        crowded += len(wanted) > len(free)
    if crowded:
        log.warning("%d rare labels are missing from a split: other rare labels of their patients decided", crowded)
    return fixed


def _pairs(groups: np.ndarray, positives: Positives) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """[pair] label, [pair] patient, each pair once and by label, and [pair] recordings of the patient that have it."""
    num_groups = int(groups.max(initial=0)) + 1
    keys, counts = np.unique(positives.labels * num_groups + groups[positives.rows], return_counts=True)
    return keys // num_groups, keys % num_groups, counts


def _groups(table: pa.Table) -> np.ndarray:
    """[recording] number of its patient from 0 on; recordings without patient are patients of their own."""
    indices = table["patient_id"].combine_chunks().dictionary_encode().indices
    numbers = pc.fill_null(indices, -1).to_numpy(zero_copy_only=False).astype(np.int64)
    alone = numbers < 0
    numbers[alone] = numbers.max(initial=-1) + 1 + np.arange(int(alone.sum()))
    return numbers
