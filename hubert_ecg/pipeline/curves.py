"""The learning curves of a training: tables (CSV), which grow while it runs, and a figure (PNG) at its end."""

import csv
import io
import time
from typing import Any

from hubert_ecg.storage import files

HISTORY = "history.csv"
"""One row per validation."""
STEPS = "training.csv"
"""One row per few steps: loss, learning rate, speed, share of the time spent waiting for data, and on a GPU memory."""
FIGURE = "curves.png"
SECONDS_BETWEEN_WRITES = 10.0


class Tables:
    """The two tables of a run in its directory; a run that goes on drops what came after its checkpoint."""

    def __init__(self, output: str, first_step: int) -> None:
        self.history_path, self.steps_path = files.join(output, HISTORY), files.join(output, STEPS)
        self.rows: list[dict[str, Any]] = []
        if files.exists(self.steps_path):
            self.rows = [row for row in _read(self.steps_path) if int(row["step"]) <= first_step]
        self.written = -SECONDS_BETWEEN_WRITES
        self.unwritten = False

    def add_row(self, row: dict[str, float]) -> None:
        """Written every few seconds, because whole files are."""
        self.rows.append(row)
        self.unwritten = True
        if time.monotonic() - self.written >= SECONDS_BETWEEN_WRITES:
            self.flush()

    def write_history(self, history: list[dict[str, Any]]) -> None:
        files.write_bytes(self.history_path, _csv(history, numbers_of(history)))

    def flush(self) -> None:
        """To be called before a checkpoint: what it will not repeat must have been written."""
        if self.unwritten:
            # All names: a training that goes on with a GPU, or without one, gains or loses a column.
            names = dict.fromkeys(name for row in self.rows for name in row)
            files.write_bytes(self.steps_path, _csv(self.rows, list(names)))
        self.written, self.unwritten = time.monotonic(), False


def step_rows(output: str) -> list[dict[str, float]]:
    """The rows of a training's table of steps as numbers; a row lacks what it does not tell."""
    rows = _read(files.join(output, STEPS))
    return [{name: float(value) for name, value in row.items() if value} for row in rows]


def write_curves(output: str, history: list[dict[str, Any]]) -> None:
    """Write `history.csv` and `curves.png`: one row per validation, one panel per number but the step."""
    names = numbers_of(history)
    files.write_bytes(files.join(output, HISTORY), _csv(history, names))
    files.write_bytes(files.join(output, FIGURE), _figure(history, [name for name in names if name != "step"]))


def numbers_of(history: list[dict[str, Any]]) -> list[str]:
    """The names in a history that stand for numbers."""
    names = dict.fromkeys(name for row in history for name, value in row.items() if isinstance(value, int | float))
    return list(names)


def _read(path: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(files.read_bytes(path).decode())))


def _csv(rows: list[dict[str, Any]], names: list[str]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, names, extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


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
