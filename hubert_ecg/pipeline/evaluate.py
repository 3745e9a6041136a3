"""evaluate: a classifier's probabilities on one split, and how good they are."""

import logging
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from hubert_ecg.datasets.label_map import SHIPPED, JudgedLabel, LabelMap, shipped_text
from hubert_ecg.datasets.source import LabelSet
from hubert_ecg.errors import ArtifactError, ConfigError, InputError
from hubert_ecg.evaluation.challenge import SINUS_RHYTHM, ChallengeWeights
from hubert_ecg.pipeline.evaluate_shard import PredictShard, Question
from hubert_ecg.pipeline.extract import check_contract, preprocess_of
from hubert_ecg.pipeline.judge_details import Challenge
from hubert_ecg.pipeline.judge_predictions import FIGURE, METRICS, PAGE, Judging, judge_predictions, read_table_text
from hubert_ecg.pipeline.predictions import Predictions
from hubert_ecg.pipeline.prepare import label_sets_of
from hubert_ecg.pipeline.shards import run_shards
from hubert_ecg.predictor import CropConfig
from hubert_ecg.storage import files
from hubert_ecg.storage.artifact import Manifest, StageOutput, begin, code_version, fingerprint, open_artifact
from hubert_ecg.storage.checkpoint import CheckpointInfo, load_info
from hubert_ecg.training.examples import select_rows

__all__ = ["FIGURE", "METRICS", "PAGE", "EvaluateConfig", "evaluate", "read_table_text"]

log = logging.getLogger(__name__)

