"""How good a clustering is: how compact and separate clusters are, how evenly used, how much they tell about labels.

Everything but the silhouette is computed from what adds up over shards: sums and counts of rows per cluster, sums of
their distances, or a table of clusters against labels.
"""

from collections.abc import Sequence

import numpy as np

from hubert_ecg.clustering.sums import PartialSums
from hubert_ecg.errors import InputError


def contingency(codes: np.ndarray, labels: np.ndarray, num_clusters: int, num_labels: int) -> np.ndarray:
    """Codes and labels of the same rows, [row] each -> counts [cluster, label] int64. Tables of shards add up.

    Raises InputError when a code or label is out of range or their numbers differ.
    """
    codes, labels = codes.astype(np.int64).reshape(-1), labels.astype(np.int64).reshape(-1)
    for name, values, limit in (("code", codes, num_clusters), ("label", labels, num_labels)):
        if values.size and not 0 <= values.min() <= values.max() < limit:
            raise InputError(f"{name}s: wanted 0 to {limit - 1}, got {values.min()} to {values.max()}")
    if len(codes) != len(labels):
        raise InputError(f"contingency: wanted one label for each of {len(codes)} codes, got {len(labels)} labels")
    pairs = np.bincount(codes * num_labels + labels, minlength=num_clusters * num_labels)
    return pairs.reshape(num_clusters, num_labels)


def usage(counts: np.ndarray) -> float:
    """Share of clusters that have any rows, from rows per cluster [cluster]."""
    return float(np.mean(counts > 0))


def perplexity(counts: np.ndarray) -> float:
    """exp of the entropy of rows over clusters: so many clusters, equally used, would have the same entropy."""
    return float(np.exp(_entropy(counts)))


def purity(table: np.ndarray) -> float:
    """Share of rows whose label is the commonest of their cluster, from counts [cluster, label]."""
    return float(table.max(axis=1).sum() / _total(table))


def mutual_information(table: np.ndarray) -> float:
    """Mutual information of cluster and label in nats, from counts [cluster, label]."""
    information = _entropy(table.sum(axis=0)) + _entropy(table.sum(axis=1)) - _entropy(table)
    return max(0.0, information)


def normalised_mutual_information(table: np.ndarray) -> float:
    """Mutual information over the mean of both entropies, as sklearn's; 1 where both are constant."""
    entropies = (_entropy(table.sum(axis=0)) + _entropy(table.sum(axis=1))) / 2
    return mutual_information(table) / entropies if entropies > 0 else 1.0


def label_normalised_mutual_information(table: np.ndarray) -> float:
    """Share of the label's entropy that the cluster explains (PNMI in the HuBERT paper); 1 for a constant label."""
    entropy = _entropy(table.sum(axis=0))
    return mutual_information(table) / entropy if entropy > 0 else 1.0


def calinski_harabasz(everything: PartialSums) -> float | None:
    """Variance between clusters over that within (Calinski and Harabasz 1974), from the sums of all rows.

    Clusters without rows do not count. None where it is undefined: fewer than two clusters in use, no more rows than
    clusters, or no variance within.
    """
    filled = everything.counts > 0
    used, rows = int(filled.sum()), _total(everything.counts)
    means, counts = everything.means()[filled], everything.counts[filled]
    within = everything.square_norm - counts @ np.einsum("kd,kd->k", means, means)
    apart = means - everything.sums.sum(axis=0) / rows
    between = counts @ np.einsum("kd,kd->k", apart, apart)
    if used < 2 or rows <= used or within <= 0:
        return None
    return float((between / (used - 1)) / (within / (rows - used)))


def davies_bouldin(means: np.ndarray, counts: np.ndarray, distances: np.ndarray) -> float | None:
    """Mean over clusters of the worst ratio of two clusters' spreads to their distance (Davies and Bouldin 1979).

    means [cluster, column] float64, counts [cluster], distances [cluster]: sums of the rows' distances to those means.
    Clusters without rows do not count. None with fewer than two, or where two means coincide.
    """
    filled = counts > 0
    means, spread = means[filled], distances[filled] / counts[filled]
    norms = np.einsum("kd,kd->k", means, means)
    squares = norms[:, None] + norms - 2 * (means @ means.T)
    np.fill_diagonal(squares, np.inf)
    if len(means) < 2 or squares.min() <= 0:
        return None
    ratios = (spread[:, None] + spread) / np.sqrt(squares)
    return float(ratios.max(axis=1).mean())


def silhouette(rows: np.ndarray, codes: np.ndarray) -> float | None:
    """Mean silhouette (Rousseeuw 1987) of a sample of rows [row, column] with their codes [row], by scikit-learn.

    None where it is undefined: fewer than two clusters in the sample, or one for every row.
    """
    from sklearn.metrics import silhouette_score

    if not 2 <= len(np.unique(codes)) < len(codes):
        return None
    return float(silhouette_score(rows, codes))


def elbow(numbers: Sequence[int], inertias: Sequence[float]) -> int | None:
    """The number of clusters at which inertia stops falling fast: the one furthest below the line from first to last.

    Both ascending in the number of clusters and scaled to [0, 1] (Satopaa et al. 2011). None for fewer than three, or
    where the inertia does not fall or its curve does not bend that way.
    """
    if len(numbers) < 3 or inertias[-1] >= inertias[0]:
        return None
    across = (np.array(numbers, float) - numbers[0]) / (numbers[-1] - numbers[0])
    down = (np.array(inertias, float) - inertias[-1]) / (inertias[0] - inertias[-1])
    below = 1 - across - down
    return int(numbers[int(below.argmax())]) if below.max() > 0 else None


def _entropy(counts: np.ndarray) -> float:
    """In nats, of the distribution that counts of any shape describe."""
    shares = counts[counts > 0] / _total(counts)
    return float(-(shares * np.log(shares)).sum())


def _total(counts: np.ndarray) -> int:
    total = int(counts.sum())
    if total == 0:
        raise InputError("clustering quality: wanted at least one row, got none")
    return total
