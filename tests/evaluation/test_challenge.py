"""The Challenge score: worked by hand, its documented fixed points, and against the definition written as loops."""

import numpy as np
import pytest

from hubert_ecg.errors import InputError
from hubert_ecg.evaluation.challenge import SINUS_RHYTHM, ChallengeWeights

TABLE = """,AF,AFL,NSR
AF,1,0.5,0.2
AFL,0.5,1,0.2
NSR,0.25,0.25,1
"""
WEIGHTS = ChallengeWeights.parse(TABLE, "weights.csv")
AF, AFL, NSR = np.eye(3, dtype=bool)
NONE = np.zeros(3, bool)


def rows(*of: np.ndarray) -> np.ndarray:
    return np.stack(of)


def test_a_score_worked_out_by_hand() -> None:
    """Points: AF as AF 1; AF+AFL as AF (1 + 0.5)/2 = 0.75; NSR as AFL 0.25/2 = 0.125; AF as nothing 0: 1.875.

    The truth: 1 + (1 + 0.5 + 0.5 + 1)/2 + 1 + 1 = 4.5. Always NSR: 0.2/2 + 0.4/3 + 1 + 0.1 = 4/3.
    """
    targets = rows(AF, AF | AFL, NSR, AF)
    predicted = rows(AF, AF, AFL, NONE)
    expected = (1.875 - 4 / 3) / (4.5 - 4 / 3)
    assert WEIGHTS.score(targets, predicted, normal=2) == pytest.approx(expected)


def test_the_documented_fixed_points() -> None:
    """The true classes score 1, the inactive classifier, which always says normal, 0; worse than that is negative."""
    targets = rows(AF, AFL, NSR, AF | AFL, NONE)
    assert WEIGHTS.score(targets, targets, normal=2) == pytest.approx(1)
    assert WEIGHTS.score(targets, rows(*[NSR] * 5), normal=2) == pytest.approx(0)
    score = WEIGHTS.score(targets, rows(*[NONE] * 5), normal=2)
    assert score is not None
    assert score < 0
    assert WEIGHTS.score(rows(NSR, NSR), rows(AF, NSR), normal=2) is None


def test_it_equals_the_definition_written_as_loops() -> None:
    rng = np.random.default_rng(0)
    names = ["a", "b|c", SINUS_RHYTHM, "d", "e"]
    table = rng.random((5, 5)).round(3)
    lines = [",".join(["", *names])] + [f"{n},{','.join(map(str, row))}" for n, row in zip(names, table, strict=True)]
    weights = ChallengeWeights.parse("\n".join(lines), "weights.csv")

    def points(truth: np.ndarray, made: np.ndarray) -> float:
        total = 0.0
        for t, p in zip(truth, made, strict=True):
            share = max(len({*np.flatnonzero(t), *np.flatnonzero(p)}), 1)
            for i in np.flatnonzero(t):
                for j in np.flatnonzero(p):
                    total += table[i, j] / share
        return total

    targets, predicted = rng.random((2, 60, 5)) < 0.3
    normal = np.zeros_like(targets)
    normal[:, 2] = True
    expected = (points(targets, predicted) - points(targets, normal)) / (
        points(targets, targets) - points(targets, normal)
    )
    assert weights.score(targets, predicted, normal=2) == pytest.approx(expected)


def test_equivalent_classes_of_both_years_are_one() -> None:
    """2020: a row each for 713427006 and 59118001; 2021: one row, joined by a bar."""
    of_2020 = ChallengeWeights.parse(
        "\n".join([",713427006,59118001,1", "713427006,1,1,0.3", "59118001,1,1,0.3", "1,0.3,0.3,1"]), "w"
    )
    of_2021 = ChallengeWeights.parse("\n".join([",713427006|59118001,1", "713427006|59118001,1,0.3", "1,0.3,1"]), "w")
    for weights in (of_2020, of_2021):
        assert weights.names == ("713427006|59118001", "1")
        np.testing.assert_array_equal(weights.weights, [[1, 0.3], [0.3, 1]])
        assert (weights.index(["59118001"]), weights.index(["1"]), weights.index(["2"])) == (0, 1, None)
    # A label counts for the class that one of its names stands for; two labels of one class: either of them.
    present = np.array([[True, False, True], [False, True, False], [False, False, False]])
    names_of = {0: ["713427006"], 1: ["59118001"], 2: ["not scored"]}
    np.testing.assert_array_equal(of_2021.matrix(present, names_of), [[True, False], [True, False], [False, False]])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "square table"),
        (",a,b\na,1,0\n", "square table"),
        (",a,b\nb,1,0\na,0,1\n", "square table"),
        (",a,b\na,1,x\nb,0,1\n", "a number for every pair"),
        (",a,b\na,1,nan\nb,0,1\n", "a finite number"),
        (",713427006,59118001\n713427006,1,1\n59118001,0.5,1\n", "scored as one class"),
    ],
)
def test_other_files_are_refused(text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        ChallengeWeights.parse(text, "weights.csv")
