"""How good a clustering is: how evenly clusters are used, and how much they tell about labels.

Everything is computed from counts that add up over shards: rows per cluster, or a table of clusters against labels.
"""

import numpy as np

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


def _entropy(counts: np.ndarray) -> float:
    """In nats, of the distribution that counts of any shape describe."""
    shares = counts[counts > 0] / _total(counts)
    return float(-(shares * np.log(shares)).sum())


def _total(counts: np.ndarray) -> int:
    total = int(counts.sum())
    if total == 0:
        raise InputError("clustering quality: wanted at least one row, got none")
    return total
