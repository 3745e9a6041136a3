"""finetune: a pre-trained checkpoint (or random weights) and a label set -> a classifier, or a model of numbers."""

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from hubert_ecg.datasets.source import LabelSet
from hubert_ecg.ecg.preprocess import PreprocessConfig
from hubert_ecg.errors import ConfigError
from hubert_ecg.models import HubertECGClassifier, model_config
from hubert_ecg.models.adapt import LoraConfig, add_lora, load_trained_weights, merge_lora, trained_weights
from hubert_ecg.models.config import HeadActivation, Size, encoder_of
from hubert_ecg.models.dropouts import ClassifierDropoutConfig
from hubert_ecg.models.encoders import new_encoder
from hubert_ecg.pipeline.auxiliary import auxiliary_loss, auxiliary_targets, label_targets, with_unlabelled
from hubert_ecg.pipeline.fit_facts import (
    TargetMetric,
    carried_labels,
    check_metric,
    judge_validation,
    label_weights,
    prevalence,
    standard_scale,
)
from hubert_ecg.pipeline.prepare import label_sets_of
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
    Rows,
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
from hubert_ecg.training.augment import LabelledAugmentConfig
from hubert_ecg.training.auxiliary import AuxiliaryConfig
from hubert_ecg.training.auxiliary_head import AuxiliaryHead, AuxiliaryLoss
from hubert_ecg.training.average import even_out_statistics
from hubert_ecg.training.balance import repeat_factors, repeat_rows
from hubert_ecg.training.compute import ComputeConfig
from hubert_ecg.training.label_share import labelled_share
from hubert_ecg.training.objectives import Classification
from hubert_ecg.training.optimiser import OptimiserConfig
from hubert_ecg.training.ranks import all_reduce_sum, gather_rows
from hubert_ecg.training.regulariser import RegulariserConfig
from hubert_ecg.training.state import StatePart, TrainerState
from hubert_ecg.training.step import Batch, StepLoss
from hubert_ecg.training.targets import LabelTargets

log = logging.getLogger(__name__)

