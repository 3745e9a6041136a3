"""AUROC per label as plain text, aligned for a terminal."""

from collections.abc import Mapping

from hubert_ecg.evaluation.bootstrap import Interval, MetricIntervals
from hubert_ecg.evaluation.metrics import MultiLabelMetrics

_RIGHT_FROM = 1
"""Columns from here on are numbers, aligned to the right."""


def auroc_table(
    metrics: MultiLabelMetrics, intervals: MetricIntervals, *, titles: Mapping[str, str] | None = None
) -> str:
    """One line per label and one for the macro average: AUROC, interval, AUPRC, F1, and positive recordings.

    `titles` spells labels out. Labels too rare to judge are named below it, for they are not in the macro average.
    """
    titles = titles or {}
    percent = f"{intervals.confidence:.0%} interval"
    rows = [("label", "AUROC", percent, "AUPRC", "F1", "positives")]
    for label in metrics.per_label:
        values = intervals.per_label[label.label]
        name = f"{label.label}  {titles[label.label]}" if label.label in titles else label.label
        rows.append((name, *_numbers(values, label.auprc, label.f1), str(label.positives)))
    total = f"of {metrics.recordings}"
    rows.append(("macro average", *_numbers(intervals.macro, metrics.macro.auprc, metrics.macro.f1), total))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(_aligned(row, widths)).rstrip() for row in rows]
    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    lines = [lines[0], rule, *lines[1:-1], rule, lines[-1]]
    if metrics.too_rare:
        lines.append(f"too rare to judge, and not in the macro average: {', '.join(metrics.too_rare)}")
    return "\n".join(lines)


def _numbers(interval: Interval, auprc: float | None, f1: float | None) -> tuple[str, str, str, str]:
    both = interval.lower is not None and interval.upper is not None
    span = f"{interval.lower:.3f} to {interval.upper:.3f}" if both else "-"
    return _number(interval.estimate), span, _number(auprc), _number(f1)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _aligned(row: tuple[str, ...], widths: list[int]) -> list[str]:
    return [
        cell.rjust(width) if column >= _RIGHT_FROM else cell.ljust(width)
        for column, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]
