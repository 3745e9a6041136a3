"""pretrain: waveforms and token labels -> a self-supervised checkpoint, by masked prediction of the codes."""

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from hubert_ecg.clustering.quality import perplexity
from hubert_ecg.ecg.preprocess import PreprocessConfig
from hubert_ecg.models import HubertECG, model_config
from hubert_ecg.models.dropouts import DropoutConfig
from hubert_ecg.pipeline.resuming import open_resumed, resumed_input, take_over
from hubert_ecg.pipeline.trackers import TrackersConfig
from hubert_ecg.pipeline.training_run import (
    ALONE,
    Surroundings,
    TrainingJob,
    WorkersConfig,
    finish_training,
    run_training,
    unwrap,
)
from hubert_ecg.pipeline.training_setup import (
    Inputs,
    check_checkpoints,
    check_training,
    count_rows,
    describe,
    job_fields,
    select_splits,
    with_absolute_checkpoint,
)
from hubert_ecg.storage.artifact import Manifest, begin
from hubert_ecg.storage.checkpoint import CheckpointInfo, load_checkpoint, save_checkpoint
from hubert_ecg.training.augment import AugmentConfig
from hubert_ecg.training.compute import ComputeConfig
from hubert_ecg.training.objectives import MaskedPrediction, MaskingConfig
from hubert_ecg.training.optimiser import OptimiserConfig
from hubert_ecg.training.ranks import all_reduce_sum, rank, world_size
from hubert_ecg.training.regulariser import RegulariserConfig
from hubert_ecg.training.state import TrainerState
from hubert_ecg.training.step import Batch, StepLoss
from hubert_ecg.training.targets import CodeTargets, open_codes

log = logging.getLogger(__name__)

VALIDATION_STEP = 1 << 40
"""Mask seeds of validation start here, beyond those of any training step."""


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """Pre-train by predicting the codes of hidden tokens."""

    waveforms: str
    """Waveform table W, the output of jobs.prepare."""
    labels: str
    """Token labels L of the same W, the output of jobs.label."""
    output: str
    """Directory to write the checkpoint C to."""
    checkpoint: str | None = None
    """Checkpoint of the iteration before, to start from; its heads are made anew. Without it: random weights."""
    resume: str | None = None
    """A finished output of this very training, to go on with after its last step: give its settings, and more --steps
    or --epochs. The learning rate goes on where the longer schedule has it."""
    size: Literal["tiny", "small", "base", "large"] = "tiny"
    """Model size when there is no checkpoint."""
    keep_projections: bool = True
    """With --checkpoint: keep its projections before the new cluster embeddings, as the original does."""
    steps: int | None = None
    """Training steps; 2000 where --epochs is not given either."""
    epochs: float | None = None
    """Passes over the training recordings, instead of --steps: rows * epochs / batch_size steps, rounded up."""
    batch_size: int = 64
    """Recordings per step, over all workers."""
    accumulation_steps: int = 1
    """Pieces in which each worker's share of a step is computed, one after the other, to save memory; the gradient is
    that of the whole."""
    validation_interval: int = 200
    """Steps between validations on split `val`, with masks that are always the same."""
    checkpoint_interval: int = 0
    """Steps between checkpoints, beside those at the best validation and at the end; 0: at every validation."""
    keep_checkpoints: int = 3
    """Checkpoints kept while the training runs: the best and the latest ones, never fewer than these two."""
    patience: int = 0
    """Stop after this many validations without a loss lower by 0.001; 0 trains to the end."""
    target_metric: Literal["loss", "accuracy"] = "loss"
    """Of the validation, what the best checkpoint has: the lowest loss, or the highest masked accuracy (the mean over
    codebooks)."""
    random_crop: bool = True
    """Draw among the labelled crops of a recording; without it training sees the middle one."""
    masking: MaskingConfig = field(default_factory=MaskingConfig)
    """What is hidden and what counts."""
    optimiser: OptimiserConfig = field(default_factory=lambda: OptimiserConfig(lr=5e-4))
    """AdamW and its schedule. The paper's 5e-5 is for base; tiny learns well at ten times that."""
    regulariser: RegulariserConfig = field(default_factory=RegulariserConfig)
    """More weight decay and dropout while validations get worse."""
    dropouts: DropoutConfig = field(default_factory=DropoutConfig)
    """What is dropped at random."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """Random changes of recordings; the codes are those of the unchanged one."""
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    """Precision and memory."""
    workers: WorkersConfig = field(default_factory=WorkersConfig)
    """How the training is spread."""
    trackers: TrackersConfig = field(default_factory=TrackersConfig)
    """Where metrics go, beside the tables in the output."""
    run_name: str | None = None
    """What trackers call the run; its output directory's name by default."""
    seed: int = 0
    """Seed of weights, order, crops, masks, dropout and augmentation."""

    default_steps: ClassVar[int] = 2000

    def __post_init__(self) -> None:
        check_training(self)
        check_checkpoints(self.checkpoint_interval, self.keep_checkpoints)


