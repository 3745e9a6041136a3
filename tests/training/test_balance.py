"""Repeat-factor sampling against factors worked out by hand."""

import numpy as np
import pytest

from hubert_ecg.training.balance import repeat_factors, repeat_rows
from hubert_ecg.training.plan import StepPlan


def test_factors_are_those_of_the_rarest_label() -> None:
    # Labels A, B, C are carried by 8, 2 and 1 of 10 recordings: factors 1, sqrt(0.5 / 0.2), sqrt(0.5 / 0.1).
    carries = np.zeros((10, 3), bool)
    carries[:8, 0], carries[7:9, 1], carries[7, 2] = True, True, True
    wanted = [1.0] * 7 + [5**0.5, 2.5**0.5, 1.0]
    np.testing.assert_allclose(repeat_factors(carries, 0.5), wanted)
    np.testing.assert_array_equal(repeat_factors(carries, 0.05), np.ones(10))


def test_a_label_that_nobody_carries_changes_nothing() -> None:
    np.testing.assert_array_equal(repeat_factors(np.zeros((3, 2), bool), 0.5), np.ones(3))


def test_rows_come_up_as_often_as_their_factor_says() -> None:
    selected = (np.array([3, 5, 8]), np.array([], np.int64), np.arange(1000))
    factors = np.concatenate([[1.0, 2.0, 3.0], np.full(1000, 1.3)])
    repeated = repeat_rows(selected, factors, seed=0)
    assert repeated[0].tolist() == [3, 5, 5, 8, 8, 8]
    assert len(repeated[1]) == 0
    counts = np.bincount(repeated[2], minlength=1000)
    assert set(counts.tolist()) == {1, 2}
    assert counts.mean() == pytest.approx(1.3, abs=0.05)
    again = repeat_rows(selected, factors, seed=0)
    assert all(np.array_equal(one, other) for one, other in zip(repeated, again, strict=True))
    assert not np.array_equal(repeat_rows(selected, factors, seed=1)[2], repeated[2])


def test_an_epoch_visits_repeated_rows_at_different_positions() -> None:
    plan = StepPlan(selected=(np.array([0, 1, 1, 1]),), batch_size=4, world_size=1, seed=0)
    [window] = plan.windows(0, 1)
    rows = plan.rank_rows(window, 0, 0, 1)
    assert sorted(rows[:, 1].tolist()) == [0, 1, 1, 1]
    assert sorted(rows[:, 2].tolist()) == [0, 1, 2, 3]
