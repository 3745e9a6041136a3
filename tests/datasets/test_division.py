"""Listings thinned out and divided: rare labels, unlabelled recordings, folds and patients, by small cases."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest

from hubert_ecg.datasets.labels import find_positives, label_distribution
from hubert_ecg.datasets.source import LabelSet, Listing, build_listing
from hubert_ecg.datasets.splits import SplitConfig, patient_disjoint_split
from hubert_ecg.errors import ConfigError, InputError


def listing(
    labels: list[list[str] | None],
    split: SplitConfig,
    *,
    patients: list[str | None] | None = None,
    splits: list[str] | None = None,
    names: tuple[str, ...] = ("A", "B", "C", "D"),
) -> Listing:
    return build_listing(
        source="toy",
        record_ids=[f"r{place}" for place in range(len(labels))],
        paths=[f"r{place}" for place in range(len(labels))],
        patient_ids=patients,
        splits=splits,
        split=split,
        label_sets=[LabelSet(name="toy", labels=names)],
        labels={"toy": labels},
    )


def by_split(made: Listing, label: str) -> Counter[str]:
    rows = made.table.to_pylist()
    return Counter(row["split"] for row in rows if label in (row["labels.toy"] or ()))


def test_rare_labels_are_placed_as_the_original_does() -> None:
    """A stands once: out, with its recording. B twice: train and test. C three times: one in each split."""
    labels: list[list[str] | None] = [["A", "D"], ["B"], ["B"], ["C"], ["C"], ["C"]] + [["D"]] * 30
    for method in ("hash", "stratified"):
        for seed in range(4):
            made = listing(labels, SplitConfig(rare_labels="original", method=method, seed=seed))  # type: ignore[arg-type]
            assert made.label_sets["toy"].labels == ("B", "C", "D")
            assert "r0" not in made.table["record_id"].to_pylist()
            assert made.table.num_rows == 35
            assert by_split(made, "B") == {"train": 1, "test": 1}
            assert by_split(made, "C") == {"train": 1, "val": 1, "test": 1}
            assert made.left_out == {
                "labels that fewer than two patients have": 1,
                "recordings with a label that no other patient has": 1,
            }


def test_rare_labels_are_counted_by_patient() -> None:
    """A patient cannot be parted, so that its two recordings of label A make one."""
    made = listing(
        [["A"], ["A"], ["B"], ["B"], ["B"]],
        SplitConfig(rare_labels="original"),
        patients=["p", "p", "q", "q", "s"],
    )
    assert made.label_sets["toy"].labels == ("B",)
    assert sorted(by_split(made, "B").values()) == [1, 2]
    assert set(by_split(made, "B")) == {"train", "test"}


def test_patients_with_several_rare_labels_are_placed_once() -> None:
    """B wants r0 and r1 in train and test; C, with r2 besides, then has only the validation left for it."""
    made = listing([["B", "C"], ["B", "C"], ["C"], *[["D"]] * 9], SplitConfig(rare_labels="original"))
    assert by_split(made, "B") == {"train": 1, "test": 1}
    assert by_split(made, "C") == {"train": 1, "val": 1, "test": 1}


def test_min_count_removes_labels_and_keeps_their_recordings() -> None:
    made = listing([["A", "B"], ["B"], None, ["C"]], SplitConfig(min_count=2), splits=["train", "val", "test", "test"])
    assert made.label_sets["toy"].labels == ("B",)
    assert made.table["labels.toy"].to_pylist() == [["B"], ["B"], None, []]
    assert made.table["split"].to_pylist() == ["train", "val", "test", "test"]
    assert made.left_out == {"labels with fewer than 2 recordings": 3}


@pytest.mark.parametrize(("fraction", "left"), [(0.0, 20), (0.25, 15), (1.0, 0)])
def test_a_share_of_the_unlabelled_is_left_out(fraction: float, left: int) -> None:
    labels: list[list[str] | None] = [["A"]] * 10 + [[]] * 10 + [None] * 10
    made = listing(labels, SplitConfig(drop_unlabelled_fraction=fraction, seed=5))
    kept = [row for row in made.table.to_pylist() if not row["labels.toy"]]
    assert len(kept) == left
    assert made.table.num_rows == 10 + left
    assert made.left_out == ({"recordings without labels": 20 - left} if left < 20 else {})
    assert made.table.equals(listing(labels, SplitConfig(drop_unlabelled_fraction=fraction, seed=5)).table)


def test_settings_that_leave_nothing_are_refused() -> None:
    with pytest.raises(InputError, match="left none"):
        listing([[], None], SplitConfig(drop_unlabelled_fraction=1.0))
    with pytest.raises(ConfigError, match=r"stratify_by: wanted one of \['toy'\], got tox"):
        listing([["A"]], SplitConfig(stratify_by="tox"))


@pytest.mark.parametrize("method", ["hash", "stratified"])
def test_folds_part_no_patient_and_take_turns_as_the_test(method: str) -> None:
    rng = np.random.default_rng(0)
    patients: list[str | None] = [str(p) if p < 60 else None for p in rng.integers(0, 90, 300)]
    labels: list[list[str] | None] = [["A"] if rng.random() < 0.1 else ["B"] for _ in patients]
    tested: list[str] = []
    for fold in range(1, 6):
        config = SplitConfig(num_folds=5, fold=fold, method=method, seed=2)  # type: ignore[arg-type]
        table = listing(labels, config, patients=patients).table
        folds = table["fold"].to_numpy()
        assert set(folds) == {1, 2, 3, 4, 5}
        splits = np.array(table["split"].to_pylist())
        assert set(folds[splits == "test"]) == {fold}
        assert set(folds[splits == "val"]) == {fold % 5 + 1}
        tested += table.filter(pa.array(splits == "test"))["record_id"].to_pylist()
        if method == "stratified":
            positive = np.array(["A" in row for row in table["labels.toy"].to_pylist()])
            assert np.ptp(np.bincount(folds[positive], minlength=6)[1:]) <= 2
    assert len(tested) == len(set(tested)) == 300


def test_the_hash_is_that_of_the_plain_split() -> None:
    """What archives were divided by before there were other methods."""
    patients: list[str | None] = [None if place % 3 == 0 else f"p{place // 4}" for place in range(500)]
    made = listing([["A"]] * 500, SplitConfig(val_fraction=0.2, test_fraction=0.3, seed=9), patients=patients)
    wanted = patient_disjoint_split(
        patients, [f"r{place}" for place in range(500)], val_fraction=0.2, test_fraction=0.3, seed=9
    )
    assert made.table["split"].to_pylist() == list(wanted)


def test_stratification_can_follow_one_label_set() -> None:
    rng = np.random.default_rng(1)
    ids = [str(place) for place in range(200)]
    sets = {name: [["yes"] if rng.random() < 0.1 else ["no"] for _ in ids] for name in ("a", "b")}
    made = build_listing(
        source="toy",
        record_ids=ids,
        paths=ids,
        split=SplitConfig(method="stratified", stratify_by="b", val_fraction=0.25, test_fraction=0.25),
        label_sets=[LabelSet(name=name, labels=("yes", "no")) for name in sets],
        labels=sets,
    )
    table = made.table
    counts = Counter(row["split"] for row in table.to_pylist() if row["labels.b"] == ["yes"])
    total = sum(counts.values())
    assert abs(counts["val"] - total / 4) <= 1
    assert abs(counts["test"] - total / 4) <= 1


def test_the_distribution_of_labels_is_counted_by_split() -> None:
    made = listing(
        [["A"], ["A", "B"], ["B"], None], SplitConfig(), splits=["train", "train", "test", "test"], names=("A", "B")
    )
    assert label_distribution(made.table, made.label_sets).to_pylist() == [
        {
            "label_set": "toy", "label": "A", "train": 2, "train_share": 1.0, "val": 0, "val_share": 0.0,
            "test": 0, "test_share": 0.0,
        },
        {
            "label_set": "toy", "label": "B", "train": 1, "train_share": 0.5, "val": 0, "val_share": 0.0,
            "test": 1, "test_share": 0.5,
        },
    ]  # fmt: skip


def test_positives_are_pairs_of_row_and_label() -> None:
    made = listing([["B"], None, ["A", "B"]], SplitConfig(), splits=["train"] * 3, names=("A", "B"))
    positives = find_positives(made.table, made.label_sets)
    assert sorted(zip(positives.rows.tolist(), positives.labels.tolist(), strict=True)) == [(0, 1), (2, 0), (2, 1)]
    assert positives.counts().tolist() == [1, 2]
