"""Draws with replacement of patients, stratified so that a rare label keeps its recordings in every draw.

Patients are drawn because the recordings of one person are alike. Strata: a patient belongs to the rarest answer among
the patient's recordings, where an answer is a label, or the want of a label that most have. Each stratum has the same
number of patients in every draw, so that the rarest answers keep both of their classes. An interval is then one for
recordings with as many of each answer as these. Of a stratum's n patients n - 1 are drawn, which makes the variance
over draws unbiased; n would make it too small by (n - 1) / n, which matters where n is small (Rao and Wu, Resampling
Inference with Complex Survey Data, JASA 1988).
Shapes: N recordings, L labels, G patients, D draws.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from hubert_ecg.errors import ConfigError

_CELLS_PER_CHUNK = 4_000_000
"""Weights in memory at once; bounds it to some tens of MB whatever the number of recordings."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Resampling:
    """What is drawn: groups of recordings, within strata."""

    group_of: np.ndarray
    """[N] the group of each recording."""
    strata: tuple[np.ndarray, ...]
    """Numbers of the groups of each stratum."""

    @classmethod
    def of(
        cls, count: int, patient_ids: Sequence[str | None] | None = None, targets: np.ndarray | None = None
    ) -> "Resampling":
        """Of `count` recordings; one without patient id is a patient of its own. Without targets [N, L] bool all
        patients are one stratum. Raises ConfigError for ids that are not one per recording."""
        group_of, num_groups = group_numbers(patient_ids, count)
        if targets is None:
            return cls(group_of=group_of, strata=(np.arange(num_groups),) if num_groups else ())
        stratum_of = _rarest_answers(targets, group_of, num_groups)
        return cls(
            group_of=group_of, strata=tuple(np.flatnonzero(stratum_of == name) for name in np.unique(stratum_of))
        )

    @property
    def num_groups(self) -> int:
        """How many patients there are."""
        return sum(map(len, self.strata))

    @property
    def unit(self) -> str:
        """`patients` or `recordings`: what is drawn."""
        return "recordings" if self.num_groups == len(self.group_of) else "patients"

    def freedom(self, targets: np.ndarray) -> np.ndarray:
        """[L] degrees of freedom of a label's metrics: patients with a recording of its rarer class, less one."""
        counts = []
        for column in targets.T:
            of_class = [len(np.unique(self.group_of[column == kind])) for kind in (True, False)]
            counts.append(min(of_class) - 1)
        return np.array(counts, dtype=np.float64)

    def weights(self, rng: np.random.Generator, draws: int, *, chunk: int | None = None) -> Iterator[np.ndarray]:
        """[N, D'] float32 of all draws, some at a time: how often each recording is among a draw.

        The draws do not depend on how many are made at a time.
        """
        chunk = chunk or max(1, _CELLS_PER_CHUNK // max(len(self.group_of), 1))
        streams = rng.spawn(len(self.strata))
        for start in range(0, draws, chunk):
            number = min(chunk, draws - start)
            counts = np.zeros((self.num_groups, number), np.float32)
            for stream, members in zip(streams, self.strata, strict=True):
                counts[members] = _counts(stream, len(members), number).T
            yield counts[self.group_of]


def group_numbers(patient_ids: Sequence[str | None] | None, count: int) -> tuple[np.ndarray, int]:
    """[N] the patient of each recording as a number, and how many patients there are."""
    if patient_ids is None:
        return np.arange(count), count
    numbers: dict[object, int] = {}
    # The row number, an int, stands for a missing id and equals no id, a text.
    keys = (row if patient_id is None else str(patient_id) for row, patient_id in enumerate(patient_ids))
    group_of = np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)
    if len(group_of) != count:
        raise ConfigError(f"patient_ids: wanted one entry per recording, {count}, got {len(group_of)}")
    return group_of, len(numbers)


def _rarest_answers(targets: np.ndarray, group_of: np.ndarray, num_groups: int) -> np.ndarray:
    """[G] the number of the rarest answer among each patient's recordings; L where no answer of theirs is the rarer."""
    rarer = np.where(targets.mean(axis=0) > 0.5, ~targets, targets) if len(targets) else targets
    of_group = np.zeros((num_groups, targets.shape[1]), bool)
    np.logical_or.at(of_group, group_of, rarer)
    order = np.argsort(of_group.sum(axis=0), kind="stable")
    ordered = of_group[:, order]
    if targets.shape[1] == 0:
        return np.zeros(num_groups, np.int64)
    return np.where(ordered.any(axis=1), order[ordered.argmax(axis=1)], targets.shape[1])


def _counts(rng: np.random.Generator, size: int, draws: int) -> np.ndarray:
    """[D, size]: how often each of `size` things is drawn when one fewer are drawn with replacement; 1 of 1."""
    picks = rng.integers(size, size=(draws, max(1, size - 1)))
    picks += np.arange(draws)[:, None] * size
    return np.bincount(picks.ravel(), minlength=draws * size).reshape(draws, size)