ADAPTER = "adapter.safetensors"
"""What a low-rank adaptation has learnt, beside the classifier in which it is merged: it goes on from here."""


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
    resume: str | None = None
    """A finished output of this very training, to go on with after its last step: give its settings, and more --steps
    or --epochs. The learning rate goes on where the longer schedule has it."""
    size: Size = "tiny"
    """Model size when there is no checkpoint; `state_space` and `residual` are other encoders, which only train from
    random weights, and are best given waveforms that have kept their voltage (jobs.prepare --range_mv 5). `residual`
    has batch norms, whose statistics are those of one worker's share of a step, or of a piece of it."""
    head: Literal["linear", "mlp", "label_embedding"] = "linear"
    """Classification head on the mean over tokens."""
    head_hidden_size: int = 0
    """Width between the two layers of --head mlp; 0: that of the encoder."""
    head_activation: HeadActivation = "tanh"
    """Between the two layers of --head mlp."""
    train_conv_stem: bool = False
    """Also train the convolutional stem of a pre-trained model; without a checkpoint it always trains."""
    conv_freeze_steps: int = 0
    """With --train_conv_stem: leave the stem frozen in this many first steps."""
    train_blocks: int | None = None
    """Train only this many of the last encoder layers, and the head; without it all of the encoder."""
    freeze_steps: int = 0
    """Train only the head in this many first steps; then the rest thaws."""
    lora: LoraConfig = field(default_factory=LoraConfig)
    """Low-rank adaptation of a pre-trained checkpoint: with a rank, only small sums beside its weights train."""
    steps: int | None = None
    """Training steps; 1000 where --epochs is not given either."""
    epochs: float | None = None
    """Passes over the training recordings, instead of --steps: rows * epochs / batch_size steps, rounded up."""
    batch_size: int = 64
    """Recordings per step, over all workers."""
    accumulation_steps: int = 1
    """Pieces in which each worker's share of a step is computed, one after the other, to save memory; the gradient is
    that of the whole."""
    validation_interval: int = 100
    """Steps between validations on split `val`."""
    checkpoint_interval: int = 0
    """Steps between checkpoints, beside those at the best validation and at the end; 0: at every validation."""
    keep_checkpoints: int = 3
    """Checkpoints kept while the training runs: the best and the latest ones, never fewer than these two."""
    patience: int = 0
    """Stop after this many validations without a loss lower by 0.001; 0 trains to the end."""
    target_metric: TargetMetric | None = None
    """Of the validation, what the best checkpoint has: the highest macro average, R2 or accuracy, the lowest mae or
    loss. Labels count as predicted from 0.5 on. Without it auroc, r2 for numbers."""
    random_crop: bool = True
    """Crops that start anywhere; without it training sees the middle of a recording."""
    positive_weights: bool = False
    """Weigh the positives of a label by (negatives / positives), a class by (mean count / its count), at most 20."""
    balance: float = 0.0
    """Repeat recordings with rare labels in every epoch (Gupta et al. 2019): a label that a share f carries asks for
    max(1, sqrt(balance / f)) visits, a recording gets what the rarest of its labels asks for; 0: all come up once."""
    train_tag: str | None = None
    """Train and validate only on recordings that carry this tag."""
    train_fraction: float = 1.0
    """Train on the labels of this share of the training recordings: whole patients, drawn with the seed. Smaller shares
    of one seed lie within larger ones. Split `val` stays whole."""
    shuffle_labels: bool = False
    """Control: recordings exchange their labels at random, so that the test AUROC must come out near 0.5."""
    auxiliary: AuxiliaryConfig = field(default_factory=AuxiliaryConfig)
    """What else is learnt of the training recordings, also of those without labels, by outputs that the classifier
    does not keep. The training's loss is that of all of it; validations judge the labels alone."""
    optimiser: OptimiserConfig = field(default_factory=lambda: OptimiserConfig(lr=1e-4))
    """AdamW and its schedule."""
    regulariser: RegulariserConfig = field(default_factory=lambda: RegulariserConfig(intervals=3))
    """More weight decay and dropout while validations get worse."""
    dropouts: ClassifierDropoutConfig = field(default_factory=ClassifierDropoutConfig)
    """What is dropped at random."""
    augment: LabelledAugmentConfig = field(default_factory=LabelledAugmentConfig)
    """Random changes of training recordings."""
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    """Precision and memory."""
    workers: WorkersConfig = field(default_factory=WorkersConfig)
    """How the training is spread."""
    trackers: TrackersConfig = field(default_factory=TrackersConfig)
    """Where metrics go, beside the tables in the output."""
    run_name: str | None = None
    """What trackers call the run; its output directory's name by default."""
    seed: int = 0
    """Seed of weights, order, crops and dropout."""

    default_steps: ClassVar[int] = 1000

    def __post_init__(self) -> None:
        check_training(self)
        check_checkpoints(self.checkpoint_interval, self.keep_checkpoints)
        self._check_what_trains()
        if self.label_set in self.auxiliary.label_sets:
            raise ConfigError(
                f"--auxiliary.label_sets: wanted other sets than --label_set, which is learnt anyway, got "
                f"{self.label_set}; leave it out"
            )
        if not 0 < self.train_fraction <= 1:
            raise ConfigError(f"--train_fraction: wanted a share in (0, 1], got {self.train_fraction}")
        if self.head != "mlp" and (self.head_hidden_size or self.head_activation != "tanh"):
            raise ConfigError(
                f"--head_hidden_size and --head_activation: wanted --head mlp, which has two layers, got {self.head}"
            )
        if self.head_hidden_size < 0 or self.balance < 0:
            raise ConfigError(
                f"wanted --head_hidden_size and --balance of at least 0, got {self.head_hidden_size}, {self.balance}"
            )
        if self.balance and (self.positive_weights or self.shuffle_labels):
            raise ConfigError(
                "--balance: wanted neither --positive_weights, which corrects for rare labels as well, nor "
                "--shuffle_labels, after which recordings do not carry their labels any more; leave one of them out"
            )

    def _check_what_trains(self) -> None:
        if self.checkpoint is None and encoder_of(self.size) != "hubert" and self.compute.gradient_checkpointing:
            raise ConfigError(
                f"--compute.gradient_checkpointing: wanted a size of HuBERT's, a {self.size} encoder keeps little; "
                f"leave it out"
            )
        counts = (self.freeze_steps, self.conv_freeze_steps, self.train_blocks or 0)
        if min(counts) < 0:
            raise ConfigError(
                f"wanted --freeze_steps, --conv_freeze_steps and --train_blocks of at least 0, got "
                f"{', '.join(map(str, counts))}"
            )
        if self.train_conv_stem and self.train_blocks is not None:
            raise ConfigError(
                "--train_conv_stem: wanted no --train_blocks, which freezes all before the last layers; leave one out"
            )
        if self.conv_freeze_steps and not (self.train_conv_stem and self.checkpoint):
            raise ConfigError(
                "--conv_freeze_steps: wanted --train_conv_stem true and a --checkpoint, whose stem can thaw, got none"
            )
        frozen = self.train_conv_stem or self.freeze_steps or self.train_blocks is not None
        if self.lora.rank and (frozen or self.checkpoint is None):
            raise ConfigError(
                "--lora.rank: wanted a --checkpoint to adapt, and no --train_conv_stem, --train_blocks or "
                "--freeze_steps, because low-rank adaptation freezes the whole encoder; leave one of them out"
            )


