"""finetune: a pre-trained checkpoint (or random weights) and a label set -> a classifier."""

import logging
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from hubert_ecg.ecg.preprocess import PreprocessConfig
from hubert_ecg.errors import ArtifactError, ConfigError
from hubert_ecg.evaluation.metrics import evaluate_multi_label, max_f1_thresholds
from hubert_ecg.models import HubertECG, HubertECGClassifier, model_config
from hubert_ecg.pipeline.extract import check_contract, preprocess_of
from hubert_ecg.pipeline.prepare import label_sets_of
from hubert_ecg.pipeline.training_run import (
    TrainingJob,
    WorkersConfig,
    check_steps,
    describe,
    finish_training,
    loop_of,
    one_pass,
    run_training,
    unwrap,
)
from hubert_ecg.storage import files, tables
from hubert_ecg.storage.artifact import Manifest, begin, open_artifact
from hubert_ecg.storage.checkpoint import CheckpointInfo, load_checkpoint, load_info, save_checkpoint
from hubert_ecg.training.examples import ExampleReader, LabelTargets, select_rows
from hubert_ecg.training.loop import Batch, StepLoss
from hubert_ecg.training.objectives import Classification
from hubert_ecg.training.optimiser import OptimiserConfig
from hubert_ecg.training.plan import StepPlan
from hubert_ecg.training.ranks import gather_rows
from hubert_ecg.training.state import TrainerState

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig:
    """Train a classifier on labelled recordings."""

    waveforms: str
    """Waveform table W, the output of jobs.prepare."""
    output: str
    """Directory to write the classifier M to."""
    label_set: str
    """Label set of W: `conditions`, `superclass`, ...; jobs.inspect W lists them."""
    checkpoint: str | None = None
    """Pre-trained checkpoint C; without it the model starts from random weights of the given size."""
    size: Literal["tiny", "small", "base", "large"] = "tiny"
    """Model size when there is no checkpoint."""
    head: Literal["linear", "mlp", "label_embedding"] = "linear"
    """Classification head on the mean over tokens."""
    train_conv_stem: bool = False
    """Also train the convolutional stem of a pre-trained model; without a checkpoint it always trains."""
    steps: int = 1000
    """Training steps."""
    batch_size: int = 64
    """Recordings per step, over all workers."""
    validation_interval: int = 100
    """Steps between validations on split `val`."""
    patience: int = 0
    """Stop after this many validations without a better macro AUROC; 0 trains to the end."""
    positive_weights: bool = False
    """Weigh the positives of a label by (negatives / positives), at most 20."""
    train_tag: str | None = None
    """Train and validate only on recordings that carry this tag."""
    shuffle_labels: bool = False
    """Control: recordings exchange their labels at random, so that the test AUROC must come out near 0.5."""
    optimiser: OptimiserConfig = field(default_factory=lambda: OptimiserConfig(lr=1e-4))
    """AdamW and its schedule."""
    workers: WorkersConfig = field(default_factory=WorkersConfig)
    """How the training is spread."""
    seed: int = 0
    """Seed of weights, order, crops and dropout."""

    def __post_init__(self) -> None:
        check_steps(self.steps, self.batch_size, self.validation_interval, self.patience)


def finetune(config: FinetuneConfig) -> Manifest:
    """Run the stage."""
    # Training workers start in a directory of their own.
    config = replace(config, checkpoint=files.absolute(config.checkpoint) if config.checkpoint else None)
    waveforms = open_artifact(config.waveforms, verb="prepare", role="--waveforms")
    preprocess = preprocess_of(waveforms)
    label_sets = label_sets_of(waveforms)
    if config.label_set not in label_sets:
        raise ConfigError(
            f"--label_set: wanted one of {sorted(label_sets)} of {config.waveforms}, got {config.label_set}"
        )
    labels = label_sets[config.label_set]
    inputs = {"waveforms": waveforms.fingerprint}
    if config.checkpoint is not None:
        parent = load_info(config.checkpoint)
        check_contract(parent.preprocessing, preprocess, config.checkpoint)
        inputs["checkpoint"] = parent.fingerprint
    output = begin(config.output, verb="finetune", config=describe(config), inputs=inputs)
    if isinstance(output, Manifest):
        return output
    need_label = None if labels.none_is_negative else config.label_set
    selected = {
        split: tuple(select_rows(waveforms, split=split, label_set=need_label, tag=config.train_tag))
        for split in ("train", "val")
    }
    counts = {split: sum(map(len, rows)) for split, rows in selected.items()}
    if not all(counts.values()):
        raise ArtifactError(
            f"{config.waveforms}: wanted recordings with labels of {config.label_set} in train and val, got {counts}"
        )
    log.info("finetune: %d training and %d validation recordings, %d labels", *counts.values(), len(labels.labels))
    targets = LabelTargets(label_set=config.label_set, labels=labels.labels)
    among = selected["train"] if config.shuffle_labels else None
    job = FinetuneJob(
        loop=loop_of(config),
        optimiser=config.optimiser,
        plan=StepPlan(selected=selected["train"], batch_size=config.batch_size, world_size=1, seed=config.seed),
        reader=ExampleReader(
            waveforms=waveforms, preprocess=preprocess, targets=targets, seed=config.seed, shuffled_among=among
        ),
        validation_plan=one_pass(selected["val"], config.batch_size),
        validation_reader=ExampleReader(
            waveforms=waveforms, preprocess=preprocess, targets=targets, seed=config.seed, fixed_crop=True
        ),
        workers=config.workers,
        config=config,
        labels=labels.labels,
        preprocess=preprocess,
        prevalence=tuple(_prevalence(waveforms, config.label_set, labels.labels, selected["train"])),
        provenance={"inputs": inputs, "label_set": config.label_set, "counts": counts},
    )
    outcome = run_training(job, output)
    return finish_training(output, outcome, facts={"label_set": config.label_set, "counts": counts})


