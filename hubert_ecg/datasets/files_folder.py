"""`files`: any folder of recordings, or a list of their paths, without a data set's conventions."""

import io
import posixpath
import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import pandas as pd
import pyarrow as pa

from hubert_ecg.datasets.folder import FolderIndex, find_recordings
from hubert_ecg.datasets.label_csv import PATH, ages_years, label_columns, read_csv, read_labels, sexes, texts
from hubert_ecg.datasets.labels import Task
from hubert_ecg.datasets.source import Listing, build_listing
from hubert_ecg.datasets.splits import SplitConfig, patient_disjoint_split
from hubert_ecg.datasets.wfdb_segments import without_segments
from hubert_ecg.ecg.recording import Recording
from hubert_ecg.errors import ConfigError, InputError, RecordingError
from hubert_ecg.formats import ReadOptions, count_recordings, read_recording
from hubert_ecg.formats.options import Units
from hubert_ecg.storage import files
from hubert_ecg.storage.local_copy import local_copy

_LABEL_SET = "files"
_BATCHES = (".npy", ".npz")
_ONE_OF_A_BATCH = re.compile(r"(.+)\.np[yz](#\d+)", re.IGNORECASE)
_THREADS = 8


@dataclass(frozen=True, kw_only=True)
class FilesSource:
    """Every recording below a folder whatever its format, or those that a text or CSV file lists.

    Other files are counted and left alone. The recording's id is its path without suffix.
    """

    name: ClassVar[str] = "files"

    input: str = ""
    """The folder; or a text file with one path per line, or a CSV with a column `filename` or `path`, whose paths are
    absolute or relative to the list."""
    pattern: str = ""
    """Take the files whose paths below the folder match this (`*.ecg`, `ward3/*`) instead of the known suffixes."""
    batches: bool = False
    """Whether .npy and .npz files hold several recordings each; then every one of them is opened to count them."""
    sampling_rate_hz: float = 500.0
    """Rate of files that do not say it (.npy), Hz."""
    units: Units = "auto"
    """Unit of files that do not say it. `auto`: mV where the amplitudes are an ECG's in mV, otherwise uV or V."""
    lead_names: tuple[str, ...] = ()
    """Leads of all files that do not name them, in order: `[I, II, V1]`. Where every array has the 12 or 8 usual ones
    none are needed; arrays of another number of leads than these are then set aside."""
    labels: str = ""
    """CSV with `filename` or `record_id` and a column per label; patient_id, age, sex and split are understood too."""
    label_start_index: int = 1
    """Position of the first label column in it, counted from 0."""
    task: Task = "multi_label"
    """What its labels are."""
    split: SplitConfig = field(default_factory=SplitConfig)
    """How the recordings are divided where the CSV does not say it."""

    def __post_init__(self) -> None:
        self.options()
        if self.label_start_index < 0:
            raise ConfigError(f"label_start_index: wanted 0 or more, got {self.label_start_index}")
        if self.task not in ("multi_label", "multi_class", "regression"):
            raise ConfigError(f"task: wanted multi_label, multi_class or regression, got {self.task}")

    def options(self) -> ReadOptions:
        """What readers are told of files that do not say it. Raises ConfigError."""
        return ReadOptions(sampling_rate_hz=self.sampling_rate_hz, units=self.units, lead_names=self.lead_names or None)

    def listing(self) -> Listing:
        """Names only: no file is opened but the list, the labels, WFDB headers that seem to have segments beside them
        and, where asked, batches."""
        if files.is_file(self.input):
            names, left_out = _listed(self.input), {}
            folder = self.input.rpartition("/")[0]
        else:
            found = find_recordings(self.input, pattern=self.pattern)
            names, segments = without_segments(self.input, [path for path in found.paths if not self._is_labels(path)])
            left_out = found.left_out | ({"segments of other WFDB records": segments} if segments else {})
            folder = ""
        labelled = _LabelFile.read(self, names) if self.labels else None
        if self.batches:
            names = self._with_batches(names, folder)
        return build_listing(
            source=self.name,
            described=self.input,
            record_ids=_record_ids(names),
            paths=[files.within(folder, name) for name in names] if folder else names,
            split=self.split,
            left_out=left_out,
            **(labelled.columns(names) if labelled else {}),
        )

    def read(self, row: dict[str, Any]) -> Recording:
        """The file of one row, or its recording of a batch; the labels file's person wins over the file's own."""
        with local_copy(files.within(self.input, row["path"])) as path:
            recording = self._read_file(path, row["record_id"])
        said = {name: row[name] for name in ("patient_id", "age_years", "sex") if row[name] is not None}
        return replace(recording, **said)

    def _read_file(self, path: str, record_id: str) -> Recording:
        try:
            return read_recording(path, record_id=record_id, options=self.options())
        except RecordingError as error:
            if error.reason != "several recordings":
                raise
            raise RecordingError(error.reason, f"{error} (--files.batches true does)") from error

    def split_of(self, patient_id: str, listed: str) -> str:
        """The split of a recording whose patient only its file names: drawn by patient, so that no one stands in two.

        It stays as listed where a labels file or stratification had more to go by than the names of files.
        """
        if self.labels or self.split.method != "hash" or self.split.num_folds:
            return listed
        shares = {"val_fraction": self.split.val_fraction, "test_fraction": self.split.test_fraction}
        return str(patient_disjoint_split([patient_id], [""], seed=self.split.seed, **shares)[0])

    def _is_labels(self, path: str) -> bool:
        return bool(self.labels) and files.absolute(files.join(self.input, path)) == files.absolute(self.labels)

    def _with_batches(self, names: list[str], folder: str) -> list[str]:
        """Each batch replaced by its recordings, `name.npy#0` and so on."""
        batches = [name for name in names if name.lower().endswith(_BATCHES)]
        paths = [files.within(folder or self.input, name) for name in batches]
        with ThreadPoolExecutor(_THREADS) as pool:
            counts = dict(zip(batches, pool.map(_count, paths), strict=True))
        expanded = []
        for name in names:
            count = counts.get(name, 1)
            expanded += [name] if count == 1 else [f"{name}#{place}" for place in range(count)]
        return expanded


