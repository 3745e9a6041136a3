"""The step plan: every recording once per epoch, the same whoever asks, and any step can be entered directly."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hubert_ecg.errors import ConfigError, InputError
from hubert_ecg.training.plan import StepPlan

SELECTED = tuple(np.arange(size) * 2 for size in (5, 0, 7, 3, 11))
NUM_ROWS = 26


def plan(**changes: object) -> StepPlan:
    values = {"selected": SELECTED, "batch_size": 4, "world_size": 1, "seed": 0, "window_parts": 2} | changes
    return StepPlan(**values)  # type: ignore[arg-type]


def stream(plan: StepPlan, rank: int, first: int, last: int) -> list[tuple[int, int, int]]:
    windows = plan.windows(first, last)
    return [tuple(row) for w in windows for row in plan.rank_rows(w, rank, first, last).tolist()]


def test_an_epoch_visits_every_selected_row_once() -> None:
    rows = stream(plan(), 0, 0, 13)  # 52 rows: two epochs
    everything = sorted((part, int(row)) for part, own in enumerate(SELECTED) for row in own)
    for epoch in (rows[:NUM_ROWS], rows[NUM_ROWS:]):
        assert sorted((part, row) for part, row, _ in epoch) == everything
    assert [row[:2] for row in rows[:NUM_ROWS]] != [row[:2] for row in rows[NUM_ROWS:]]
    assert [position for _, _, position in rows] == list(range(52))


@settings(deadline=None, max_examples=60)
@given(first=st.integers(0, 30), length=st.integers(1, 20), window=st.integers(1, 6))
def test_a_resumed_stream_equals_the_undisturbed_one(first: int, length: int, window: int) -> None:
    undisturbed = stream(plan(window_parts=window), 0, 0, first + length)
    assert stream(plan(window_parts=window), 0, first, first + length) == undisturbed[4 * first :]


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_ranks_share_each_batch_equally_and_together_hold_it(world_size: int) -> None:
    alone = stream(plan(), 0, 0, 9)
    shared = [stream(plan(world_size=world_size), rank, 0, 9) for rank in range(world_size)]
    assert {len(rows) for rows in shared} == {36 // world_size}
    assert sorted((row for rows in shared for row in rows), key=lambda row: row[2]) == alone


def test_a_single_pass_ends_with_a_short_step() -> None:
    rows = stream(plan(endless=False), 0, 0, 7)
    assert len(rows) == NUM_ROWS
    assert len(set(rows)) == NUM_ROWS


def test_another_seed_gives_another_order() -> None:
    assert stream(plan(), 0, 0, 6) != stream(plan(seed=1), 0, 0, 6)


def test_impossible_plans_are_refused() -> None:
    with pytest.raises(ConfigError, match="multiple of 3 workers, got 4"):
        plan(world_size=3)
    with pytest.raises(InputError, match="at least one recording"):
        plan(selected=(np.zeros(0, int),))
