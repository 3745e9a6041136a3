"""calibrate: a classifier -> the same weights with calibrated probabilities, decision thresholds and abstention."""

import logging
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np

from hubert_ecg.errors import ConfigError
from hubert_ecg.evaluation import reliability
from hubert_ecg.evaluation.abstention import Abstention
from hubert_ecg.evaluation.calibration import Calibration, Method, unfitted_labels
from hubert_ecg.evaluation.thresholds import ThresholdRule
from hubert_ecg.pipeline.evaluate import Setting, Split, open_question, predict_rows
from hubert_ecg.pipeline.predictions import Predictions, spread_of
from hubert_ecg.predictor import CropConfig
from hubert_ecg.storage import files
from hubert_ecg.storage.artifact import Manifest, begin, fingerprint
from hubert_ecg.storage.checkpoint import CheckpointInfo, load_checkpoint, save_checkpoint

log = logging.getLogger(__name__)

NO_METHOD: Literal["none"] = "none"


@dataclass(frozen=True, kw_only=True)
class AbstentionConfig:
    """When the calibrated checkpoint withholds its predictions; without either limit it never does."""

    severe_leads: int | None = None
    """Withhold where at least this many leads have severe findings on signal quality, or the recording as a whole."""
    spread_share: float = 0.0
    """Withhold where crops disagree more than in all but (at most) this share of validation recordings (0.05, say)."""

    def __post_init__(self) -> None:
        if not 0 <= self.spread_share < 1:
            raise ConfigError(f"--abstention.spread_share: wanted a share from 0 to below 1, got {self.spread_share}")

    def rule(self, spread: np.ndarray) -> Abstention | None:
        """The rule, its limits chosen on [N, L] spread over crops of validation recordings.

        A recording is as uncertain as its most uncertain label, counted in ranks, so that one limit per label withholds
        the share that was asked for of all of them together.
        """
        limits = None
        if self.spread_share:
            known = spread[np.isfinite(spread).all(axis=1)]
            if len(known) == 0:
                raise ConfigError(
                    "--abstention.spread_share: wanted recordings of several crops, got none; raise --crops.num_crops"
                )
            ordered = np.sort(known, axis=0)
            ranks = np.stack([np.searchsorted(o, k, side="left") for o, k in zip(ordered.T, known.T, strict=True)])
            last = int(np.quantile(ranks.max(axis=0), 1 - self.spread_share, method="lower"))
            limits = tuple(ordered[last].tolist())
        if self.severe_leads is None and limits is None:
            return None
        return Abstention(severe_leads=self.severe_leads, max_spread=limits)


@dataclass(frozen=True, kw_only=True)
class CalibrateConfig:
    """Make a classifier's probabilities mean what they say, and choose when it decides and when it abstains."""

    checkpoint: str
    """Classifier M, the output of jobs.finetune (or of this job; it is then calibrated anew)."""
    waveforms: str
    """Waveform table W, the output of jobs.prepare."""
    output: str
    """Directory to write the calibrated classifier to; the other one stays as it is."""
    split: Split = "val"
    """Recordings to fit on: those that chose the checkpoint, not those it was trained or is to be judged on."""
    force_split: bool = False
    """Fit on split train or test all the same."""
    label_set: str | None = None
    """Label set of W with the classifier's labels; by default the first that has them all."""
    tag: str | None = None
    """Fit only on recordings that carry this tag: those that are drawn as the ones to come are."""
    method: Literal["temperature", "platt", "isotonic", "none"] = "temperature"
    """One number per label, two, or a step function; `none` leaves probabilities as they are and sets thresholds."""
    thresholds: str = "max_f1"
    """Decisions on calibrated probabilities: max_f1, sensitivity=0.9, specificity=0.95 (required at least)."""
    abstention: AbstentionConfig = field(default_factory=AbstentionConfig)
    """When predictions are withheld."""
    crops: CropConfig = field(default_factory=CropConfig)
    """Crops of a recording, as they are to be when the classifier is used: calibration is that of their mean."""
    workers: int = 0
    """Actors; 0 takes one per CPU, or one per GPU where there are GPUs."""

    def __post_init__(self) -> None:
        ThresholdRule.parse(self.thresholds)
        if self.split != "val" and not self.force_split:
            reason = (
                "the classifier is too sure of what it was trained on"
                if self.split == "train"
                else ("what is judged on them afterwards would look better than it is")
            )
            raise ConfigError(
                f"--split {self.split}: wanted val, as {reason}; use --split val, or insist with --force_split true"
            )


