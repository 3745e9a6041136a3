"""Auxiliary targets: what else is known of a training recording, learnt beside its labels by outputs left behind later.

Caruana, Multitask Learning, Machine Learning 1997. All targets are shares from 0 to 1, NaN where nobody knows.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from hubert_ecg.errors import ConfigError
from hubert_ecg.training.targets import LabelTargets

AGES_YEARS = tuple(range(25, 90, 10))
"""Older than so many years, or not."""
_PERSON = ("sex", "age_years")


@dataclass(frozen=True, kw_only=True)
class AuxiliaryConfig:
    """What is learnt beside the labels, by outputs that training alone has; without any of it nothing is."""

    label_sets: tuple[str, ...] = ()
    """Other label sets of the waveforms, of labels or of classes."""
    demographics: bool = False
    """Sex, and age in steps of ten years."""
    weight: float = 1.0
    """Weight of the mean loss of all of them, beside the labels' mean loss."""

    def __post_init__(self) -> None:
        if not self.weight > 0:
            raise ConfigError(f"--auxiliary.weight: wanted a weight above 0, got {self.weight}")
        if len(set(self.label_sets)) < len(self.label_sets):
            raise ConfigError(f"--auxiliary.label_sets: wanted each once, got {', '.join(self.label_sets)}")

    @property
    def is_wanted(self) -> bool:
        return bool(self.label_sets or self.demographics)

    def to_dict(self) -> dict[str, Any]:
        """What a checkpoint says of its origin."""
        return asdict(self) | {"label_sets": list(self.label_sets)}


@dataclass(frozen=True, kw_only=True)
class AuxiliaryTargets:
    """The labels of one set, and after them what is known of the same recording besides."""

    main: LabelTargets
    others: tuple[LabelTargets, ...]
    demographics: bool

    @property
    def columns(self) -> tuple[str, ...]:
        """Those of a waveform table that are read."""
        sets = (column for targets in (self.main, *self.others) for column in targets.columns)
        return (*sets, *(_PERSON if self.demographics else ()))

    @property
    def sizes(self) -> np.ndarray:
        """Targets of each question, int64; the first are the labels."""
        sets = [len(targets.labels) for targets in (self.main, *self.others)]
        return np.array(sets + [1, len(AGES_YEARS)] * self.demographics, np.int64)

    def answers(self, table: pa.Table) -> list[Any]:
        """Per row of a waveform table what `target` and `known` take: its entries in the columns."""
        return list(zip(*(table[column].to_pylist() for column in self.columns), strict=True))

    def known(self, answer: Sequence[Any]) -> list[bool]:
        """Which questions a recording answers, in the order of `sizes`."""
        sets = (self.main, *self.others)
        person = answer[len(sets) :]
        found = [targets.is_known(of_set) for targets, of_set in zip(sets, answer, strict=False)]
        return found + [value is not None and value == value for value in person]

    def target(self, answer: Sequence[Any], record_id: str) -> np.ndarray:
        """[target] float32: the labels, and then the rest."""
        sets = (self.main, *self.others)
        parts = [targets.shares(of_set, record_id) for targets, of_set in zip(sets, answer, strict=False)]
        return np.concatenate([*parts, *(_person(*answer[len(sets) :]) if self.demographics else ())])

    def mixable(self, target: np.ndarray) -> np.ndarray:
        """The target itself; what is unknown in one of two recordings is unknown in their mixture."""
        return target


def _person(sex: str | None, age_years: float | None) -> tuple[np.ndarray, np.ndarray]:
    """[1] whether female, [age] whether older than each of `AGES_YEARS`."""
    female = np.array([np.nan if sex is None else sex == "female"], np.float32)
    if age_years is None or age_years != age_years:
        return female, np.full(len(AGES_YEARS), np.nan, np.float32)
    return female, (age_years > np.array(AGES_YEARS)).astype(np.float32)
