"""The picture of an evaluation: ROC curves beside AUROC per label with intervals, as a PNG."""

from collections.abc import Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from hubert_ecg.evaluation.bootstrap import MetricIntervals
from hubert_ecg.evaluation.metrics import checked, roc_curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#7F6A00")
"""Okabe and Ito's palette, which colour-blind readers can tell apart; yellow darkened to be seen on white."""
_STYLES = ("-", "--", "-.", ":", "-", "--", "-.", ":")
_GREY = "#8A8A8A"
_LIGHT_GREY = "#C8C8C8"
_MAX_NAMED_CURVES = len(_COLOURS)
_DPI = 150


def save_auroc_figure(
    file: str | IO[bytes],
    targets: np.ndarray,
    scores: np.ndarray,
    labels: Sequence[str],
    intervals: MetricIntervals,
    *,
    title: str = "",
    titles: Mapping[str, str] | None = None,
) -> None:
    """ROC curves of [N, L] targets and scores on the left, each label's AUROC with its interval on the right.

    Written as a PNG to a local path or an open file. Of more than eight labels the curves of the four best and the four
    worst are named, the others grey. `titles` spells labels out. Labels that cannot be judged are left out of the left
    half and marked in the right.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    targets, scores = checked(targets, scores, labels)
    height = max(4.6, 1.6 + 0.26 * len(labels))
    figure = Figure(figsize=(11.5, height), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=[1, 1.15])
    _draw_roc(left, targets, scores, labels, intervals)
    _draw_intervals(right, targets, labels, intervals, titles or {})
    if title:
        figure.suptitle(title, fontsize=13, fontweight="bold")
    figure.savefig(file, format="png", dpi=_DPI)


def _draw_roc(
    axes: "Axes", targets: np.ndarray, scores: np.ndarray, labels: Sequence[str], intervals: MetricIntervals
) -> None:
    ranked = _judged(labels, intervals)
    half = _MAX_NAMED_CURVES // 2
    few = len(ranked) <= _MAX_NAMED_CURVES
    named = ranked if few else ranked[:half] + ranked[-half:]
    for column in ranked:
        if column not in named:
            axes.plot(*roc_curve(targets[:, column], scores[:, column]), color=_LIGHT_GREY, linewidth=0.7, zorder=1)
    for place, column in enumerate(named):
        estimate = intervals.per_label[labels[column]].estimate
        axes.plot(
            *roc_curve(targets[:, column], scores[:, column]),
            color=_COLOURS[place],
            linestyle=_STYLES[place],
            linewidth=1.9,
            label=f"{labels[column]}  {estimate:.3f}",
            zorder=3,
        )
    axes.plot([0, 1], [0, 1], color=_GREY, linewidth=0.9, linestyle=(0, (2, 3)), zorder=2)
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal", anchor="N")
    axes.set_xlabel("false positive rate (1 - specificity)")
    axes.set_ylabel("true positive rate (sensitivity)")
    axes.set_title("ROC curves" if few else f"ROC curves, the {half} best and {half} worst named", fontsize=11)
    if named:
        axes.legend(title="AUROC", loc="lower right", fontsize=9, title_fontsize=9, frameon=False, handlelength=2.8)
    _plain(axes)


def _draw_intervals(
    axes: "Axes",
    targets: np.ndarray,
    labels: Sequence[str],
    intervals: MetricIntervals,
    titles: Mapping[str, str],
) -> None:
    ranked = _judged(labels, intervals)
    columns = ranked + [column for column in range(len(labels)) if column not in ranked]
    names = [f"{titles.get(labels[column], labels[column])}  ({targets[:, column].sum()})" for column in columns]
    entries: list[tuple[str, Any]] = [("macro average", intervals.macro)]
    entries += list(zip(names, (intervals.per_label[labels[column]] for column in columns), strict=True))
    heights = np.arange(len(entries))[::-1]
    lows = [interval.lower if interval.lower is not None else interval.estimate for _, interval in entries]
    lowest = min([0.5, *(low for low in lows if low is not None)])
    for place, (height, (_, interval)) in enumerate(zip(heights, entries, strict=True)):
        colour = "black" if place == 0 else _COLOURS[0]
        if interval.estimate is None:
            axes.text(lowest, height, " too rare to judge", va="center", fontsize=8, color=_GREY)
            continue
        if interval.lower is not None:
            axes.plot([interval.lower, interval.upper], [height, height], color=colour, linewidth=2, alpha=0.55)
        axes.plot(
            interval.estimate, height, marker="D" if place == 0 else "o", markersize=6, color=colour, clip_on=False
        )
        axes.annotate(
            f"{interval.estimate:.3f}",
            (1.0, height),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            color=colour,
            annotation_clip=False,
        )
    axes.axvline(0.5, color=_GREY, linewidth=0.9, linestyle=(0, (2, 3)))
    axes.axhline(heights[0] - 0.5, color=_LIGHT_GREY, linewidth=0.8)
    axes.set_yticks(heights, [name for name, _ in entries], fontsize=9)
    axes.set(xlim=(lowest - 0.01, 1.0), ylim=(-0.6, heights[0] + 0.6))
    axes.set_xlabel(f"AUROC, {intervals.confidence:.0%} interval over {intervals.resampled}; 0.5 is chance")
    axes.set_title("AUROC by label (positive recordings)", fontsize=11)
    _plain(axes)
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)


def _judged(labels: Sequence[str], intervals: MetricIntervals) -> list[int]:
    """Columns of the labels that have an AUROC, the best first."""
    estimates = [intervals.per_label[label].estimate for label in labels]
    known = [(-estimate, column) for column, estimate in enumerate(estimates) if estimate is not None]
    return [column for _, column in sorted(known)]


def _plain(axes: "Axes") -> None:
    axes.grid(color="#ECECEC", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
