"""The recordings of a prepared table in memory, in millivolts, with what is known of them.

Shapes: N recordings, T samples of a lead, L labels.
"""

import hashlib
import json
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np

from hubert_ecg.datasets.ptbxl import PtbxlSource
from hubert_ecg.errors import ConfigError
from hubert_ecg.pipeline.prepare import PrepareConfig, label_sets_of, prepare
from hubert_ecg.storage import files, tables
from hubert_ecg.storage.artifact import Manifest, open_artifact
from hubert_ecg.training.targets import is_answered

LARGEST_MV = 5.0
"""Beyond it there are artefacts of up to 10 mV, and no heart."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelColumn:
    """The answers to one label set."""

    labels: tuple[str, ...]
    targets: np.ndarray
    """[N, L] bool."""
    answered: np.ndarray
    """[N] bool; a recording without an answer neither trains nor judges this set."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Recordings:
    """All recordings of a table, row by row."""

    signals_mv: np.ndarray
    """[N, 12, T] float32, band-passed, at most `LARGEST_MV` to each side."""
    scaled: np.ndarray
    """[N, 12, T] float32: the same with each lead scaled to -1 to 1 over the whole record, as the model's contract has
    it."""
    record_ids: np.ndarray
    patient_ids: np.ndarray
    folds: np.ndarray
    """[N] official fold."""
    natural: np.ndarray
    """[N] bool: drawn at random; the others were added for their diagnosis."""
    ages_years: np.ndarray
    """[N] float32, NaN where unknown."""
    female: np.ndarray
    """[N] float32, 0 or 1, NaN where unknown."""
    label_sets: dict[str, LabelColumn]
    rate_hz: int
    fingerprint: str
    """Of all of it, whatever table it came from."""

    @classmethod
    def prepared(cls, ptbxl: str, output: str) -> Self:
        """Of a folder of benchmarks.subset; jobs.prepare makes the table where it is not there yet.

        Raises ConfigError for a folder that does not tell what was drawn at random.
        """
        source = PtbxlSource(rate_hz=100, val_fold=8, test_fold=9)
        found = cls.read(prepare(PrepareConfig(source="ptbxl", input=ptbxl, ptbxl=source, output=output)).directory)
        if not found.natural.any():
            raise ConfigError(
                f"--input {ptbxl}: wanted recordings that say how they were drawn, got none; "
                f"`python -m benchmarks.subset --input {ptbxl} --output FOLDER` lays them out"
            )
        return found

    @classmethod
    def read(cls, waveforms: str) -> Self:
        """The output of jobs.prepare with `--source ptbxl`. Raises ArtifactError for anything else."""
        manifest = open_artifact(waveforms, verb="prepare")
        parts = [_read_part(manifest, part) for part in range(manifest.parts)]
        columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        kept = {field.name for field in fields(cls)} & set(columns)
        label_sets = label_sets_of(manifest)
        return cls(
            **{name: columns[name] for name in kept},
            label_sets={
                name: _label_column(found.labels, columns[tables.LABEL_PREFIX + name], found.none_is_negative)
                for name, found in label_sets.items()
            },
            rate_hz=int(manifest.config["preprocess"]["sampling_rate_hz"]),
            fingerprint=_fingerprint(columns | {f"names.{n}": np.array(f.labels) for n, f in label_sets.items()}),
        )


def _fingerprint(columns: dict[str, np.ndarray]) -> str:
    """The first 16 digits of the SHA-256 of names and values."""
    digest = hashlib.sha256()
    for name, column in sorted(columns.items()):
        plain = column.dtype.kind in "bif"
        digest.update(name.encode() + (column.tobytes() if plain else json.dumps(column.tolist()).encode()))
    return digest.hexdigest()[:16]


def _read_part(manifest: Manifest, part: int) -> dict[str, np.ndarray]:
    table = files.read_table(manifest.part(part))
    counts = np.stack([row.reshape(12, -1) for row in tables.list_rows(table["counts"])])
    offset, gain = (tables.stack_rows(table[name])[:, :, None] for name in ("offset_mv", "gain_mv"))
    scaled = counts / np.float32(manifest.config["preprocess"]["counts_per_unit"])
    sexes = table["sex"].to_pylist()
    labels = [name for name in table.column_names if name.startswith(tables.LABEL_PREFIX)]
    return {
        "signals_mv": (offset + gain * scaled).clip(-LARGEST_MV, LARGEST_MV).astype(np.float32),
        "scaled": scaled.astype(np.float32),
        "record_ids": np.array(table["record_id"].to_pylist(), object),
        "patient_ids": np.array(table["patient_id"].to_pylist(), object),
        "folds": table["fold"].to_numpy(),
        "natural": np.array(["natural" in (tags or ()) for tags in table["tags"].to_pylist()], bool),
        "ages_years": np.array([np.nan if a is None else a for a in table["age_years"].to_pylist()], np.float32),
        "female": np.array([np.nan if s is None else s == "female" for s in sexes], np.float32),
        **{name: _objects(table[name].to_pylist()) for name in labels},
    }


def _objects(values: list[Any]) -> np.ndarray:
    column = np.empty(len(values), object)
    column[:] = values
    return column


def _label_column(labels: tuple[str, ...], answers: np.ndarray, none_is_negative: bool) -> LabelColumn:
    places = {label: place for place, label in enumerate(labels)}
    targets = np.zeros((len(answers), len(labels)), bool)
    for row, answer in enumerate(answers):
        targets[row, [places[label] for label in answer or ()]] = True
    answered = np.array([none_is_negative or is_answered(answer) for answer in answers], bool)
    return LabelColumn(labels=labels, targets=targets, answered=answered)
