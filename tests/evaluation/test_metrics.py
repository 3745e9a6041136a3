"""Metrics by hand, against scikit-learn on random and tied inputs, and on inputs that cannot be judged."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from hubert_ecg.errors import InputError
from hubert_ecg.evaluation.metrics import auroc_per_label, evaluate_multi_label, max_f1_thresholds, roc_curve

PAIRS = st.lists(st.tuples(st.booleans(), st.integers(0, 8)), min_size=2, max_size=60).filter(
    lambda pairs: len({positive for positive, _ in pairs}) == 2
)


def arrays(pairs: list[tuple[bool, int]]) -> tuple[np.ndarray, np.ndarray]:
    """[N] targets and [N] probabilities in eighths, so that many tie."""
    return np.array([p for p, _ in pairs]), np.array([s for _, s in pairs]) / 8


def test_four_recordings_worked_out_by_hand() -> None:
    """Scores .9+ .6- .4+ .1-: three of four pairs right; at 0.5 one hit, one alarm, one miss."""
    result = evaluate_multi_label(
        np.array([[True], [False], [True], [False]]), np.array([[0.9], [0.6], [0.4], [0.1]]), ["A"]
    )
    label = result.per_label[0]
    assert (label.positives, label.negatives, label.threshold) == (2, 2, 0.5)
    assert label.auroc == 0.75
    assert label.auprc == pytest.approx(1 / 2 * 1 + 1 / 2 * 2 / 3)
    assert (label.f1, label.precision, label.recall, label.specificity, label.accuracy) == (0.5, 0.5, 0.5, 0.5, 0.5)


@settings(max_examples=40, deadline=None)
@given(PAIRS, st.integers(0, 8))
def test_every_metric_equals_scikit_learns(pairs: list[tuple[bool, int]], threshold: int) -> None:
    targets, probabilities = arrays(pairs)
    label = evaluate_multi_label(targets[:, None], probabilities[:, None], ["A"], [threshold / 8]).per_label[0]
    predicted = probabilities >= threshold / 8
    expected = {
        "auroc": oracle.roc_auc_score(targets, probabilities),
        "auprc": oracle.average_precision_score(targets, probabilities),
        "f1": oracle.f1_score(targets, predicted, zero_division=0),
        "precision": oracle.precision_score(targets, predicted, zero_division=0),
        "recall": oracle.recall_score(targets, predicted),
        "specificity": oracle.recall_score(~targets, ~predicted),
        "accuracy": oracle.accuracy_score(targets, predicted),
    }
    assert {name: getattr(label, name) for name in expected} == pytest.approx(expected, abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(PAIRS)
def test_the_roc_curve_equals_scikit_learns(pairs: list[tuple[bool, int]]) -> None:
    targets, probabilities = arrays(pairs)
    expected = oracle.roc_curve(targets, probabilities, drop_intermediate=False)
    for ours, theirs in zip(roc_curve(targets, probabilities), expected[:2], strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-15)


def test_many_labels_at_once_equal_scikit_learn_one_by_one_and_on_average() -> None:
    rng = np.random.default_rng(0)
    targets = rng.random((400, 7)) < 0.2
    probabilities = rng.random((400, 7)).round(2)
    labels = [f"L{column}" for column in range(7)]
    result = evaluate_multi_label(targets, probabilities, labels, max_f1_thresholds(targets, probabilities))
    np.testing.assert_allclose(
        auroc_per_label(targets, probabilities), oracle.roc_auc_score(targets, probabilities, average=None)
    )
    assert result.macro.auroc == pytest.approx(oracle.roc_auc_score(targets, probabilities))
    assert result.macro.auprc == pytest.approx(oracle.average_precision_score(targets, probabilities))
    assert [label.label for label in result.per_label] == labels


def test_labels_of_one_class_are_too_rare_and_stay_out_of_the_macro_average() -> None:
    targets = np.array([[1, 0, 1], [0, 0, 1], [1, 0, 1]])
    probabilities = np.array([[0.2, 0.5, 0.5], [0.9, 0.6, 0.5], [0.3, 0.7, 0.5]])
    result = evaluate_multi_label(targets, probabilities, ["some", "none", "every"])
    assert result.too_rare == ("none", "every")
    assert [label.auroc for label in result.per_label] == [0.0, None, None]
    assert result.macro.auroc == 0.0
    plain = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert plain["too_rare_to_judge"] == ["none", "every"]
    assert plain["per_label"]["none"]["f1"] is None
    assert plain["per_label"]["every"]["positives"] == 3


def test_without_any_judgeable_label_the_macro_average_is_absent() -> None:
    for count in (0, 4):
        result = evaluate_multi_label(np.zeros((count, 2), dtype=bool), np.full((count, 2), 0.5), ["A", "B"])
        assert set(result.to_dict()["macro"].values()) == {None}


@pytest.mark.parametrize(
    ("targets", "probabilities", "words"),
    [
        (np.zeros((2, 1)), np.array([[0.1], [np.nan]]), "1 that are not, the first for A of recording 1"),
        (np.zeros((2, 1)), np.array([[0.1], [1.5]]), "wanted values from 0 to 1, got 0.1 to 1.5"),
        (np.zeros((2, 1)), np.zeros((3, 1)), "of one shape"),
        (np.zeros((2, 2)), np.zeros((2, 2)), r"wanted targets and scores \[N, 1\]"),
        (np.full((2, 1), 0.5), np.zeros((2, 1)), "wanted true or false"),
    ],
)
def test_unfit_inputs_are_refused(targets: np.ndarray, probabilities: np.ndarray, words: str) -> None:
    with pytest.raises(InputError, match=words):
        evaluate_multi_label(targets, probabilities, ["A"])


def test_unfit_thresholds_are_refused() -> None:
    for thresholds in ([0.5, 0.5], [np.nan]):
        with pytest.raises(InputError, match="thresholds"):
            evaluate_multi_label(np.zeros((2, 1)), np.zeros((2, 1)), ["A"], thresholds)


@settings(max_examples=40, deadline=None)
@given(PAIRS)
def test_no_threshold_has_a_higher_f1_than_the_chosen(pairs: list[tuple[bool, int]]) -> None:
    targets, probabilities = arrays(pairs)
    chosen = max_f1_thresholds(targets[:, None], probabilities[:, None])[0]
    best = max(oracle.f1_score(targets, probabilities >= limit) for limit in np.unique(probabilities))
    assert oracle.f1_score(targets, probabilities >= chosen) == pytest.approx(best)


def test_the_threshold_lies_in_the_middle_of_the_gap() -> None:
    probabilities = np.array([[0.1], [0.2], [0.6], [0.8]])
    assert max_f1_thresholds(np.array([[0], [0], [1], [1]]), probabilities)[0] == pytest.approx(0.4)
    assert max_f1_thresholds(np.array([[0], [0], [0], [0]]), probabilities)[0] == 0.5
    lower = np.nextafter(0.3, 0)
    assert max_f1_thresholds(np.array([[0], [1]]), np.array([[lower], [0.3]]))[0] == 0.3
