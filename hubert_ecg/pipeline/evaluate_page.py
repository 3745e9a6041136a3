"""The report of an evaluation as one self-contained HTML page: numbers, curves, mistakes, and what they rest on."""

import json
from collections.abc import Mapping
from importlib import resources
from typing import Any

import numpy as np

from hubert_ecg.ecg.preprocess import PreprocessConfig
from hubert_ecg.evaluation.confusion import Mistake, worst_mistakes
from hubert_ecg.evaluation.curve_figure import Line, interval_svg, reliability_line, square_svg
from hubert_ecg.evaluation.ecg_figure import ecg_svg
from hubert_ecg.evaluation.metrics import precision_recall_curve, roc_curve
from hubert_ecg.evaluation.reliability import reliability_bins
from hubert_ecg.pipeline.predictions import Predictions
from hubert_ecg.pipeline.stored_ecg import StoredECG
from hubert_ecg.storage import files
from hubert_ecg.storage.artifact import Shards

_MOST_CURVES = 12
_MOST_MATRIX = 15
_SHOWN_S = 10.0
_MOST_POINTS = 2000
_BLUE, _ORANGE, _GREY = "#0072b2", "#d55e00", "#8a8a8a"
FEW_POSITIVES = 50
"""Below this many positives an interval is marked as resting on few."""


def write_page(
    path: str,
    content: Mapping[str, Any],
    predictions: Predictions,
    waveforms: Shards,
    preprocess: PreprocessConfig,
    *,
    titles: Mapping[str, str],
) -> None:
    """Write the page for the metrics of an evaluation and the recordings they are about."""
    from jinja2 import Environment, StrictUndefined

    text = resources.files("hubert_ecg.pipeline").joinpath("pages/evaluate.html").read_text(encoding="utf-8")
    # Record ids, labels and settings come from files: everything is escaped.
    template = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    numbers = predictions.task == "regression"
    page = template.from_string(text).render(
        content=content,
        task=predictions.task,
        numbers=numbers,
        recordings=len(predictions.record_ids),
        patients=len({id for id in predictions.patient_ids if id is not None}),
        titles=titles,
        few_positives=FEW_POSITIVES,
        rows=[] if numbers else _rows(content),
        cards=_scatters(predictions) if numbers else _cards(content, predictions),
        hidden_cards=0 if numbers else max(0, len(_judged(content)) - _MOST_CURVES),
        matrix=_matrix(content),
        mistakes=[] if numbers else _mistakes(predictions, waveforms, preprocess),
        provenance=_flat(content.get("provenance", {})),
        settings=_flat(content.get("config", {})),
    )
    files.write_bytes(path, page.encode())


def _judged(content: Mapping[str, Any]) -> list[str]:
    return [label for label, found in content["per_label"].items() if found["auroc"] is not None]


