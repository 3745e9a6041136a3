"""What frozen features know of labels: a linear probe and nearest neighbours, chosen on validation recordings.

Everything that is learnt, the scale of the features included, is learnt from training recordings; validation
recordings choose the one setting of each probe, the same for all labels. Alain and Bengio, Understanding Intermediate
Layers Using Linear Classifier Probes, 2016. Shapes: N recordings, D features, L labels.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hubert_ecg.errors import InputError
from hubert_ecg.evaluation.metrics import auroc_per_label

STRENGTHS = (0.001, 0.01, 0.1, 1.0)
"""Inverse strengths C of the penalty, of features scaled to a standard deviation of 1."""
NEIGHBOURS = (5, 20, 50, 100)
_ROUNDS = 2000


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """The recordings of one split."""

    features: np.ndarray
    """[N, D] float32."""
    targets: np.ndarray
    """[N, L] bool."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Probe:
    """A fitted probe's answers."""

    scores: np.ndarray
    """[N, L] float64 of the test recordings; 0 for labels that the training recordings have all of, or none."""
    chosen: float
    """C of the linear probe, or the number of neighbours."""
    val_macro_auroc: float
    """What it was chosen for."""
    converged: bool = True
    """Whether every fit of the chosen probe came to an end."""


def linear_probe(
    train: Split, val: Split, test_features: np.ndarray, strengths: tuple[float, ...] = STRENGTHS
) -> Probe:
    """Logistic regression of each label by itself, with one C for all. Raises InputError when nothing can be fitted."""
    mean, scale = _scale(train.features)

    def fit(strength: float, features: np.ndarray) -> np.ndarray:
        return _logistic((train.features - mean) / scale, train.targets, (features - mean) / scale, strength)[0]

    chosen, macro = _choose(strengths, fit, val)
    scores, converged = _logistic(
        (train.features - mean) / scale, train.targets, (test_features - mean) / scale, chosen
    )
    return Probe(scores=scores, chosen=chosen, val_macro_auroc=macro, converged=converged)


def neighbour_probe(
    train: Split, val: Split, test_features: np.ndarray, neighbours: tuple[int, ...] = NEIGHBOURS
) -> Probe:
    """The share of the nearest training recordings that have a label, by the cosine of standardised features."""
    mean, scale = _scale(train.features)

    def share(number: float, features: np.ndarray) -> np.ndarray:
        near = _nearest((train.features - mean) / scale, (features - mean) / scale, int(number))
        shares: np.ndarray = train.targets[near].mean(axis=1)
        return shares

    possible = [number for number in neighbours if number <= len(train.features)] or [len(train.features)]
    chosen, macro = _choose(tuple(possible), share, val)
    return Probe(scores=share(chosen, test_features), chosen=chosen, val_macro_auroc=macro)


def principal_components(train_features: np.ndarray, features: np.ndarray) -> np.ndarray:
    """[N, 2]: features along the two directions in which the standardised training features vary most."""
    mean, scale = _scale(train_features)
    _, _, directions = np.linalg.svd((train_features - mean) / scale, full_matrices=False)
    projected: np.ndarray = ((features - mean) / scale) @ directions[:2].T
    return projected


def _choose(
    settings: tuple[float, ...], answer: Callable[[float, np.ndarray], np.ndarray], val: Split
) -> tuple[float, float]:
    """(setting, macro AUROC) of the best on validation recordings, over the labels that can be judged there."""
    if not (val.targets.any(axis=0) & ~val.targets.all(axis=0)).any():
        raise InputError("probe: wanted validation recordings with and without some label, got none; choose others")
    macros = [float(np.nanmean(auroc_per_label(val.targets, answer(setting, val.features)))) for setting in settings]
    best = int(np.argmax(macros))
    return settings[best], macros[best]


def _logistic(train: np.ndarray, targets: np.ndarray, features: np.ndarray, strength: float) -> tuple[np.ndarray, bool]:
    """([N, L] scores, whether all fits ended)."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    scores, converged = np.zeros((len(features), targets.shape[1])), True
    for label in np.flatnonzero(targets.any(axis=0) & ~targets.all(axis=0)):
        model = LogisticRegression(C=strength, max_iter=_ROUNDS)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # It is part of the result.
            model.fit(train, targets[:, label])
        converged &= bool(model.n_iter_.max() < _ROUNDS)
        scores[:, label] = model.decision_function(features)
    return scores, converged


def _nearest(train: np.ndarray, features: np.ndarray, number: int) -> np.ndarray:
    """[N, number] rows of the training recordings."""
    from sklearn.neighbors import NearestNeighbors

    index = NearestNeighbors(n_neighbors=number, metric="cosine", algorithm="brute").fit(train)
    near: np.ndarray = index.kneighbors(features, return_distance=False)
    return near


def _scale(train_features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(mean, standard deviation) [D]; a feature that never changes is left at zero."""
    if len(train_features) < 2:
        raise InputError(f"probe: wanted at least 2 training recordings, got {len(train_features)}")
    deviation = train_features.std(axis=0)
    return train_features.mean(axis=0), np.where(deviation > 0, deviation, 1)
