"""What every source of recordings offers: a listing (one small row per recording) and a reader of one row."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hubert_ecg.datasets.division import divide
from hubert_ecg.datasets.labels import LabelSet, positive_labels
from hubert_ecg.datasets.splits import SPLITS, SplitConfig, check_disjoint
from hubert_ecg.ecg.recording import Recording
from hubert_ecg.errors import InputError
from hubert_ecg.storage.tables import LABEL_PREFIX, label_type

__all__ = ["LabelSet", "Listing", "Source", "build_listing", "positive_labels"]


@dataclass(frozen=True, kw_only=True)
class Listing:
    """All recordings of a source, as one table in memory; well below 500 bytes per recording."""

    source: str
    """Name of the source."""
    table: pa.Table
    """record_id, patient_id, age_years, sex, path, split, fold, tags, and per set `labels.<set>`: a list of names, for
    a regression of one number per label; null where nobody answered."""
    label_sets: dict[str, LabelSet]
    """By name; empty when the source has no labels."""
    dropped: list[tuple[str, str]]
    """(thing, reason) of every row that could not be listed."""
    left_out: dict[str, int] = field(default_factory=dict)
    """Reason -> how many recordings, files or labels were left out for it, as the settings ask."""


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
    splits: Sequence[str] | np.ndarray | None = None,
    split: SplitConfig | None = None,
    patient_ids: Sequence[str | None] | None = None,
    ages_years: Sequence[float | None] | None = None,
    sexes: Sequence[str | None] | None = None,
    folds: Sequence[int | None] | None = None,
    tags: Sequence[Sequence[str]] | None = None,
    label_sets: Iterable[LabelSet] = (),
    labels: Mapping[str, Any] | None = None,
    dropped: Sequence[tuple[str, str]] = (),
    left_out: Mapping[str, int] | None = None,
    described: str = "",
) -> Listing:
    """The table of a listing from its columns, one entry per recording; `labels` holds a list column per set's name.

    `splits` are those that the source gives. `split` thins out labels and recordings, and divides where none are given.
    `described` is what messages call the source where its name says too little.
    Raises InputError when there are no recordings, an id stands twice, or a patient stands in two splits.
    """
    described = described or source
    count = len(record_ids)
    if count == 0:
        first = f"; the first of {len(dropped)} dropped rows: {dropped[0][0]}: {dropped[0][1]}" if dropped else ""
        others = ", ".join(f"{number} {what}" for what, number in sorted((left_out or {}).items()))
        raise InputError(
            f"{described}: wanted at least one recording, got none{first}{f'; left out: {others}' if others else ''}"
        )
    nothing = [None] * count
    columns = {
        "record_id": pa.array(record_ids, pa.string()),
        "patient_id": pa.array(patient_ids or nothing, pa.string()),
        "age_years": pa.array(ages_years or nothing, pa.float32()),
        "sex": pa.array(sexes or nothing, pa.string()),
        "path": pa.array(paths, pa.string()),
        "split": pa.array(nothing if splits is None else splits, pa.string()),
        "fold": pa.array(folds or nothing, pa.int16()),
        "tags": pa.array(tags or [[]] * count, pa.list_(pa.string())),
    }
    by_name = {label_set.name: label_set for label_set in label_sets}
    for name, label_set in by_name.items():
        columns[LABEL_PREFIX + name] = pa.array((labels or {})[name], label_type(label_set.task))
    table = pa.table(columns)
    _check_unique(table["record_id"], described)
    counted = Counter(left_out or {})
    if split is not None:
        table, by_name, thinned = divide(table, by_name, split, given=splits is not None)
        counted.update(thinned)
    unknown = set(table["split"].unique().to_pylist()) - set(SPLITS)
    if unknown:
        raise InputError(f"{described}: wanted splits among {', '.join(SPLITS)}, got {sorted(map(str, unknown))}")
    check_disjoint(table)
    return Listing(source=source, table=table, label_sets=by_name, dropped=list(dropped), left_out=dict(counted))


def _check_unique(record_ids: pa.ChunkedArray, described: str) -> None:
    if pc.count_distinct(record_ids).as_py() == len(record_ids):
        return
    counts = pc.value_counts(record_ids)
    twice = counts.filter(pc.greater(counts.field("counts"), 1)).field("values").to_pylist()
    shown = ", ".join(twice[:5])
    raise InputError(f"{described}: wanted one row per recording, got {len(twice)} ids more than once: {shown}")
