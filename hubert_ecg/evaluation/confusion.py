"""What is taken for what, and the mistakes that a classifier is surest of. Shapes: N recordings, L labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np


@dataclass(frozen=True, kw_only=True)
class ConfusedPair:
    """One label missed and another raised instead, in the same recordings."""

    missed: str
    """Present, and not predicted."""
    raised: str
    """Predicted, and not present."""
    recordings: int
    share: float
    """Of the recordings that have the missed label."""


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """A recording and a label that was judged wrongly."""

    row: int
    label: str
    kind: Literal["missed", "false alarm"]
    probability: float


def confused_pairs(
    targets: np.ndarray, predicted: np.ndarray, labels: Sequence[str], *, most: int = 12
) -> list[ConfusedPair]:
    """The pairs that occur most, for [N, L] bool; of classes that exclude one another, the cells off the diagonal."""
    missed = (targets & ~predicted).astype(np.int64)
    raised = (predicted & ~targets).astype(np.int64)
    counts = missed.T @ raised
    order = np.argsort(-counts, axis=None, kind="stable")[:most]
    totals = targets.sum(axis=0)
    found = []
    for place in order.tolist():
        first, second = divmod(place, len(labels))
        count = int(counts[first, second])
        if count:
            share = count / int(totals[first])
            found.append(ConfusedPair(missed=labels[first], raised=labels[second], recordings=count, share=share))
    return found


def confusion_matrix(targets: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """[L, L] recordings of each true class (row) that were given each class, from [N, L] bool with one class each."""
    counts: np.ndarray = targets.astype(np.int64).T @ predicted.astype(np.int64)
    return counts


def worst_mistakes(
    targets: np.ndarray, probabilities: np.ndarray, predicted: np.ndarray, labels: Sequence[str], *, most: int = 8
) -> list[Mistake]:
    """The mistakes that are the farthest off, of every label and kind first one, then two, ...; a recording once."""
    farness = np.where(targets, 1 - probabilities, probabilities)
    wrong = targets != predicted
    candidates = []
    for column, label in enumerate(labels):
        for kind, chosen in (("missed", targets[:, column]), ("false alarm", ~targets[:, column])):
            rows = np.flatnonzero(chosen & wrong[:, column])
            rows = rows[np.argsort(-farness[rows, column], kind="stable")][:most]
            candidates += [(place, -farness[row, column], int(row), label, kind) for place, row in enumerate(rows)]
    found: dict[int, Mistake] = {}
    for _, _, row, label, kind in sorted(candidates):
        if row not in found and len(found) < most:
            probability = float(probabilities[row, list(labels).index(label)])
            found[row] = Mistake(
                row=row, label=label, kind="missed" if kind == "missed" else "false alarm", probability=probability
            )
    return list(found.values())
