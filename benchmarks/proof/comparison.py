"""Finished trials side by side: means and spreads over seeds, and each recipe's gain over the baseline."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.proof.recordings import Recordings
from benchmarks.proof.trials import JUDGED_FOLD, SUBSETS, Stage, judged_labels
from benchmarks.report import Row
from hubert_ecg.evaluation.paired import Arm, paired_bootstrap

BASELINE = "resnet"
DRAWS = 2000


def compare(
    recordings: Recordings, output: Path, label_set: str, stage: Stage, recipes: Sequence[str]
) -> dict[str, Any]:
    """Subset -> recipe -> figures, of all seeds of which a recipe's trials are finished.

    The interval is of a paired bootstrap over patients and, where both recipes have several, seeds.
    """
    folder = output / label_set / stage
    finished = {name: _finished(folder, name) for name in recipes}
    return {
        subset: {
            name: _figures(recordings, label_set, trials, finished.get(BASELINE, {}), subset)
            for name, trials in finished.items()
            if trials
        }
        for subset in SUBSETS
    }


def rows(label_set: str, stage: Stage, found: dict[str, Any]) -> Iterator[Row]:
    """Each recipe's mean over seeds, and its gain over the baseline."""
    for subset, of_recipes in found.items():
        for recipe, figures in of_recipes.items():
            name = f"{label_set}, fold {JUDGED_FOLD[stage]}, {subset} recordings, {recipe}"
            spread = {} if figures["sd"] is None else {"standard deviation over seeds": figures["sd"]}
            counts = {"seeds": len(figures["per_seed"]), "recordings": figures["recordings"]}
            yield Row(
                name=name,
                ours=(figures["mean"],),
                unit="macro AUROC",
                more_is_better=True,
                facts=spread | counts | {"weights": figures["parameters"], "training s": max(figures["train_seconds"])},
            )
            if "gain" in figures:
                gain = figures["gain"]
                yield Row(
                    name=f"{name}, gain",
                    ours=(gain["difference"],),
                    unit="macro AUROC",
                    against=BASELINE,
                    more_is_better=True,
                    interval=(gain["lower"], gain["upper"]),
                    facts=counts,
                )


def _finished(folder: Path, name: str) -> dict[int, dict[str, Any]]:
    """Seed -> results of a finished trial, with its `rows` and `probabilities`."""
    found = {}
    for path in sorted(folder.glob(f"{name}_seed*.json")):
        results = json.loads(path.read_text())
        if results["trial"]["name"] == name:
            with np.load(path.with_suffix(".npz")) as arrays:
                found[results["trial"]["seed"]] = results | {key: arrays[key] for key in arrays.files}
    return dict(sorted(found.items()))


def _figures(
    recordings: Recordings,
    label_set: str,
    trials: dict[int, dict[str, Any]],
    baseline: dict[int, dict[str, Any]],
    subset: str,
) -> dict[str, Any]:
    per_seed = {seed: trial["scores"][subset]["macro_auroc"] for seed, trial in trials.items()}
    first = next(iter(trials.values()))
    figures: dict[str, Any] = {
        "recordings": first["scores"][subset]["recordings"],
        "per_seed": per_seed,
        "mean": float(np.mean(list(per_seed.values()))),
        "sd": float(np.std(list(per_seed.values()), ddof=1)) if len(per_seed) > 1 else None,
        "train_seconds": [trial["train_seconds"] for trial in trials.values()],
        "cpu_seconds": [trial["cpu_seconds"] for trial in trials.values()],
        "parameters": first["parameters"],
        "auroc": {seed: trial["scores"][subset]["auroc"] for seed, trial in trials.items()},
        "code": {seed: trial["code"] for seed, trial in trials.items()},
    }
    if baseline and first["trial"]["name"] != BASELINE:
        figures["gain"] = _gain(recordings, label_set, trials, baseline, subset)
    return figures


def _gain(
    recordings: Recordings,
    label_set: str,
    trials: dict[int, dict[str, Any]],
    baseline: dict[int, dict[str, Any]],
    subset: str,
) -> dict[str, Any]:
    rows = next(iter(trials.values()))["rows"]
    kept = SUBSETS[subset](recordings)[rows]
    labels, columns = judged_labels(recordings, label_set)
    targets = recordings.label_sets[label_set].targets[np.ix_(rows[kept], columns)]
    first, second = (
        Arm(scores=[trial["probabilities"][kept][:, columns] for trial in arm.values()]) for arm in (trials, baseline)
    )
    found = paired_bootstrap(
        targets,
        first,
        second,
        labels,
        rng=np.random.default_rng(0),
        patient_ids=recordings.patient_ids[rows[kept]].tolist(),
        draws=DRAWS,
    )["auroc"].to_dict()
    return found["macro"] | {"per_label": {label: d["difference"] for label, d in found["per_label"].items()}}
