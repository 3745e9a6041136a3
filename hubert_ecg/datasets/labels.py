"""Label sets, and what can be done with a listing's labels without reading a signal: count, thin out, tabulate."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hubert_ecg.storage.tables import LABEL_PREFIX

Task = Literal["multi_label", "multi_class", "regression"]


@dataclass(frozen=True, kw_only=True)
class LabelSet:
    """A question that can be asked of every recording of a source, and its possible answers."""

    name: str
    """The word that chooses it on the command line."""
    labels: tuple[str, ...]
    """All answers, in the order in which models and tables hold them; the same on every machine."""
    task: Task = "multi_label"
    """`multi_label`: any number of labels per recording; `multi_class`: exactly one; `regression`: a number each."""
    title: str = ""
    """What the labels are, for people."""
    none_is_negative: bool = False
    """Whether a recording without any of the labels is known to have none of them, and so counts as a negative for
    all; otherwise nobody answered the question, and trainings and evaluations leave the recording out."""


@dataclass(frozen=True, kw_only=True)
class Positives:
    """Which recordings have which labels, as pairs; labels of all categorical label sets are numbered through."""

    rows: np.ndarray
    """[pair] row of the recording, int64."""
    labels: np.ndarray
    """[pair] number of the label, int64."""
    names: tuple[tuple[str, str], ...]
    """(label set, label) by number."""

    def counts(self) -> np.ndarray:
        """[label] recordings that have it, int64."""
        return np.bincount(self.labels, minlength=len(self.names))


def positive_labels(positive: np.ndarray, labels: Sequence[str]) -> pa.ListArray:
    """[recording, label] bool -> per recording the names of its positive labels, in the order of `labels`."""
    _, columns = np.nonzero(positive)
    offsets = np.concatenate([[0], np.cumsum(positive.sum(axis=1))]).astype(np.int32)
    names = pa.array(list(labels), pa.string()).take(pa.array(columns))
    return pa.ListArray.from_arrays(pa.array(offsets), names)


def find_positives(table: pa.Table, label_sets: Mapping[str, LabelSet]) -> Positives:
    """The positive labels of a listing. Regressions have none."""
    rows, labels = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    names: list[tuple[str, str]] = []
    for label_set in label_sets.values():
        if label_set.task == "regression":
            continue
        column = table[LABEL_PREFIX + label_set.name].combine_chunks()
        values = pc.index_in(column.flatten(), pa.array(label_set.labels, pa.string())).to_numpy(zero_copy_only=False)
        rows.append(pc.list_parent_indices(column).to_numpy())
        labels.append(values.astype(np.int64) + len(names))
        names += [(label_set.name, label) for label in label_set.labels]
    return Positives(rows=np.concatenate(rows), labels=np.concatenate(labels), names=tuple(names))


def without_labels(
    table: pa.Table, label_sets: Mapping[str, LabelSet], gone: set[tuple[str, str]]
) -> tuple[pa.Table, dict[str, LabelSet]]:
    """The listing without some (label set, label); its recordings stay."""
    kept = {}
    for name, label_set in label_sets.items():
        labels = tuple(label for label in label_set.labels if (name, label) not in gone)
        if labels != label_set.labels:
            place = table.column_names.index(LABEL_PREFIX + name)
            table = table.set_column(place, LABEL_PREFIX + name, _only(table[LABEL_PREFIX + name], labels))
        kept[name] = replace(label_set, labels=labels)
    return table, kept


def unlabelled(table: pa.Table, label_sets: Mapping[str, LabelSet]) -> np.ndarray:
    """[recording] bool: has no label of any set, and for regressions no number."""
    empty = np.ones(table.num_rows, bool)
    for label_set in label_sets.values():
        column = table[LABEL_PREFIX + label_set.name].combine_chunks()
        parents = pc.list_parent_indices(column).to_numpy()
        if label_set.task == "regression":
            parents = parents[~np.isnan(column.flatten().to_numpy(zero_copy_only=False))]
        empty[parents] = False
    return empty


def label_distribution(table: pa.Table, label_sets: Mapping[str, LabelSet]) -> pa.Table:
    """One row per label: label_set, label, then per split its recordings and their share (`train`, `train_share`, ...).

    Categorical labels only.
    """
    positives = find_positives(table, label_sets)
    columns: dict[str, object] = {
        "label_set": [name for name, _ in positives.names],
        "label": [label for _, label in positives.names],
    }
    splits = np.array(table["split"].to_pylist(), object)
    for split in ("train", "val", "test"):
        inside = splits == split
        counts = np.bincount(positives.labels[inside[positives.rows]], minlength=len(positives.names))
        columns[split] = counts
        columns[f"{split}_share"] = counts / max(1, int(inside.sum()))
    return pa.table(columns)


def _only(column: pa.ChunkedArray, labels: tuple[str, ...]) -> pa.ListArray:
    """A list column with nothing but these labels; what was null stays null."""
    whole = column.combine_chunks()
    values = whole.flatten()
    stays = pc.is_in(values, pa.array(labels, pa.string())).to_numpy(zero_copy_only=False)
    parents = pc.list_parent_indices(whole).to_numpy()[stays]
    offsets = np.concatenate([[0], np.cumsum(np.bincount(parents, minlength=len(whole)))])
    mask = pa.array(whole.is_null().to_numpy(zero_copy_only=False)) if whole.null_count else None
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values.filter(pa.array(stays)), mask=mask)
