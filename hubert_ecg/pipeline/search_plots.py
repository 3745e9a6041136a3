"""A page about a search, complete in itself: parallel coordinates, importances, and how the metric came about."""

import math
from typing import Any

import numpy as np

from hubert_ecg.pipeline.search_records import TrialRecord
from hubert_ecg.pipeline.search_space import Dimension, Space

PLOTS = "plots.html"
ENOUGH_FOR_FANOVA = 8
"""Finished trials from which a forest of trees is fitted to them; with fewer it would fit noise."""


def importances(records: list[TrialRecord], space: Space) -> tuple[dict[str, float], str]:
    """Share of the metric's variation that each dimension accounts for, most first, and how that was found.

    With 8 finished trials or more: functional ANOVA over a random forest (Hutter et al. 2014, by Optuna), whose shares
    sum to 1. With fewer, by each dimension alone: the squared rank correlation of a range, eta squared (the share of
    the variance that lies between choices) of a choice. Both are 0 where there are not three trials to compare.
    """
    trials = [record for record in records if record.state == "finished" and record.metric is not None]
    values = np.array([record.metric for record in trials], float)
    if len(trials) < 3 or np.ptp(values) == 0:
        return dict.fromkeys(
            (d.name for d in space.dimensions), 0.0
        ), f"{len(trials)} finished trials are too few to tell"
    if len(trials) >= ENOUGH_FOR_FANOVA:
        return _fanova(trials, space), f"functional ANOVA over {len(trials)} finished trials"
    found = {d.name: _alone([record.params[d.name] for record in trials], values, d) for d in space.dimensions}
    how = f"each setting alone, over {len(trials)} finished trials (rank correlation or eta, squared)"
    return dict(sorted(found.items(), key=lambda item: -item[1])), how


def plots_page(records: list[TrialRecord], space: Space, *, metric: str, mode: str) -> str:
    """An HTML page that needs no network."""
    import plotly.io

    figures = [_parallel(records, space, metric, mode), _importance(records, space), _history(records, metric)]
    parts = [
        plotly.io.to_html(figure, include_plotlyjs=number == 0, full_html=False, default_width="100%")
        for number, figure in enumerate(figures)
    ]
    head = '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Search</title></head><body>'
    return head + "\n".join(parts) + "</body></html>\n"


def _fanova(trials: list[TrialRecord], space: Space) -> dict[str, float]:
    import optuna

    from hubert_ecg.pipeline.search_engine import optuna_distribution

    study = optuna.create_study()
    distributions = {dimension.name: optuna_distribution(dimension) for dimension in space.dimensions}
    for record in trials:
        study.add_trial(
            optuna.trial.create_trial(params=record.params, distributions=distributions, value=record.metric)
        )
    varied = [d.name for d in space.dimensions if len({str(record.params[d.name]) for record in trials}) > 1]
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    found = optuna.importance.get_param_importances(study, evaluator=evaluator, params=varied)
    return found | {d.name: 0.0 for d in space.dimensions if d.name not in found}


def _alone(params: list[Any], values: np.ndarray, dimension: Dimension) -> float:
    if not dimension.finite:
        from scipy.stats import rankdata

        ranks = np.stack([rankdata(np.array(params, float)), rankdata(values)])
        return 0.0 if np.ptp(ranks[0]) == 0 else float(np.corrcoef(ranks)[0, 1] ** 2)
    groups = [values[[param == choice for param in params]] for choice in dimension.choices]
    between = sum(len(group) * (group.mean() - values.mean()) ** 2 for group in groups if len(group))
    return float(between / ((values - values.mean()) ** 2).sum())


def _parallel(records: list[TrialRecord], space: Space, metric: str, mode: str) -> Any:
    """Every trial that has a metric as a line through its settings."""
    import plotly.graph_objects as go

    shown = [record for record in records if record.metric is not None]
    axes = [_axis(dimension, [record.params[dimension.name] for record in shown]) for dimension in space.dimensions]
    values = [record.metric for record in shown]
    axes.append({"label": metric, "values": values})
    colours = {"color": values, "colorscale": "Viridis", "showscale": True, "reversescale": mode == "min"}
    figure = go.Figure(go.Parcoords(line=colours, dimensions=axes))
    stopped = sum(record.state != "finished" for record in shown)
    note = f"; {stopped} of them were stopped before their end" if stopped else ""
    return figure.update_layout(title=f"{len(shown)} trials: settings and {metric}{note}", margin={"l": 140, "t": 90})


def _axis(dimension: Dimension, params: list[Any]) -> dict[str, Any]:
    if dimension.finite:
        names = list(dimension.choices)
        return {
            "label": dimension.name,
            "values": [names.index(value) for value in params],
            "tickvals": list(range(len(names))),
            "ticktext": [str(name) for name in names],
        }
    if dimension.kind != "loguniform":
        return {"label": dimension.name, "values": params, "range": [dimension.low, dimension.high]}
    ticks = np.linspace(math.log10(dimension.low), math.log10(dimension.high), 5)
    return {
        "label": dimension.name,
        "values": [math.log10(value) for value in params],
        "range": [ticks[0], ticks[-1]],
        "tickvals": ticks.tolist(),
        "ticktext": [f"{10**tick:.2g}" for tick in ticks],
    }


def _importance(records: list[TrialRecord], space: Space) -> Any:
    import plotly.graph_objects as go

    found, how = importances(records, space)
    names = list(reversed(found))
    figure = go.Figure(go.Bar(x=[found[name] for name in names], y=names, orientation="h"))
    return figure.update_layout(
        title=f"Importance: {how}",
        xaxis_title="share of the variation",
        margin={"l": 160},
        height=160 + 36 * len(names),
    )


def _history(records: list[TrialRecord], metric: str) -> Any:
    """What every trial reported as it went on."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for record in records:
        if record.reports:
            figure.add_scatter(
                x=[report["progress"] for report in record.reports],
                y=[report["value"] for report in record.reports],
                mode="lines+markers",
                name=f"{record.number} ({record.state})",
            )
    return figure.update_layout(title=f"{metric} as trials went on", xaxis_title="steps, or folds", yaxis_title=metric)