def _rows(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row of the main table per label, then the macro average."""
    rows = []
    entries = [*content["per_label"].items(), (None, content["macro"])]
    for label, values in entries:
        intervals = {
            name: found["macro"] if label is None else found["per_label"][label]
            for name, found in content["intervals"].items()
        }
        auroc = intervals["auroc"]
        rows.append(
            {
                "label": label,
                "found": values,
                "intervals": intervals,
                "forest": None
                if auroc["estimate"] is None
                else interval_svg(auroc["estimate"], auroc["lower"], auroc["upper"]),
            }
        )
    return rows


def _cards(content: Mapping[str, Any], predictions: Predictions) -> list[dict[str, Any]]:
    """ROC, precision-recall and reliability curves of the labels with most positives."""
    labels = sorted(_judged(content), key=lambda label: -content["per_label"][label]["positives"])
    return [_card(label, content, predictions) for label in labels[:_MOST_CURVES]]


def _card(label: str, content: Mapping[str, Any], predictions: Predictions) -> dict[str, Any]:
    column = predictions.labels.index(label)
    targets, outputs = predictions.targets[:, column], predictions.outputs[:, column]
    found = content["per_label"][label]
    share = found["positives"] / (found["positives"] + found["negatives"])
    alarms, hits = roc_curve(targets, outputs)
    recall, precision = precision_recall_curve(targets, outputs)
    operating = _operating_point(found)
    lines = []
    if content["calibration"]["calibrated"]:
        before = reliability_bins(targets, predictions.raw[:, column], 10)
        lines.append(reliability_line(before, colour=_GREY, dashed=True))
    lines.append(reliability_line(reliability_bins(targets, outputs, 10), colour=_BLUE))
    return {
        "label": label,
        "positives": found["positives"],
        "roc": square_svg(
            [Line(x=alarms, y=hits, colour=_BLUE), *operating[:1]],
            x_label="1 - specificity",
            y_label="sensitivity",
            title="ROC",
            reference="diagonal",
        ),
        "pr": square_svg(
            [Line(x=recall, y=precision, colour=_BLUE), *operating[1:]],
            x_label="recall (sensitivity)",
            y_label="precision",
            title="precision-recall",
            reference=f"{share}",
        ),
        "reliability": square_svg(
            lines,
            x_label="predicted probability",
            y_label="share of positives",
            title="reliability",
            reference="diagonal",
        ),
    }


def _operating_point(found: Mapping[str, Any]) -> list[Line]:
    """Where the decisions lie on the ROC and on the precision-recall curve."""
    at = [(1 - found["specificity"], found["recall"]), (found["recall"], found["precision"])]
    return [Line(x=np.array([x]), y=np.array([y]), colour=_ORANGE, dots=True, radius=3) for x, y in at]


def _matrix(content: Mapping[str, Any]) -> dict[str, Any] | None:
    """The confusion matrix of exclusive classes with a darkness per cell, where it is not too large to read."""
    found = content.get("confusion_matrix")
    if found is None or len(found["labels"]) > _MOST_MATRIX:
        return None
    counts = np.array(found["rows_are_true_classes"])
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    rows = [
        {"label": label, "cells": [{"count": c, "share": s} for c, s in zip(*row, strict=True)]}
        for label, *row in zip(found["labels"], counts.tolist(), shares.tolist(), strict=True)
    ]
    return {"labels": found["labels"], "rows": rows}


def _scatters(predictions: Predictions) -> list[dict[str, Any]]:
    """True against predicted numbers, both scaled to the range that occurs."""
    cards = []
    for column, label in enumerate(predictions.labels):
        truth, made = predictions.targets[:, column], predictions.outputs[:, column]
        known = np.flatnonzero(np.isfinite(truth))[:_MOST_POINTS]
        if len(known) < 2:
            continue
        low = float(min(truth[known].min(), made[known].min()))
        high = float(max(truth[known].max(), made[known].max()))
        scaled = [(values[known] - low) / max(high - low, 1e-9) for values in (truth, made)]
        dots = [
            Line(x=scaled[0][i : i + 1], y=scaled[1][i : i + 1], colour=_BLUE, dots=True) for i in range(len(known))
        ]
        figure = square_svg(dots, x_label="true", y_label="predicted", title=label, reference="diagonal")
        cards.append({"label": label, "figure": figure, "low": low, "high": high, "shown": len(known)})
    return cards


def _mistakes(predictions: Predictions, waveforms: Shards, preprocess: PreprocessConfig) -> list[dict[str, Any]]:
    worst = worst_mistakes(predictions.targets, predictions.outputs, predictions.predicted, predictions.labels)
    return [_mistake(mistake, predictions, waveforms, preprocess) for mistake in worst]


def _mistake(
    mistake: Mistake, predictions: Predictions, waveforms: Shards, preprocess: PreprocessConfig
) -> dict[str, Any]:
    part, row = predictions.places[mistake.row].tolist()
    stored = StoredECG.read(waveforms, part, row, preprocess)
    shown = stored.millivolts[:, : round(_SHOWN_S * stored.sampling_rate_hz)]
    names = np.array(predictions.labels, object)
    outputs = predictions.outputs[mistake.row]
    column = predictions.labels.index(mistake.label)
    return {
        "kind": mistake.kind,
        "label": mistake.label,
        "probability": mistake.probability,
        "threshold": None if predictions.thresholds is None else predictions.thresholds[column],
        "record_id": stored.record_id,
        "age_years": predictions.ages_years[mistake.row],
        "sex": predictions.sexes[mistake.row],
        "true": names[predictions.targets[mistake.row]].tolist(),
        "predicted": names[predictions.predicted[mistake.row]].tolist(),
        "present": predictions.present[mistake.row],
        "probabilities": sorted(zip(predictions.labels, outputs.tolist(), strict=True), key=lambda pair: -pair[1])[:6],
        "abstained": predictions.abstained[mistake.row],
        "findings": [finding for finding in stored.findings if finding.severity != "info"][:6],
        "duration_s": stored.millivolts.shape[1] / stored.sampling_rate_hz,
        "picture": ecg_svg(shown, stored.sampling_rate_hz, findings=stored.findings),
    }


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as dotted names and short texts."""
    found: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            found += _flat(value, f"{prefix}{name}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value)
            found.append((f"{prefix}{name}", text if len(text) <= 200 else f"{text[:197]}..."))
    return found
