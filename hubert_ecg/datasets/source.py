"""What every source of recordings offers: a listing (one small row per recording) and a reader of one row."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import pyarrow as pa

from hubert_ecg.datasets.splits import SPLITS, check_disjoint
from hubert_ecg.ecg.recording import Recording
from hubert_ecg.errors import InputError
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
    """`multi_label`: any number of labels per recording; `multi_class`: exactly one."""
    title: str = ""
    """What the labels are, for people."""
    none_is_negative: bool = False
    """Whether a recording without any of the labels is known to have none of them, and so counts as a negative for
    all; otherwise nobody answered the question, and trainings and evaluations leave the recording out."""


@dataclass(frozen=True, kw_only=True)
class Listing:
    """All recordings of a source, as one table in memory; well below 500 bytes per recording."""

    source: str
    """Name of the source."""
    table: pa.Table
    """record_id, patient_id, age_years, sex, path, split, fold, tags, and per set `labels.<set>`, a list of names."""
    label_sets: dict[str, LabelSet]
    """By name; empty when the source has no labels."""
    dropped: list[tuple[str, str]]
    """(thing, reason) of every row that could not be listed."""


class Source(Protocol):
    """A frozen dataclass of settings that can be pickled, so that any worker can read."""

    @property
    def name(self) -> str:
        """The word that chooses this source on the command line."""

    def listing(self) -> Listing:
        """All recordings. Reads tables, never signals. Raises InputError."""

    def read(self, row: dict[str, Any]) -> Recording:
        """The recording of one row of the listing's table. Raises RecordingError."""


def build_listing(
    *,
    source: str,
    record_ids: Sequence[str],
    paths: Sequence[str],
    splits: Sequence[str] | np.ndarray,
    patient_ids: Sequence[str | None] | None = None,
    ages_years: Sequence[float | None] | None = None,
    sexes: Sequence[str | None] | None = None,
    folds: Sequence[int | None] | None = None,
    tags: Sequence[Sequence[str]] | None = None,
    label_sets: Iterable[LabelSet] = (),
    labels: Mapping[str, Any] | None = None,
    dropped: Sequence[tuple[str, str]] = (),
    described: str = "",
) -> Listing:
    """The table of a listing from its columns, one entry per recording; `labels` holds a list column per set's name.

    `described` is what messages call the source where its name says too little.
    Raises InputError when there are no recordings, an id stands twice, or a patient stands in two splits.
    """
    described = described or source
    count = len(record_ids)
    if count == 0:
        first = f"; the first of {len(dropped)} dropped rows: {dropped[0][0]}: {dropped[0][1]}" if dropped else ""
        raise InputError(f"{described}: wanted at least one recording, got none{first}")
    nothing = [None] * count
    columns = {
        "record_id": pa.array(record_ids, pa.string()),
        "patient_id": pa.array(patient_ids or nothing, pa.string()),
        "age_years": pa.array(ages_years or nothing, pa.float32()),
        "sex": pa.array(sexes or nothing, pa.string()),
        "path": pa.array(paths, pa.string()),
        "split": pa.array(splits, pa.string()),
        "fold": pa.array(folds or nothing, pa.int16()),
        "tags": pa.array(tags or [[]] * count, pa.list_(pa.string())),
    }
    by_name = {label_set.name: label_set for label_set in label_sets}
    for name in by_name:
        columns[LABEL_PREFIX + name] = pa.array((labels or {})[name], pa.list_(pa.string()))
    table = pa.table(columns)
    _check_unique(record_ids, described)
    unknown = set(table["split"].unique().to_pylist()) - set(SPLITS)
    if unknown:
        raise InputError(f"{described}: wanted splits among {', '.join(SPLITS)}, got {sorted(map(str, unknown))}")
    check_disjoint(table)
    return Listing(source=source, table=table, label_sets=by_name, dropped=list(dropped))


def positive_labels(positive: np.ndarray, labels: Sequence[str]) -> pa.ListArray:
    """[recording, label] bool -> per recording the names of its positive labels, in the order of `labels`."""
    _, columns = np.nonzero(positive)
    offsets = np.concatenate([[0], np.cumsum(positive.sum(axis=1))]).astype(np.int32)
    names = pa.array(list(labels), pa.string()).take(pa.array(columns))
    return pa.ListArray.from_arrays(pa.array(offsets), names)


def _check_unique(record_ids: Sequence[str], described: str) -> None:
    if len(set(record_ids)) == len(record_ids):
        return
    twice = [record_id for record_id, count in Counter(record_ids).items() if count > 1]
    shown = ", ".join(twice[:5])
    raise InputError(f"{described}: wanted one row per recording, got {len(twice)} ids more than once: {shown}")
