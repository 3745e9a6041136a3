"""From the samples of a lead to the points of its curve: no more than can be seen, and none where nothing is known."""

import numpy as np


def thinned(row: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """(place in samples, value) of the points to draw of [time]: all of up to `most` samples; of more, each stretch's
    lowest and highest in the order in which they come."""
    if len(row) <= most:
        return np.arange(len(row)), row
    length = -(-2 * len(row) // most)
    whole = len(row) // length * length
    stretches = row[:whole].reshape(-1, length)
    low, high = np.fmin.reduce(stretches, axis=1), np.fmax.reduce(stretches, axis=1)
    known = np.isfinite(stretches)
    falls = np.where(known, stretches, -np.inf).argmax(axis=1) < np.where(known, stretches, np.inf).argmin(axis=1)
    points = np.stack([np.where(falls, high, low), np.where(falls, low, high)], axis=1).reshape(-1)
    return np.arange(len(points)) * (length / 2), points


def known_stretches(row: np.ndarray) -> list[slice]:
    """The stretches of [time] in which every sample is a number."""
    edges = np.flatnonzero(np.diff(np.isfinite(row).astype(np.int8), prepend=0, append=0))
    return [slice(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]
