"""The table and the picture of quality over the number of clusters, and over layers: what people look for elbows in."""

import io
from typing import Any

import pyarrow as pa
from pyarrow import csv

from hubert_ecg.clustering.quality import elbow
from hubert_ecg.storage import files

TABLE = "quality.csv"
FIGURE = "quality.png"

SCHEMA = pa.schema(
    [
        pa.field("codebook", pa.string()),
        pa.field("descriptor", pa.string()),
        pa.field("layer", pa.int32()),
        pa.field("num_clusters", pa.int32()),
        pa.field("rows", pa.int64()),
        pa.field("inertia", pa.float64()),
        pa.field("inertia_per_row", pa.float64()),
        pa.field("davies_bouldin", pa.float64()),
        pa.field("calinski_harabasz", pa.float64()),
        pa.field("silhouette", pa.float64()),
        pa.field("used", pa.float64()),
        pa.field("perplexity", pa.float64()),
        pa.field("label_set", pa.string()),
        pa.field("purity", pa.float64()),
        pa.field("nmi", pa.float64()),
        pa.field("pnmi", pa.float64()),
        pa.field("steps", pa.int32()),
    ]
)
"""One row per codebook; what was not asked for, or is undefined, is null."""

PANELS = {
    "inertia_per_row": "inertia per row (lower is better)",
    "davies_bouldin": "Davies-Bouldin (lower is better)",
    "calinski_harabasz": "Calinski-Harabasz (higher is better)",
    "silhouette": "silhouette of a sample (higher is better)",
    "perplexity": "perplexity of cluster usage",
    "purity": "purity against {label_set}",
    "nmi": "NMI with {label_set}",
    "pnmi": "PNMI: share of {label_set} explained",
}
PANELS_ACROSS = 4
STYLES = [("#0072B2", "o"), ("#D55E00", "s"), ("#009E73", "^"), ("#CC79A7", "D"), ("#56B4E9", "v"), ("#E69F00", "P")]
"""Okabe and Ito's palette with a marker each, so that lines differ without colour, too."""


def quality_table(figures: list[dict[str, Any]]) -> pa.Table:
    """One row per codebook, in order of descriptor, layer and number of clusters."""
    order = sorted(figures, key=lambda row: (row["descriptor"], _layer(row), row["num_clusters"], row["codebook"]))
    return pa.Table.from_pylist(order, schema=SCHEMA)


def write_quality(directory: str, table: pa.Table) -> None:
    """Write `quality.csv` and `quality.png`."""
    sink = pa.BufferOutputStream()
    csv.write_csv(table, sink)
    files.write_bytes(files.join(directory, TABLE), sink.getvalue().to_pybytes())
    files.write_bytes(files.join(directory, FIGURE), _figure(table))


def elbows(table: pa.Table) -> dict[str, int]:
    """Per descriptor and layer, the number of clusters where the inertia bends, where there is such a one."""
    found = {name: elbow(*_columns(rows, "num_clusters", "inertia_per_row")) for name, rows in _lines(table).items()}
    return {name: number for name, number in found.items() if number is not None}


def _figure(table: pa.Table) -> bytes:
    """A panel per measure over the number of clusters; below it one over layers where there are several."""
    from matplotlib.figure import Figure

    lines = _lines(table)
    layers = sorted({_layer(row) for rows in lines.values() for row in rows} - {-1})
    panels = [name for name in PANELS if table[name].null_count < len(table)]
    stacked = 2 if len(layers) > 1 else 1
    wide = min(PANELS_ACROSS, len(panels))
    high = stacked * -(-len(panels) // wide)
    figure = Figure(figsize=(4.2 * wide, 3.4 * high), layout="constrained")
    axes = figure.subplots(high, wide, squeeze=False)
    for spare in axes[high - stacked :, (len(panels) - 1) % wide + 1 :].flat:
        spare.set_visible(False)
    for number, name in enumerate(panels):
        row, column = stacked * (number // wide), number % wide
        _over_clusters(axes[row, column], lines, name, _title(name, table))
        if stacked == 2:
            _over_layers(axes[row + 1, column], table, name, layers)
    for legend in axes[:stacked, 0]:
        legend.legend(frameon=False, fontsize=8)
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=130)
    return image.getvalue()


def _over_clusters(axes: Any, lines: dict[str, list[dict[str, Any]]], name: str, title: str) -> None:
    for (label, rows), (colour, marker) in zip(lines.items(), STYLES * len(lines), strict=False):
        numbers, values = _columns(rows, "num_clusters", name)
        axes.plot(numbers, values, color=colour, marker=marker, markersize=5, label=label)
        bend = elbow(numbers, values) if name == "inertia_per_row" and None not in values else None
        if bend is not None:
            axes.axvline(bend, color=colour, linestyle=":", linewidth=1, label=f"elbow at {bend}")
    axes.set_xlabel("clusters")
    _finish(axes, title)


def _over_layers(axes: Any, table: pa.Table, name: str, layers: list[int]) -> None:
    by_clusters: dict[int, dict[int, float]] = {}
    for row in table.to_pylist():
        if row["layer"] is not None:
            by_clusters.setdefault(row["num_clusters"], {})[row["layer"]] = row[name]
    for (clusters, values), (colour, marker) in zip(by_clusters.items(), STYLES * len(by_clusters), strict=False):
        known = [layer for layer in layers if layer in values]
        axes.plot(known, [values[layer] for layer in known], color=colour, marker=marker, label=f"{clusters} clusters")
    axes.set_xlabel("layer")
    axes.set_xticks(layers)
    _finish(axes, "")


def _finish(axes: Any, title: str) -> None:
    axes.set_title(title, fontsize=10)
    axes.grid(color="#ECECEC")
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _title(name: str, table: pa.Table) -> str:
    label_sets = [value for value in table["label_set"].to_pylist() if value is not None]
    return PANELS[name].format(label_set=label_sets[0] if label_sets else "")


def _lines(table: pa.Table) -> dict[str, list[dict[str, Any]]]:
    """Rows by descriptor and layer, each ascending in the number of clusters."""
    lines: dict[str, list[dict[str, Any]]] = {}
    for row in table.to_pylist():
        name = row["descriptor"] if row["layer"] is None else f"{row['descriptor']}, layer {row['layer']}"
        lines.setdefault(name, []).append(row)
    return lines


def _columns(rows: list[dict[str, Any]], *names: str) -> list[list[Any]]:
    return [[row[name] for row in rows] for name in names]


def _layer(row: dict[str, Any]) -> int:
    """A layer to sort by; signals come before encoders."""
    return -1 if row["layer"] is None else row["layer"]
