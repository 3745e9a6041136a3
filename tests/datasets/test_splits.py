"""Splits by patient: disjoint, seeded, stable under growth, near the fractions asked for; and leaks are found."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubert_ecg.datasets.splits import SplitConfig, check_disjoint, patient_disjoint_split
from hubert_ecg.errors import ConfigError, InputError


def split(patients: list[str | None], records: list[str] | None = None, seed: int = 0) -> list[str]:
    records = records or [f"r{place}" for place in range(len(patients))]
    return list(patient_disjoint_split(patients, records, val_fraction=0.2, test_fraction=0.3, seed=seed))


@given(st.lists(st.one_of(st.none(), st.integers(0, 9).map(str)), max_size=40), st.integers(0, 5))
def test_a_patient_is_in_one_split_and_a_prefix_of_the_archive_keeps_its_splits(
    patients: list[str | None], seed: int
) -> None:
    splits = split(patients, seed=seed)
    where: dict[str, set[str]] = {}
    for patient, name in zip(patients, splits, strict=True):
        if patient is not None:
            where.setdefault(patient, set()).add(name)
    assert all(len(names) == 1 for names in where.values())
    half = len(patients) // 2
    assert split(patients[:half], seed=seed) == splits[:half]


def test_fractions_hold_on_average_and_seeds_differ() -> None:
    patients: list[str | None] = [f"p{place}" for place in range(10_000)]
    splits = split(patients)
    shares = {name: splits.count(name) / len(splits) for name in ("train", "val", "test")}
    # Four standard deviations of a share of 10,000 are below 0.02.
    assert shares["val"] == pytest.approx(0.2, abs=0.02)
    assert shares["test"] == pytest.approx(0.3, abs=0.02)
    agreement = np.mean(np.array(splits) == np.array(split(patients, seed=1)))
    assert agreement == pytest.approx(0.5**2 + 0.2**2 + 0.3**2, abs=0.02)


def test_recordings_without_patient_are_their_own_patients_even_beside_a_patient_of_that_name() -> None:
    many = [f"{place}" for place in range(200)]
    alone = split([None] * 200, many)
    named = split(list(many), many)
    assert len(set(alone)) == 3
    assert alone != named


@pytest.mark.parametrize(("val", "test"), [(-0.1, 0.2), (0.5, 0.5), (float("nan"), 0.1)])
def test_fractions_that_leave_no_training_are_refused(val: float, test: float) -> None:
    with pytest.raises(ConfigError, match="val_fraction"):
        patient_disjoint_split(["a"], ["a"], val_fraction=val, test_fraction=test, seed=0)


def test_a_patient_in_two_splits_is_named() -> None:
    def table(splits: list[str]) -> pa.Table:
        return pa.table({"patient_id": pa.array(["a", "b", "a", None, None]), "split": splits})

    check_disjoint(table(["train", "val", "train", "train", "test"]))
    with pytest.raises(InputError, match="1 in several: a; split by patient"):
        check_disjoint(table(["train", "val", "test", "train", "test"]))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"val_fraction": 0.6, "test_fraction": 0.4}, "leave some for training"),
        ({"method": "random"}, "wanted hash or stratified, got random"),
        ({"rare_labels": "drop"}, "wanted keep or original, got drop"),
        ({"num_folds": 2}, "at least 3"),
        ({"num_folds": 5, "fold": 6}, "wanted 1 to 5, got 6"),
        ({"num_folds": 5, "rare_labels": "original"}, "not in folds"),
        ({"min_count": -1}, "min_count"),
        ({"drop_unlabelled_fraction": 1.5}, "wanted 0 to 1, got 1.5"),
    ],
)
def test_impossible_settings_are_refused(settings: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        SplitConfig(**settings)


def test_the_fold_after_the_test_fold_validates() -> None:
    assert SplitConfig(num_folds=4, fold=2).split_of_fold() == ("train", "test", "val", "train")
    assert SplitConfig(num_folds=4, fold=4).split_of_fold() == ("val", "train", "train", "test")
