"""evaluate: a classifier's probabilities on one split, and how good they are."""

import io
import logging
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from hubert_ecg.ecg.simulate import CONDITION_TITLES
from hubert_ecg.errors import ArtifactError, ConfigError
from hubert_ecg.evaluation.bootstrap import bootstrap_auroc
from hubert_ecg.evaluation.metrics import evaluate_multi_label
from hubert_ecg.evaluation.permutation import shuffled_label_auroc
from hubert_ecg.evaluation.plots import save_auroc_figure
from hubert_ecg.evaluation.table import auroc_table
from hubert_ecg.pipeline.dump import run_extraction
from hubert_ecg.pipeline.extract import check_contract, preprocess_of
from hubert_ecg.pipeline.prepare import label_sets_of
from hubert_ecg.storage import files, tables
from hubert_ecg.storage.artifact import Manifest, begin, open_artifact, write_part
from hubert_ecg.storage.checkpoint import load_info
from hubert_ecg.training.examples import select_rows

log = logging.getLogger(__name__)

METRICS, FIGURE, TABLE = "metrics.json", "auroc.png", "table.txt"
RECORDINGS_PER_BATCH = 32


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Judge a classifier on recordings it has not seen."""

    waveforms: str
    """Waveform table W, the output of jobs.prepare."""
    checkpoint: str
    """Classifier M, the output of jobs.finetune."""
    output: str
    """Directory to write probabilities, metrics.json and the figure to."""
    split: Literal["train", "val", "test"] = "test"
    """Recordings to judge on."""
    label_set: str | None = None
    """Label set of W with the classifier's labels; by default the first that has them all."""
    tag: str | None = None
    """Judge only on recordings that carry this tag (PTB-XL's `sample` column, say)."""
    num_crops: int = 3
    """Crops of 5 s per recording, evenly spread, whose probabilities are averaged."""
    bootstrap_draws: int = 1000
    """Resamplings of patients behind each confidence interval."""
    seed: int = 0
    """Seed of the resamplings."""
    workers: int = 0
    """Actors; 0 takes one per CPU, or one per GPU where there are GPUs."""

    def __post_init__(self) -> None:
        if self.num_crops < 1 or self.bootstrap_draws < 100:
            raise ConfigError(
                f"wanted --num_crops of at least 1 and --bootstrap_draws of at least 100, "
                f"got {self.num_crops} and {self.bootstrap_draws}"
            )


def evaluate(config: EvaluateConfig) -> Manifest:
    """Run the stage."""
    waveforms = open_artifact(config.waveforms, verb="prepare", role="--waveforms")
    info = load_info(files.absolute(config.checkpoint))
    check_contract(info.preprocessing, preprocess_of(waveforms), config.checkpoint)
    labels = tuple(info.label_names or ())
    label_set = _label_set(config, waveforms, labels)
    described = {
        "split": config.split,
        "label_set": label_set,
        "tag": config.tag,
        "num_crops": config.num_crops,
        "bootstrap_draws": config.bootstrap_draws,
        "seed": config.seed,
    }
    inputs = {"waveforms": waveforms.fingerprint, "checkpoint": info.fingerprint}
    output = begin(config.output, verb="evaluate", config=described, inputs=inputs)
    if isinstance(output, Manifest):
        return output
    need_label = None if label_sets_of(waveforms)[label_set].none_is_negative else label_set
    selected = select_rows(waveforms, split=config.split, label_set=need_label, tag=config.tag)
    total = sum(map(len, selected))
    if not total:
        raise ArtifactError(
            f"{config.waveforms}: wanted labelled recordings in split {config.split}"
            f"{f' with tag {config.tag}' if config.tag else ''}, got none; splits: {waveforms.facts['splits']}, "
            f"tags: {waveforms.facts['tags']}"
        )
    tasks = [{"part": part, "rows": rows.tolist()} for part, rows in enumerate(selected)]
    arguments = {
        "directory": output.directory,
        "waveforms": waveforms,
        "checkpoint": files.absolute(config.checkpoint),
        "labels": labels,
        "label_set": label_set,
        "num_crops": config.num_crops,
    }
    run_extraction(output, tasks, PredictShard, arguments, latent=True, workers=config.workers)
    summary = _judge(output.directory, waveforms.parts, labels, config)
    return output.finish(parts=waveforms.parts, facts={"label_set": label_set, "macro_auroc": summary})