def finetune(config: FinetuneConfig, surroundings: Surroundings = ALONE) -> Manifest:
    """Run the stage, by itself or as a trial of a search."""
    config = with_absolute_checkpoint(config)
    inputs = Inputs.open(config)
    labels = _label_set(config, inputs.waveforms)
    source = open_resumed(config, verb="finetune", inputs=inputs.fingerprints)
    wanted = inputs.fingerprints | resumed_input(source)
    output = begin(config.output, verb="finetune", config=describe(config), inputs=wanted)
    if isinstance(output, Manifest):
        return output
    job = make_job(config, inputs, labels)
    counts = job.provenance["counts"]
    log.info("finetune: %d training and %d validation recordings, %d labels", *counts.values(), len(labels.labels))
    take_over(source, output.directory, keep=config.keep_checkpoints)
    outcome = run_training(job, output, surroundings)
    facts = {"label_set": config.label_set, "counts": counts, "train_fraction": config.train_fraction}
    return finish_training(output, outcome, facts=facts)


def make_job(config: FinetuneConfig, inputs: Inputs, labels: LabelSet) -> "FinetuneJob":
    """The training that the settings ask for; ArtifactError where a split has no recordings for it."""
    need_label = None if labels.none_is_negative else config.label_set
    what = f"recordings with labels of {config.label_set}"
    selected = select_splits(inputs.waveforms, what, label_set=need_label, tag=config.train_tag)
    labelled = labelled_share(inputs.waveforms, selected["train"], config.train_fraction, config.seed)
    targets = label_targets(labels)
    regression = labels.task == "regression"
    shares = [] if regression else prevalence(inputs.waveforms, targets, labelled)
    learnt, counted = auxiliary_targets(config, inputs.waveforms), None
    selected["train"] = labelled
    if learnt is not None:
        selected["train"] = with_unlabelled(config, inputs.waveforms, learnt, labelled)
        counted = auxiliary_loss(config, inputs.waveforms, learnt, selected["train"], shares)
    fields = job_fields(
        config,
        inputs,
        selected,
        targets,
        learnt=learnt,
        seen=_balanced(config, inputs.waveforms, targets, selected["train"]),
        shuffled_among=selected["train"] if config.shuffle_labels else None,
    )
    counts = count_rows(selected)
    return FinetuneJob(
        **fields,
        targets=targets,
        prevalence=tuple(shares),
        scale=standard_scale(inputs.waveforms, targets, labelled) if regression else None,
        counted=counted,
        provenance={"inputs": inputs.fingerprints, "label_set": config.label_set, "counts": counts}
        | ({} if learnt is None else {"auxiliary": config.auxiliary.to_dict()}),
    )


def _label_set(config: FinetuneConfig, waveforms: Manifest) -> LabelSet:
    """The label set that was asked for; ConfigError where there is none, or the other settings do not fit its task."""
    label_sets = label_sets_of(waveforms)
    if config.label_set not in label_sets:
        raise ConfigError(
            f"--label_set: wanted one of {sorted(label_sets)} of {config.waveforms}, got {config.label_set}"
        )
    labels = label_sets[config.label_set]
    if labels.task == "regression" and (config.positive_weights or config.balance or config.head == "label_embedding"):
        raise ConfigError(
            f"--label_set {config.label_set}: its labels are numbers, to which --positive_weights, --balance and "
            f"--head label_embedding do not apply; leave them out"
        )
    check_metric(config.target_metric, labels.task)
    auxiliary_targets(config, waveforms)
    return labels


def _balanced(config: FinetuneConfig, waveforms: Manifest, targets: LabelTargets, rows: Rows) -> Rows | None:
    """The rows of an epoch, those with rare labels more than once; None where all come up once."""
    if not config.balance:
        return None
    factors = repeat_factors(carried_labels(waveforms, targets, rows), config.balance)
    seen = repeat_rows(rows, factors, config.seed)
    log.info("finetune: %d training recordings come up %d times in an epoch", len(factors), sum(map(len, seen)))
    return seen


