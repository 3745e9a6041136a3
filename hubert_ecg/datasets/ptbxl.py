"""PTB-XL in its official layout: official folds, and labels aggregated from SCP statements as its benchmark does.

Wagner et al., PTB-XL, a large publicly available electrocardiography dataset, Scientific Data 2020;
Strodthoff et al., Deep Learning for ECG Analysis: Benchmarks and Insights from PTB-XL, IEEE JBHI 2021.
"""

import ast
import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import pandas as pd

from hubert_ecg.datasets.source import LabelSet, Listing, build_listing
from hubert_ecg.datasets.splits import SplitConfig
from hubert_ecg.ecg.recording import Recording
from hubert_ecg.ecg.simulate import CONDITIONS
from hubert_ecg.errors import ConfigError, InputError
from hubert_ecg.formats import read_recording
from hubert_ecg.storage import files
from hubert_ecg.storage.local_copy import local_copy

DATABASE = "ptbxl_database.csv"
STATEMENTS = "scp_statements.csv"
_NUM_FOLDS = 10
_PATH_COLUMNS = {100: "filename_lr", 500: "filename_hr"}
_DATABASE_COLUMNS = ("ecg_id", "patient_id", "age", "sex", "scp_codes", "strat_fold")
_STATEMENT_COLUMNS = ("diagnostic", "form", "rhythm", "diagnostic_class", "diagnostic_subclass")
_SEXES = {0: "male", 1: "female"}
_MEANS_OVER_89_YEARS = 300
_OVER_89_YEARS = 90.0
_TITLES = {
    "all": "all SCP statements",
    "diagnostic": "diagnostic statements",
    "subclass": "diagnostic subclasses",
    "superclass": "diagnostic superclasses",
    "form": "form statements",
    "rhythm": "rhythm statements",
    "conditions": "six conditions",
}


@dataclass(frozen=True, kw_only=True)
class PtbxlSource:
    """A folder of PTB-XL with `ptbxl_database.csv`, `scp_statements.csv` and `records100/` or `records500/`."""

    name: ClassVar[str] = "ptbxl"

    input: str = ""
    """The folder."""
    val_fold: int = 9
    """Official fold for validation, 1 to 10."""
    test_fold: int = 10
    """Official fold for the final test, 1 to 10; all folds but these two are for training."""
    rate_hz: Literal[100, 500] = 500
    """Which of the two published sampling rates to read."""
    min_count: int = 0
    """Labels with fewer recordings than this in the whole data set are removed; their recordings stay."""

    def __post_init__(self) -> None:
        for name, fold in (("val_fold", self.val_fold), ("test_fold", self.test_fold)):
            if not 1 <= fold <= _NUM_FOLDS:
                raise ConfigError(f"{name}: wanted an official fold from 1 to {_NUM_FOLDS}, got {fold}")
        if self.val_fold == self.test_fold:
            raise ConfigError(f"val_fold and test_fold: wanted two folds, got {self.val_fold} twice; change one")
        if self.rate_hz not in _PATH_COLUMNS:
            raise ConfigError(f"rate_hz: wanted 100 or 500, got {self.rate_hz}")
        if self.min_count < 0:
            raise ConfigError(f"min_count: wanted 0 or more recordings, got {self.min_count}")

    def listing(self) -> Listing:
        """All records with their seven label sets; a row whose statements or fold cannot be read is dropped.

        Every statement counts, whatever its likelihood.
        """
        path_column = _PATH_COLUMNS[self.rate_hz]
        database = _read_csv(self.input, DATABASE, (*_DATABASE_COLUMNS, path_column))
        statements = _read_csv(self.input, STATEMENTS, _STATEMENT_COLUMNS, index_col=0)
        rows, codes, dropped = _parse_rows(database, path_column)
        self._check_folds(rows)
        label_sets, answers = _label_sets(statements, codes)
        splits = rows["strat_fold"].map({self.val_fold: "val", self.test_fold: "test"}).fillna("train")
        return build_listing(
            source=self.name,
            record_ids=rows["ecg_id"].astype(str).tolist(),
            paths=rows[path_column].tolist(),
            splits=splits.tolist(),
            split=SplitConfig(min_count=self.min_count),
            patient_ids=[None if pd.isna(value) else f"{value:.0f}" for value in rows["patient_id"]],
            ages_years=[_age_years(value) for value in rows["age"]],
            sexes=[_SEXES.get(value) for value in rows["sex"]],
            folds=rows["strat_fold"].tolist(),
            tags=[[tag] for tag in rows["sample"]] if "sample" in rows else None,
            label_sets=label_sets,
            labels={label_set.name: _positive(label_set, answers[label_set.name], codes) for label_set in label_sets},
            dropped=dropped,
        )

    def read(self, row: dict[str, Any]) -> Recording:
        """The signal of one row, in mV; ids, age and sex are the database's."""
        with local_copy(files.join(self.input, row["path"])) as path:
            recording = read_recording(path, record_id=row["record_id"])
        return replace(recording, patient_id=row["patient_id"], age_years=row["age_years"], sex=row["sex"])

    def _check_folds(self, rows: pd.DataFrame) -> None:
        present = sorted(rows["strat_fold"].unique().tolist())
        for name, fold in (("val_fold", self.val_fold), ("test_fold", self.test_fold)):
            if present and fold not in present:
                raise InputError(f"{self.input}: wanted records in fold {fold}, got folds {present}; change {name}")


