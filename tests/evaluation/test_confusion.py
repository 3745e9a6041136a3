"""Confusions and mistakes counted by hand and by scikit-learn."""

import numpy as np
from sklearn import metrics

from hubert_ecg.evaluation.confusion import confused_pairs, confusion_matrix, worst_mistakes


def test_a_pair_is_a_label_missed_and_another_raised_in_one_recording() -> None:
    """A missed for B twice; C raised beside a right B is no confusion of B."""
    targets = np.array([[1, 0, 0], [1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 0]], bool)
    predicted = np.array([[0, 1, 0], [0, 1, 0], [1, 0, 0], [0, 1, 1], [0, 0, 1]], bool)
    (pair,) = confused_pairs(targets, predicted, ["A", "B", "C"])
    assert (pair.missed, pair.raised, pair.recordings, pair.share) == ("A", "B", 2, 2 / 3)


def test_of_exclusive_classes_pairs_are_the_cells_off_the_diagonal() -> None:
    rng = np.random.default_rng(0)
    truth, made = rng.integers(0, 4, (2, 200))
    targets, predicted = np.eye(4, dtype=bool)[truth], np.eye(4, dtype=bool)[made]
    matrix = confusion_matrix(targets, predicted)
    np.testing.assert_array_equal(matrix, metrics.confusion_matrix(truth, made))
    pairs = confused_pairs(targets, predicted, list("abcd"), most=20)
    assert {(p.missed, p.raised): p.recordings for p in pairs} == {
        ("abcd"[i], "abcd"[j]): int(matrix[i, j]) for i in range(4) for j in range(4) if i != j and matrix[i, j]
    }
    assert [p.recordings for p in pairs] == sorted((p.recordings for p in pairs), reverse=True)


def test_the_surest_mistakes_of_every_label_come_first_and_no_recording_twice() -> None:
    targets = np.array([[1, 0], [1, 0], [0, 1], [0, 0], [0, 0]], bool)
    probabilities = np.array([[0.1, 0.2], [0.3, 0.1], [0.9, 0.8], [0.6, 0.95], [0.2, 0.2]])
    found = worst_mistakes(targets, probabilities, probabilities >= 0.5, ["A", "B"])
    assert [(m.row, m.label, m.kind) for m in found] == [
        (3, "B", "false alarm"),
        (0, "A", "missed"),
        (2, "A", "false alarm"),
        (1, "A", "missed"),
    ]
    assert found[0].probability == 0.95
    assert len(worst_mistakes(targets, probabilities, probabilities >= 0.5, ["A", "B"], most=2)) == 2
    assert worst_mistakes(targets, targets.astype(float), targets, ["A", "B"]) == []
