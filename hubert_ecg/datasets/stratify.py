"""Iterative stratification of groups by several labels at once, so that every part gets its share of every label.

Sechidis, Tsoumakas and Vlahavas, On the stratification of multi-label data, ECML PKDD 2011. Here what is placed is a
group (a patient with all its recordings), and the rarest label is served first, its largest groups before the smaller.
"""

import heapq
from collections.abc import Iterator

import numpy as np


def stratify(
    groups: np.ndarray,
    labels: np.ndarray,
    counts: np.ndarray,
    sizes: np.ndarray,
    shares: np.ndarray,
    *,
    rng: np.random.Generator,
    fixed: np.ndarray | None = None,
) -> np.ndarray:
    """The part of each group, [group] int64.

    `groups`, `labels`, `counts` [pair]: this many recordings of the group have the label, each pair once.
    `sizes` [group]: recordings of each group. `shares` [part]: wanted shares of all recordings, summing to 1; a part
    with share 0 gets nothing. `fixed` [group]: parts that are decided already, -1 where not.

    Takes time in proportion to the pairs, but for sorting them.
    """
    num_labels = int(labels.max(initial=-1)) + 1
    pairs = _Pairs(groups, labels, counts, len(sizes), num_labels, rng)
    # Plain lists: numbers are touched one at a time, where numpy would be ten times slower.
    wanted_recordings = (shares * sizes.sum()).tolist()
    totals = np.bincount(labels, weights=counts, minlength=num_labels)
    wanted_labels = (shares[:, None] * totals).T.tolist()
    remaining = totals.tolist()
    placed = [-1] * len(sizes)
    open_parts = np.flatnonzero(shares > 0).tolist()
    size_of = sizes.tolist()

    def place(group: int, part: int) -> None:
        placed[group] = part
        wanted_recordings[part] -= size_of[group]
        for label, count in pairs.of_group(group):
            wanted_labels[label][part] -= count
            remaining[label] -= count

    if fixed is not None:
        for group in np.flatnonzero(fixed >= 0).tolist():
            place(group, int(fixed[group]))
    for label in _rarest_first(remaining):
        wanted = wanted_labels[label]
        for group in pairs.of_label(label):
            if placed[group] < 0:
                place(group, max(open_parts, key=lambda part: (wanted[part], wanted_recordings[part])))
    bare = rng.permutation(np.flatnonzero(np.array(placed, np.int64) < 0))
    for group in bare[np.argsort(-sizes[bare], kind="stable")].tolist():
        place(group, max(open_parts, key=wanted_recordings.__getitem__))
    return np.array(placed, np.int64)


class _Pairs:
    """(group, label, count) looked up from both sides."""

    def __init__(
        self,
        groups: np.ndarray,
        labels: np.ndarray,
        counts: np.ndarray,
        num_groups: int,
        num_labels: int,
        rng: np.random.Generator,
    ) -> None:
        by_group = np.argsort(groups, kind="stable")
        self.group_starts = np.searchsorted(groups[by_group], np.arange(num_groups + 1)).tolist()
        self.group_labels = labels[by_group].tolist()
        self.group_counts = counts[by_group].tolist()
        # Equal counts stand in random order, so that seeds differ.
        by_label = np.lexsort((rng.random(len(groups)), -counts, labels))
        self.label_starts = np.searchsorted(labels[by_label], np.arange(num_labels + 1)).tolist()
        self.label_groups = groups[by_label]

    def of_group(self, group: int) -> Iterator[tuple[int, int]]:
        span = slice(self.group_starts[group], self.group_starts[group + 1])
        return zip(self.group_labels[span], self.group_counts[span], strict=True)

    def of_label(self, label: int) -> list[int]:
        """Largest counts first."""
        groups: list[int] = self.label_groups[self.label_starts[label] : self.label_starts[label + 1]].tolist()
        return groups


def _rarest_first(remaining: list[float]) -> Iterator[int]:
    """Labels with fewest recordings left, judged anew at every step while `remaining` falls; each label once."""
    queue = [(count, label) for label, count in enumerate(remaining) if count > 0]
    heapq.heapify(queue)
    while queue:
        count, label = heapq.heappop(queue)
        if remaining[label] >= count:
            yield label
        elif remaining[label] > 0:
            # It lost recordings to labels that were served before: back into the queue at its true place.
            heapq.heappush(queue, (remaining[label], label))
