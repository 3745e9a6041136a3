"""Bootstrap intervals: equal to resampling one by one, coverage, patients, and what cannot be judged."""

import json

import numpy as np
import pytest
from scipy.stats import t as student
from sklearn import metrics

from hubert_ecg.errors import ConfigError, InputError
from hubert_ecg.evaluation.bootstrap import bootstrap_auroc, bootstrap_metrics, percentile_interval
from hubert_ecg.evaluation.metrics import METRICS
from hubert_ecg.evaluation.resampling import Resampling
from hubert_ecg.evaluation.weighted import WeightedMetrics


def scores_of(rng: np.random.Generator, targets: np.ndarray, shift: float) -> np.ndarray:
    """Normal scores, one variance, positives `shift` higher: the true AUROC is Phi(shift / sqrt 2)."""
    return rng.normal(size=targets.shape) + shift * targets


def test_weighted_metrics_equal_scikit_learns_with_sample_weights() -> None:
    rng = np.random.default_rng(1)
    targets = rng.random((90, 2)) < 0.4
    scores = scores_of(rng, targets, 1.0).round(1)
    predicted = scores >= 0.5
    weights = rng.integers(0, 3, size=(90, 5)).astype(np.float32)
    found = WeightedMetrics(targets, scores, predicted).of(weights)
    for draw, of_draw in enumerate(weights.T):
        for column in (0, 1):
            expected = oracle(targets[:, column], scores[:, column], predicted[:, column], of_draw)
            assert {name: found[name][draw, column] for name in METRICS} == pytest.approx(expected, abs=1e-6)


def oracle(targets: np.ndarray, scores: np.ndarray, predicted: np.ndarray, weights: np.ndarray) -> dict[str, float]:
    """All metrics of one label."""
    return {
        "auroc": metrics.roc_auc_score(targets, scores, sample_weight=weights),
        "auprc": metrics.average_precision_score(targets, scores, sample_weight=weights),
        "f1": metrics.f1_score(targets, predicted, sample_weight=weights),
        "precision": metrics.precision_score(targets, predicted, sample_weight=weights),
        "recall": metrics.recall_score(targets, predicted, sample_weight=weights),
        "specificity": metrics.recall_score(~targets, ~predicted, sample_weight=weights),
        "accuracy": metrics.accuracy_score(targets, predicted, sample_weight=weights),
    }


@pytest.mark.parametrize("stratified", [True, False])
def test_intervals_are_those_of_the_draws_of_patients(stratified: bool) -> None:
    rng = np.random.default_rng(1)
    targets = rng.random((120, 2)) < 0.4
    scores = scores_of(rng, targets, 1.0).round(1)
    patients = [f"p{row // 3}" for row in range(120)]
    settings = {"patient_ids": patients, "draws": 60, "stratified": stratified}
    result = bootstrap_metrics(
        targets, scores, ["A", "B"], rng=np.random.default_rng(7), predicted=scores >= 0.5, **settings
    )
    resampling = Resampling.of(120, patients, targets if stratified else None)
    weights = np.concatenate(list(resampling.weights(np.random.default_rng(7), 60)), axis=1)
    assert (weights.sum(axis=0) == 120 - 3 * sum(len(of) > 1 for of in resampling.strata)).all()
    assert (weights[0::3] == weights[1::3]).all()
    weighted = WeightedMetrics(targets, scores, scores >= 0.5)
    drawn, estimates = weighted.of(weights), weighted.of(np.ones((120, 1), np.float32))
    for name in METRICS:
        found = [*result[name].per_label.values(), result[name].macro]
        middles = [*estimates[name][0], estimates[name].mean()]
        columns = [*drawn[name].T, drawn[name].mean(axis=1)]
        patients_with = [min(c.reshape(40, 3).any(1).sum(), (~c).reshape(40, 3).any(1).sum()) for c in targets.T]
        freedom = [float(n - 1) for n in patients_with]
        variances = drawn[name].var(axis=0)
        freedom.append(variances.sum() ** 2 / (variances**2 / freedom).sum())
        for interval, estimate, column, own in zip(found, middles, columns, freedom, strict=True):
            assert interval.estimate == pytest.approx(estimate)
            reach = student.ppf(0.975, own) * column.std(ddof=1) / (estimate * (1 - estimate))
            expected = [1 / (1 + np.exp(-(np.log(estimate / (1 - estimate)) + side))) for side in (-reach, reach)]
            assert [interval.lower, interval.upper] == pytest.approx(expected, abs=1e-6)
    macro = result["auroc"]
    assert (macro.resampled, macro.groups, macro.macro.draws) == ("patients", 40, 60)


def test_intervals_cover_the_true_value_about_as_often_as_they_say() -> None:
    """300 data sets of 50 positives; the binomial standard deviation of 0.95 is 0.013, four of them 0.05."""
    rng = np.random.default_rng(3)
    truth = 0.8413447  # Phi(1), for a shift of sqrt 2
    targets = np.arange(200)[:, None] < 50
    hits = 0
    for _ in range(300):
        interval = bootstrap_auroc(targets, scores_of(rng, targets, np.sqrt(2)), ["A"], rng=rng, draws=200).macro
        assert interval.lower is not None
        assert interval.upper is not None
        hits += interval.lower <= truth <= interval.upper
    assert 0.90 <= hits / 300 <= 1.0


