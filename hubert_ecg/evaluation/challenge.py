"""The score of the PhysioNet/CinC Challenges 2020 and 2021: accuracy with credit for misdiagnoses of like treatment.

Perez Alday et al., Classification of 12-lead ECGs: the PhysioNet/Computing in Cardiology Challenge 2020, Physiol. Meas.
41, 2020; Reyna et al., Will Two Do?, 2021. Both years score alike, with other classes and weights: each recording
spreads one point over the pairs of a true and a predicted class, divided by the number of classes that are true,
predicted or both; pairs are weighted, summed, and scaled such that the true classes get 1 and "always normal" gets 0.
Shapes: N recordings, C classes.
"""

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from hubert_ecg.errors import InputError

SINUS_RHYTHM = "426783006"
"""The normal class of both Challenges."""
EQUIVALENT_2020 = (("713427006", "59118001"), ("284470004", "63593006"), ("427172004", "17338001"))
"""Classes that the Challenge of 2020 scored as one, though its table of weights has a row for each; that of 2021 writes
them as one row, joined by `|`."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ChallengeWeights:
    """The classes that are scored, and the credit for predicting one where another is true."""

    classes: tuple[tuple[str, ...], ...]
    """Per class the names that stand for it, the first of them its own."""
    weights: np.ndarray
    """[C, C] float64: true class, predicted class."""

    @classmethod
    def parse(cls, text: str, place: str) -> "ChallengeWeights":
        """From the official table: a first row and a first column of the same classes, names of one joined by `|`.

        Raises InputError for anything else, and where classes that are scored as one have different weights.
        """
        rows = [[cell.strip() for cell in row] for row in csv.reader(text.splitlines()) if any(map(str.strip, row))]
        if len(rows) < 2 or any(len(row) != len(rows) for row in rows) or rows[0][1:] != [row[0] for row in rows[1:]]:
            raise InputError(
                f"{place}: wanted a square table whose first row and first column name the same classes, as the "
                f"Challenge's weights.csv; got {len(rows)} rows"
            )
        try:
            weights = np.array([[float(cell) for cell in row[1:]] for row in rows[1:]])
        except ValueError as error:
            raise InputError(
                f"{place}: wanted a number for every pair of classes ({error}); correct the file"
            ) from error
        if not np.isfinite(weights).all():
            raise InputError(f"{place}: wanted a finite number for every pair of classes; correct the file")
        return cls(classes=tuple(tuple(name.split("|")) for name in rows[0][1:]), weights=weights)._joined(place)

    def _joined(self, place: str) -> "ChallengeWeights":
        """Rows of equivalent classes of 2020 made one."""
        joined: list[tuple[str, ...]] = []
        first: list[int] = []
        for number, names in enumerate(self.classes):
            same = next((group for group in EQUIVALENT_2020 if set(names) & set(group)), names)
            known = next((at for at, other in enumerate(joined) if set(other) & set(same)), None)
            if known is None:
                joined.append(tuple(dict.fromkeys((*names, *same))))
                first.append(number)
                continue
            old = first[known]
            equal = (self.weights[old] == self.weights[number]).all() and (
                self.weights[:, old] == self.weights[:, number]
            ).all()
            if not equal:
                raise InputError(
                    f"{place}: {'|'.join(joined[known])} and {'|'.join(names)} are scored as one class, but have "
                    f"different weights; take the official file"
                )
        return ChallengeWeights(classes=tuple(joined), weights=self.weights[np.ix_(first, first)])

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the classes as the file joins them."""
        return tuple("|".join(names) for names in self.classes)

    def index(self, names: Iterable[str]) -> int | None:
        """The class that one of some names stands for; None where none is scored."""
        wanted = set(names)
        return next((at for at, known in enumerate(self.classes) if wanted & set(known)), None)

    def matrix(self, present: np.ndarray, names_of: Mapping[int, Iterable[str]]) -> np.ndarray:
        """[N, C] bool: whether a recording has a class, from [N, L] bool of labels and the names of each label."""
        found = np.zeros((len(present), len(self.classes)), bool)
        for column, names in names_of.items():
            at = self.index(names)
            if at is not None:
                found[:, at] |= present[:, column]
        return found

    def score(self, targets: np.ndarray, predicted: np.ndarray, normal: int) -> float | None:
        """The score of [N, C] bool predictions against [N, C] bool truth; `normal`: the number of the normal class.

        None where "always normal" is as good as the truth, so that nothing can be scaled; the published evaluation
        says 0 there.
        """
        found = float(self.scores(targets, predicted, normal, np.ones((len(targets), 1)))[0])
        return None if np.isnan(found) else found

    def scores(self, targets: np.ndarray, predicted: np.ndarray, normal: int, weights_ND: np.ndarray) -> np.ndarray:
        """[D] scores of draws given by how often each recording is in them [N, D]; NaN where nothing can be scaled."""
        inactive = np.zeros_like(targets)
        inactive[:, normal] = True
        observed, best, least = (
            self._credit(targets, made) @ weights_ND.astype(np.float64) for made in (predicted, targets, inactive)
        )
        room = best - least
        return np.divide(observed - least, room, out=np.full(len(room), np.nan), where=np.abs(room) > 1e-12)

    def _credit(self, targets: np.ndarray, predicted: np.ndarray) -> np.ndarray:
        """[N] what each recording earns."""
        shared = np.maximum((targets | predicted).sum(axis=1), 1)
        credit: np.ndarray = ((targets.astype(float) @ self.weights) * predicted).sum(axis=1) / shared
        return credit