class PredictShard:
    """Predicts and writes the chosen recordings of one shard per call."""

    def __init__(
        self,
        directory: str,
        waveforms: Manifest,
        checkpoint: str,
        labels: tuple[str, ...],
        label_set: str,
        num_crops: int,
    ) -> None:
        from hubert_ecg.predictor import Predictor

        self.directory, self.waveforms, self.labels, self.label_set = directory, waveforms, labels, label_set
        self.predictor = Predictor.load(checkpoint, num_crops=num_crops)

    def __call__(self, task: dict[str, Any]) -> dict[str, Any]:
        part, rows = task["part"], np.array(task["rows"], np.int64)
        label_column = tables.LABEL_PREFIX + self.label_set
        table = files.read_table(self.waveforms.part(part), ["record_id", "patient_id", "counts", label_column])
        table = table.take(pa.array(rows))
        counts = [row.reshape(12, -1) for row in tables.list_rows(table["counts"])]
        batches = [counts[i : i + RECORDINGS_PER_BATCH] for i in range(0, len(counts), RECORDINGS_PER_BATCH)]
        probabilities = [self.predictor.probabilities(batch) for batch in batches]
        stacked = np.concatenate(probabilities) if probabilities else np.zeros((0, len(self.labels)), np.float32)
        wanted = [[label in set(names or ()) for label in self.labels] for names in table[label_column].to_pylist()]
        truth = np.array(wanted, bool).reshape(-1, len(self.labels))
        columns = {"record_id": table["record_id"], "patient_id": table["patient_id"]}
        for i, label in enumerate(self.labels):
            columns[f"probability.{label}"] = pa.array(stacked[:, i], pa.float32())
            columns[f"target.{label}"] = pa.array(truth[:, i])
        receipt = write_part(self.directory, part, pa.table(columns))
        return {"part": part, "rows": receipt["rows"]}


def _label_set(config: EvaluateConfig, waveforms: Manifest, labels: tuple[str, ...]) -> str:
    """The label set of the waveforms that answers the classifier's question."""
    label_sets = label_sets_of(waveforms)
    if config.label_set is not None and config.label_set not in label_sets:
        raise ConfigError(
            f"--label_set: wanted one of {sorted(label_sets)} of {config.waveforms}, got {config.label_set}"
        )
    candidates = [config.label_set] if config.label_set else sorted(label_sets)
    fitting = [name for name in candidates if set(labels) <= set(label_sets[name].labels)]
    if not fitting:
        raise ArtifactError(
            f"{config.checkpoint}: predicts {', '.join(labels)}; no label set of {config.waveforms} has them all "
            f"({', '.join(candidates)}); prepare waveforms with these labels or choose another checkpoint"
        )
    # A set of exactly these labels is a better answer than a larger one that contains them.
    return min(fitting, key=lambda name: len(label_sets[name].labels))


def _judge(directory: str, parts: int, labels: tuple[str, ...], config: EvaluateConfig) -> dict[str, Any]:
    """Read all probabilities, compute metrics and intervals, write metrics.json, the table and the figure."""
    manifest = Manifest(directory=directory, verb="evaluate", config={}, inputs={}, fingerprint="", rows=0, parts=parts)
    table = pa.concat_tables([files.read_table(manifest.part(part)) for part in range(parts)])
    probabilities = np.stack([table[f"probability.{label}"].to_numpy() for label in labels], axis=1).astype(np.float64)
    targets = np.stack([table[f"target.{label}"].to_numpy() for label in labels], axis=1)
    info = load_info(files.absolute(config.checkpoint))
    metrics = evaluate_multi_label(targets, probabilities, labels, info.thresholds)
    rng = np.random.default_rng(config.seed)
    patients = table["patient_id"].to_pylist()
    intervals = bootstrap_auroc(
        targets, probabilities, labels, rng=rng, patient_ids=patients, draws=config.bootstrap_draws
    )
    shuffled = shuffled_label_auroc(targets, probabilities, rng=rng)
    titles = {label: CONDITION_TITLES[label] for label in labels if label in CONDITION_TITLES}
    text = auroc_table(metrics, intervals, titles=titles)
    content = metrics.to_dict() | {
        "auroc_intervals": intervals.to_dict(),
        "shuffled_label_auroc": shuffled.to_dict(),
        "split": config.split,
        "tag": config.tag,
        "checkpoint": info.fingerprint,
    }
    files.write_json(files.join(directory, METRICS), content)
    files.write_bytes(files.join(directory, TABLE), (text + "\n").encode())
    title = f"{metrics.recordings} recordings of split {config.split}"
    figure = io.BytesIO()
    save_auroc_figure(figure, targets, probabilities, labels, intervals, title=title, titles=titles)
    files.write_bytes(files.join(directory, FIGURE), figure.getvalue())
    log.info("evaluate: %s\n%s", title, text)
    return intervals.to_dict()["macro"]


def read_table_text(directory: str) -> str:
    """The table of an evaluation, as text."""
    return files.read_bytes(files.join(files.absolute(directory), TABLE)).decode()
