"""Parts are judged as they would be alone, those with few positives are not, and macros compare like with like."""

import json

import numpy as np
import pytest
from sklearn.metrics import recall_score, roc_auc_score

from hubert_ecg.evaluation.subgroups import MIN_POSITIVES, age_band, subgroups


@pytest.mark.parametrize(
    ("age", "band"),
    [
        (0, "0 to 17"),
        (17.9, "0 to 17"),
        (18, "18 to 39"),
        (59.5, "40 to 59"),
        (80, "80 and over"),
        (99, "80 and over"),
    ],
)
def test_age_bands(age: float, band: str) -> None:
    assert age_band(age) == band


def test_unknown_ages_are_a_part_of_their_own() -> None:
    assert age_band(None) == age_band(float("nan")) == "unknown"


def test_parts_equal_scikit_learn_on_their_rows_and_share_the_labels_of_the_macro() -> None:
    rng = np.random.default_rng(0)
    targets = rng.random((300, 3)) < 0.4
    sexes = np.array(["female", "male"] * 150)
    women = sexes == "female"
    # Few women have the third label: it stays out of both macros.
    targets[women, 2] = False
    targets[np.flatnonzero(women)[: MIN_POSITIVES - 1], 2] = True
    probabilities = np.clip(rng.normal(0.4, 0.2, (300, 3)) + 0.2 * targets, 0, 1)
    predicted = probabilities >= 0.5
    labels = ["A", "B", "C"]
    found = subgroups(targets, probabilities, predicted, labels, {"sex": sexes.tolist()}, rng=rng, draws=50)["sex"]
    assert list(found) == ["female", "male"]
    assert found["female"]["per_label"]["C"] == {"positives": MIN_POSITIVES - 1, "judged": False}
    assert found["male"]["per_label"]["C"]["judged"]
    for part, rows in (("female", women), ("male", ~women)):
        of_part = found[part]
        assert of_part["recordings"] == 150
        assert of_part["macro_labels"] == ["A", "B"]
        for column, label in enumerate("AB"):
            truth, made = targets[rows, column], predicted[rows, column]
            values = of_part["per_label"][label]
            assert values["auroc"]["estimate"] == pytest.approx(roc_auc_score(truth, probabilities[rows, column]))
            assert values["recall"] == pytest.approx(recall_score(truth, made))
            assert values["specificity"] == pytest.approx(recall_score(~truth, ~made))
        expected = roc_auc_score(targets[rows, :2], probabilities[rows, :2])
        assert of_part["macro_auroc"]["estimate"] == pytest.approx(expected)
        assert of_part["macro_auroc"]["lower"] < expected < of_part["macro_auroc"]["upper"]
    json.dumps(found, allow_nan=False)


def test_a_part_too_small_for_any_label_does_not_keep_the_others_from_theirs() -> None:
    rng = np.random.default_rng(1)
    targets = rng.random((120, 1)) < 0.5
    parts = ["few"] * 5 + ["many"] * 115
    found = subgroups(targets, rng.random((120, 1)), targets, ["A"], {"d": parts}, rng=rng, draws=50)["d"]
    assert found["few"]["macro_auroc"] is None
    assert found["few"]["macro_labels"] == []
    assert found["many"]["macro_labels"] == ["A"]
