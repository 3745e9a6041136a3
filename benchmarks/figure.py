"""The README's picture of what models reach: one dot per seed, a bar at their mean, drawn from saved results."""

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.names import ARMS, BASELINE
from hubert_ecg.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLUE, GREY = "#0072B2", "#6E6E6E"
"""Ours, and what it is compared with; colour-blind readers can tell them apart."""
TITLES = {
    "resnet": "residual network: the baseline",
    "resnet_auxiliary_augment": "the same, auxiliary targets, augmentation",
    "hubert_voltage_pretrained_auxiliary_augment_fast": "HuBERT tiny, pre-trained, the same two",
}


@dataclass(frozen=True, kw_only=True)
class Dots:
    """One line of a panel."""

    name: str
    values: tuple[float, ...]
    """Macro AUROC of each seed."""
    baseline: bool


def panels(runs: Iterable[Mapping[str, Any]]) -> dict[str, list[Dots]]:
    """Title of a panel -> its lines: what several seeds have reached, of the saved run that has most of them."""
    found: dict[str, dict[str, Dots]] = {}
    for run in sorted(runs, key=lambda run: ("benchmarks.proof" not in run["command"], "conditions" in run["command"])):
        if "--stage judge" in run["command"]:
            title, lines = _of_recipes(run)
        elif "benchmarks.label_efficiency" in run["command"]:
            title, lines = _of_shares(run)
        else:
            continue
        panel = found.setdefault(title, {})
        for line in lines:
            if len(line.values) > (len(panel[line.name].values) if line.name in panel else 1):
                panel[line.name] = line
    return {title: list(lines.values()) for title, lines in found.items() if lines}


def _of_recipes(run: Mapping[str, Any]) -> tuple[str, list[Dots]]:
    rare = "--label_set conditions" in run["command"]
    figures = run["details"]["trials"]["all" if rare else "natural"]
    recordings = next(iter(figures.values()))["recordings"]
    title = f"Five {'conditions' if rare else 'superclasses'}, {recordings} recordings of fold 9"
    return title, [_line(TITLES[name], figures[name], name == BASELINE) for name in TITLES if name in figures]


def _of_shares(run: Mapping[str, Any]) -> tuple[str, list[Dots]]:
    lines, recordings = [], 0
    for condition, figures in run["details"]["conditions"].items():
        judged = figures["test"]["all"]
        recordings = judged["recordings"]
        for arm, of_arm in judged["macro_auroc"].items():
            lines.append(_line(f"{condition}, {ARMS[arm]}", of_arm, arm == "scratch"))
    return f"Shares of the labels, HuBERT tiny, {recordings} recordings of fold 9", lines


def _line(name: str, figures: Mapping[str, Any], baseline: bool) -> Dots:
    of_seeds = figures["per_seed"]
    values = of_seeds.values() if isinstance(of_seeds, Mapping) else of_seeds
    return Dots(name=name, values=tuple(values), baseline=baseline)


def draw(of_panels: Mapping[str, Sequence[Dots]]) -> bytes:
    """An SVG, the same bytes for the same dots. Raises ConfigError where there is nothing to draw."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    if not of_panels:
        raise ConfigError("--figure: wanted saved results of several seeds, got none; run the benchmarks with --save")
    heights = [len(lines) for lines in of_panels.values()]
    with rc_context({"svg.hashsalt": "results", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(8, 0.55 * len(heights) + 0.3 * sum(heights)), layout="constrained", facecolor="white")
        FigureCanvasSVG(figure)
        for axes, (title, lines) in zip(
            np.ravel(figure.subplots(len(heights), height_ratios=heights, squeeze=False)),
            of_panels.items(),
            strict=True,
        ):
            _draw_panel(axes, title, lines)
        axes.set_xlabel("macro AUROC")
        file = io.BytesIO()
        figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()


def _draw_panel(axes: "Axes", title: str, lines: Sequence[Dots]) -> None:
    for place, line in enumerate(lines):
        colour = GREY if line.baseline else BLUE
        axes.plot(line.values, [place] * len(line.values), "o", color=colour, alpha=0.55, markersize=5, clip_on=False)
        mean = float(np.mean(line.values))
        axes.plot([mean, mean], [place - 0.3, place + 0.3], color=colour, linewidth=2)
        axes.annotate(f"{mean:.3f}", (1, place), xycoords=("axes fraction", "data"), xytext=(6, -3),
                      textcoords="offset points", color=colour)  # fmt: skip
    axes.set_title(title, loc="left", fontsize=9, fontweight="bold")
    axes.set_yticks(range(len(lines)), [line.name for line in lines])
    axes.set_ylim(len(lines) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#E4E4E4")
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