def calibrate(config: CalibrateConfig) -> Manifest:
    """Run the stage."""
    setting = open_question(config.checkpoint, config.waveforms, config.label_set)
    question = setting.question
    if question.task == "regression":
        raise ConfigError(
            f"{config.checkpoint}: wanted a classifier, got a model of numbers, which has no probabilities"
        )
    if question.task == "multi_class" and config.method not in ("temperature", NO_METHOD):
        raise ConfigError(
            f"--method {config.method}: wanted temperature for classes that exclude one another; use that"
        )
    described = {
        "split": config.split,
        "label_set": question.label_set,
        "tag": config.tag,
        "method": config.method,
        "thresholds": config.thresholds,
        "abstention": asdict(config.abstention),
        "crops": asdict(config.crops),
    }
    output = begin(config.output, verb="calibrate", config=described, inputs=setting.inputs)
    if isinstance(output, Manifest):
        return output
    model, info = load_checkpoint(files.absolute(config.checkpoint), expect="classifier")
    predict_rows(output, setting, config.checkpoint, config.crops, config.split, config.tag, config.workers)
    parts = setting.waveforms.parts
    predictions = Predictions.read(output.directory, parts, question)
    made, facts = _fit(config, info, predictions, spread_of(output.directory, parts, question), setting)
    saved = save_checkpoint(output.directory, model, made)
    facts = facts | {"checkpoint": saved.fingerprint, "identity": saved.identity, "label_set": question.label_set}
    return output.finish(parts=parts, facts=facts, content=[saved.identity])


def _fit(
    config: CalibrateConfig, info: CheckpointInfo, predictions: Predictions, spread: np.ndarray, setting: Setting
) -> tuple[CheckpointInfo, dict[str, Any]]:
    """The info of the calibrated checkpoint, and what is to be said of the fit."""
    exclusive = predictions.task == "multi_class"
    labels, targets, raw = predictions.labels, predictions.targets, predictions.raw
    carried = {name: value for name, value in (info.calibration or {}).items() if name == "standard"}
    probabilities, unfitted = raw, []
    if config.method != NO_METHOD:
        method: Method = config.method
        calibration = Calibration.fit(raw, targets, method, exclusive=exclusive)
        # What is used is applied to float32, and thresholds must agree with it.
        probabilities = calibration.apply(raw.astype(np.float32)).astype(np.float64)
        carried["probabilities"] = calibration.to_json()
        unfitted = unfitted_labels(calibration, labels)
    rule = config.abstention.rule(spread)
    if rule is not None:
        carried["abstention"] = rule.to_json()
    thresholds = None
    if not exclusive:
        thresholds = tuple(ThresholdRule.parse(config.thresholds).choose(targets, probabilities).tolist())
    before, after = (
        reliability.to_dict(reliability.reliability(targets, p, labels))["macro"] for p in (raw, probabilities)
    )
    log.info(
        "calibrate: %d recordings of split %s; macro calibration error %s before, %s after, on these",
        len(targets),
        config.split,
        *(
            f"{found['ece_equal_mass']:.4f}" if found["ece_equal_mass"] is not None else "-"
            for found in (before, after)
        ),
    )
    if unfitted:
        log.warning("calibrate: too few recordings for %s, whose probabilities stay as they are", ", ".join(unfitted))
    about = {
        "from": info.identity,
        "waveforms": setting.waveforms.fingerprint,
        "split": config.split,
        "tag": config.tag,
        "method": config.method,
        "thresholds": config.thresholds,
        "num_crops": config.crops.num_crops,
    }
    made = replace(
        info,
        thresholds=thresholds,
        calibration=carried or None,
        provenance=info.provenance | {"calibrated": about},
    )
    facts = {
        "recordings": len(targets),
        "unfitted_labels": unfitted,
        "macro_before": before,
        "macro_after": after,
        "thresholds": None if thresholds is None else dict(zip(labels, thresholds, strict=True)),
        "abstention": None if rule is None else rule.to_json(),
        "fitted_on": fingerprint(about),
    }
    return made, facts
