"""Finished trials side by side: means and spreads over seeds, and each recipe's gain over the baseline."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.names import BASELINE
from benchmarks.proof.recordings import Recordings
from benchmarks.proof.trials import JUDGED_FOLD, SUBSETS, Stage, judge, judged_labels, load
from benchmarks.report import Row
from hubert_ecg.evaluation.paired import Arm, paired_bootstrap

DRAWS = 2000


def compare(
    recordings: Recordings,
    output: Path,
    label_set: str,
    stage: Stage,
    recipes: Sequence[str],
    seeds: Sequence[int] = (),
    new_seed: int | None = None,
) -> dict[str, Any]:
    """Subset -> recipe -> figures, of those of the seeds of which a recipe's trials are finished; no seeds: of all.

    The interval is of a paired bootstrap over patients and, where both recipes have several, seeds. `new_seed` is none
    of those that make the mean and the spread, but is told beside them.
    """
    folder = output / label_set / stage
    finished = {name: finished_trials(recordings, folder, name) for name in recipes}
    new = {
        name: trials.pop(new_seed) for name, trials in finished.items() if new_seed is not None and new_seed in trials
    }
    if seeds:
        finished = {name: {seed: trials[seed] for seed in seeds if seed in trials} for name, trials in finished.items()}
    return {
        subset: {
            name: _figures(recordings, label_set, trials, finished.get(BASELINE, {}), subset)
            | ({"new_seed": new[name]["scores"][subset]["macro_auroc"]} if name in new else {})
            for name, trials in finished.items()
            if trials
        }
        for subset in SUBSETS
    }


def rows(label_set: str, stage: Stage, found: dict[str, Any]) -> Iterator[Row]:
    """Each recipe's mean over seeds, a new seed beside it, all of its models together, and what they gain."""
    for subset, of_recipes in found.items():
        for recipe, figures in of_recipes.items():
            name = f"{label_set}, fold {JUDGED_FOLD[stage]}, {subset} recordings, {recipe}"
            counts = {"seeds": len(figures["per_seed"]), "recordings": figures["recordings"]}
            spread = {} if figures["sd"] is None else {"standard deviation over seeds": figures["sd"]}
            costs = {"weights": figures["parameters"], "CPU s": max(figures["cpu_seconds"])}
            yield _row(name, figures["mean"], spread | counts | costs)
            if "new_seed" in figures:
                yield _row(f"{name}, a new seed", figures["new_seed"], _distance(figures))
            if "gain" in figures:
                yield _gain_row(f"{name}, gain", figures["gain"], counts, BASELINE)
            if "together" in figures:
                costs = {"CPU s": sum(figures["cpu_seconds"])}
                yield _row(f"{name}, all models together", figures["together"], counts | costs)
            if "gain_together" in figures:
                beside = f"all models of {BASELINE} together"
                yield _gain_row(f"{name}, all models together, gain", figures["gain_together"], counts, beside)


def _distance(figures: dict[str, Any]) -> dict[str, float]:
    """How far the new seed lies from the others; nothing where they do not differ."""
    if not figures["sd"]:
        return {}
    return {"standard deviations from the mean": (figures["new_seed"] - figures["mean"]) / figures["sd"]}


def _row(name: str, value: float, facts: dict[str, float]) -> Row:
    return Row(name=name, ours=(value,), unit="macro AUROC", more_is_better=True, facts=facts)


def _gain_row(name: str, gain: dict[str, Any], counts: dict[str, float], against: str) -> Row:
    return Row(
        name=name,
        ours=(gain["difference"],),
        unit="macro AUROC",
        against=against,
        more_is_better=True,
        interval=(gain["lower"], gain["upper"]),
        facts=counts,
    )


def finished_trials(recordings: Recordings, folder: Path, name: str) -> dict[int, dict[str, Any]]:
    """Seed -> results of a finished trial, with its `rows` and `probabilities`."""
    found = {}
    for path in sorted(folder.glob(f"{name}_seed*.json")):
        results = load(path, recordings)
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
    together = [_together(arm) for arm in (trials, baseline)]
    if len(trials) > 1:
        figures["together"] = judge(recordings, label_set, first["rows"], together[0][0]["probabilities"])[subset][
            "macro_auroc"
        ]
    if baseline and first["trial"]["name"] != BASELINE:
        figures["gain"] = _gain(recordings, label_set, trials, baseline, subset)
        if min(len(trials), len(baseline)) > 1:
            figures["gain_together"] = _gain(recordings, label_set, *together, subset)
    return figures


def _together(trials: dict[int, dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """One trial in place of several: the mean of their probabilities."""
    if not trials:
        return {}
    first = next(iter(trials.values()))
    return {0: first | {"probabilities": np.mean([trial["probabilities"] for trial in trials.values()], axis=0)}}


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
