"""A folder of recordings described by CSV: one manifest, or the original project's train, val and test files."""

import io
import logging
import os
from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
import pyarrow as pa

from hubert_ecg.datasets.source import LabelSet, Listing, build_listing, positive_labels
from hubert_ecg.datasets.splits import check_fractions, patient_disjoint_split
from hubert_ecg.ecg.recording import Recording
from hubert_ecg.errors import ConfigError, InputError
from hubert_ecg.formats import read_recording
from hubert_ecg.storage import files

log = logging.getLogger(__name__)

_LABEL_SET = "manifest"
_DEFAULT_CSV = "manifest.csv"
_PATH = "filename"
_ID_COLUMNS = (_PATH, "record_id", "patient_id", "age", "sex", "split")
_SEXES = {"f": "female", "female": "female", "m": "male", "male": "male"}


@dataclass(frozen=True, kw_only=True)
class ManifestSource:
    """Recordings listed in CSV files whose first line names the columns; `filename` is the one that must be there.

    Further columns that are understood by name: record_id (default: the file name), patient_id, age (years), sex
    (f, m), split (train, val, test). From column `label_start_index` on, every other column is a label.
    """

    name: ClassVar[str] = "manifest"

    input: str = ""
    """Folder of the recordings; file names are relative to it, with or without their own folders."""
    manifest: str = ""
    """The CSV; empty means `manifest.csv` in the input folder, unless train, val or test are given."""
    train: str = ""
    """CSV of the training recordings, in place of `manifest`."""
    val: str = ""
    """CSV of the validation recordings, in place of `manifest`."""
    test: str = ""
    """CSV of the test recordings, in place of `manifest`."""
    label_start_index: int = 4
    """Position of the first label column, counted from 0; 4 in the original project's files."""
    task: Literal["multi_label", "multi_class"] = "multi_label"
    """multi_label: 0 or 1 in each label column. multi_class: one 1 per row, or a single column of class names."""
    sampling_rate_hz: float = 500.0
    """Rate of files that do not say it (.npy), Hz."""
    val_fraction: float = 0.1
    """Share of patients for validation where nothing gives the split."""
    test_fraction: float = 0.1
    """Share of patients for the test where nothing gives the split."""
    seed: int = 0
    """Seed of that split."""

    def __post_init__(self) -> None:
        check_fractions(self.val_fraction, self.test_fraction)
        if self.manifest and (self.train or self.val or self.test):
            raise ConfigError("manifest: wanted either one manifest or train, val and test files, got both; drop one")
        if self.label_start_index < 0:
            raise ConfigError(f"label_start_index: wanted 0 or more, got {self.label_start_index}")
        if self.task not in ("multi_label", "multi_class"):
            raise ConfigError(f"task: wanted multi_label or multi_class, got {self.task}")
        if not 0 < self.sampling_rate_hz < np.inf:
            raise ConfigError(f"sampling_rate_hz: wanted a rate above 0 Hz, got {self.sampling_rate_hz}")

    def listing(self) -> Listing:
        """All rows but those without a file name. Files are not looked for: an absent one fails when read."""
        frame, described = self._frame()
        label_columns = self._label_columns(list(frame.columns), described)
        empty = frame[_PATH].isna().to_numpy()
        dropped = [(f"{described} row {row + 1}", "it has no file name") for row in np.flatnonzero(empty)]
        frame = frame[~empty].reset_index(drop=True)
        record_ids = _texts(frame, "record_id", default=[os.path.splitext(path)[0] for path in frame[_PATH]])
        patient_ids = _texts(frame, "patient_id")
        label_sets, labels = [], {}
        if label_columns:
            names, column = _read_labels(frame, label_columns, self.task, described)
            title = f"labels of {os.path.basename(described)}"
            label_sets = [LabelSet(name=_LABEL_SET, labels=names, task=self.task, title=title)]
            labels = {_LABEL_SET: column}
        return build_listing(
            source=self.name,
            described=described,
            record_ids=record_ids,
            paths=frame[_PATH].tolist(),
            splits=self._splits(frame, patient_ids, record_ids, described),
            patient_ids=patient_ids,
            ages_years=_ages(frame, described),
            sexes=[_SEXES.get((sex or "").strip().lower()) for sex in _texts(frame, "sex")],
            label_sets=label_sets,
            labels=labels,
            dropped=dropped,
        )

    def read(self, row: dict[str, Any]) -> Recording:
        """The file of one row: below the input folder, else as named, else by its bare name in the input folder."""
        path = row["path"]
        candidates = [os.path.join(self.input, path), path, os.path.join(self.input, os.path.basename(path))]
        found = next((c for c in candidates if os.path.exists(c) or os.path.exists(c + ".hea")), candidates[0])
        recording = read_recording(found, sampling_rate_hz=self.sampling_rate_hz, record_id=row["record_id"])
        return replace(
            recording,
            patient_id=row["patient_id"],
            age_years=recording.age_years if row["age_years"] is None else row["age_years"],
            sex=recording.sex if row["sex"] is None else row["sex"],
        )

    def _frame(self) -> tuple[pd.DataFrame, str]:
        """All rows with their columns, the split among them where files give it, and what to call them in messages."""
        by_split = {split: path for split in ("train", "val", "test") if (path := getattr(self, split))}
        if not by_split:
            path = self.manifest or files.join(self.input, _DEFAULT_CSV)
            return _read_csv(path), path
        frames = {split: _read_csv(path) for split, path in by_split.items()}
        (first, columns), *others = ((split, list(frame.columns)) for split, frame in frames.items())
        for split, other in others:
            if other != columns:
                unlike = sorted(set(columns) ^ set(other)) or "another order"
                raise InputError(
                    f"{by_split[split]}: wanted the columns of {by_split[first]}, got a difference in {unlike}"
                )
        return (
            pd.concat([frame.assign(split=split) for split, frame in frames.items()], ignore_index=True),
            " + ".join(by_split.values()),
        )

    def _label_columns(self, columns: list[str], described: str) -> list[str]:
        labels = [name for name in columns[self.label_start_index :] if name not in _ID_COLUMNS]
        skipped = [name for name in columns[: self.label_start_index] if name not in _ID_COLUMNS]
        if skipped and not labels:
            raise InputError(
                f"{described}: wanted label columns from index {self.label_start_index} on, got none, and "
                f"{', '.join(skipped)} before it; set label_start_index to the first label's"
            )
        if skipped:
            log.info("%s: columns before label_start_index that are not read: %s", described, ", ".join(skipped))
        return labels

    def _splits(
        self, frame: pd.DataFrame, patient_ids: list[str | None], record_ids: list[str], described: str
    ) -> np.ndarray:
        if "split" in frame:
            if frame["split"].isna().any():
                row = int(np.flatnonzero(frame["split"].isna())[0])
                raise InputError(f"{described}: {frame[_PATH][row]}: wanted train, val or test in `split`, got nothing")
            return frame["split"].to_numpy()
        return patient_disjoint_split(
            patient_ids,
            record_ids,
            val_fraction=self.val_fraction,
            test_fraction=self.test_fraction,
            seed=self.seed,
        )