def _read_csv(folder: str, name: str, columns: tuple[str, ...], index_col: int | None = None) -> pd.DataFrame:
    path = files.join(folder, name)
    if not files.exists(path):
        raise InputError(f"{path}: no such file; wanted the folder of PTB-XL that holds {DATABASE} and {STATEMENTS}")
    frame = pd.read_csv(io.BytesIO(files.read_bytes(path)), index_col=index_col)
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        raise InputError(f"{path}: wanted columns {', '.join(missing)}, got {', '.join(map(str, frame.columns))}")
    return frame


def _parse_rows(
    database: pd.DataFrame, path_column: str
) -> tuple[pd.DataFrame, list[list[str]], list[tuple[str, str]]]:
    """The rows that can be listed, the SCP statements of each, and (ecg_id, reason) of the others."""
    kept, codes, dropped = [], [], []
    for position, (ecg_id, text, fold, path) in enumerate(
        zip(database["ecg_id"], database["scp_codes"], database["strat_fold"], database[path_column], strict=True)
    ):
        statements = _parse_statements(text)
        if statements is None:
            dropped.append((str(ecg_id), f"scp_codes is no dictionary: {str(text)[:60]}"))
        elif fold not in range(1, _NUM_FOLDS + 1):
            dropped.append((str(ecg_id), f"strat_fold is no fold from 1 to {_NUM_FOLDS}: {fold}"))
        elif not isinstance(path, str):
            dropped.append((str(ecg_id), f"{path_column} is empty"))
        else:
            kept.append(position)
            codes.append(statements)
    return database.iloc[kept].astype({"strat_fold": int}), codes, dropped


def _parse_statements(text: object) -> list[str] | None:
    try:
        value = ast.literal_eval(str(text))
    except (ValueError, SyntaxError):
        return None
    return [str(key) for key in value] if isinstance(value, dict) else None


def _label_sets(
    statements: pd.DataFrame, codes: list[list[str]]
) -> tuple[list[LabelSet], dict[str, Mapping[str, str]]]:
    """The seven label sets, and for each the label that a statement stands for."""
    diagnostic = statements[statements["diagnostic"] == 1.0]
    every = {*map(str, statements.index), *(code for row in codes for code in row)}
    answers: dict[str, Mapping[str, str]] = {
        "all": {code: code for code in every},
        "diagnostic": {code: code for code in diagnostic.index},
        "subclass": _mapping(diagnostic["diagnostic_subclass"]),
        "superclass": _mapping(diagnostic["diagnostic_class"]),
        "form": {code: code for code in statements.index[statements["form"] == 1.0]},
        "rhythm": {code: code for code in statements.index[statements["rhythm"] == 1.0]},
        "conditions": {code: code for code in CONDITIONS},
    }
    label_sets = [
        LabelSet(
            name=name,
            labels=CONDITIONS if name == "conditions" else tuple(sorted(set(answer.values()))),
            none_is_negative=name == "conditions",
            title=_TITLES[name],
        )
        for name, answer in answers.items()
    ]
    return label_sets, answers


def _mapping(column: pd.Series) -> dict[str, str]:
    return {str(code): str(label) for code, label in column.dropna().items()}


def _positive(label_set: LabelSet, answer: Mapping[str, str], codes: list[list[str]]) -> list[list[str]]:
    """Per record the labels its statements stand for, each once, in the order of the set."""
    order = {label: place for place, label in enumerate(label_set.labels)}
    return [sorted({answer[code] for code in row if code in answer}, key=order.__getitem__) for row in codes]


def _age_years(age: float) -> float | None:
    if pd.isna(age):
        return None
    return _OVER_89_YEARS if age == _MEANS_OVER_89_YEARS else float(age)
