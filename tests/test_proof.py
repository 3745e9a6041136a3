"""The proof: targets are mixed as recordings are, folds stay apart, targets say no more than is known."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from benchmarks.proof.__main__ import check
from benchmarks.proof.augment import Augmentation
from benchmarks.proof.comparison import compare, rows
from benchmarks.proof.encoders import Classifier
from benchmarks.proof.recipes import Recipe
from benchmarks.proof.rotation import TURNS, put_together, rotation_rows
from benchmarks.proof.training import Targets, make_targets, predict, train
from benchmarks.proof.trials import Trial, run, split_rows
from hubert_ecg.errors import ConfigError
from tests.benchmark_recordings import recordings


def test_a_mixture_is_mostly_the_first_and_its_targets_alike() -> None:
    leads = torch.arange(6.0).view(6, 1, 1).expand(6, 12, 4)
    targets = torch.eye(6)
    mixed, shares = Augmentation(mixup=0.3).apply(leads, targets, torch.Generator().manual_seed(0))
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(6))
    assert (shares.diagonal() >= 0.5).all()
    torch.testing.assert_close(mixed[:, 0, 0], shares @ torch.arange(6.0))


def test_folds_that_judge_do_not_train() -> None:
    found = recordings()
    training, judged = split_rows(found, "superclass", "choose")
    assert found.folds[training].max() == 7
    assert set(found.folds[judged]) == {8}
    assert found.natural[training].all()
    assert found.label_sets["superclass"].answered[judged].all()
    training, judged = split_rows(found, "conditions", "judge")
    assert found.folds[training].max() == 8
    assert set(found.folds[judged]) == {9}
    assert not found.natural[training].all()


def test_unknown_targets_are_not_known() -> None:
    targets = make_targets(recordings(), "superclass", auxiliary=True)
    assert np.isnan(targets.main[0]).all()
    assert not np.isnan(targets.main[1]).any()
    assert np.isnan(targets.auxiliary[0, -7:]).all()
    assert targets.auxiliary[1, -7:].tolist() == [1, 1, 1, 1, 0, 0, 0]


def test_all_architectures_learn_a_wave() -> None:
    found = recordings()
    targets = make_targets(found, "superclass", auxiliary=True)
    rows, answered = np.arange(40), found.label_sets["superclass"].answered
    for architecture in ("resnet", "state_space", "side_by_side", "hubert"):
        recipe = Recipe(architecture=architecture, width=16, depth=1, epochs=8, batch_size=8, crop_s=2, auxiliary=0.5)
        model, history = train(found.signals_mv, targets, rows, recipe, rate_hz=100, seed=0)
        assert len(history) == 8
        probabilities = predict(model, found.signals_mv, rows[answered], samples=200, labels=2)
        assert ((probabilities > 0.5) == found.label_sets["superclass"].targets[answered]).mean() > 0.9


def test_a_recording_is_judged_by_all_of_its_crops() -> None:
    """A wave in the last second reaches the mean through the one crop that sees it."""
    signals = np.zeros((1, 12, 1000), np.float32)
    model = Classifier(Recipe(), 1)
    before = predict(model, signals, np.array([0]), samples=250, labels=1)
    signals[0, :, 950:] = 1.0
    assert not np.allclose(before, predict(model, signals, np.array([0]), samples=250, labels=1))


def test_targets_without_auxiliaries_are_the_labels_alone() -> None:
    targets: Targets = make_targets(recordings(), "superclass", auxiliary=False)
    assert targets.auxiliary.shape == (40, 0)


def test_every_fold_is_judged_once_by_the_others(tmp_path: Path) -> None:
    found = recordings(90)
    for stage in TURNS:
        training, judged = split_rows(found, "conditions", stage)
        assert set(found.folds[training]) == set(range(1, 10)) - set(found.folds[judged])
        trial = Trial(name="quick", recipe=Recipe(epochs=1, batch_size=32), label_set="conditions", stage=stage, seed=0)
        run(trial, found, tmp_path)
    together = put_together(found, tmp_path, "conditions", "quick", 0)
    answered = found.label_sets["conditions"].answered
    assert together["recordings"] == answered.sum()
    assert together["positives"]["WAVE"] == found.label_sets["conditions"].targets[answered, 0].sum()
    [wave, _] = rotation_rows("conditions", "quick", together)
    assert wave.interval is not None
    assert wave.interval[0] <= wave.ours[0] <= wave.interval[1]


def test_a_finished_trial_of_other_recordings_or_settings_is_refused(tmp_path: Path) -> None:
    trial = Trial(name="quick", recipe=Recipe(epochs=1), label_set="conditions", stage="judge", seed=0)
    found = run(trial, recordings(90), tmp_path)
    assert run(trial, recordings(90), tmp_path) == found
    with pytest.raises(ConfigError, match="other settings"):
        run(replace(trial, recipe=Recipe(epochs=2)), recordings(90), tmp_path)
    with pytest.raises(ConfigError, match="wanted a trial of recordings 1111"):
        run(trial, replace(recordings(90), fingerprint="1" * 16), tmp_path)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"new_seed": 1}, "--new_seed"),
        ({"stage": "rotate"}, "wanted one of --seeds"),
        (
            {"stage": "rotate", "seeds": [0], "recipes": ["hubert_pretrained_auxiliary_augment_fast"]},
            "its pre-training has seen folds",
        ),
    ],
)
def test_arguments_that_contradict_one_another_are_refused(arguments: dict[str, Any], said: str) -> None:
    sound = {"stage": "judge", "seeds": [0, 1], "new_seed": None, "recipes": ["resnet"]}
    check(argparse.Namespace(**sound))
    with pytest.raises(ConfigError, match=said):
        check(argparse.Namespace(**sound | arguments))


def test_a_new_seed_and_all_models_together_are_told_beside_the_mean(tmp_path: Path) -> None:
    found = recordings(90)
    for seed in range(3):
        for name, epochs in (("resnet", 1), ("other", 2)):
            recipe = Recipe(epochs=epochs, batch_size=32)
            run(Trial(name=name, recipe=recipe, label_set="conditions", stage="judge", seed=seed), found, tmp_path)
    figures = compare(found, tmp_path, "conditions", "judge", ["resnet", "other"], new_seed=2)["all"]["other"]
    assert set(figures["per_seed"]) == {0, 1}
    only = compare(found, tmp_path, "conditions", "judge", ["resnet", "other"], seeds=[1])["all"]["other"]
    assert set(only["per_seed"]) == {1}
    trials = [np.load(tmp_path / "conditions" / "judge" / f"other_seed{seed}.npz") for seed in range(2)]
    mean = np.mean([trial["probabilities"] for trial in trials], axis=0)
    targets = found.label_sets["conditions"].targets[trials[0]["rows"]]
    assert figures["together"] == pytest.approx(roc_auc_score(targets, mean))
    said = {
        row.name.removeprefix("conditions, fold 9, "): row
        for row in rows("conditions", "judge", {"all": {"other": figures}})
    }
    assert said["all recordings, other"].ours == (pytest.approx(np.mean(list(figures["per_seed"].values()))),)
    assert said["all recordings, other, a new seed"].ours == (figures["new_seed"],)
    assert said["all recordings, other, all models together, gain"].interval is not None
