"""k-means++ and k-means||: seeds are rows, spread over far blobs, follow their seed, and too few rows are refused."""

import numpy as np
import pytest
from clustering_cases import blobs

from hubert_ecg.clustering.seeding import Seeding, draw_seeds, plus_plus
from hubert_ecg.clustering.sums import block_sums
from hubert_ecg.errors import InputError

BOTH: list[Seeding] = ["k-means++", "k-means||"]


def draw(rows: np.ndarray, num_clusters: int, *, seeding: Seeding, seed: int = 0) -> np.ndarray:
    return draw_seeds(rows, num_clusters, seeding=seeding, rng=np.random.default_rng(seed))


@pytest.mark.parametrize("seeding", BOTH)
def test_seeds_are_rows_one_in_each_far_blob(seeding: Seeding) -> None:
    rng = np.random.default_rng(0)
    blob = rng.integers(8, size=400)
    rows = (np.eye(8)[blob] * 100 + rng.standard_normal((400, 8))).astype(np.float32)
    seeds = draw(rows, 8, seeding=seeding)
    assert {tuple(seed) for seed in seeds} <= {tuple(row) for row in rows}
    assert sorted(seeds.argmax(axis=1)) == list(range(8))


@pytest.mark.parametrize("seeding", BOTH)
def test_seeds_follow_their_generator(seeding: Seeding) -> None:
    rows = blobs(1000, 6, 30)
    first = draw(rows, 15, seeding=seeding, seed=1)
    np.testing.assert_array_equal(first, draw(rows, 15, seeding=seeding, seed=1))
    assert (first != draw(rows, 15, seeding=seeding, seed=2)).any()


@pytest.mark.parametrize("seeding", BOTH)
def test_seeds_are_much_better_than_rows_taken_at_random(seeding: Seeding) -> None:
    rows = blobs(4000, 6, 200, spread=0.05)
    seeds = [draw(rows, 200, seeding=seeding, seed=seed) for seed in range(3)]
    random = [rows[np.random.default_rng(seed).choice(len(rows), 200, replace=False)] for seed in range(3)]
    ours, theirs = ([block_sums(rows, each).inertia(each) for each in draws] for draws in (seeds, random))
    assert np.mean(ours) < 0.5 * np.mean(theirs)


@pytest.mark.parametrize("seeding", BOTH)
def test_rows_that_are_all_alike_are_survived_and_too_few_refused(seeding: Seeding) -> None:
    assert draw(np.ones((5, 3), np.float32), 4, seeding=seeding).tolist() == [[1, 1, 1]] * 4
    with pytest.raises(InputError, match="at least 6 rows for as many clusters, got 5"):
        draw(np.ones((5, 3), np.float32), 6, seeding=seeding)


def test_a_heavy_row_draws_as_its_copies_would() -> None:
    rows = np.array([[0.0], [1.0], [-1.0]], np.float32)
    chosen = [
        plus_plus(rows, np.array([1, 998, 1], np.float32), 1, np.random.default_rng(seed))[0] for seed in range(30)
    ]
    assert np.mean(np.array(chosen) == 1) > 0.9
