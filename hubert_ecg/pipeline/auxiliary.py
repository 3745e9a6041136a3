"""What a fine-tuning finds out about auxiliary targets before it starts: which there are, and of which recordings."""

from typing import Any

import numpy as np

from hubert_ecg.datasets.source import LabelSet
from hubert_ecg.errors import ArtifactError, ConfigError
from hubert_ecg.pipeline.fit_facts import label_weights
from hubert_ecg.pipeline.prepare import label_sets_of
from hubert_ecg.pipeline.training_setup import Rows
from hubert_ecg.storage import files
from hubert_ecg.storage.artifact import Manifest
from hubert_ecg.training.auxiliary import AuxiliaryTargets
from hubert_ecg.training.auxiliary_head import AuxiliaryLoss
from hubert_ecg.training.examples import select_rows
from hubert_ecg.training.label_share import labelled_share
from hubert_ecg.training.targets import LabelTargets


def label_targets(labels: LabelSet) -> LabelTargets:
    """The answers to a label set as targets."""
    return LabelTargets(
        label_set=labels.name, labels=labels.labels, task=labels.task, none_is_negative=labels.none_is_negative
    )


def auxiliary_targets(config: Any, waveforms: Manifest) -> AuxiliaryTargets | None:
    """What a FinetuneConfig wants learnt beside its labels, None where nothing is.

    Raises ConfigError for label sets that the waveforms do not have or whose answers are numbers.
    """
    wanted, label_sets = config.auxiliary, label_sets_of(waveforms)
    if not wanted.is_wanted:
        return None
    unknown = [name for name in wanted.label_sets if name not in label_sets]
    if unknown:
        others = ", ".join(sorted(set(label_sets) - {config.label_set})) or "none: it has no others"
        raise ConfigError(
            f"--auxiliary.label_sets: wanted label sets of {config.waveforms} beside {config.label_set} ({others}), "
            f"got {', '.join(unknown)}; leave out what is not there"
        )
    numbers = [name for name in (config.label_set, *wanted.label_sets) if label_sets[name].task == "regression"]
    if numbers:
        raise ConfigError(
            f"--auxiliary: wanted label sets of labels or classes, and one of these as --label_set, got "
            f"{', '.join(numbers)}, whose answers are numbers; choose others, or leave --auxiliary out"
        )
    return AuxiliaryTargets(
        main=label_targets(label_sets[config.label_set]),
        others=tuple(label_targets(label_sets[name]) for name in wanted.label_sets),
        demographics=wanted.demographics,
    )


def with_unlabelled(config: Any, waveforms: Manifest, targets: AuxiliaryTargets, labelled: Rows) -> Rows:
    """Training rows, and beside them those without labels of which an auxiliary target is known, the same share."""
    candidates = select_rows(waveforms, split="train", tag=config.train_tag)
    others = tuple(
        rows[np.array([not known[0] and any(known[1:]) for known in of_shard], bool)]
        for rows, of_shard in zip(candidates, _known(waveforms, targets, tuple(candidates)), strict=True)
    )
    others = labelled_share(waveforms, others, config.train_fraction, config.seed)
    return tuple(np.union1d(*pair) for pair in zip(labelled, others, strict=True))


def auxiliary_loss(
    config: Any, waveforms: Manifest, targets: AuxiliaryTargets, selected: Rows, prevalence: list[float]
) -> AuxiliaryLoss:
    """How the losses are counted in a training on the selected rows; `prevalence` is that of labels, where answered.

    Raises ArtifactError where none of the auxiliary targets is known of any of the recordings.
    """
    known = np.array([known for of_shard in _known(waveforms, targets, selected) for known in of_shard], bool)
    # A mixture knows what both of its recordings do.
    expected = known.mean(axis=0) ** (2 if config.augment.mixup else 1)
    sizes, task = targets.sizes, targets.main.task
    targets_known = float((expected * sizes)[1:].sum())
    if not targets_known:
        raise ArtifactError(
            f"{config.waveforms}: wanted training recordings with answers to --auxiliary, got none; leave it out"
        )
    per_recording = float(sizes[0])
    if task == "multi_class":
        weights = label_weights(prevalence, task) if config.positive_weights else [1.0] * len(prevalence)
        per_recording = float(np.dot(prevalence, weights))
    return AuxiliaryLoss(
        num_targets=int(sizes[1:].sum()),
        weight=config.auxiliary.weight,
        labels_known=float(expected[0]) * per_recording,
        targets_known=targets_known,
    )


def _known(waveforms: Manifest, targets: AuxiliaryTargets, selected: Rows) -> list[list[list[bool]]]:
    """Per shard and selected row, which questions are answered."""
    return [
        [
            targets.known(answer)
            for answer in targets.answers(files.read_table(waveforms.part(part), list(targets.columns)).take(rows))
        ]
        for part, rows in enumerate(selected)
    ]
