"""Thresholds do what they promise on the recordings they were chosen on, and no stricter one does."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hubert_ecg.errors import ConfigError
from hubert_ecg.evaluation.metrics import max_f1_thresholds
from hubert_ecg.evaluation.thresholds import ThresholdRule

PAIRS = st.lists(st.tuples(st.booleans(), st.integers(0, 8)), min_size=2, max_size=40).filter(
    lambda pairs: len({positive for positive, _ in pairs}) == 2
)


@settings(max_examples=40, deadline=None)
@given(PAIRS, st.sampled_from([0.5, 0.8, 0.9, 1.0]))
def test_what_is_required_holds_and_the_other_could_not_be_better(pairs: list[tuple[bool, int]], share: float) -> None:
    targets, probabilities = np.array([p for p, _ in pairs]), np.array([s for _, s in pairs]) / 8

    def shares(threshold: float) -> tuple[float, float]:
        predicted = probabilities >= threshold
        return predicted[targets].mean(), (~predicted)[~targets].mean()

    every = [shares(limit) for limit in [*np.unique(probabilities), 2.0]]
    for name, own, other in (("sensitivity", 0, 1), ("specificity", 1, 0)):
        rule = ThresholdRule.parse(f"{name}={share}")
        found = shares(rule.choose(targets[:, None], probabilities[:, None])[0])
        assert found[own] >= share - 1e-9
        assert found[other] == max(each[other] for each in every if each[own] >= share - 1e-9)


def test_by_hand_and_for_a_label_of_one_class() -> None:
    targets = np.array([[1, 0], [1, 0], [0, 0], [1, 0], [0, 0]])
    probabilities = np.array([[0.9, 0.5], [0.8, 0.5], [0.7, 0.5], [0.4, 0.5], [0.2, 0.5]])
    chosen = {
        text: ThresholdRule.parse(text).choose(targets, probabilities).tolist()
        for text in ("max_f1", "sensitivity=0.6", "sensitivity=1", "specificity=1", "specificity=0.5")
    }
    assert chosen["max_f1"] == max_f1_thresholds(targets, probabilities).tolist()
    assert chosen["sensitivity=0.6"] == [pytest.approx(0.75), 0.5]
    assert chosen["sensitivity=1"] == [pytest.approx(0.3), 0.5]
    assert chosen["specificity=1"] == [pytest.approx(0.75), 0.5]
    assert chosen["specificity=0.5"] == [pytest.approx(0.3), 0.5]


def test_an_impossible_specificity_predicts_nothing() -> None:
    targets, probabilities = np.array([[0], [1]]), np.array([[1.0], [0.3]])
    assert ThresholdRule.parse("specificity=1").choose(targets, probabilities)[0] > 1


@pytest.mark.parametrize(
    "text", ["", "f1", "sensitivity", "sensitivity=0", "specificity=1.1", "recall=0.9", "sensitivity=x"]
)
def test_other_rules_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="wanted max_f1"):
        ThresholdRule.parse(text)
