"""evaluate: a classifier's probabilities on one split, and how good they are."""

import logging
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from hubert_ecg.errors import ArtifactError, ConfigError
from hubert_ecg.pipeline.extract import check_contract, preprocess_of
from hubert_ecg.pipeline.judge_predictions import FIGURE, METRICS, Predictions, judge_predictions, read_table_text
from hubert_ecg.pipeline.predict_shard import TablePredictor
from hubert_ecg.pipeline.prepare import label_sets_of
from hubert_ecg.pipeline.shards import run_shards
from hubert_ecg.predictor import CropConfig
from hubert_ecg.storage import files, tables
from hubert_ecg.storage.artifact import Manifest, begin, open_artifact, write_part
from hubert_ecg.storage.checkpoint import load_info
from hubert_ecg.training.examples import select_rows
from hubert_ecg.training.targets import LabelTargets

__all__ = ["FIGURE", "METRICS", "EvaluateConfig", "PredictShard", "evaluate", "read_table_text"]

log = logging.getLogger(__name__)


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
    labels, task = tuple(info.label_names), info.task or "multi_label"
    label_set = _label_set(config, waveforms, labels, task)
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
        "targets": LabelTargets(label_set=label_set, labels=labels, task=task),
        "num_crops": config.num_crops,
    }
    run_shards(output, tasks, PredictShard, work_arguments=arguments, holds_model=True, workers=config.workers)
    summary = judge_predictions(
        Predictions.read(output.directory, waveforms.parts, labels, task),
        output.directory,
        thresholds=info.thresholds,
        draws=config.bootstrap_draws,
        seed=config.seed,
        about={"split": config.split, "tag": config.tag, "checkpoint": info.fingerprint},
    )
    return output.finish(parts=waveforms.parts, facts={"label_set": label_set, "task": task} | summary)


class PredictShard:
    """Predicts and writes the chosen recordings of one shard per call."""

    def __init__(
        self,
        directory: str,
        waveforms: Manifest,
        checkpoint: str,
        targets: LabelTargets,
        num_crops: int,
    ) -> None:
        self.directory, self.waveforms, self.targets = directory, waveforms, targets
        self.predict = TablePredictor(checkpoint, CropConfig(num_crops=num_crops))

    def __call__(self, task: dict[str, Any]) -> dict[str, Any]:
        part, rows = task["part"], np.array(task["rows"], np.int64)
        answers = tables.LABEL_PREFIX + self.targets.label_set
        columns = ["record_id", "patient_id", *TablePredictor.COLUMNS, answers]
        table = files.read_table(self.waveforms.part(part), columns).take(pa.array(rows))
        outputs = self.predict(table).probabilities
        ids = table["record_id"]
        truth = [self._truth(*pair) for pair in zip(table[answers].to_pylist(), ids.to_pylist(), strict=True)]
        stacked = np.stack(truth) if truth else outputs
        found = {"record_id": ids, "patient_id": table["patient_id"]}
        name, kind = ("prediction", pa.float32()) if self.targets.task == "regression" else ("probability", pa.bool_())
        for i, label in enumerate(self.targets.labels):
            found[f"{name}.{label}"] = pa.array(outputs[:, i], pa.float32())
            found[f"target.{label}"] = pa.array(stacked[:, i].astype(kind.to_pandas_dtype()), kind)
        receipt = write_part(self.directory, part, pa.table(found))
        return {"part": part, "rows": receipt["rows"]}

    def _truth(self, answer: list[Any] | None, record_id: str) -> np.ndarray:
        """[label]: 1 or 0, or the numbers of a regression; of a multi-class recording all classes but its own are 0."""
        target = self.targets.target(answer, record_id)
        return np.eye(len(self.targets.labels))[target[0]] if self.targets.task == "multi_class" else target


def _label_set(config: EvaluateConfig, waveforms: Manifest, labels: tuple[str, ...], task: str) -> str:
    """The label set of the waveforms that answers the classifier's question."""
    label_sets = label_sets_of(waveforms)
    if config.label_set is not None and config.label_set not in label_sets:
        raise ConfigError(
            f"--label_set: wanted one of {sorted(label_sets)} of {config.waveforms}, got {config.label_set}"
        )
    candidates = [config.label_set] if config.label_set else sorted(label_sets)
    # A model of numbers needs numbers, in its own order: a column holds one per label of its set.
    fitting = [
        name
        for name in candidates
        if (label_sets[name].labels == labels and label_sets[name].task == task)
        or (set(labels) <= set(label_sets[name].labels) and "regression" not in (task, label_sets[name].task))
    ]
    if not fitting:
        raise ArtifactError(
            f"{config.checkpoint}: predicts {', '.join(labels)} ({task}); no label set of {config.waveforms} has them "
            f"all ({', '.join(candidates)}); prepare waveforms with these labels or choose another checkpoint"
        )
    # A set of exactly these labels is a better answer than a larger one that contains them.
    return min(fitting, key=lambda name: len(label_sets[name].labels))
