"""The counts of prepare's report: right per shard, and adding up over shards."""

from typing import Any

import numpy as np
import pyarrow as pa

from hubert_ecg.ecg.finding import Finding
from hubert_ecg.ecg.preprocess import PreprocessConfig
from hubert_ecg.pipeline.prepare_summary import EXAMPLES_PER_KIND, RANGE_EDGES_MV, merge, summarise
from hubert_ecg.storage import tables

TASKS = {"rhythm": "multi_label", "age": "regression"}


def finding(kind: str, severity: Any, lead: str | None = None) -> dict[str, Any]:
    return Finding(kind=kind, severity=severity, detail="why", lead=lead).to_dict()


def row(**changes: Any) -> dict[str, Any]:
    values = {
        "record_id": "a",
        "split": "train",
        "sex": None,
        "age_years": None,
        "source_rate_hz": 500.0,
        "gain_mv": np.full(12, 0.5, np.float32),
        "valid_samples": np.full(12, 1000, np.int32),
        "findings": [],
        "labels.rhythm": ["AFIB"],
        "labels.age": [63.0],
    }
    return values | changes


def table(*rows: dict[str, Any]) -> pa.Table:
    schema = tables.waveform_schema(TASKS)
    columns = {}
    for name in rows[0]:
        kind = schema.field(name).type
        values = [r[name].tolist() if isinstance(r[name], np.ndarray) else r[name] for r in rows]
        columns[name] = pa.array(values, kind)
    return pa.table(columns)


def counted(*rows: dict[str, Any]) -> dict[str, Any]:
    return summarise(table(*rows), TASKS, PreprocessConfig())


def test_a_recording_counts_once_per_kind_under_its_worst_severity() -> None:
    flat = [finding("flat", "warning", "I"), finding("flat", "severe", "II"), finding("noise", "info")]
    summary = counted(row(findings=flat), row(findings=[finding("flat", "warning", "V1")]), row())
    assert summary["findings"] == {"flat": {"severe": 1, "warning": 1}, "noise": {"info": 1}}
    assert summary["examples"] == {"flat": [0], "none": [2]}


def test_labels_are_counted_per_split_with_the_unlabelled_and_the_numbers() -> None:
    summary = counted(
        row(**{"labels.rhythm": ["AFIB", "PVC"]}),
        row(**{"labels.rhythm": []}),
        row(split="test", **{"labels.age": None}),
    )
    assert summary["labels"]["rhythm"] == {"train": {"AFIB": 1, "PVC": 1, "": 1}, "test": {"AFIB": 1}}
    assert summary["labels"]["age"] == {"train": {"number": 2}, "test": {"": 1}}


def test_ranges_fall_into_the_bin_of_twice_the_gain_and_outliers_into_the_last() -> None:
    gains = np.full(12, 0.5, np.float32)
    gains[3], gains[4] = 50.0, 0.0
    histogram = np.array(counted(row(gain_mv=gains))["range_mv"])
    assert (histogram.sum(axis=1) == 1).all()
    assert histogram[0].argmax() == np.searchsorted(RANGE_EDGES_MV, 1.0, side="right") - 1
    assert (histogram[3].argmax(), histogram[4].argmax()) == (histogram.shape[1] - 1, 0)


def test_durations_rates_ages_and_sexes() -> None:
    short = np.zeros(12, np.int32)
    short[0] = 500
    summary = counted(row(age_years=69.5, sex="female"), row(valid_samples=short, source_rate_hz=100.0))
    assert summary["durations_s"] == {"10": 1, "5": 1}
    assert summary["rates_hz"] == {"500": 1, "100": 1}
    assert summary["age_bands"] == {"60": 1}
    assert summary["sexes"] == {"female": 1, "unknown": 1}


def test_shards_add_up_to_the_table_and_examples_name_their_shard() -> None:
    rows = [row(record_id=str(i), findings=[finding("flat", "severe")] if i % 2 else []) for i in range(6)]
    whole, parts = counted(*rows), [counted(*rows[:1]), counted(*rows[1:4]), counted(*rows[4:])]
    merged = merge(parts)
    assert {k: v for k, v in merged.items() if k != "examples"} == {k: v for k, v in whole.items() if k != "examples"}
    assert merged["examples"] == {"none": [[0, 0], [1, 1]], "flat": [[1, 0], [1, 2]]}
    assert all(len(places) <= EXAMPLES_PER_KIND for places in merged["examples"].values())
