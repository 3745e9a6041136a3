"""The report of prepare as one self-contained HTML page: what was read, refused and found, with pictures."""

import base64
from collections.abc import Mapping
from importlib import resources
from typing import Any

import numpy as np

from hubert_ecg.ecg.finding import Finding
from hubert_ecg.ecg.preprocess import PreprocessConfig, Waveform
from hubert_ecg.ecg.recording import STANDARD_LEADS
from hubert_ecg.evaluation.bars import SEVERITY_COLOURS, histogram_rows_png, stacked_bars_png
from hubert_ecg.evaluation.ecg_figure import ecg_png
from hubert_ecg.pipeline.prepare_summary import RANGE_EDGES_MV
from hubert_ecg.storage import files, tables
from hubert_ecg.storage.artifact import Manifest

_SEVERITIES = ("severe", "warning", "info")
_SPLITS = ("train", "val", "test")
_SHOWN_SET_ASIDE = 200
_SHOWN_LABELS = 40
_SHOWN_EXAMPLES = 8


def write_page(path: str, waveforms: Manifest, report: Mapping[str, Any], preprocess: PreprocessConfig) -> None:
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
        pictures=_pictures(report),
        label_tables={name: _label_table(counts) for name, counts in report["summary"]["labels"].items()},
        splits=_SPLITS,
        examples=_examples(waveforms, report["summary"]["examples"], preprocess),
        preprocess=preprocess.to_dict(),
    )
    files.write_bytes(path, page.encode())


def _pictures(report: Mapping[str, Any]) -> dict[str, str]:
    """Name -> PNG as a data URI; a picture without anything to show is left out."""
    summary = report["summary"]
    made: dict[str, bytes] = {}
    if report["set_aside_by_reason"]:
        reasons = dict(sorted(report["set_aside_by_reason"].items(), key=lambda item: -item[1]))
        made["set_aside"] = stacked_bars_png(list(reasons), {"set aside": list(reasons.values())}, xlabel="recordings")
    if summary["findings"]:
        kinds = sorted(summary["findings"], key=lambda kind: -sum(summary["findings"][kind].values()))
        series = {severity: [summary["findings"][kind].get(severity, 0) for kind in kinds] for severity in _SEVERITIES}
        made["findings"] = stacked_bars_png(kinds, series, xlabel="recordings", colours=SEVERITY_COLOURS)
    made["range"] = histogram_rows_png(
        STANDARD_LEADS,
        np.array(summary["range_mv"]),
        RANGE_EDGES_MV,
        xlabel="range of the band-passed lead over the recording, mV",
    )
    for name in ("rates_hz", "durations_s", "age_bands"):
        counts = dict(sorted(summary[name].items(), key=lambda item: float(item[0])))
        if counts:
            made[name] = stacked_bars_png(list(counts), {"recordings": list(counts.values())}, xlabel="recordings")
    return {name: _data_uri(png) for name, png in made.items()}


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
    waveforms: Manifest, places: Mapping[str, list[list[int]]], preprocess: PreprocessConfig
) -> list[dict[str, Any]]:
    """Some ECGs with severe findings and one without any, as pictures."""
    # The one without findings comes last, and stays when there are more kinds than room.
    kinds = sorted(places, key=lambda kind: (kind == "none", kind))
    shown = []
    for kind in kinds[-_SHOWN_EXAMPLES:]:
        part, row = places[kind][0]
        table = files.read_table(
            waveforms.part(part), ["record_id", "counts", "offset_mv", "gain_mv", "valid_samples", "findings"]
        ).slice(row, 1)
        waveform = Waveform(
            counts=tables.list_rows(table["counts"])[0].reshape(12, -1),
            offset_mv=tables.stack_rows(table["offset_mv"])[0],
            gain_mv=tables.stack_rows(table["gain_mv"])[0],
            valid_samples=tables.stack_rows(table["valid_samples"])[0],
        )
        millivolts = waveform.millivolts(preprocess)
        for lead, valid in enumerate(waveform.valid_samples):
            millivolts[lead, valid:] = np.nan
        findings = [Finding(**finding) for finding in table["findings"][0].as_py()]
        shown.append(
            {
                "title": "no finding" if kind == "none" else kind,
                "record_id": table["record_id"][0].as_py(),
                "findings": findings,
                "picture": _data_uri(ecg_png(millivolts, preprocess.table_rate_hz, findings=findings)),
            }
        )
    return shown


def _data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