@dataclass(frozen=True, kw_only=True)
class FinetuneJob(TrainingJob):
    """One rank of a fine-tuning."""

    config: FinetuneConfig
    labels: tuple[str, ...]
    preprocess: PreprocessConfig
    prevalence: tuple[float, ...]
    """Share of training recordings that carry each label."""
    provenance: dict[str, Any]

    def make_module(self, directory: Path | None) -> nn.Module:
        config = self.config
        if directory is not None:
            model, _ = load_checkpoint(directory, expect="classifier")
        else:
            if config.checkpoint is not None:
                encoder, _ = load_checkpoint(config.checkpoint, expect="ssl")
            else:
                encoder = HubertECG(model_config(config.size, self.preprocess.sampling_rate_hz, vocab_sizes=(1,)))
            model = HubertECGClassifier.from_encoder(encoder, label_names=self.labels, head=config.head)
        model.set_trainable(conv_stem=config.train_conv_stem or config.checkpoint is None)
        # The mask token takes no part in classification, and DDP waits for the gradient of every trainable weight.
        model.hubert_ecg.masked_spec_embed.requires_grad_(False)
        return Classification(model, self._positive_weights())

    def _positive_weights(self) -> torch.Tensor | None:
        if not self.config.positive_weights:
            return None
        share = np.clip(np.array(self.prevalence), 1e-6, 1)
        return torch.tensor(np.clip((1 - share) / share, 1, 20), dtype=torch.float32)

    def step_loss(self, module: nn.Module, batch: Batch, step: int) -> StepLoss:
        loss: StepLoss = module(batch.inputs, batch.targets)
        return loss

    def validate(self, module: nn.Module, batches: list[Batch]) -> dict[str, Any]:
        logits, targets = [], []
        for batch in batches:
            logits.append(unwrap(module).model(batch.inputs).logits.float())
            targets.append(batch.targets)
        empty = torch.zeros(0, len(self.labels))
        truth = gather_rows(torch.cat(targets) if targets else empty).cpu().numpy()
        probabilities = gather_rows(torch.cat(logits).sigmoid() if logits else empty).cpu().numpy().astype(np.float64)
        clipped = np.clip(probabilities, 1e-7, 1 - 1e-7)
        loss = float(-(truth * np.log(clipped) + (1 - truth) * np.log(1 - clipped)).mean())
        auroc = evaluate_multi_label(truth > 0.5, probabilities, self.labels).macro.auroc
        return {
            "val_loss": loss,
            "val_macro_auroc": auroc,
            # Where no label has both positives and negatives there is no AUROC; the loss then chooses the checkpoint.
            "score": -loss if auroc is None else auroc,
            "thresholds": max_f1_thresholds(truth > 0.5, probabilities).tolist(),
        }

    def save(self, module: nn.Module, directory: Path, state: TrainerState) -> CheckpointInfo:
        info = CheckpointInfo(
            kind="classifier",
            task="multi_label",
            label_names=self.labels,
            thresholds=tuple(state.history[-1]["thresholds"]),
            preprocessing=self.preprocess.to_dict(),
            provenance=self.provenance | {"step": state.step, "prevalence": list(self.prevalence)},
        )
        return save_checkpoint(directory, unwrap(module).model, info)


def _prevalence(
    waveforms: Manifest, label_set: str, labels: tuple[str, ...], selected: tuple[np.ndarray, ...]
) -> list[float]:
    """Share of the selected recordings that carry each label."""
    counts: Counter[str] = Counter()
    for part, rows in enumerate(selected):
        column = files.read_table(waveforms.part(part), [tables.LABEL_PREFIX + label_set]).column(0)
        counts.update(name for names in column.take(rows).to_pylist() for name in names or ())
    total = sum(map(len, selected))
    return [counts[label] / total for label in labels]
