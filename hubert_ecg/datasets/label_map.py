"""A map between a classifier's labels and those of another data set, so that it can be judged there.

A CSV file with a row `checkpoint,data` and one pair of labels per row; lines that begin with `#` are comments. Several
rows may name one label of either side: what hangs together is judged as one label, present where one of its data labels
is, predicted where one of its checkpoint labels is.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Self

from hubert_ecg.errors import InputError

SHIPPED = ("ptbxl_conditions_to_snomed", "ptbxl_superclass_to_snomed")
"""Maps that come with the package, in hubert_ecg/datasets/label_maps; each says what it leaves out and why."""
_HEADER = ("checkpoint", "data")


@dataclass(frozen=True, kw_only=True)
class JudgedLabel:
    """One label that is judged."""

    name: str
    """Its checkpoint labels, joined by `|`."""
    checkpoint: tuple[str, ...]
    """Labels of the classifier; several count as their most probable (of classes that exclude one another, as their
    sum)."""
    data: tuple[str, ...]
    """Labels of the data set, any of which makes a recording positive."""


@dataclass(frozen=True, kw_only=True)
class LabelMap:
    """Pairs of a checkpoint label and a data label."""

    pairs: tuple[tuple[str, str], ...]

    @classmethod
    def parse(cls, text: str, place: str) -> Self:
        """Raises InputError for anything but pairs under the right header."""
        lines = [line for line in text.lstrip("\ufeff").splitlines() if line.strip() and not line.startswith("#")]
        rows = [tuple(cell.strip() for cell in row) for row in csv.reader(lines)]
        wrong = next((row for row in rows if len(row) != 2 or not all(row)), None)
        if len(rows) < 2 or rows[0] != _HEADER or wrong is not None:
            raise InputError(
                f"{place}: wanted a row `checkpoint,data` and one pair of labels per row, got "
                f"{wrong if wrong is not None else rows[:1] or 'nothing'}; correct the file"
            )
        return cls(pairs=tuple((row[0], row[1]) for row in rows[1:]))

    @classmethod
    def shipped(cls, name: str) -> Self:
        """One of `SHIPPED`."""
        return cls.parse(shipped_text(name), name)

    def judged(self, labels: Sequence[str]) -> tuple[JudgedLabel, ...]:
        """What can be judged of a classifier with these labels, in their order.

        Rows about labels that the classifier lacks are left out. Raises InputError where no row is left.
        """
        pairs = [pair for pair in self.pairs if pair[0] in labels]
        if not pairs:
            raise InputError(
                f"label map: wanted rows about the classifier's labels, {', '.join(labels)}, got rows about "
                f"{', '.join(dict.fromkeys(first for first, _ in self.pairs))}; give another map"
            )
        groups: list[tuple[set[str], set[str]]] = []
        for label, data in pairs:
            touched = [group for group in groups if label in group[0] or data in group[1]]
            merged = ({label}.union(*(g[0] for g in touched)), {data}.union(*(g[1] for g in touched)))
            groups = [group for group in groups if group not in touched] + [merged]
        ordered = [(tuple(label for label in labels if label in group[0]), tuple(sorted(group[1]))) for group in groups]
        ordered.sort(key=lambda group: list(labels).index(group[0][0]))
        return tuple(JudgedLabel(name="|".join(own), checkpoint=own, data=data) for own, data in ordered)


def shipped_text(name: str) -> str:
    """The text of a shipped map."""
    folder = resources.files("hubert_ecg.datasets").joinpath("label_maps")
    return folder.joinpath(f"{name}.csv").read_text(encoding="utf-8")
