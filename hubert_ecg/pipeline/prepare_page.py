"""The report of prepare as one self-contained HTML page: what was read, refused and found, with pictures."""

from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import numpy as np

from hubert_ecg.ecg.finding import Finding
from hubert_ecg.ecg.preprocess import PreprocessConfig
from hubert_ecg.ecg.recording import STANDARD_LEADS
from hubert_ecg.evaluation.ecg_figure import ecg_svg
from hubert_ecg.pipeline.prepare_summary import RANGE_EDGES_MV
from hubert_ecg.pipeline.stored_ecg import StoredECG
from hubert_ecg.storage import files
from hubert_ecg.storage.artifact import Shards

_SEVERITIES = ("severe", "warning", "info")
_SPLITS = ("train", "val", "test")
_SHOWN_SET_ASIDE = 200
_SHOWN_LABELS = 40
_SHOWN_EXAMPLES = 8
_SHOWN_S = 10.0

Bars = list[dict[str, Any]]
"""Of each bar its name, its total, and its parts with their kind, count and width in percent."""


def write_page(path: str, waveforms: Shards, report: Mapping[str, Any], preprocess: PreprocessConfig) -> None:
    """Write the page for a report and the shards it is about."""
    from jinja2 import Environment, StrictUndefined

    text = resources.files("hubert_ecg.pipeline").joinpath("pages/prepare.html").read_text(encoding="utf-8")
    # Record ids, labels and messages come from the archive: everything is escaped.
    template = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page = template.from_string(text).render(
        report=report,
        summary=report["summary"],
        shown_set_aside=report["set_aside"][:_SHOWN_SET_ASIDE],
        leaks=report.get("leaks", []),
        charts=_charts(report),
        heat_map=_heat_map(report["summary"]["range_mv"]),
        edges_mv=RANGE_EDGES_MV.tolist(),
        label_tables={name: _label_table(counts) for name, counts in report["summary"]["labels"].items()},
        splits=_SPLITS,
        examples=_examples(waveforms, report["summary"]["examples"], preprocess),
        preprocess=preprocess.to_dict(),
    )
    files.write_bytes(path, page.encode())


def _charts(report: Mapping[str, Any]) -> dict[str, Bars]:
    """Name -> its bars, the longest first where their names have no order; one without anything to show is left out."""
    summary = report["summary"]
    found = {
        kind: {severity: counts[severity] for severity in _SEVERITIES if counts.get(severity)}
        for kind, counts in summary["findings"].items()
    }
    charts = {
        "set_aside": _bars({reason: {"": count} for reason, count in report["set_aside_by_reason"].items()}),
        "findings": _bars(found),
    }
    for name in ("rates_hz", "durations_s", "age_bands"):
        counted = sorted(summary[name].items(), key=lambda item: float(item[0]))
        charts[name] = _bars({value: {"": count} for value, count in counted}, in_order=True)
    return {name: bars for name, bars in charts.items() if bars}


def _bars(counts: Mapping[str, Mapping[str, int]], *, in_order: bool = False) -> Bars:
    """name -> part -> count, as bars of which the longest is 100 % wide."""
    totals = {name: sum(parts.values()) for name, parts in counts.items()}
    names = list(counts) if in_order else sorted(counts, key=lambda name: -totals[name])
    longest = max(totals.values(), default=0)
    return [
        {
            "name": name,
            "total": totals[name],
            "parts": [
                {"kind": kind, "count": count, "percent": round(100 * count / longest, 2)}
                for kind, count in counts[name].items()
            ],
        }
        for name in names
    ]


def _heat_map(histograms: Sequence[Sequence[int]]) -> list[dict[str, Any]]:
    """One row per lead: of each bin its share of the recordings, and how dark it is, 0 to 1."""
    counts = np.array(histograms, float).reshape(len(STANDARD_LEADS), -1)
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    darkness = np.sqrt(shares / max(shares.max(), 1e-9))
    return [
        {"lead": lead, "cells": [{"share": s, "dark": round(d, 3)} for s, d in zip(*rows, strict=True)]}
        for lead, *rows in zip(STANDARD_LEADS, shares.tolist(), darkness.tolist(), strict=True)
    ]


def _label_table(counts: Mapping[str, Mapping[str, int]]) -> list[dict[str, Any]]:
    """The commonest labels first: name, and recordings per split; the unlabelled last."""
    names = {label for of_split in counts.values() for label in of_split} - {""}
    totals = {label: sum(of_split.get(label, 0) for of_split in counts.values()) for label in names}
    ordered = sorted(names, key=lambda label: (-totals[label], label))
    rows: list[dict[str, Any]] = [
        {"label": label, "splits": [counts.get(split, {}).get(label, 0) for split in _SPLITS]} for label in ordered
    ]
    hidden = rows[_SHOWN_LABELS:]
    rows = rows[:_SHOWN_LABELS]
    if hidden:
        together = [sum(row["splits"][place] for row in hidden) for place in range(len(_SPLITS))]
        rows.append({"label": f"{len(hidden)} rarer labels", "splits": together})
    rows.append({"label": "none of them", "splits": [counts.get(split, {}).get("", 0) for split in _SPLITS]})
    return rows


def _examples(
    waveforms: Shards, places: Mapping[str, list[list[int]]], preprocess: PreprocessConfig
) -> list[dict[str, Any]]:
    """Some ECGs with severe findings and one without any, as pictures."""
    # The one without findings comes last, and stays when there are more kinds than room.
    kinds = sorted(places, key=lambda kind: (kind == "none", kind))
    return [_example(waveforms, kind, places[kind][0], preprocess) for kind in kinds[-_SHOWN_EXAMPLES:]]


def _example(waveforms: Shards, kind: str, place: Sequence[int], preprocess: PreprocessConfig) -> dict[str, Any]:
    """One picture and what goes with it. `place`: shard and row."""
    stored = StoredECG.read(waveforms, place[0], place[1], preprocess)
    findings, millivolts, rate_hz = stored.findings, stored.millivolts, stored.sampling_rate_hz
    start = _shown_from(kind, findings, millivolts.shape[1], rate_hz)
    shown = millivolts[:, start : start + round(_SHOWN_S * rate_hz)]
    picture = ecg_svg(shown, rate_hz, start_s=start / rate_hz, findings=findings)
    return {
        "title": "no finding" if kind == "none" else kind,
        "record_id": stored.record_id,
        "findings": findings,
        "picture": picture,
        "start_s": start / rate_hz,
        "shown_s": shown.shape[1] / rate_hz,
        "duration_s": millivolts.shape[1] / rate_hz,
    }


def _shown_from(kind: str, findings: Sequence[Finding], num_samples: int, rate_hz: int) -> int:
    """First sample to show of a long recording: a little before the finding that the example is for."""
    found = next((finding.start_s for finding in findings if finding.kind == kind and finding.start_s), 0.0)
    latest = num_samples - round(_SHOWN_S * rate_hz)
    return max(0, min(round((found - _SHOWN_S / 10) * rate_hz), latest))
