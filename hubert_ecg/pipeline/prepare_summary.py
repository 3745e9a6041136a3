"""What prepare's report says about the recordings it kept, counted shard by shard and added up."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from hubert_ecg.ecg.preprocess import PreprocessConfig
from hubert_ecg.storage import tables

RANGE_EDGES_MV = np.round(np.geomspace(0.05, 20, 27), 4)
"""Edges of the histogram of each lead's range; what lies beyond falls into the first or last bin."""
EXAMPLES_PER_KIND = 2
_AGE_BAND_YEARS = 10


def summarise(table: pa.Table, label_tasks: Mapping[str, str], preprocess: PreprocessConfig) -> dict[str, Any]:
    """Counts over the rows of one waveform shard, as plain JSON values that `merge` can add."""
    findings = table["findings"].to_pylist()
    lengths = table["valid_samples"].combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(-1, 12)
    ranges_mv = 2 * tables.stack_rows(table["gain_mv"])
    ages = table["age_years"].drop_null().to_numpy()
    return {
        "rates_hz": _counts(f"{rate:g}" for rate in table["source_rate_hz"].to_pylist()),
        "durations_s": _counts(f"{round(n / preprocess.table_rate_hz):d}" for n in lengths.max(axis=1, initial=0)),
        "sexes": _counts(sex or "unknown" for sex in table["sex"].to_pylist()),
        "age_bands": _counts(f"{int(age // _AGE_BAND_YEARS) * _AGE_BAND_YEARS:d}" for age in ages if age == age),
        "range_mv": [_histogram(ranges_mv[:, lead]) for lead in range(12)],
        "findings": _finding_counts(findings),
        "labels": {name: _label_counts(table, tables.LABEL_PREFIX + name) for name in label_tasks},
        "examples": _examples(findings),
    }


def merge(summaries: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The summary of all shards together. Examples become (shard, row)."""
    total: dict[str, Any] = {}
    for part, summary in enumerate(summaries):
        examples = {kind: [[part, row] for row in rows] for kind, rows in summary["examples"].items()}
        total = _add(total, summary | {"examples": {}})
        for kind, places in examples.items():
            kept = total["examples"].setdefault(kind, [])
            kept += places[: max(0, EXAMPLES_PER_KIND - len(kept))]
    return total


def _add(left: Any, right: Any) -> Any:
    """Nested dictionaries and lists of counts, added leaf by leaf. Examples are the caller's."""
    if isinstance(right, dict):
        left = left or {}
        return {key: _add(left.get(key), right[key]) if key in right else left[key] for key in left | right}
    if isinstance(right, list):
        return [_add(a, b) for a, b in zip(left, right, strict=True)] if left is not None else list(right)
    return right if left is None else left + right


def _counts(values: Iterable[str]) -> dict[str, int]:
    return dict(Counter(values))


def _histogram(ranges_mv: np.ndarray) -> list[int]:
    inside = np.clip(ranges_mv, RANGE_EDGES_MV[0], RANGE_EDGES_MV[-1])
    counts: list[int] = np.histogram(inside, RANGE_EDGES_MV)[0].tolist()
    return counts


def _finding_counts(findings: list[list[dict[str, Any]]]) -> dict[str, dict[str, int]]:
    """kind -> severity -> recordings that have it, each recording under its worst."""
    order = ("info", "warning", "severe")
    counted: dict[str, Counter[str]] = {}
    for of_recording in findings:
        worst: dict[str, int] = {}
        for finding in of_recording:
            worst[finding["kind"]] = max(worst.get(finding["kind"], 0), order.index(finding["severity"]))
        for kind, rank in worst.items():
            counted.setdefault(kind, Counter())[order[rank]] += 1
    return {kind: dict(counts) for kind, counts in counted.items()}


def _label_counts(table: pa.Table, column: str) -> dict[str, dict[str, int]]:
    """split -> label -> recordings; those without any under the empty name, and numbers (regression) under `number`."""
    counted: dict[str, Counter[str]] = {}
    for split, labels in zip(table["split"].to_pylist(), table[column].to_pylist(), strict=True):
        names = ["number" if isinstance(label, float) else label for label in labels or [""]]
        counted.setdefault(split, Counter()).update(names)
    return {split: dict(counts) for split, counts in counted.items()}


def _examples(findings: list[list[dict[str, Any]]]) -> dict[str, list[int]]:
    """kind -> first rows with a severe finding of it; `none` -> first rows without any severe or warning."""
    rows: dict[str, list[int]] = {}
    for row, of_recording in enumerate(findings):
        severe = sorted({finding["kind"] for finding in of_recording if finding["severity"] == "severe"})
        clean = all(finding["severity"] == "info" for finding in of_recording)
        for kind in severe or (["none"] if clean else []):
            kept = rows.setdefault(kind, [])
            if len(kept) < EXAMPLES_PER_KIND:
                kept.append(row)
    return rows
