"""Bootstrap intervals: equal to resampling one by one, coverage, patients, and what cannot be judged."""

import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from hubert_ecg.errors import ConfigError, InputError
from hubert_ecg.evaluation.bootstrap import _draw_weights, _groups, _weight_chunks, bootstrap_auroc


def scores_of(rng: np.random.Generator, targets: np.ndarray, shift: float) -> np.ndarray:
    """Normal scores, one variance, positives `shift` higher: the true AUROC is Phi(shift / sqrt 2)."""
    return rng.normal(size=targets.shape) + shift * targets


def test_it_equals_resampling_one_draw_after_another() -> None:
    rng = np.random.default_rng(1)
    targets = rng.random((120, 2)) < 0.4
    scores = scores_of(rng, targets, 1.0).round(1)
    patients = [f"p{row // 3}" for row in range(120)]
    result = bootstrap_auroc(targets, scores, ["A", "B"], rng=np.random.default_rng(7), patient_ids=patients, draws=100)
    weights = _draw_weights(np.random.default_rng(7), *_groups(patients, 120), 100)
    assert (weights.sum(axis=0) == 120).all()
    assert (weights[0::3] == weights[1::3]).all()
    drawn = np.array([[roc_auc_score(targets[:, c], scores[:, c], sample_weight=w) for c in (0, 1)] for w in weights.T])
    for column, label in enumerate(["A", "B"]):
        interval = result.per_label[label]
        assert interval.estimate == pytest.approx(roc_auc_score(targets[:, column], scores[:, column]))
        expected = np.quantile(drawn[:, column], [0.025, 0.975])
        assert [interval.lower, interval.upper] == pytest.approx(expected.tolist(), abs=1e-6)
    macro = np.quantile(drawn.mean(axis=1), [0.025, 0.975])
    assert [result.macro.lower, result.macro.upper] == pytest.approx(macro.tolist(), abs=1e-6)
    assert (result.resampled, result.groups, result.macro.draws) == ("patients", 40, 100)


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
    group_of, count = _groups(["a", None, "a", None, "1"], 5)
    assert group_of.tolist() == [0, 1, 0, 2, 3]
    assert count == 4


def test_the_draws_do_not_depend_on_how_many_are_in_memory_at_once() -> None:
    group_of = np.arange(31) // 2
    whole = _draw_weights(np.random.default_rng(0), group_of, 16, 100)
    chunks = list(_weight_chunks(np.random.default_rng(0), group_of, 16, 100, 7))
    assert [start for start, _ in chunks] == list(range(0, 100, 7))
    np.testing.assert_array_equal(np.concatenate([weights for _, weights in chunks], axis=1), whole)


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
    result = bootstrap_auroc(targets, rng.random((40, 3)), ["none", "one", "half"], rng=rng, draws=500)
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
