"""Repeat-factor sampling (Gupta, Dollár and Girshick 2019): recordings with rare labels come up more often."""

import numpy as np


def repeat_factors(carries: np.ndarray, threshold: float) -> np.ndarray:
    """[N] float64: how often each of N recordings is to come up in an epoch, from [N, L] bool, which label it carries.

    A label that a share f of the recordings carry asks for max(1, sqrt(threshold / f)) visits; a recording gets what
    the rarest of its labels asks for, and one visit if it has none.
    """
    share_L = carries.mean(axis=0)
    wanted_L = np.maximum(1.0, np.sqrt(threshold / np.maximum(share_L, 1e-12)))
    factors: np.ndarray = np.where(carries, wanted_L, 1.0).max(axis=1, initial=1.0)
    return factors


def repeat_rows(selected: tuple[np.ndarray, ...], factors: np.ndarray, seed: int) -> tuple[np.ndarray, ...]:
    """Rows per shard, each as often as its factor says; `factors` [N] are in the order of shards and rows.

    The fraction of a factor is a probability, decided once for the whole training, so that every epoch is the same set.
    """
    ends = np.cumsum([len(rows) for rows in selected])
    repeated = []
    for part, (rows, of_part) in enumerate(zip(selected, np.split(factors, ends[:-1]), strict=True)):
        whole = np.floor(of_part).astype(np.int64)
        extra = np.random.default_rng([seed, part]).random(len(rows)) < of_part - whole
        repeated.append(np.repeat(rows, whole + extra))
    return tuple(repeated)
