"""Auxiliary targets in a fine-tuning: which recordings train, what is kept where, what is judged and what refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hubert_ecg.errors import ArtifactError, CheckpointError, ConfigError
from hubert_ecg.pipeline.finetune import FinetuneConfig, FinetuneJob, finetune
from hubert_ecg.pipeline.training_run import WorkersConfig
from hubert_ecg.storage.artifact import Manifest
from hubert_ecg.storage.checkpoint import load_checkpoint
from hubert_ecg.training.augment import LabelledAugmentConfig
from hubert_ecg.training.auxiliary import AuxiliaryConfig
from hubert_ecg.training.optimiser import OptimiserConfig
from hubert_ecg.training.state import TrainerState, load_state, save_state
from tests.pipeline.auxiliary_tables import write_auxiliary_waveforms
from tests.pipeline.training_jobs import batch_of, finetune_job, learner_of
from tests.training.padded import write_waveforms

ALL = AuxiliaryConfig(label_sets=("findings",), demographics=True)
FIVE = [(0, row, row) for row in range(5)]


@pytest.fixture(scope="module")
def waveforms(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return write_auxiliary_waveforms(tmp_path_factory.mktemp("w"))


def job_of(waveforms: Manifest, **settings: Any) -> FinetuneJob:
    made = {"auxiliary": ALL, "size": "residual", "steps": 8, "optimiser": OptimiserConfig(lr=3e-3)}
    return finetune_job(waveforms, **made | settings)


def test_recordings_without_labels_train_where_anything_else_is_known(waveforms: Manifest) -> None:
    job = job_of(waveforms)
    assert job.plan.selected[0].tolist() == [0, 1, 2, 3]
    assert job.validation_plan.selected[1].tolist() == [0, 1, 3]
    assert finetune_job(waveforms).plan.selected[0].tolist() == [0, 1, 3]
    # Of labels a share of those that have any: AFIB, CRBBB and NORM once each among three.
    assert job.prevalence == pytest.approx([1 / 3] * 3)
    assert job.provenance["counts"] == {"train": 4, "val": 3}
    assert job.provenance["auxiliary"] == {"label_sets": ["findings"], "demographics": True, "weight": 1.0}
    assert "auxiliary" not in finetune_job(waveforms).provenance


def test_a_share_of_the_labels_is_one_of_what_is_learnt_beside_them_too(waveforms: Manifest) -> None:
    few = job_of(waveforms, train_fraction=0.34).plan.selected[0].tolist()
    # One of the three that have a class, and the only one that has none.
    assert len(few) == 2
    assert 2 in few


def test_both_losses_are_means_over_what_is_expected_to_be_known(waveforms: Manifest) -> None:
    """Of four recordings three have a class, three findings (2), three a sex (1), two an age (7)."""
    counted = job_of(waveforms, auxiliary=replace(ALL, weight=0.3)).counted
    assert counted is not None
    assert (counted.num_targets, counted.weight) == (10, 0.3)
    assert counted.labels_known == pytest.approx(3 / 4)
    assert counted.targets_known == pytest.approx((3 * 2 + 3 * 1 + 2 * 7) / 4)
    mixed = job_of(waveforms, augment=LabelledAugmentConfig(mixup=0.3)).counted
    assert mixed is not None
    assert mixed.labels_known == pytest.approx(9 / 16)
    assert mixed.targets_known == pytest.approx((9 * 2 + 9 * 1 + 4 * 7) / 16)
    weighted = job_of(waveforms, positive_weights=True).counted
    assert weighted is not None
    assert weighted.labels_known == pytest.approx(3 / 4)


def test_targets_are_mixed_as_recordings_are(waveforms: Manifest) -> None:
    job = job_of(waveforms, augment=LabelledAugmentConfig(mixup=0.3))
    rows = [(0, row % 4, row) for row in range(40)]
    targets = batch_of(job, rows).targets.numpy()
    assert targets.shape == (40, 3 + 2 + 1 + 7)
    known = ~np.isnan(targets)
    assert not known[2::4, :3].any()  # Recording 2 has no class, nor has any mixture with it.
    assert 0 < known[0::4, 0].mean() < 1
    labels = targets[known[:, 0], :3]
    np.testing.assert_allclose(labels.sum(axis=1), 1, atol=1e-6)
    assert ((labels > 0) & (labels < 1)).any()


@pytest.mark.parametrize(("size", "ema_decay"), [("tiny", 0.0), ("residual", 0.5)])
def test_it_is_learnt_and_a_stopped_training_goes_on_as_if_nothing_had_been(
    waveforms: Manifest, tmp_path: Path, size: str, ema_decay: float
) -> None:
    """Also with averaged weights, whose mean the auxiliary head has as well."""
    job = job_of(waveforms, size=size, optimiser=OptimiserConfig(lr=3e-3, ema_decay=ema_decay), accumulation_steps=2)
    torch.manual_seed(0)
    learner = learner_of(job, job.make_module(None))
    losses = [learner.step(batch_of(job, FIVE[:4]), step).loss for step in range(4)]
    with learner.averaged():
        job.save(learner.module, tmp_path / "model", TrainerState(step=4, history=[{"step": 4}]))
        save_state(tmp_path, TrainerState(step=4), learner.optimiser, learner.parts)
    saved, info = load_checkpoint(tmp_path / "model", expect="classifier")
    assert info.label_names == saved.label_names == ("AFIB", "CRBBB", "NORM")
    assert not any("auxiliary" in name for name in saved.state_dict())
    assert not [path.name for path in (tmp_path / "model").iterdir() if "auxiliary" in path.name]
    again = learner_of(job, job.make_module(tmp_path / "model"))
    assert load_state(tmp_path, again.optimiser, again.parts).step == 4
    for step in range(4, 8):
        losses.append(learner.step(batch_of(job, FIVE[:4]), step).loss)
        assert again.step(batch_of(job, FIVE[:4]), step).loss == losses[-1]
    with learner.averaged(), again.averaged():  # Those that are judged and saved.
        pairs = zip(learner.module.state_dict().items(), again.module.state_dict().values(), strict=True)
        assert [name for (name, wanted), found in pairs if not torch.equal(wanted, found)] == []
    assert losses[-1] < losses[0]


def test_the_state_of_a_training_without_is_not_that_of_one_with(waveforms: Manifest, tmp_path: Path) -> None:
    with_it, without = (learner_of(job, job.make_module(None)) for job in (job_of(waveforms), finetune_job(waveforms)))
    save_state(tmp_path, TrainerState(), without.optimiser, without.parts)
    with pytest.raises(CheckpointError, match="the run was begun with"):
        load_state(tmp_path, with_it.optimiser, with_it.parts)


def test_a_validation_judges_the_labels_alone(waveforms: Manifest) -> None:
    job = job_of(waveforms)
    torch.manual_seed(0)
    module = job.make_module(None).eval()
    judged = replace(job, reader=job.validation_reader)
    batch = batch_of(judged, [(1, row, row) for row in (0, 1, 3)])
    assert batch.targets.tolist() == [[2], [0], [1]]
    with torch.no_grad():
        found = job.validate(module, [batch])
        module.auxiliary.linear.weight.mul_(50)
        assert job.validate(module, [batch]) == found
        module.model.classifier.weight.mul_(50)
        assert job.validate(module, [batch])["val_loss"] != found["val_loss"]


def test_auxiliaries_reach_the_encoder_by_their_weight(waveforms: Manifest) -> None:
    """Of recordings without a class, which teach the encoder nothing else."""
    sizes = []
    for weight in (1.0, 2.0):
        job = job_of(waveforms, auxiliary=replace(ALL, weight=weight))
        torch.manual_seed(0)
        module = job.make_module(None)
        job.step_loss(module, batch_of(job, [(0, 2, 0)]), 0).total.backward()
        assert not module.model.classifier.weight.grad.any()
        sizes.append(module.model.hubert_ecg.feature_extractor.conv_layers[0].weight.grad.norm())
    assert sizes[0] > 0
    torch.testing.assert_close(sizes[1], 2 * sizes[0])


def test_shuffled_recordings_exchange_all_that_is_known_of_them(waveforms: Manifest) -> None:
    """As a control the labels could otherwise be told from what is learnt beside them."""
    plain, shuffled = (job_of(waveforms, shuffle_labels=shuffle) for shuffle in (False, True))
    rows = [np.nan_to_num(batch_of(job, FIVE[:4]).targets.numpy(), nan=-1).tolist() for job in (plain, shuffled)]
    assert sorted(rows[0]) == sorted(rows[1])
    assert rows[0] != rows[1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"label_sets": ("rhythm",)}, r"wanted label sets of .* \(age, findings\), got rhythm"),
        ({"label_sets": ("classes",)}, "wanted other sets than --label_set, .* got classes; leave it out"),
        ({"label_sets": ("age",)}, "got age, whose answers are numbers"),
    ],
)
def test_label_sets_that_cannot_be_learnt_are_named(
    waveforms: Manifest, tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    """Before anything is begun."""
    with pytest.raises(ConfigError, match=f"--auxiliary.*{message}"):
        finetune(
            FinetuneConfig(
                waveforms=waveforms.directory,
                output=str(tmp_path / "m"),
                label_set="classes",
                auxiliary=AuxiliaryConfig(**settings),
            )
        )
    assert not (tmp_path / "m").exists()


def test_a_regression_has_no_auxiliaries(waveforms: Manifest) -> None:
    with pytest.raises(ConfigError, match="--auxiliary: .* got age, whose answers are numbers"):
        finetune_job(waveforms, "age", auxiliary=ALL)


def test_what_nobody_knows_of_any_recording_is_refused(tmp_path: Path) -> None:
    waveforms = write_waveforms(tmp_path / "w", splits=("train", "val", "test"))
    with pytest.raises(ArtifactError, match="wanted training recordings with answers to --auxiliary, got none"):
        finetune_job(waveforms, auxiliary=AuxiliaryConfig(demographics=True))


@pytest.mark.slow
def test_two_workers_learn_it_and_a_finished_training_is_gone_on_with(
    ray_cluster: None, waveforms: Manifest, tmp_path: Path
) -> None:
    config = FinetuneConfig(
        waveforms=waveforms.directory,
        output=str(tmp_path / "m"),
        label_set="classes",
        size="residual",
        auxiliary=ALL,
        augment=LabelledAugmentConfig(mixup=0.3),
        workers=WorkersConfig(num=2, cpus_each=0.5),
        steps=4,
        batch_size=4,
        validation_interval=2,
    )
    assert finetune(config).facts["steps_done"] == 4
    assert not [path.name for path in (tmp_path / "m").iterdir() if "auxiliary" in path.name]
    longer = replace(config, steps=6, resume=config.output, output=str(tmp_path / "longer"))
    assert finetune(longer).facts["steps_done"] == 6
    assert load_checkpoint(tmp_path / "longer", expect="classifier")[1].label_names == ("AFIB", "CRBBB", "NORM")