def pretrain(config: PretrainConfig, surroundings: Surroundings = ALONE) -> Manifest:
    """Run the stage, by itself or as a trial of a search."""
    config = with_absolute_checkpoint(config)
    inputs = Inputs.open(config)
    labels = open_codes(config.labels, inputs.waveforms, role="--labels")
    fingerprints = inputs.fingerprints | {"labels": labels.fingerprint}
    source = open_resumed(config, verb="pretrain", inputs=fingerprints)
    wanted = fingerprints | resumed_input(source)
    output = begin(config.output, verb="pretrain", config=describe(config), inputs=wanted)
    if isinstance(output, Manifest):
        return output
    selected = select_splits(inputs.waveforms, "recordings")
    counts = count_rows(selected)
    books = labels.facts["codebooks"]
    log.info("pretrain: %d training and %d validation recordings, codebooks %s", *counts.values(), sorted(books))
    targets = CodeTargets(codes=labels, codebooks=tuple(books), num_tokens=inputs.preprocess.num_tokens)
    job = PretrainJob(
        **job_fields(config, inputs, selected, targets),
        codebooks=tuple(books),
        vocab_sizes=tuple(book["num_clusters"] for book in books.values()),
        num_tokens=targets.num_tokens,
        provenance={"inputs": fingerprints, "codebooks": books, "counts": counts},
    )
    take_over(source, output.directory, keep=config.keep_checkpoints)
    outcome = run_training(job, output, surroundings)
    return finish_training(output, outcome, facts={"codebooks": books, "counts": counts})


@dataclass(frozen=True, kw_only=True)
class PretrainJob(TrainingJob):
    """One rank of a pre-training."""

    config: PretrainConfig
    codebooks: tuple[str, ...]
    vocab_sizes: tuple[int, ...]
    """Clusters of each codebook."""
    num_tokens: int
    preprocess: PreprocessConfig
    provenance: dict[str, Any]

    may_skip_parameters: ClassVar[bool] = True  # layerdrop leaves whole layers out of a step

    def make_module(self, directory: Path | None) -> nn.Module:
        config = self.config
        if directory is not None:
            model, _ = load_checkpoint(directory, expect="ssl")
        elif config.checkpoint is not None:
            model, _ = load_checkpoint(config.checkpoint, expect="ssl")
            model.new_codebooks(self.vocab_sizes, keep_projections=config.keep_projections)
        else:
            model = HubertECG(model_config(config.size, self.preprocess.sampling_rate_hz, vocab_sizes=self.vocab_sizes))
        config.dropouts.configure(model)
        return MaskedPrediction(model, config.masking)

    def step_loss(self, module: nn.Module, batch: Batch, step: int) -> StepLoss:
        mask = self._masks(unwrap(module), step, batch)
        result = module(batch.inputs, self._codes(batch), mask, batch.attention_mask)
        return StepLoss(total=result.total, weight=result.weight)

    def validate(self, module: nn.Module, batches: list[Batch]) -> dict[str, Any]:
        """Loss and accuracy at hidden tokens, hidden by masks that depend on the batch's place alone."""
        books = len(self.vocab_sizes)
        device = next(module.parameters()).device
        sums = torch.zeros(2, dtype=torch.float64, device=device)
        correct = torch.zeros(books, dtype=torch.float64, device=device)
        hidden = torch.zeros(books, dtype=torch.float64, device=device)
        predicted = [torch.zeros(size, dtype=torch.float64, device=device) for size in self.vocab_sizes]
        for place, batch in enumerate(batches):
            model = unwrap(module)
            mask = self._masks(model, VALIDATION_STEP + place, batch)
            all_logits = model.scores(batch.inputs, mask, batch.attention_mask)
            result = model.loss(all_logits, self._codes(batch), mask, batch.attention_mask)
            sums += torch.stack([result.total, result.weight]).double()
            correct += result.masked_correct
            hidden += result.masked_count
            for counts, logits in zip(predicted, all_logits, strict=True):
                counts += torch.bincount(logits.argmax(-1)[mask], minlength=len(counts))
        for tensor in (sums, correct, hidden, *predicted):
            all_reduce_sum(tensor)
        loss = float(sums[0] / sums[1])
        accuracies = (correct / hidden).tolist()
        score = -loss if self.config.target_metric == "loss" else sum(accuracies) / books
        metrics = {"val_loss": loss, "score": score}
        for book, name in enumerate(self.codebooks):
            metrics[f"masked_accuracy_{name}"] = accuracies[book]
            # How many clusters the predictions make use of, evenly or at all: collapse to a few shows here first.
            metrics[f"predicted_perplexity_{name}"] = perplexity(predicted[book].cpu().numpy())
            metrics[f"predicted_share_{name}"] = float((predicted[book] > 0).double().mean())
        return metrics

    def save(self, module: nn.Module, directory: Path, state: TrainerState) -> CheckpointInfo:
        info = CheckpointInfo(
            kind="ssl",
            preprocessing=self.preprocess.to_dict(),
            provenance=self.provenance | {"step": state.step},
        )
        return save_checkpoint(directory, unwrap(module).model, info)

    def _masks(self, module: MaskedPrediction, step: int, batch: Batch) -> torch.Tensor:
        """[B, token] of this rank: drawn for the whole batch, so that any number of ranks hides the same tokens."""
        size = self.config.batch_size // world_size()
        first = rank() * size + batch.offset
        seed = self.config.seed * 1_000_003 + step
        drawn = module.draw_masks(self.config.batch_size, self.num_tokens, seed)
        masks = drawn[first : first + len(batch.record_ids)]
        if batch.attention_mask is not None:
            masks = module.redraw_masks(masks, batch.attention_mask, seed=seed, first=first)
        return masks.to(batch.inputs.device, non_blocking=True)

    def _codes(self, batch: Batch) -> torch.Tensor:
        """[B, codebook, token]"""
        return batch.targets.view(len(batch.record_ids), len(self.vocab_sizes), self.num_tokens)