def test_copies_of_a_patients_recording_do_not_narrow_the_interval() -> None:
    rng = np.random.default_rng(5)
    targets = rng.random((150, 1)) < 0.3
    scores = scores_of(rng, targets, 1.0)
    patients = [str(row) for row in range(150)]
    four = (np.repeat(targets, 4, axis=0), np.repeat(scores, 4, axis=0))

    def width(data: tuple[np.ndarray, np.ndarray], patient_ids: list[str] | None) -> float:
        interval = bootstrap_auroc(*data, ["A"], rng=np.random.default_rng(0), patient_ids=patient_ids).macro
        assert interval.upper is not None
        assert interval.lower is not None
        return interval.upper - interval.lower

    alone = width((targets, scores), None)
    assert width(four, [patient for patient in patients for _ in range(4)]) == pytest.approx(alone)
    assert width(four, None) == pytest.approx(alone / 2, rel=0.15)


def test_a_missing_patient_id_is_a_patient_of_its_own() -> None:
    resampling = Resampling.of(5, ["a", None, "a", None, "1"])
    assert resampling.group_of.tolist() == [0, 1, 0, 2, 3]
    assert (resampling.num_groups, resampling.unit) == (4, "patients")
    assert Resampling.of(2, [None, None]).unit == "recordings"


def test_the_draws_do_not_depend_on_how_many_are_in_memory_at_once() -> None:
    targets = np.random.default_rng(3).random((31, 2)) < 0.2
    resampling = Resampling.of(31, [str(row // 2) for row in range(31)], targets)
    (whole,) = resampling.weights(np.random.default_rng(0), 100)
    chunks = list(resampling.weights(np.random.default_rng(0), 100, chunk=7))
    assert len(chunks) == 15
    np.testing.assert_array_equal(np.concatenate(chunks, axis=1), whole)


def test_strata_keep_both_classes_of_rare_and_of_very_common_labels() -> None:
    """Two of 60 carry the first label, all but three the second; the third is common, and varies."""
    targets = np.zeros((60, 3), bool)
    targets[[4, 40], 0] = True
    targets[:57, 1] = True
    targets[::3, 2] = True
    weights = np.concatenate(list(Resampling.of(60, None, targets).weights(np.random.default_rng(0), 300)), axis=1)
    # One fewer of each stratum: the two, the three, the common label's other 20, and those without a rare answer.
    assert (weights[[4, 40]].sum(axis=0) == 1).all()
    assert (weights[57:].sum(axis=0) == 2).all()
    assert (weights.sum(axis=0) == 60 - 4).all()
    plain = np.concatenate(list(Resampling.of(60).weights(np.random.default_rng(0), 300)), axis=1)
    assert (plain[[4, 40]].sum(axis=0) == 0).any()


def test_an_input_that_takes_several_chunks_agrees_with_the_formula_for_its_spread() -> None:
    """4,500 recordings x 1,000 draws are two chunks. Without effect the variance is (P + M + 1) / (12 P M)."""
    rng = np.random.default_rng(2)
    targets = (np.arange(4500) < 900)[:, None]
    interval = bootstrap_auroc(targets, rng.random((4500, 1)), ["A"], rng=rng).macro
    assert interval.draws == 1000
    assert interval.lower is not None
    assert interval.upper is not None
    expected = 2 * 1.96 * np.sqrt(4501 / (12 * 900 * 3600))
    assert interval.upper - interval.lower == pytest.approx(expected, rel=0.1)


def test_labels_of_one_class_have_no_interval_and_rare_ones_fewer_draws() -> None:
    rng = np.random.default_rng(4)
    targets = np.zeros((40, 3), dtype=bool)
    targets[0, 1] = True
    targets[:20, 2] = True
    scores = rng.random((40, 3))
    result = bootstrap_auroc(targets, scores, ["none", "one", "half"], rng=rng, draws=500, stratified=False)
    none, one, half = result.per_label.values()
    assert (none.estimate, none.lower, none.upper, none.draws) == (None, None, None, 0)
    # A given recording is missing from a draw of 40 in (39/40)^40 = 36 % of draws.
    assert one.draws == pytest.approx(500 * 0.637, abs=45)
    assert half.draws == 500
    assert result.macro.draws == one.draws
    assert result.macro.estimate == pytest.approx((one.estimate + half.estimate) / 2)  # type: ignore[operator]
    json.dumps(result.to_dict(), allow_nan=False)


def test_nothing_judgeable_and_impossible_settings() -> None:
    rng = np.random.default_rng(0)
    empty = bootstrap_auroc(np.zeros((0, 1), dtype=bool), np.zeros((0, 1)), ["A"], rng=rng)
    assert empty.macro.estimate is None
    with pytest.raises(ConfigError, match="at least 40 draws"):
        bootstrap_auroc(np.zeros((2, 1)), np.zeros((2, 1)), ["A"], rng=rng, draws=5)
    with pytest.raises(ConfigError, match="one entry per recording"):
        bootstrap_auroc(np.zeros((2, 1)), np.zeros((2, 1)), ["A"], rng=rng, patient_ids=["a"])
    with pytest.raises(InputError, match="finite"):
        bootstrap_auroc(np.zeros((2, 1)), np.full((2, 1), np.nan), ["A"], rng=rng)


def test_a_perfect_estimate_has_no_interval() -> None:
    targets = np.arange(40)[:, None] < 10
    interval = bootstrap_auroc(targets, targets.astype(float), ["A"], rng=np.random.default_rng(0), draws=50).macro
    assert (interval.estimate, interval.lower, interval.upper, interval.draws) == (1.0, None, None, 50)


def test_quantiles_of_draws_that_count() -> None:
    drawn = np.append(np.arange(101.0), np.nan)
    interval = percentile_interval(50.0, drawn, 0.9)
    assert (interval.lower, interval.upper, interval.draws) == (pytest.approx(5), pytest.approx(95), 101)
    assert percentile_interval(None, drawn, 0.9).lower is None
    assert percentile_interval(1.0, drawn[:30], 0.9).upper is None
