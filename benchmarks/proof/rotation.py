"""Cross-validation over the nine folds, for what is too rare to be judged on one of them: atrial flutter.

Each fold is judged by a model that was trained on the other eight; the predictions are put together and judged once.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.proof.comparison import DRAWS, finished_trials
from benchmarks.proof.recordings import Recordings
from benchmarks.proof.trials import JUDGED_FOLD, Stage
from benchmarks.report import Row
from hubert_ecg.evaluation.bootstrap import bootstrap_auroc

TURNS: tuple[Stage, ...] = (*(stage for stage in JUDGED_FOLD if stage.startswith("turn")), "judge")
"""Stages whose judged folds are all nine."""


def put_together(recordings: Recordings, output: Path, label_set: str, recipe: str, seed: int) -> dict[str, Any]:
    """AUROC of every label over all folds, with its interval over patients; all turns have to be finished."""
    found = [finished_trials(recordings, output / label_set / stage, recipe)[seed] for stage in TURNS]
    rows = np.concatenate([trial["rows"] for trial in found])
    probabilities = np.concatenate([trial["probabilities"] for trial in found])
    of_set = recordings.label_sets[label_set]
    intervals = bootstrap_auroc(
        of_set.targets[rows],
        probabilities,
        of_set.labels,
        rng=np.random.default_rng(0),
        patient_ids=recordings.patient_ids[rows].tolist(),
        draws=DRAWS,
    )
    return {
        "recordings": len(rows),
        "positives": dict(zip(of_set.labels, of_set.targets[rows].sum(axis=0).tolist(), strict=True)),
        "auroc": intervals.to_dict(),
        "cpu_seconds": [trial["cpu_seconds"] for trial in found],
    }


def rotation_rows(label_set: str, recipe: str, found: dict[str, Any]) -> Iterator[Row]:
    """Every label."""
    for label, auroc in found["auroc"]["per_label"].items():
        yield Row(
            name=f"{label_set}, nine folds, all recordings, {recipe}, {label}",
            ours=(auroc["estimate"],),
            unit="AUROC",
            more_is_better=True,
            interval=(auroc["lower"], auroc["upper"]),
            facts={"positives": found["positives"][label], "recordings": found["recordings"]},
        )
