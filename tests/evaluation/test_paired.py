"""The paired bootstrap: agrees with DeLong, pairs recordings and seeds, sees the spread between seeds, refuses."""

import json

import numpy as np
import pytest
from scipy.stats import norm

from hubert_ecg.errors import ConfigError, InputError
from hubert_ecg.evaluation.delong import delong_test
from hubert_ecg.evaluation.metrics import METRICS
from hubert_ecg.evaluation.paired import Arm, Difference, paired_bootstrap


def width(difference: Difference) -> float:
    assert difference.lower is not None
    assert difference.upper is not None
    return difference.upper - difference.lower


@pytest.fixture(scope="module")
def cohort() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """300 recordings of two labels, and the scores of two classifiers that see partly the same."""
    rng = np.random.default_rng(0)
    targets = rng.random((300, 2)) < 0.3
    common = rng.normal(size=(300, 2)) + targets
    return targets, common + 0.5 * rng.normal(size=(300, 2)), common + 0.8 * rng.normal(size=(300, 2))


def test_its_interval_is_about_delongs(cohort: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    targets, first, second = cohort
    arms = Arm(scores=[first]), Arm(scores=[second])
    found = paired_bootstrap(targets, *arms, ["A", "B"], rng=np.random.default_rng(1), draws=2000)["auroc"]
    for column, label in enumerate(["A", "B"]):
        test = delong_test(targets[:, column], first[:, column], second[:, column])
        difference = found.per_label[label]
        assert difference.difference == pytest.approx(test.first - test.second)
        low, high = test.interval()
        assert width(difference) == pytest.approx(high - low, rel=0.12)
        assert difference.p_value == pytest.approx(test.p_value, abs=0.06)
    assert found.macro.difference == pytest.approx(np.mean([d.difference for d in found.per_label.values()]))
    json.dumps(found.to_dict(), allow_nan=False)


def test_a_classifier_compared_with_itself_differs_by_nothing(
    cohort: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    targets, first, _ = cohort
    arm = Arm(scores=[first], predicted=[first > 1])
    found = paired_bootstrap(targets, arm, arm, ["A", "B"], rng=np.random.default_rng(1), draws=50)
    assert tuple(found) == METRICS
    for differences in found.values():
        macro = differences.macro
        assert (macro.difference, macro.lower, macro.upper, macro.p_value) == (0, 0, 0, 1)


def test_the_spread_between_seeds_widens_the_interval_and_pairing_them_narrows_it() -> None:
    """A seed's luck, the same for both arms, cancels only where seeds are drawn together."""
    rng = np.random.default_rng(2)
    targets = rng.random((400, 1)) < 0.4
    common = rng.normal(size=(400, 1)) + targets
    noise = [rng.normal(size=(400, 1)) for _ in range(4)]
    lucks = (0.2, 0.8, 1.4, 2.0)
    first = Arm(scores=[common + luck * n for luck, n in zip(lucks, noise, strict=True)])
    second = Arm(
        scores=[common + luck * n + 0.01 * rng.normal(size=(400, 1)) for luck, n in zip(lucks, noise, strict=True)]
    )

    def interval(*arms: Arm, paired: bool = False) -> Difference:
        settings = {"draws": 400, "paired_seeds": paired}
        return paired_bootstrap(targets, *arms, ["A"], rng=np.random.default_rng(0), **settings)["auroc"].macro

    apart = interval(first, second)
    assert width(interval(first, second, paired=True)) < 0.2 * width(apart)
    one = interval(Arm(scores=first.scores[1:2]), Arm(scores=second.scores[1:2]))
    assert width(apart) > 3 * width(one)
    means = [np.mean([_auroc(targets, s) for s in arm.scores]) for arm in (first, second)]
    assert (apart.first, apart.second) == pytest.approx(tuple(means))


def test_the_variance_between_seeds_is_estimated_without_bias() -> None:
    """So many recordings that only seeds vary: the spread of draws is the standard error of a mean over 3 seeds."""
    rng = np.random.default_rng(3)
    targets = (np.arange(20_000) < 10_000)[:, None]
    levels = [0.5, 0.8, 1.3]
    arm = Arm(scores=[rng.normal(size=targets.shape) + level * targets for level in levels])
    fixed = Arm(scores=[np.zeros(targets.shape)])
    found = paired_bootstrap(targets, arm, fixed, ["A"], rng=rng, draws=300, confidence=0.5)["auroc"].macro
    aurocs = [_auroc(targets, scores) for scores in arm.scores]
    # Of the six pairs drawn, with equal seeds once and unequal twice, the quartiles are known.
    pairs = sorted((a + b) / 2 - 0.5 for a in aurocs for b in aurocs)
    assert (found.lower, found.upper) == pytest.approx((np.quantile(pairs, 0.25), np.quantile(pairs, 0.75)), abs=0.012)
    assert np.var(pairs) == pytest.approx(np.var(aurocs, ddof=1) / 3)


@pytest.mark.slow
@pytest.mark.parametrize(("between_runs", "least", "most"), [(0.0, 0.95, 1.0), (0.5, 0.82, 0.97)])
def test_how_often_an_interval_over_patients_and_5_seeds_holds_the_true_gain(
    between_runs: float, least: float, most: float
) -> None:
    """More often than it says where seeds matter little, for it counts what is left to chance in each run among the
    spread of the recordings and of the seeds; less often where seeds outweigh 300 recordings, for five are few.

    The positives of the second arm lie 1 higher, those of the first 1.3 and a normal number per seed; scores are normal
    with variance 1, half of it the recording's own in all runs of both arms. 200 data sets: four binomial standard
    deviations of 0.9 are 0.08.
    """
    rng = np.random.default_rng(11)
    targets = np.arange(300)[:, None] < 100
    # The mean of Phi((m + s Z) / sqrt 2) over normal Z is Phi(m / sqrt(2 + s^2)).
    truth = norm.cdf(1.3 / np.sqrt(2 + between_runs**2)) - norm.cdf(1 / np.sqrt(2))
    hits = 0
    for _ in range(200):
        own = rng.normal(size=(300, 1))
        noise = np.sqrt(0.5) * (own + rng.normal(size=(2, 5, 300, 1)))
        shifts = 1.3 + between_runs * rng.normal(size=(5, 1, 1))
        first, second = Arm(scores=list(noise[1] + shifts * targets)), Arm(scores=list(noise[0] + targets))
        macro = paired_bootstrap(targets, first, second, ["A"], rng=rng, draws=200, paired_seeds=True)["auroc"].macro
        assert macro.lower is not None
        assert macro.upper is not None
        hits += macro.lower <= truth <= macro.upper
    assert least <= hits / 200 <= most


def test_what_does_not_fit_is_refused() -> None:
    targets, scores = np.array([[True], [False]]), np.zeros((2, 1))
    rng = np.random.default_rng(0)
    one, two = Arm(scores=[scores]), Arm(scores=[scores, scores])
    with pytest.raises(ConfigError, match="as many of both"):
        paired_bootstrap(targets, one, two, ["A"], rng=rng, paired_seeds=True)
    with pytest.raises(ConfigError, match="one score matrix or more"):
        paired_bootstrap(targets, one, Arm(scores=[]), ["A"], rng=rng)
    with pytest.raises(InputError, match="of one shape"):
        paired_bootstrap(targets, one, Arm(scores=[np.zeros((3, 1))]), ["A"], rng=rng)
    bad = Arm(scores=[scores], predicted=[np.zeros((1, 1), bool)])
    with pytest.raises(InputError, match="predictions"):
        paired_bootstrap(targets, bad, bad, ["A"], rng=rng)
    nobody = paired_bootstrap(np.zeros((2, 1), bool), one, one, ["A"], rng=rng)["auroc"]
    assert nobody.macro.difference is None


def _auroc(targets: np.ndarray, scores: np.ndarray) -> float:
    order = np.argsort(scores[:, 0])
    ranks = np.empty(len(scores))
    ranks[order] = np.arange(1, len(scores) + 1)
    positives = int(targets.sum())
    return float(
        (ranks[targets[:, 0]].sum() - positives * (positives + 1) / 2) / (positives * (len(scores) - positives))
    )
