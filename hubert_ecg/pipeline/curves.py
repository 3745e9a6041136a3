"""The learning curves of a training: a table (CSV) and a figure (PNG)."""

import csv
import io
from pathlib import Path
from typing import Any

from hubert_ecg.storage import files


def write_curves(directory: Path, history: list[dict[str, Any]]) -> None:
    """Write `history.csv` and `curves.png`: one row per validation, one panel per number but the step."""
    names = [name for name, value in history[0].items() if isinstance(value, int | float)]
    text = io.StringIO()
    writer = csv.DictWriter(text, names, extrasaction="ignore")
    writer.writeheader()
    writer.writerows(history)
    files.write_bytes(files.join(str(directory), "history.csv"), text.getvalue().encode())
    files.write_bytes(files.join(str(directory), "curves.png"), _figure(history, [n for n in names if n != "step"]))


def _figure(history: list[dict[str, Any]], names: list[str]) -> bytes:
    from matplotlib.figure import Figure

    # Numbers of one kind share a panel; perplexities run to the number of clusters and would flatten the rest.
    kinds = {
        "loss": "loss",
        "perplexity": "perplexity of predicted clusters",
        "mae": "mean absolute error",
        "r2": "R2",
    }
    groups: dict[str, list[str]] = {}
    for name in names:
        if name != "score":
            kind = next((title for word, title in kinds.items() if word in name), "accuracy or AUROC")
            groups.setdefault(kind, []).append(name)
    figure = Figure(figsize=(4.5 * len(groups), 3.2), layout="constrained")
    steps = [row["step"] for row in history]
    for axes, (title, members) in zip(figure.subplots(1, len(groups), squeeze=False)[0], groups.items(), strict=True):
        for name in members:
            axes.plot(steps, [row.get(name) for row in history], marker=".", label=name.replace("_", " "))
        axes.set_xlabel("step")
        axes.set_ylabel(title)
        axes.grid(alpha=0.3)
        if members:
            axes.legend(frameon=False)
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=110)
    return image.getvalue()