Split = Literal["train", "val", "test"]


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Judge a classifier on recordings it has not seen."""

    waveforms: str
    """Waveform table W, the output of jobs.prepare."""
    checkpoint: str
    """Classifier M, the output of jobs.finetune or jobs.calibrate."""
    output: str
    """Directory to write probabilities, metrics.json, report.html and the figure to."""
    split: Split = "test"
    """Recordings to judge on."""
    label_set: str | None = None
    """Label set of W with the classifier's labels, or with those a label map leads to; by default the first that has
    them all (with a map: any of them)."""
    label_map: str | None = None
    """External validation: CSV file with a row `checkpoint,data` and one pair of labels per row, or the name of a map
    that comes with the package: ptbxl_conditions_to_snomed, ptbxl_superclass_to_snomed."""
    tag: str | None = None
    """Judge only on recordings that carry this tag (PTB-XL's `sample` column, say)."""
    crops: CropConfig = field(default_factory=CropConfig)
    """Which crops of a recording are looked at, and how their probabilities become one (test-time augmentation)."""
    challenge_weights: str | None = None
    """The official weights.csv of the PhysioNet/CinC Challenge 2020 or 2021: adds its score."""
    normal_class: str = SINUS_RHYTHM
    """The Challenge's normal class, as the weights file names it."""
    bootstrap_draws: int = 1000
    """Resamplings of patients behind each confidence interval."""
    seed: int = 0
    """Seed of the resamplings."""
    workers: int = 0
    """Actors; 0 takes one per CPU, or one per GPU where there are GPUs."""

    def __post_init__(self) -> None:
        if self.bootstrap_draws < 100:
            raise ConfigError(f"wanted --bootstrap_draws of at least 100, got {self.bootstrap_draws}")


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What an evaluation rests on, opened and checked against each other."""

    waveforms: Manifest
    info: CheckpointInfo
    question: Question
    answers: LabelSet
    """The label set that answers."""
    inputs: dict[str, str] = field(default_factory=dict)
    weights: ChallengeWeights | None = None


def evaluate(config: EvaluateConfig) -> Manifest:
    """Run the stage."""
    setting = _open(config)
    question = setting.question
    described = {
        "split": config.split,
        "label_set": question.label_set,
        "tag": config.tag,
        "crops": asdict(config.crops),
        "normal_class": config.normal_class if setting.weights else None,
        "bootstrap_draws": config.bootstrap_draws,
        "seed": config.seed,
    }
    output = begin(config.output, verb="evaluate", config=described, inputs=setting.inputs)
    if isinstance(output, Manifest):
        return output
    challenge = None
    if setting.weights is not None:
        challenge = Challenge(weights=setting.weights, normal=config.normal_class, data_labels=setting.answers.labels)
    predict_rows(output, setting, config.checkpoint, config.crops, config.split, config.tag, config.workers)
    calibrated = "probabilities" in (setting.info.calibration or {})
    about = _about(config, setting) | {"config": described}
    judging = Judging(
        draws=config.bootstrap_draws, seed=config.seed, calibrated=calibrated, challenge=challenge, about=about
    )
    summary = judge_predictions(
        Predictions.read(output.directory, setting.waveforms.parts, question, setting.info.thresholds),
        output.directory,
        judging,
        setting.waveforms,
        preprocess_of(setting.waveforms),
    )
    facts = {
        "label_set": question.label_set,
        "task": question.task,
        "question": question.to_json(),
        "thresholds": setting.info.thresholds,
    }
    facts |= summary
    return output.finish(parts=setting.waveforms.parts, facts=facts)


def predict_rows(
    output: StageOutput,
    setting: Setting,
    checkpoint: str,
    crops: CropConfig,
    split: str,
    tag: str | None,
    workers: int,
) -> None:
    """Predict the recordings of a split that have an answer, into the shards of the output."""
    waveforms, question = setting.waveforms, setting.question
    need_label = None if setting.answers.none_is_negative else question.label_set
    selected = select_rows(waveforms, split=split, label_set=need_label, tag=tag)
    if not sum(map(len, selected)):
        raise ArtifactError(
            f"{waveforms.directory}: wanted labelled recordings in split {split}"
            f"{f' with tag {tag}' if tag else ''}, got none; splits: {waveforms.facts['splits']}, "
            f"tags: {waveforms.facts['tags']}"
        )
    tasks = [{"part": part, "rows": rows.tolist()} for part, rows in enumerate(selected)]
    arguments = {
        "directory": output.directory,
        "waveforms": waveforms,
        "checkpoint": files.absolute(checkpoint),
        "question": question,
        "crops": crops,
    }
    run_shards(output, tasks, PredictShard, work_arguments=arguments, holds_model=True, workers=workers)


def open_question(checkpoint: str, waveforms: str, label_set: str | None) -> Setting:
    """A classifier and the label set of a waveform table that answers its question.

    Raises ArtifactError, CheckpointError or ConfigError for what is missing or does not belong together.
    """
    table = open_artifact(waveforms, verb="prepare", role="--waveforms")
    info = load_info(files.absolute(checkpoint))
    check_contract(info.preprocessing, preprocess_of(table), checkpoint)
    task = info.task or "multi_label"
    found = _label_set(label_set, table, info.label_names, task, checkpoint)
    return Setting(
        waveforms=table,
        info=info,
        question=Question(label_set=found, labels=info.label_names, task=task),
        answers=label_sets_of(table)[found],
        inputs={"waveforms": table.fingerprint, "checkpoint": info.identity},
    )


def _open(config: EvaluateConfig) -> Setting:
    setting = (
        _open_mapped(config)
        if config.label_map
        else open_question(config.checkpoint, config.waveforms, config.label_set)
    )
    if config.challenge_weights is None:
        return setting
    if setting.question.task == "regression":
        raise ConfigError("--challenge_weights: wanted a classifier, got a model of numbers; leave it out")
    text = _read_text(config.challenge_weights, "--challenge_weights")
    weights = ChallengeWeights.parse(text, config.challenge_weights)
    return Setting(
        waveforms=setting.waveforms,
        info=setting.info,
        question=setting.question,
        answers=setting.answers,
        inputs=setting.inputs | {"challenge_weights": fingerprint(text)},
        weights=weights,
    )


def _open_mapped(config: EvaluateConfig) -> Setting:
    """A classifier judged on another data set's labels."""
    assert config.label_map is not None
    table = open_artifact(config.waveforms, verb="prepare", role="--waveforms")
    info = load_info(files.absolute(config.checkpoint))
    check_contract(info.preprocessing, preprocess_of(table), config.checkpoint)
    if info.task == "regression":
        raise ConfigError("--label_map: wanted a classifier, got a model of numbers; leave it out")
    shipped = config.label_map in SHIPPED
    text = shipped_text(config.label_map) if shipped else _read_text(config.label_map, "--label_map")
    judged = LabelMap.parse(text, config.label_map).judged(info.label_names)
    label_set = _mapped_label_set(config, table, judged)
    return Setting(
        waveforms=table,
        info=info,
        question=Question(label_set=label_set, labels=info.label_names, task=info.task or "multi_label", judged=judged),
        answers=label_sets_of(table)[label_set],
        inputs={"waveforms": table.fingerprint, "checkpoint": info.identity, "label_map": fingerprint(text)},
    )


def _mapped_label_set(config: EvaluateConfig, waveforms: Manifest, judged: tuple[JudgedLabel, ...]) -> str:
    """The label set that was asked for, or the one with most of the labels that a map leads to."""
    label_sets = {name: s for name, s in label_sets_of(waveforms).items() if s.task != "regression"}
    wanted = {name for label in judged for name in label.data}
    candidates = [config.label_set] if config.label_set else sorted(label_sets)
    hits = {name: len(wanted & set(label_sets[name].labels)) for name in candidates if name in label_sets}
    if not any(hits.values()):
        raise ArtifactError(
            f"{config.waveforms}: wanted a label set with some of the labels that {config.label_map} leads to "
            f"({', '.join(sorted(wanted)[:8])}, ...), got none in {', '.join(candidates)}; choose another "
            f"--label_set or map"
        )
    return max(hits, key=lambda name: hits[name])


def _read_text(path: str, flag: str) -> str:
    place = files.absolute(path)
    if not files.exists(place):
        raise InputError(f"{flag}: wanted a CSV file, got nothing at {place}; check the path")
    return files.read_bytes(place).decode("utf-8-sig")


def _about(config: EvaluateConfig, setting: Setting) -> dict[str, Any]:
    """What metrics and report say of the evaluation itself."""
    info, question = setting.info, setting.question
    notes = []
    fitted_on = info.provenance.get("calibrated", {})
    if fitted_on.get("waveforms") == setting.waveforms.fingerprint and fitted_on.get("split") == config.split:
        notes.append(
            f"The checkpoint was calibrated, and its thresholds chosen, on these very recordings (split "
            f"{config.split}): its calibration and decisions look better here than they are."
        )
    trained_on = info.provenance.get("inputs", {}).get("waveforms")
    if config.split == "train" and trained_on == setting.waveforms.fingerprint:
        notes.append("The classifier was trained on these very recordings: nothing here holds for others.")
    if question.judged is not None:
        known = set(setting.answers.labels)
        missing = sorted({name for label in question.judged for name in label.data} - known)
        unjudged = sorted(set(question.labels) - {name for label in question.judged for name in label.checkpoint})
        notes.append(
            f"Judged through a label map. {', '.join(unjudged) or 'None'} of the classifier's labels stand in no row "
            f"of it; {len(missing)} of its data labels occur nowhere in these waveforms."
        )
    for note in notes:
        log.warning("evaluate: %s", note)
    return {
        "split": config.split,
        "tag": config.tag,
        "checkpoint": info.identity,
        "notes": notes,
        "label_map": None
        if question.judged is None
        else {label.name: {"checkpoint": label.checkpoint, "data": label.data} for label in question.judged},
        "inputs": setting.inputs,
        "code": code_version(),
        "source": setting.waveforms.config.get("source"),
        "provenance": info.provenance,
    }


def _label_set(asked: str | None, waveforms: Manifest, labels: tuple[str, ...], task: str, checkpoint: str) -> str:
    """The label set of the waveforms that answers the classifier's question."""
    label_sets = label_sets_of(waveforms)
    if asked is not None and asked not in label_sets:
        raise ConfigError(f"--label_set: wanted one of {sorted(label_sets)} of {waveforms.directory}, got {asked}")
    candidates = [asked] if asked else sorted(label_sets)
    # A model of numbers needs numbers, in its own order: a column holds one per label of its set.
    fitting = [
        name
        for name in candidates
        if (label_sets[name].labels == labels and label_sets[name].task == task)
        or (set(labels) <= set(label_sets[name].labels) and "regression" not in (task, label_sets[name].task))
    ]
    if not fitting:
        raise ArtifactError(
            f"{checkpoint}: predicts {', '.join(labels)} ({task}); no label set of {waveforms.directory} has them "
            f"all ({', '.join(candidates)}); prepare waveforms with these labels, or judge through a --label_map"
        )
    # A set of exactly these labels is a better answer than a larger one that contains them.
    return min(fitting, key=lambda name: len(label_sets[name].labels))