@dataclass(frozen=True, kw_only=True)
class FinetuneJob(TrainingJob):
    """One rank of a fine-tuning."""

    config: FinetuneConfig
    targets: LabelTargets
    preprocess: PreprocessConfig
    prevalence: tuple[float, ...]
    """Share of training recordings that carry each label; empty for a regression."""
    scale: dict[str, list[float]] | None
    """Mean and standard deviation of each number of a regression; the model's outputs are in terms of them."""
    counted: AuxiliaryLoss | None = None
    """How the loss of auxiliary targets is counted; None: there are none."""
    provenance: dict[str, Any]

    may_skip_parameters: ClassVar[bool] = True  # layerdrop leaves whole layers out, freezing all but the head

    def make_module(self, directory: Path | None) -> nn.Module:
        lora = self.config.lora
        if directory is not None and not lora.rank:
            model, _ = load_checkpoint(directory, expect="classifier")
        else:
            model = self._fresh_model()
        self.config.dropouts.configure(model)
        if not lora.rank:
            self._thaw(model, self.loop.steps)
        else:
            add_lora(model, lora)
            if directory is not None:
                load_trained_weights(model, load_file(directory / ADAPTER))
        auxiliary = None if self.counted is None else AuxiliaryHead(model.config.hidden_size, self.counted)
        return Classification(model, self._weights(), self._standard(), auxiliary)

    def _fresh_model(self) -> HubertECGClassifier:
        config = self.config
        if config.checkpoint is not None:
            encoder, _ = load_checkpoint(config.checkpoint, expect="ssl")
        else:
            of_size = model_config(config.size, self.preprocess.sampling_rate_hz, vocab_sizes=(1,))
            encoder = new_encoder(of_size)
        return HubertECGClassifier.from_encoder(
            encoder,
            label_names=self.targets.labels,
            head=config.head,
            task=self.targets.task,
            head_hidden_size=config.head_hidden_size,
            head_activation=config.head_activation,
        )

    def _thaw(self, model: HubertECGClassifier, step: int) -> None:
        """Let train what trains in a step."""
        config = self.config
        if step < config.freeze_steps:
            model.set_trainable(conv_stem=False, last_blocks=0)
        else:
            thawed = config.train_conv_stem and step >= config.conv_freeze_steps
            model.set_trainable(conv_stem=thawed or config.checkpoint is None, last_blocks=config.train_blocks)
        # The mask token takes no part in classification.
        model.hubert_ecg.masked_spec_embed.requires_grad_(False)

    def _weights(self) -> torch.Tensor | None:
        if not self.config.positive_weights:
            return None
        return torch.tensor(label_weights(list(self.prevalence), self.targets.task), dtype=torch.float32)

    def _standard(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        return None if self.scale is None else (torch.tensor(self.scale["mean"]), torch.tensor(self.scale["std"]))

    def step_loss(self, module: nn.Module, batch: Batch, step: int) -> StepLoss:
        # The module is made with all thawed that ever trains, so that DDP knows it; until then it is frozen.
        if not self.config.lora.rank and step <= max(self.config.freeze_steps, self.config.conv_freeze_steps):
            self._thaw(unwrap(module).model, step)
        loss: StepLoss = module(batch.inputs, batch.targets, batch.attention_mask)
        return loss

    def validate(self, module: nn.Module, batches: list[Batch]) -> dict[str, Any]:
        classification: Classification = unwrap(module)
        even_out_statistics(classification)
        outputs, targets = [], []
        sums = torch.zeros(2, dtype=torch.float64, device=next(module.parameters()).device)
        for batch in batches:
            logits = classification.logits(batch.inputs, batch.attention_mask)
            loss = classification.loss(logits, batch.targets)
            sums += torch.stack([loss.total, loss.weight]).double()
            outputs.append(classification.outputs_of(logits))
            targets.append(batch.targets)
        if not batches:  # This rank has none of a small split, and gathers with those that do.
            device, multi_class = next(module.parameters()).device, self.targets.task == "multi_class"
            outputs = [torch.zeros(0, len(self.targets.labels), device=device)]
            targets = [outputs[0][:, :1].long() if multi_class else outputs[0]]
        truth = gather_rows(torch.cat(targets)).cpu().numpy()
        found = gather_rows(torch.cat(outputs)).cpu().double().numpy()
        all_reduce_sum(sums)
        mean = float(sums[0] / sums[1].clamp(min=1e-12))
        metric = self.config.target_metric
        return judge_validation(truth, found, self.targets.labels, self.targets.task, loss=mean, metric=metric)

    def state_parts(self, module: nn.Module) -> dict[str, StatePart]:
        assert isinstance(module, Classification)
        return {} if module.auxiliary is None else {"auxiliary": module.auxiliary}

    def save(self, module: nn.Module, directory: Path, state: TrainerState) -> CheckpointInfo:
        # Those of the last validation; a checkpoint between two validations is there to go on from.
        thresholds = state.history[-1].get("thresholds") if state.history else None
        info = CheckpointInfo(
            kind="classifier",
            task=self.targets.task,
            label_names=self.targets.labels,
            thresholds=None if thresholds is None else tuple(thresholds),
            calibration=None if self.scale is None else {"standard": self.scale},
            preprocessing=self.preprocess.to_dict(),
            provenance=self.provenance | {"step": state.step, "prevalence": list(self.prevalence)},
        )
        model = unwrap(module).model
        if not self.config.lora.rank:
            return save_checkpoint(directory, model, info)
        info = save_checkpoint(directory, merge_lora(model), info)
        save_file(trained_weights(model), directory / ADAPTER)
        return info