def _read_csv(path: str) -> pd.DataFrame:
    if not files.exists(path):
        raise InputError(f"{path}: no such file; wanted a CSV whose first line names the columns, {_PATH} among them")
    # Only an empty cell means nothing: a patient or a class may well be called NA.
    texts: dict[Hashable, type[str]] = dict.fromkeys(_ID_COLUMNS, str)
    try:
        frame = pd.read_csv(io.BytesIO(files.read_bytes(path)), dtype=texts, keep_default_na=False, na_values=[""])
    except (ValueError, pd.errors.ParserError) as error:
        raise InputError(f"{path}: wanted a CSV file; {error}") from error
    if _PATH not in frame:
        raise InputError(f"{path}: wanted a column {_PATH}, got {', '.join(map(str, frame.columns))}; rename one")
    return frame


def _texts(frame: pd.DataFrame, column: str, default: list[str] | None = None) -> list[Any]:
    """A text column with None, or the default, for an empty cell."""
    default_values: list[Any] = default or [None] * len(frame)
    if column not in frame:
        return default_values
    return [other if pd.isna(value) else value for value, other in zip(frame[column], default_values, strict=True)]


def _ages(frame: pd.DataFrame, described: str) -> list[float | None]:
    ages = []
    for path, text in zip(frame[_PATH], _texts(frame, "age"), strict=True):
        try:
            ages.append(None if text is None else float(text))
        except ValueError as error:
            raise InputError(f"{described}: {path}: wanted an age in years, got {text!r}") from error
    return ages


def _read_labels(
    frame: pd.DataFrame, columns: list[str], task: str, described: str
) -> tuple[tuple[str, ...], pa.ListArray]:
    """The names of the labels, and per recording those that hold."""
    missing = frame[columns].isna().to_numpy()
    if missing.any():
        row, column = (int(place[0]) for place in np.nonzero(missing))
        raise InputError(f"{described}: {frame[_PATH][row]}: wanted a value for label {columns[column]}, got nothing")
    if task == "multi_class" and len(columns) == 1:
        return _class_names(frame[columns[0]])
    wrong = ~frame[columns].isin([0, 1]).to_numpy()
    if wrong.any():
        row, column = (int(place[0]) for place in np.nonzero(wrong))
        value = frame[columns[column]].iloc[row]
        raise InputError(
            f"{described}: {frame[_PATH][row]}: wanted 0 or 1 for label {columns[column]}, got {value!r}; "
            "correct it, or set label_start_index to the first label column"
        )
    positive = frame[columns].to_numpy().astype(bool)
    counts = positive.sum(axis=1)
    if task == "multi_class" and (counts != 1).any():
        row = int(np.flatnonzero(counts != 1)[0])
        raise InputError(f"{described}: {frame[_PATH][row]}: wanted exactly one class, got {counts[row]}")
    return tuple(columns), positive_labels(positive, columns)


def _class_names(values: pd.Series) -> tuple[tuple[str, ...], pa.ListArray]:
    """Classes in the order of their numbers, or of their names."""
    classes, codes = np.unique(values.to_numpy(), return_inverse=True)
    names = tuple(str(value) for value in classes)
    return names, positive_labels(codes[:, None] == np.arange(len(names)), names)
