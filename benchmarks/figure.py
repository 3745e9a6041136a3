"""The README's picture of what models reach: one dot per seed, a bar at their mean, drawn from saved results."""

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.proof.comparison import BASELINE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLUE, GREY = "#0072B2", "#6E6E6E"
"""Ours, and what it is compared with; colour-blind readers can tell them apart."""
TITLES = {
    "resnet": "residual network: the baseline",
    "resnet_auxiliary_augment": "the same, auxiliary targets, augmentation",
    "hubert_pretrained_auxiliary_augment": "HuBERT tiny, pre-trained, the same two",
}
ARMS = {"pretrained": "pre-trained", "scratch": "random weights"}


@dataclass(frozen=True, kw_only=True)
class Dots:
    """One line of a panel."""

    name: str
    values: tuple[float, ...]
    """Macro AUROC of each seed."""
    baseline: bool


def panels(runs: Iterable[Mapping[str, Any]]) -> dict[str, list[Dots]]:
    """Title of a panel -> its lines, of those saved runs that have several seeds of something."""
    found: dict[str, list[Dots]] = {}
    for run in sorted(runs, key=lambda run: "benchmarks.proof" not in run["command"]):
        details = run.get("details", {})
        if "--stage judge" in run["command"]:
            label_set, subset = (
                ("conditions", "all") if "--label_set conditions" in run["command"] else ("superclass", "natural")
            )
            of_recipes = details["trials"][subset]
            lines = [_line(TITLES[name], of_recipes[name], name == BASELINE) for name in TITLES if name in of_recipes]
            count = of_recipes[BASELINE]["recordings"]
            title = {"superclass": "Five superclasses", "conditions": "Five conditions"}[label_set]
            found[f"{title}, {count} recordings of fold 9"] = lines
        elif "conditions" in details and "benchmarks.label_efficiency" in run["command"]:
            lines = [
                _line(f"{condition.split(',')[0]} of the labels, {ARMS[arm]}", figures, arm == "scratch")
                for condition, found_there in details["conditions"].items()
                for arm, figures in found_there["test"]["all"]["macro_auroc"].items()
            ]
            found["Few labels, HuBERT tiny, 525 recordings of fold 9"] = lines
    return found


def _line(name: str, figures: Mapping[str, Any], baseline: bool) -> Dots:
    of_seeds = figures["per_seed"]
    values = of_seeds.values() if isinstance(of_seeds, Mapping) else of_seeds
    return Dots(name=name, values=tuple(values), baseline=baseline)


def draw(of_panels: Mapping[str, Sequence[Dots]]) -> bytes:
    """An SVG, the same bytes for the same dots."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

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
