"""One trial: train a recipe on the folds of a stage, judge it on the fold after them, and keep what came out.

A finished trial lies in two files, `NAME.json` (settings, scores, times) and `NAME.npz` (predictions, for paired
intervals), and is not run again.
"""

import json
import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.pretraining import Pretraining
from benchmarks.proof.recipes import Recipe
from benchmarks.proof.recordings import Recordings
from benchmarks.proof.training import make_targets, predict, train
from hubert_ecg.errors import ConfigError
from hubert_ecg.evaluation.metrics import evaluate_multi_label
from hubert_ecg.storage.artifact import code_version

log = logging.getLogger(__name__)

Stage = str
"""`choose`, `judge`, or the name of a turn of a cross-validation (rotation.py)."""
FOLDS = range(1, 10)
"""Fold 10 is not among the recordings."""
JUDGED_FOLD: dict[Stage, int] = {"choose": 8, "judge": 9} | {f"turn{fold}": fold for fold in FOLDS[:-1]}
"""Trained are all folds before it; in a turn all others. The turn of fold 9 would be `judge` over again."""
NATURAL_ONLY = ("superclass",)
"""Label sets that are learnt from the recordings drawn at random alone; others from all."""
TOO_RARE = ("AFLT",)
"""Learnt, but not judged on one fold: atrial flutter has 3 positives in fold 9."""
SUBSETS: dict[str, Callable[[Recordings], np.ndarray]] = {
    "natural": lambda recordings: recordings.natural,
    "all": lambda recordings: np.ones(len(recordings.folds), bool),
}
"""Recordings that are judged together -> [N] bool. `natural`: drawn at random."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What one training is of."""

    name: str
    """Of the recipe."""
    recipe: Recipe
    label_set: str
    stage: Stage
    seed: int

    def path(self, output: Path) -> Path:
        """Of its JSON file."""
        return output / self.label_set / self.stage / f"{self.name}_seed{self.seed}.json"


def split_rows(recordings: Recordings, label_set: str, stage: Stage) -> tuple[np.ndarray, np.ndarray]:
    """Rows that train and rows that are judged. Those that train need no answer where others supply the loss."""
    fold = JUDGED_FOLD[stage]
    trains = recordings.folds != fold if stage.startswith("turn") else recordings.folds < fold
    usable = recordings.natural if label_set in NATURAL_ONLY else np.ones(len(recordings.folds), bool)
    training = np.flatnonzero(trains & usable)
    judged = np.flatnonzero((recordings.folds == fold) & recordings.label_sets[label_set].answered)
    return training, judged


def load(path: Path, recordings: Recordings) -> dict[str, Any]:
    """The results of a finished trial. Raises ConfigError for one of other recordings."""
    found: dict[str, Any] = json.loads(path.read_text())
    if found["recordings"] != recordings.fingerprint:
        raise ConfigError(
            f"{path}: wanted a trial of recordings {recordings.fingerprint}, got one of {found['recordings']}; "
            "name another --output or delete the file"
        )
    return found


def run(trial: Trial, recordings: Recordings, output: Path, pretraining: Pretraining | None = None) -> dict[str, Any]:
    """The trial's results, from its file if it is finished.

    Raises ConfigError where it lacks a pre-training, and for a file of another recipe, pre-training or recordings.
    """
    path = trial.path(output)
    settings = json.loads(json.dumps(asdict(trial)))
    if path.exists():
        found = load(path, recordings)
        made = pretraining.fingerprint if pretraining else None
        if found["trial"] != settings or (made and made != found["checkpoint"]):
            raise ConfigError(f"{path}: holds a trial with other settings; rename the recipe or delete the file")
        return found
    start, recipe = time.monotonic(), trial.recipe
    if recipe.pretrained and pretraining is None:
        raise ConfigError(f"{trial.name}: wanted a pre-training to start from, got none")
    checkpoint = pretraining.checkpoint() if pretraining else None
    training, judged = split_rows(recordings, trial.label_set, trial.stage)
    signals = recordings.scaled if recipe.scaled else recordings.signals_mv
    targets = make_targets(recordings, trial.label_set, auxiliary=recipe.auxiliary > 0)
    if not recipe.auxiliary:
        training = training[recordings.label_sets[trial.label_set].answered[training]]
    log.info("%s, seed %d: %d train, %d judged", trial.name, trial.seed, len(training), len(judged))
    model, history = train(
        signals, targets, training, recipe, rate_hz=recordings.rate_hz, seed=trial.seed, checkpoint=checkpoint
    )
    trained_s = time.monotonic() - start
    samples = round(recipe.crop_s * recordings.rate_hz)
    of_set = recordings.label_sets[trial.label_set]
    probabilities = predict(model, signals, judged, samples=samples, labels=len(of_set.labels))
    results = {
        "trial": settings,
        "scores": judge(recordings, trial.label_set, judged, probabilities),
        "training_recordings": len(training),
        "parameters": sum(weights.numel() for weights in model.parameters() if weights.requires_grad),
        "train_seconds": round(trained_s, 1),
        "cpu_seconds": round(sum(epoch["cpu_seconds"] for epoch in history), 1),
        "epochs": history,
        "recordings": recordings.fingerprint,
        "checkpoint": pretraining.fingerprint if pretraining else None,
        "code": code_version(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path.with_suffix(".npz"), rows=judged, probabilities=probabilities)
    path.write_text(json.dumps(results, indent=1) + "\n")
    return results


def judge(
    recordings: Recordings, label_set: str, rows: np.ndarray, probabilities: np.ndarray
) -> dict[str, dict[str, Any]]:
    """Per subset of the judged recordings: AUROC per label, its mean, and the mean cross-entropy."""
    labels, columns = judged_labels(recordings, label_set)
    targets, found = recordings.label_sets[label_set].targets[np.ix_(rows, columns)], {}
    for subset, belongs in SUBSETS.items():
        kept = belongs(recordings)[rows]
        truth, scores = targets[kept], probabilities[np.ix_(kept, columns)]
        metrics = evaluate_multi_label(truth, scores, labels)
        likelihood = np.where(truth, scores, 1 - scores).clip(1e-7)
        found[subset] = {
            "recordings": int(kept.sum()),
            "macro_auroc": metrics.macro.auroc,
            "cross_entropy": float(-np.log(likelihood).mean()),
            "auroc": {label.label: label.auroc for label in metrics.per_label},
            "positives": {label.label: label.positives for label in metrics.per_label},
        }
    return found


def judged_labels(recordings: Recordings, label_set: str) -> tuple[list[str], list[int]]:
    """Labels that are judged, and their columns."""
    labels = recordings.label_sets[label_set].labels
    columns = [place for place, label in enumerate(labels) if label not in TOO_RARE]
    return [labels[place] for place in columns], columns
