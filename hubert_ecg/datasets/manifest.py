"""A folder of recordings described by CSV: one manifest, or the original project's train, val and test files."""

import os
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from hubert_ecg.datasets.folder import FolderIndex, find_recordings
from hubert_ecg.datasets.label_csv import (
    PATH,
    ages_years,
    label_columns,
    read_csv,
    read_labels,
    sexes,
    texts,
)
from hubert_ecg.datasets.labels import Task
from hubert_ecg.datasets.source import Listing, build_listing
from hubert_ecg.datasets.splits import SplitConfig
from hubert_ecg.ecg.recording import Recording
from hubert_ecg.errors import ConfigError, InputError
from hubert_ecg.formats import ReadOptions, read_recording
from hubert_ecg.formats.options import Units
from hubert_ecg.storage import files
from hubert_ecg.storage.local_copy import local_copy

_LABEL_SET = "manifest"
_DEFAULT_CSV = "manifest.csv"


@dataclass(frozen=True, kw_only=True)
class ManifestSource:
    """Recordings listed in CSV files whose first line names the columns; `filename` is the one that must be there.

    Further columns that are understood by name: record_id (default: the file name), patient_id, age (years), sex
    (f, m, 1, 0), split (train, val, test). From column `label_start_index` on, every other column is a label. A file
    is found below the input folder by its path, else by its bare name, with or without suffix.
    """

    name: ClassVar[str] = "manifest"

    input: str = ""
    """Folder of the recordings."""
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
    task: Task = "multi_label"
    """multi_label: 0 or 1 in each label column. multi_class: one 1 per row, or a single column of class names.
    regression: a number in each label column, empty where it is not known."""
    sampling_rate_hz: float = 500.0
    """Rate of files that do not say it (.npy), Hz."""
    units: Units = "auto"
    """Unit of files that do not say it. `auto`: mV where the amplitudes are an ECG's in mV, otherwise uV or V."""
    lead_names: tuple[str, ...] = ()
    """Leads of all files that do not name them, in order: `[I, II, V1]`. Where every array has the 12 or 8 usual ones
    none are needed; arrays of another number of leads than these are then set aside."""
    split: SplitConfig = field(default_factory=SplitConfig)
    """How labels and recordings are thinned out, and divided where nothing gives the split."""

    def __post_init__(self) -> None:
        if self.manifest and (self.train or self.val or self.test):
            raise ConfigError("manifest: wanted either one manifest or train, val and test files, got both; drop one")
        if self.label_start_index < 0:
            raise ConfigError(f"label_start_index: wanted 0 or more, got {self.label_start_index}")
        if self.task not in ("multi_label", "multi_class", "regression"):
            raise ConfigError(f"task: wanted multi_label, multi_class or regression, got {self.task}")
        self.options()

    def options(self) -> ReadOptions:
        """What readers are told of files that do not say it. Raises ConfigError."""
        return ReadOptions(sampling_rate_hz=self.sampling_rate_hz, units=self.units, lead_names=self.lead_names or None)

    def listing(self) -> Listing:
        """All rows but those without a file name. A file that is not there is listed, and fails when read."""
        frame, described = self._frame()
        labels_in = label_columns(list(frame.columns), self.label_start_index, described)
        empty = frame[PATH].isna().to_numpy()
        dropped = [(f"{described} row {row + 1}", "it has no file name") for row in np.flatnonzero(empty)]
        frame = frame[~empty].reset_index(drop=True)
        names = frame[PATH].tolist()
        label_sets, labels = [], {}
        if labels_in:
            label_set, labels[_LABEL_SET] = read_labels(
                frame, labels_in, task=self.task, name=_LABEL_SET, names=names, described=described
            )
            label_sets = [label_set]
        return build_listing(
            source=self.name,
            described=described,
            record_ids=texts(frame, "record_id", default=[os.path.splitext(name)[0] for name in names]),
            paths=self._paths(names),
            splits=_given_splits(frame, described),
            split=self.split,
            patient_ids=texts(frame, "patient_id"),
            ages_years=ages_years(frame, names, described),
            sexes=sexes(frame),
            label_sets=label_sets,
            labels=labels,
            dropped=dropped,
        )

    def read(self, row: dict[str, Any]) -> Recording:
        """The file of one row."""
        with local_copy(files.within(self.input, row["path"])) as path:
            recording = read_recording(path, record_id=row["record_id"], options=self.options())
        return replace(
            recording,
            patient_id=row["patient_id"],
            age_years=recording.age_years if row["age_years"] is None else row["age_years"],
            sex=recording.sex if row["sex"] is None else row["sex"],
        )

    def _paths(self, names: list[str]) -> list[str]:
        """Where each file is: as named, or where one walk over the input folder found it."""
        index: FolderIndex | None = None
        paths = []
        for name in names:
            if files.is_rooted(name) and ("://" in name or os.path.exists(name) or os.path.exists(name + ".hea")):
                paths.append(name)
                continue
            if index is None:
                index = FolderIndex.of(self.input, find_recordings(self.input).paths)
            paths.append(index.find(name) or name)
        return paths

    def _frame(self) -> tuple[pd.DataFrame, str]:
        """All rows with their columns, the split among them where files give it, and what to call them in messages."""
        by_split = {split: path for split in ("train", "val", "test") if (path := getattr(self, split))}
        if not by_split:
            path = self.manifest or files.join(self.input, _DEFAULT_CSV)
            return read_csv(path), path
        frames = {split: read_csv(path) for split, path in by_split.items()}
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


def _given_splits(frame: pd.DataFrame, described: str) -> np.ndarray | None:
    if "split" not in frame:
        return None
    if frame["split"].isna().any():
        row = int(np.flatnonzero(frame["split"].isna())[0])
        raise InputError(f"{described}: {frame[PATH][row]}: wanted train, val or test in `split`, got nothing")
    return frame["split"].to_numpy()