@dataclass(frozen=True, kw_only=True)
class _LabelFile:
    """What the labels file says, by recording."""

    listing: dict[str, Any]
    """Arguments of build_listing, one entry per row of the CSV."""
    row_of: dict[str, int]
    """Path of the recording -> its row."""

    @classmethod
    def read(cls, source: FilesSource, paths: list[str]) -> "_LabelFile":
        frame = read_csv(source.labels, wanted=(PATH, "record_id"))
        key = PATH if PATH in frame else "record_id"
        names = [str(name) for name in frame[key]]
        row_of = _rows(names, paths, source)
        columns = label_columns(list(frame.columns), source.label_start_index, source.labels)
        said: dict[str, Any] = {
            "patient_ids": texts(frame, "patient_id"),
            "ages_years": ages_years(frame, names, source.labels),
            "sexes": sexes(frame),
        }
        if "split" in frame:
            said["splits"] = texts(frame, "split")
        if columns:
            label_set, column = read_labels(
                frame, columns, task=source.task, name=_LABEL_SET, names=names, described=source.labels
            )
            # What the file does not mention was not asked, so that only a complete file makes negatives.
            complete = label_set.none_is_negative and len(row_of) == len(paths)
            said["label_sets"] = [replace(label_set, none_is_negative=complete)]
            said["labels"] = {_LABEL_SET: column}
        return cls(listing=said, row_of=row_of)

    def columns(self, paths: list[str]) -> dict[str, Any]:
        """The arguments for these recordings: null where the file does not mention one."""
        rows = [self.row_of.get(_batch_of(path)) for path in paths]
        taken = pa.array(rows, pa.int64())
        columns: dict[str, Any] = {}
        for name, values in self.listing.items():
            if name == "labels":
                columns[name] = {label_set: column.take(taken) for label_set, column in values.items()}
            elif name == "label_sets":
                columns[name] = values
            else:
                columns[name] = [None if row is None else values[row] for row in rows]
        return columns


def _batch_of(path: str) -> str:
    return path.rpartition("#")[0] if _ONE_OF_A_BATCH.fullmatch(path) else path


def _rows(names: list[str], paths: list[str], source: FilesSource) -> dict[str, int]:
    """Path -> row of the labels file. Raises InputError for names that fit no recording, or two."""
    index = FolderIndex.of(source.input, paths)
    row_of: dict[str, int] = {}
    for row, name in enumerate(names):
        path = index.find(name)
        if path is None:
            raise InputError(f"{source.labels}: {name}: wanted a recording of {source.input}, got none of that name")
        if path in row_of:
            raise InputError(f"{source.labels}: {name}: wanted one row per recording, got two for {path}")
        row_of[path] = row
    return row_of


def _count(path: str) -> int:
    """Recordings in a file; a damaged one counts as one, which fails when it is read."""
    try:
        with local_copy(path) as local:
            return count_recordings(local)
    except RecordingError:
        return 1


def _listed(list_path: str) -> list[str]:
    """The paths of a list as they stand in it."""
    text = files.read_bytes(list_path).decode("utf-8-sig")
    if not list_path.lower().endswith((".csv", ".tsv")):
        return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    frame = pd.read_csv(io.StringIO(text), dtype=str, sep="\t" if list_path.lower().endswith(".tsv") else ",")
    column = next((name for name in (PATH, "path") if name in frame), None)
    if column is None:
        raise InputError(f"{list_path}: wanted a column {PATH} or path, got {', '.join(map(str, frame.columns))}")
    return [str(name) for name in frame[column].dropna()]


def _record_ids(names: list[str]) -> list[str]:
    """Names without suffix, but with it where two would be the same. A growing folder renames nothing else."""
    short = [_without_suffix(name) for name in names]
    counts = Counter(short)
    return [stem if counts[stem] == 1 else name for stem, name in zip(short, names, strict=True)]


def _without_suffix(name: str) -> str:
    match = _ONE_OF_A_BATCH.fullmatch(name)
    return match[1] + match[2] if match else posixpath.splitext(name)[0]
