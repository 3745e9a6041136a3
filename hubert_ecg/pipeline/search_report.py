"""What is left of a search: the table of trials, the best settings as YAML, and what the best trial made."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import yaml

from hubert_ecg.pipeline.search_plots import PLOTS, plots_page
from hubert_ecg.pipeline.search_records import TrialRecord, summary
from hubert_ecg.pipeline.search_space import Space
from hubert_ecg.pipeline.search_stages import StageRun
from hubert_ecg.storage import files
from hubert_ecg.storage.artifact import MANIFEST, Manifest, open_artifact

TABLE, BEST, BEST_CONFIG, RETRAINED = "trials", "best", "best.yaml", "retrained"


def trial_table(records: list[TrialRecord], space: Space, mode: str) -> pd.DataFrame:
    """One row per trial, the best finished one first, those without a metric last.

    Columns: trial, state, metric, std and fold_0, ... where there are folds, best_step, seconds, one per dimension,
    error.
    """
    folds = max((len(record.folds) for record in records), default=0)
    rows = []
    for record in records:
        row: dict[str, Any] = {"trial": record.number, "state": record.state, "metric": record.metric}
        if folds:
            spread = float(np.std(record.folds, ddof=1)) if len(record.folds) > 1 else None
            values = record.folds + [None] * (folds - len(record.folds))
            row |= {"std": spread} | {f"fold_{fold}": value for fold, value in enumerate(values)}
        row |= {"best_step": record.best_step, "seconds": record.seconds}
        row |= {dimension.name: record.params.get(dimension.name) for dimension in space.dimensions}
        rows.append(row | {"error": record.error})
    frame = pd.DataFrame(rows)
    sign = -1.0 if mode == "max" else 1.0
    worth = pd.to_numeric(frame["metric"]).mul(sign)
    order = pd.DataFrame({"state": frame["state"] != "finished", "worth": worth, "trial": frame["trial"]})
    return frame.loc[order.sort_values(["state", "worth", "trial"], na_position="last").index].reset_index(drop=True)


def write_report(records: list[TrialRecord], space: Space, output: str, *, metric: str, mode: str) -> None:
    """Write trials.csv, trials.parquet, trials.json, trials.txt and plots.html."""
    frame = trial_table(records, space, mode)
    files.write_bytes(files.join(output, f"{TABLE}.csv"), frame.to_csv(index=False).encode())
    text = frame.to_string(index=False, na_rep="", max_colwidth=100, float_format=lambda value: f"{value:.4g}")
    head = f"{space.about}\nmetric: {metric} ({mode}); {summary(records)}\n\n"
    files.write_bytes(files.join(output, f"{TABLE}.txt"), (head + text + "\n").encode())
    rows = json.loads(frame.to_json(orient="records"))
    for row, number in zip(rows, frame["trial"], strict=True):
        record = records[int(number)]
        row["settings"] = space.settings(record.params)
        row["exchanges"] = record.exchanges
    files.write_json(files.join(output, f"{TABLE}.json"), rows)
    files.write_table(files.join(output, f"{TABLE}.parquet"), _arrow(frame))
    files.write_bytes(files.join(output, PLOTS), plots_page(records, space, metric=metric, mode=mode).encode())


def place_best(best: TrialRecord, output: str) -> Manifest:
    """Copy what the best trial made to OUTPUT/best, its manifest last; the trainer's own state stays behind."""
    assert best.output is not None
    source, target = Path(best.output), Path(output, BEST)
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, ignore=shutil.ignore_patterns(MANIFEST, "trainer", "life-*"))
    files.write_bytes(str(target / MANIFEST), (source / MANIFEST).read_bytes())
    return open_artifact(str(target))


def write_best_config(run: StageRun, output: str) -> None:
    """Write OUTPUT/best.yaml: all settings of the best trial's last stage, with a directory of its own as output."""
    values = json.loads(json.dumps(dataclasses.asdict(run.config)))
    values["output"] = files.join(output, RETRAINED)
    head = f"# The best settings of a search; python -m jobs.{run.verb} --config {files.join(output, BEST_CONFIG)}\n"
    files.write_bytes(files.join(output, BEST_CONFIG), (head + yaml.safe_dump(values, sort_keys=False)).encode())


def _arrow(frame: pd.DataFrame) -> pa.Table:
    """Columns of choices of several kinds (2, "all") are kept as text."""
    columns = {}
    for name in frame.columns:
        values = [None if value is None or value != value else value for value in frame[name].tolist()]
        try:
            columns[name] = pa.array(values)
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            columns[name] = pa.array([None if value is None else str(value) for value in values])
    return pa.table(columns)
