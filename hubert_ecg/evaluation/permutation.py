"""What a score without any knowledge reaches: macro AUROC under shuffled labels."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.stats import rankdata

from hubert_ecg.errors import ConfigError
from hubert_ecg.evaluation.metrics import auroc_from_ranks, checked


@dataclass(frozen=True, kw_only=True)
class ShuffledAuroc:
    """Macro AUROC over shuffles; all None where no label can be judged."""

    mean: float | None
    """Near 0.5 when scoring itself is sound."""
    lower: float | None
    """2.5 % quantile."""
    upper: float | None
    """97.5 % quantile: a classifier above it does better than chance."""
    draws: int
    """Shuffles made."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def shuffled_label_auroc(
    targets: np.ndarray, probabilities: np.ndarray, *, draws: int = 200, rng: np.random.Generator
) -> ShuffledAuroc:
    """Macro AUROC when the rows of targets [N, L] are permuted over the recordings of probabilities [N, L].

    Rows are moved whole, so that labels that go together still do. Labels with one class only are left out.
    """
    targets, probabilities = checked(targets, probabilities)
    if draws < 1:
        raise ConfigError(f"draws: wanted 1 or more, got {draws}")
    judged = targets.any(axis=0) & ~targets.all(axis=0)
    if not judged.any():
        return ShuffledAuroc(mean=None, lower=None, upper=None, draws=draws)
    targets = targets[:, judged]
    ranks = rankdata(probabilities[:, judged], axis=0)
    macro = [auroc_from_ranks(targets[rng.permutation(len(targets))], ranks).mean() for _ in range(draws)]
    lower, upper = np.quantile(macro, [0.025, 0.975])
    return ShuffledAuroc(mean=float(np.mean(macro)), lower=float(lower), upper=float(upper), draws=draws)
