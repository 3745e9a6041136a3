"""Iterative stratification: small cases by hand, shares in general, and better than chance on real-looking labels."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hubert_ecg.datasets.stratify import stratify

THIRDS = np.full(3, 1 / 3)


def run(
    matrix: np.ndarray,
    shares: np.ndarray,
    seed: int = 0,
    sizes: np.ndarray | None = None,
    fixed: np.ndarray | None = None,
) -> np.ndarray:
    """`matrix` [group, label]: recordings of the group that have the label."""
    groups, labels = np.nonzero(matrix)
    sizes = np.ones(len(matrix), np.int64) if sizes is None else sizes
    rng = np.random.default_rng(seed)
    return stratify(groups, labels, matrix[groups, labels], sizes, shares, rng=rng, fixed=fixed)


def test_three_of_a_kind_go_to_three_parts() -> None:
    matrix = np.repeat(np.eye(4, dtype=np.int64), 3, axis=0)
    for seed in range(5):
        parts = run(matrix, THIRDS, seed)
        assert [sorted(parts[place : place + 3]) for place in range(0, 12, 3)] == [[0, 1, 2]] * 4


def test_the_rarest_label_is_served_first() -> None:
    """Ten groups have label 0, two of them label 1 as well: halves must hold one of those two each."""
    matrix = np.zeros((10, 2), np.int64)
    matrix[:, 0] = 1
    matrix[[3, 8], 1] = 1
    for seed in range(10):
        parts = run(matrix, np.array([0.5, 0.5]), seed)
        assert {parts[3], parts[8]} == {0, 1}
        assert np.bincount(parts).tolist() == [5, 5]


def test_groups_count_with_all_their_recordings() -> None:
    """One patient with four recordings of a label weighs as much as four patients with one."""
    matrix = np.array([[4], [1], [1], [1], [1]])
    parts = run(matrix, np.array([0.5, 0.5]), sizes=np.array([4, 1, 1, 1, 1]))
    assert len({int(part) for part in parts[1:]}) == 1
    assert parts[0] != parts[1]


def test_groups_without_labels_fill_up_the_parts() -> None:
    parts = run(np.zeros((100, 1), np.int64), np.array([0.7, 0.1, 0.2]))
    assert np.bincount(parts).tolist() == [70, 10, 20]


def test_a_share_of_nothing_gets_nothing_and_what_is_fixed_stays() -> None:
    matrix = np.random.default_rng(0).integers(0, 2, (60, 4))
    fixed = np.full(60, -1)
    fixed[:7] = 2
    parts = run(matrix, np.array([0.9, 0.0, 0.1]), fixed=fixed)
    assert (parts[:7] == 2).all()
    assert set(parts) == {0, 2}


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 60), st.integers(1, 6))
def test_every_group_has_one_part_and_the_same_seed_the_same(seed: int, num_groups: int, num_labels: int) -> None:
    rng = np.random.default_rng(seed)
    matrix = rng.integers(0, 3, (num_groups, num_labels))
    parts = run(matrix, np.array([0.8, 0.1, 0.1]), seed)
    assert ((parts >= 0) & (parts < 3)).all()
    np.testing.assert_array_equal(parts, run(matrix, np.array([0.8, 0.1, 0.1]), seed))


def test_every_label_gets_nearer_to_its_share_than_by_chance() -> None:
    rng = np.random.default_rng(3)
    prevalence = np.geomspace(0.004, 0.4, 20)
    matrix = (rng.random((4000, 20)) < prevalence).astype(np.int64)
    shares = np.array([0.8, 0.1, 0.1])
    wanted = matrix.sum(axis=0)[:, None] * shares

    def error(parts: np.ndarray) -> np.ndarray:
        got = np.stack([matrix[parts == part].sum(axis=0) for part in range(3)], axis=1)
        return np.abs(got - wanted)

    stratified = error(run(matrix, shares))
    # The labels that are served first are as near as whole recordings allow.
    assert stratified[:5].max() <= 1
    assert stratified.mean() < 0.25 * error(rng.choice(3, 4000, p=shares)).mean()
