"""Shuffled labels: a perfect and a useless score alike fall to one half."""

import numpy as np
import pytest

from hubert_ecg.errors import ConfigError
from hubert_ecg.evaluation.metrics import auroc_per_label
from hubert_ecg.evaluation.permutation import shuffled_label_auroc


def test_a_perfect_score_is_chance_under_shuffled_labels() -> None:
    targets = np.random.default_rng(0).random((300, 4)) < 0.3
    scores = targets.astype(np.float64)
    assert auroc_per_label(targets, scores).tolist() == [1.0] * 4
    result = shuffled_label_auroc(targets, scores, draws=300, rng=np.random.default_rng(1))
    assert result.mean == pytest.approx(0.5, abs=0.01)
    assert result.lower is not None
    assert result.upper is not None
    assert 0.4 < result.lower < 0.5 < result.upper < 0.6
    assert result == shuffled_label_auroc(targets, scores, draws=300, rng=np.random.default_rng(1))


def test_the_spread_is_that_of_the_rank_statistic() -> None:
    """Without ties the variance of AUROC under no effect is (P + M + 1) / (12 P M)."""
    targets = (np.arange(200) < 80)[:, None]
    scores = np.random.default_rng(0).random((200, 1))
    result = shuffled_label_auroc(targets, scores, draws=4000, rng=np.random.default_rng(1))
    assert result.lower is not None
    assert result.upper is not None
    expected = 2 * 1.96 * np.sqrt(201 / (12 * 80 * 120))
    assert result.upper - result.lower == pytest.approx(expected, rel=0.06)


def test_labels_of_one_class_are_left_out() -> None:
    rng = np.random.default_rng(0)
    targets = np.stack([np.arange(50) < 20, np.zeros(50, bool)], axis=1)
    assert shuffled_label_auroc(targets, rng.random((50, 2)), draws=20, rng=rng).mean == pytest.approx(0.5, abs=0.1)
    assert shuffled_label_auroc(targets[:, 1:], rng.random((50, 1)), draws=20, rng=rng).mean is None
    with pytest.raises(ConfigError, match="draws"):
        shuffled_label_auroc(targets, rng.random((50, 2)), draws=0, rng=rng)
