"""CSV files with one recording per row: file names, people, and labels as 0/1 columns, class names or numbers."""

import io
import logging
import re
from collections.abc import Hashable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from hubert_ecg.datasets.labels import LabelSet, Task, positive_labels
from hubert_ecg.errors import InputError
from hubert_ecg.storage import files
from hubert_ecg.storage.tables import label_type

log = logging.getLogger(__name__)

PATH = "filename"
ID_COLUMNS = (PATH, "record_id", "patient_id", "age", "sex", "split")
"""Columns that are understood by name, wherever they stand."""
_NO_LABEL = re.compile(r"Unnamed: \d+|index|memmap_idx")
"""Columns that a row number left behind."""
_SEXES = {"f": "female", "female": "female", "1": "female", "m": "male", "male": "male", "0": "male"}
"""0 and 1 as PTB-XL and the original project's files have them."""
_NOTHING = ["", "nan", "NaN"]
"""Only these mean nothing: a patient or a class may well be called NA."""


def read_csv(path: str, *, wanted: tuple[str, ...] = (PATH,)) -> pd.DataFrame:
    """The table of a CSV file, columns of `ID_COLUMNS` as text. `wanted`: at least one of these must be there."""
    if not files.exists(path):
        raise InputError(
            f"{path}: no such file; wanted a CSV whose first line names the columns, {' or '.join(wanted)} among them"
        )
    texts: dict[Hashable, type[str]] = dict.fromkeys(ID_COLUMNS, str)
    try:
        frame = pd.read_csv(io.BytesIO(files.read_bytes(path)), dtype=texts, keep_default_na=False, na_values=_NOTHING)
    except (ValueError, pd.errors.ParserError) as error:
        raise InputError(f"{path}: wanted a CSV file; {error}") from error
    if not set(wanted) & set(frame.columns):
        raise InputError(
            f"{path}: wanted a column {' or '.join(wanted)}, got {', '.join(map(str, frame.columns))}; rename one"
        )
    return frame


def label_columns(columns: list[str], start_index: int, described: str) -> list[str]:
    """The names of the label columns: all from `start_index` on but those that are understood by name."""
    candidates = [(place, name) for place, name in enumerate(columns) if name not in ID_COLUMNS]
    candidates = [(place, name) for place, name in candidates if not _NO_LABEL.fullmatch(str(name))]
    labels = [name for place, name in candidates if place >= start_index]
    skipped = [name for place, name in candidates if place < start_index]
    if skipped and not labels:
        raise InputError(
            f"{described}: wanted label columns from index {start_index} on, got none, and "
            f"{', '.join(skipped)} before it; set label_start_index to the first label's"
        )
    if skipped:
        log.warning(
            "%s: columns before label_start_index %d are not read as labels: %s",
            described,
            start_index,
            ", ".join(skipped),
        )
    return labels


def texts(frame: pd.DataFrame, column: str, default: list[str] | None = None) -> list[Any]:
    """A text column with None, or the default, for an empty cell."""
    default_values: list[Any] = default or [None] * len(frame)
    if column not in frame:
        return default_values
    return [other if pd.isna(value) else value for value, other in zip(frame[column], default_values, strict=True)]


def ages_years(frame: pd.DataFrame, names: list[str], described: str) -> list[float | None]:
    ages = []
    for name, text in zip(names, texts(frame, "age"), strict=True):
        try:
            ages.append(None if text is None else float(text))
        except ValueError as error:
            raise InputError(f"{described}: {name}: wanted an age in years, got {text!r}") from error
    return [None if age is None or not np.isfinite(age) else age for age in ages]


def sexes(frame: pd.DataFrame) -> list[str | None]:
    """`female`, `male` or None, from any of f, m, female, male, 1, 0 (1.0, 0.0)."""
    return [_SEXES.get(str(sex or "").strip().lower().removesuffix(".0")) for sex in texts(frame, "sex")]


def read_labels(
    frame: pd.DataFrame, columns: list[str], *, task: Task, name: str, names: list[str], described: str
) -> tuple[LabelSet, pa.Array]:
    """The label set `name` and its column. `names` are what messages call the rows.

    Raises InputError at the first cell that cannot be: anything but 0 or 1, no or several classes, no number.
    """
    title = f"labels of {described.rpartition('/')[2]}"
    if task == "regression":
        values = _numbers(frame, columns, names, described)
        flat = pa.array(values.reshape(-1), pa.float32())
        offsets = np.arange(len(values) + 1, dtype=np.int32) * len(columns)
        column = pa.ListArray.from_arrays(pa.array(offsets), flat).cast(label_type(task))
        return LabelSet(name=name, labels=tuple(columns), task=task, title=title), column
    _refuse_empty(frame, columns, names, described)
    if task == "multi_class" and len(columns) == 1:
        labels, column = _class_names(frame[columns[0]])
        return LabelSet(name=name, labels=labels, task=task, title=title), column
    positive = _zeros_and_ones(frame, columns, names, described)
    counts = positive.sum(axis=1)
    if task == "multi_class" and (counts != 1).any():
        row = int(np.flatnonzero(counts != 1)[0])
        raise InputError(f"{described}: {names[row]}: wanted exactly one class, got {counts[row]}")
    # Every cell says 0 or 1, so a row of zeros is an answer.
    label_set = LabelSet(
        name=name, labels=tuple(columns), task=task, title=title, none_is_negative=task == "multi_label"
    )
    return label_set, positive_labels(positive, columns)


def _refuse_empty(frame: pd.DataFrame, columns: list[str], names: list[str], described: str) -> None:
    missing = frame[columns].isna().to_numpy()
    if missing.any():
        row, column = (int(place[0]) for place in np.nonzero(missing))
        raise InputError(f"{described}: {names[row]}: wanted a value for label {columns[column]}, got nothing")


def _zeros_and_ones(frame: pd.DataFrame, columns: list[str], names: list[str], described: str) -> np.ndarray:
    wrong = ~frame[columns].isin([0, 1]).to_numpy()
    if wrong.any():
        row, column = (int(place[0]) for place in np.nonzero(wrong))
        value = frame[columns[column]].iloc[row]
        raise InputError(
            f"{described}: {names[row]}: wanted 0 or 1 for label {columns[column]}, got {value!r}; "
            "correct it, or set label_start_index to the first label column"
        )
    return frame[columns].to_numpy().astype(bool)


def _numbers(frame: pd.DataFrame, columns: list[str], names: list[str], described: str) -> np.ndarray:
    """[recording, label] float32, NaN for an empty cell."""
    values = np.empty((len(frame), len(columns)), np.float32)
    for place, column in enumerate(columns):
        numbers = pd.to_numeric(frame[column], errors="coerce")
        wrong = np.flatnonzero((numbers.isna() & frame[column].notna()) | np.isinf(numbers.astype(float)))
        if len(wrong):
            raise InputError(
                f"{described}: {names[wrong[0]]}: wanted a number for {column}, got {frame[column].iloc[wrong[0]]!r}; "
                "correct it, or set label_start_index to the first label column"
            )
        values[:, place] = numbers.to_numpy(np.float32)
    return values


def _class_names(values: pd.Series) -> tuple[tuple[str, ...], pa.ListArray]:
    """Classes in the order of their numbers, or of their names."""
    classes, codes = np.unique(values.to_numpy(), return_inverse=True)
    names = tuple(_class_name(value) for value in classes)
    return names, positive_labels(codes[:, None] == np.arange(len(names)), names)


def _class_name(value: Any) -> str:
    """A class number that was written as 3.0 is class 3."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
