"""How often 95 % bootstrap intervals of AUROC hold the true value: 2,000 simulated data sets per setting.

Scores are normal, of the positives higher, so that the true AUROC is known (binormal). One row per setting:
coverage with its Monte Carlo standard error, and how often the interval lies wholly above or below the truth, for the
intervals that evaluate reports and for plain percentiles of the same draws. About three minutes on one core.

    python -m benchmarks.coverage
"""

import argparse
from statistics import NormalDist

import numpy as np

from benchmarks.report import Row, reporting
from hubert_ecg.evaluation.bootstrap import logit_interval, percentile_interval
from hubert_ecg.evaluation.resampling import Resampling
from hubert_ecg.evaluation.weighted import SortedLabel

SETTINGS = ((0.7, 50, 150), (0.85, 50, 150), (0.95, 50, 150), (0.85, 50, 450), (0.95, 200, 600))
"""True AUROC, positives, negatives."""


def coverage(
    auroc: float, positives: int, negatives: int, *, data_sets: int, draws: int, rng: np.random.Generator
) -> dict[str, tuple[float, float, float]]:
    """Kind of interval -> share of data sets whose interval holds the truth, lies above it, and below it."""
    targets = np.arange(positives + negatives) < positives
    shift = np.sqrt(2) * NormalDist().inv_cdf(auroc)
    resampling = Resampling.of(len(targets), None, targets[:, None])
    counts = {"logit": np.zeros(3), "percentile": np.zeros(3)}
    for _ in range(data_sets):
        label = SortedLabel.of(targets, rng.normal(size=len(targets)) + shift * targets)
        estimate = float(label.areas(np.ones((len(targets), 1), np.float32))[0][0])
        drawn = np.concatenate([label.areas(weights)[0] for weights in resampling.weights(rng, draws)])
        made = {
            "logit": logit_interval(estimate, drawn, 0.95, min(positives, negatives) - 1),
            "percentile": percentile_interval(estimate, drawn, 0.95),
        }
        for name, interval in made.items():
            lower = interval.lower if interval.lower is not None else 1.0
            upper = interval.upper if interval.upper is not None else 1.0
            counts[name] += (lower <= auroc <= upper, auroc < lower, auroc > upper)
    held = {name: (count / data_sets).tolist() for name, count in counts.items()}
    return {name: (shares[0], shares[1], shares[2]) for name, shares in held.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data_sets", type=int, default=2000)
    parser.add_argument("--draws", type=int, default=500)
    with reporting("coverage", parser) as (options, report):
        report.head(f"{options.data_sets:,} data sets, {options.draws} draws")
        rng = np.random.default_rng(0)
        for auroc, positives, negatives in SETTINGS:
            found = coverage(auroc, positives, negatives, data_sets=options.data_sets, draws=options.draws, rng=rng)
            name = f"95 % intervals of AUROC, true value {auroc}, {positives} positives, {negatives} negatives"
            for kind, shares in found.items():
                report.add(row(f"{name}, {kind}", shares, options.data_sets))


def row(name: str, shares: tuple[float, float, float], data_sets: int) -> Row:
    """How often an interval held the truth, lay above it and below it, as percentages."""
    held, above, below = shares
    error = np.sqrt(held * (1 - held) / data_sets)
    return Row(
        name=name,
        ours=(100 * held,),
        unit="% hold it",
        against="95 % would be right",
        facts={"standard error, %": float(100 * error), "above it, %": 100 * above, "below it, %": 100 * below},
    )


if __name__ == "__main__":
    main()
