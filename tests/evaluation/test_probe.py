"""Probes against scikit-learn's own pipelines, and against peeking."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from hubert_ecg.errors import InputError
from hubert_ecg.evaluation.probe import STRENGTHS, Split, linear_probe, neighbour_probe, principal_components

RNG = np.random.default_rng(0)
DIRECTIONS = RNG.standard_normal((8, 2))


def split(count: int) -> Split:
    features = RNG.standard_normal((count, 8)).astype(np.float32) * 3 + 5
    signal = (features - 5) @ DIRECTIONS + 4 * RNG.standard_normal((count, 2))
    return Split(features=features, targets=signal > 0)


TRAIN, VAL, TEST = split(200), split(100), split(150)


def test_the_linear_probe_is_scikit_learns_with_the_best_penalty_on_validation() -> None:
    found = linear_probe(TRAIN, VAL, TEST.features)
    scaler = StandardScaler().fit(TRAIN.features)
    fits = {
        c: [LogisticRegression(C=c, max_iter=2000).fit(scaler.transform(TRAIN.features), y) for y in TRAIN.targets.T]
        for c in STRENGTHS
    }
    macros = {
        c: np.mean(
            [
                roc_auc_score(y, fit.decision_function(scaler.transform(VAL.features)))
                for y, fit in zip(VAL.targets.T, of, strict=True)
            ]
        )
        for c, of in fits.items()
    }
    assert found.chosen == max(macros, key=lambda c: macros[c])
    assert found.val_macro_auroc == pytest.approx(macros[found.chosen])
    assert found.converged
    for label, fit in enumerate(fits[found.chosen]):
        expected = fit.decision_function(scaler.transform(TEST.features))
        np.testing.assert_allclose(found.scores[:, label], expected, atol=1e-3)
        assert roc_auc_score(TEST.targets[:, label], found.scores[:, label]) > 0.75


def test_the_neighbours_are_scikit_learns() -> None:
    found = neighbour_probe(TRAIN, VAL, TEST.features, neighbours=(7,))
    scaler = StandardScaler().fit(TRAIN.features)
    for label in range(2):
        expected = KNeighborsClassifier(n_neighbors=7, metric="cosine").fit(
            scaler.transform(TRAIN.features), TRAIN.targets[:, label]
        )
        shares = expected.predict_proba(scaler.transform(TEST.features))[:, 1]
        np.testing.assert_allclose(found.scores[:, label], shares, atol=1e-6)


def test_test_recordings_have_no_part_in_the_fit() -> None:
    some = TEST.features[:20]
    for probe in (linear_probe, neighbour_probe):
        alone, among = probe(TRAIN, VAL, some), probe(TRAIN, VAL, np.concatenate([some, 100 * TEST.features]))
        np.testing.assert_allclose(alone.scores, among.scores[:20], atol=1e-6)
        assert alone.chosen == among.chosen


def test_labels_of_validation_choose_but_do_not_fit() -> None:
    """With one setting to choose from, validation labels change nothing; shuffled training labels leave chance."""
    turned = replace(VAL, targets=~VAL.targets)
    one, other = (linear_probe(TRAIN, val, TEST.features, strengths=(0.1,)) for val in (VAL, turned))
    np.testing.assert_array_equal(one.scores, other.scores)
    shuffled = replace(TRAIN, targets=np.random.default_rng(1).permutation(TRAIN.targets))
    found = linear_probe(shuffled, VAL, TEST.features)
    assert abs(np.mean([roc_auc_score(*pair) for pair in zip(TEST.targets.T, found.scores.T, strict=True)]) - 0.5) < 0.2


def test_a_label_that_training_has_none_of_has_no_score() -> None:
    none = replace(TRAIN, targets=np.stack([TRAIN.targets[:, 0], np.zeros(200, bool)], axis=1))
    for probe in (linear_probe, neighbour_probe):
        assert not probe(none, VAL, TEST.features).scores[:, 1].any()


def test_the_picture_is_that_of_principal_components() -> None:
    scaler = StandardScaler().fit(TRAIN.features)
    expected = PCA(n_components=2).fit(scaler.transform(TRAIN.features)).transform(scaler.transform(TEST.features))
    found = principal_components(TRAIN.features, TEST.features)
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=1e-3)


def test_features_that_never_change_and_sets_without_labels() -> None:
    constant = replace(TRAIN, features=np.concatenate([TRAIN.features, np.ones((200, 1), np.float32)], axis=1))
    val = replace(VAL, features=np.concatenate([VAL.features, np.ones((100, 1), np.float32)], axis=1))
    assert np.isfinite(linear_probe(constant, val, val.features).scores).all()
    with pytest.raises(InputError, match="validation recordings with and without some label"):
        linear_probe(TRAIN, replace(VAL, targets=np.zeros_like(VAL.targets)), TEST.features)
    with pytest.raises(InputError, match="at least 2 training recordings"):
        linear_probe(replace(TRAIN, features=TRAIN.features[:1], targets=TRAIN.targets[:1]), VAL, TEST.features)
