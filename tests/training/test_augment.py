"""Augmentation: what it changes, what it leaves alone, and that it is the same wherever and whenever it is computed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch.nn import functional

from hubert_ecg.ecg.preprocess import token_mask
from hubert_ecg.errors import ConfigError
from hubert_ecg.models.loss import classification_loss
from hubert_ecg.storage import tables
from hubert_ecg.storage.artifact import Manifest
from hubert_ecg.training.augment import AugmentConfig, LabelledAugmentConfig, mix, union
from hubert_ecg.training.batches import stack_masks
from hubert_ecg.training.examples import ExampleReader
from hubert_ecg.training.targets import LabelTargets
from tests.training.padded import PREPROCESS, ROWS, write_waveforms

TARGETS = LabelTargets(label_set="classes", labels=("AFIB", "CRBBB", "NORM"), task="multi_class")
POSITIONS = np.array([[0, row, 5 * turn + row] for turn in range(4) for row in range(ROWS)])


@pytest.fixture(scope="module")
def waveforms(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return write_waveforms(tmp_path_factory.mktemp("w") / "w")


def reader(waveforms: Manifest, augment: AugmentConfig | None, seed: int = 0) -> ExampleReader:
    rows = tuple(np.arange(ROWS) for _ in range(waveforms.parts))
    return ExampleReader(
        waveforms=waveforms,
        preprocess=PREPROCESS,
        targets=TARGETS,
        seed=seed,
        fixed_crop=True,
        augment=augment,
        mixed_among=rows,
    )


def read(of: ExampleReader, rows: np.ndarray = POSITIONS) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inputs and masks [row, lead, sample], and targets."""
    table = pa.concat_tables(of.read(rows))
    inputs = tables.stack_rows(table["input"])
    masks = stack_masks(table["attention_mask"], inputs.shape[1])
    masks = np.ones(inputs.shape, bool) if masks is None else masks
    shape = (len(rows), 12, -1)
    return inputs.reshape(shape), masks.reshape(shape), tables.stack_rows(table["target"])


def test_a_turned_heart_is_still_one_heart() -> None:
    """Complete recordings turn, and leads that obey Einthoven's law go on doing so; what lacks a lead stays."""
    config = AugmentConfig(rotation_deg=20)
    leads = np.random.default_rng(0).standard_normal((12, 50)).astype(np.float32)
    leads[2] = leads[1] - leads[0]
    turned, none = config.apply(leads.reshape(-1), None, np.random.default_rng(1), lambda _: True)
    turned = turned.reshape(12, 50)
    assert none is None
    assert np.abs(turned - leads).max() > 0.1
    np.testing.assert_allclose(turned[2], turned[1] - turned[0], atol=1e-4)
    mask = np.ones((12, 50), bool)
    mask[4] = False
    kept, _ = config.apply(leads.reshape(-1), mask.reshape(-1), np.random.default_rng(1), lambda _: True)
    np.testing.assert_array_equal(kept.reshape(12, 50), leads)


def test_the_gain_of_a_recording_is_one_factor_for_all_leads(waveforms: Manifest) -> None:
    plain, masks, _ = read(reader(waveforms, None))
    found, same_masks, _ = read(reader(waveforms, AugmentConfig(recording_gain=0.3)))
    np.testing.assert_array_equal(masks, same_masks)
    factors = np.einsum("rls,rls->r", found, plain) / np.einsum("rls,rls->r", plain, plain)
    np.testing.assert_allclose(found, plain * factors[:, None, None], rtol=1e-5)
    assert (np.abs(factors - 1) < 0.3).all()
    assert factors.std() > 0.1


def test_a_gain_is_one_factor_per_lead(waveforms: Manifest) -> None:
    plain, masks, _ = read(reader(waveforms, None))
    found, same_masks, _ = read(reader(waveforms, AugmentConfig(gain=0.3)))
    np.testing.assert_array_equal(masks, same_masks)
    present = masks.any(axis=2)
    factors = np.einsum("rls,rls->rl", found, plain)[present] / np.einsum("rls,rls->rl", plain, plain)[present]
    assert (factors > 0.7).all()
    assert (factors < 1.3).all()
    assert 0.3 / 3**0.5 * 0.8 < factors.std() < 0.3 / 3**0.5 * 1.2  # of a uniform distribution that wide
    full = np.ones(present.shape)
    full[present] = factors
    np.testing.assert_allclose(found, plain * full[..., None], atol=1e-5)


def test_noise_has_its_deviation_and_keeps_out_of_what_was_not_recorded(waveforms: Manifest) -> None:
    plain, masks, _ = read(reader(waveforms, None))
    found, _, _ = read(reader(waveforms, AugmentConfig(noise=0.05)))
    added = found - plain
    assert (added[~masks] == 0).all()
    assert added[masks].std() == pytest.approx(0.05, rel=0.02)
    assert abs(added[masks].mean()) < 0.001
    assert abs(np.corrcoef(added[0, 0], added[0, 1])[0, 1]) < 0.2


def test_leads_are_taken_away_as_if_they_were_missing(waveforms: Manifest) -> None:
    plain, masks, _ = read(reader(waveforms, None))
    found, left, _ = read(reader(waveforms, AugmentConfig(lead_dropout=0.4)))
    there = masks.any(axis=2)
    dropped = there & ~left.any(axis=2)
    assert (found[dropped] == 0).all()
    kept = there & ~dropped
    np.testing.assert_array_equal(found[kept], plain[kept])
    np.testing.assert_array_equal(left[kept], masks[kept])
    assert dropped.sum() / there.sum() == pytest.approx(0.4, abs=0.1)
    assert token_mask(left.reshape(len(left), -1), PREPROCESS).any(axis=1).all()


def test_a_recording_of_which_nothing_would_be_left_stays_whole() -> None:
    samples, config = np.ones(6000, np.float32), AugmentConfig(lead_dropout=0.999999)
    whole, mask = config.apply(samples, None, np.random.default_rng(0), lambda mask: bool(mask.any()))
    assert mask is None
    np.testing.assert_array_equal(whole, samples)


@pytest.mark.parametrize(
    "augment", [AugmentConfig(gain=0.2, noise=0.1, lead_dropout=0.3), LabelledAugmentConfig(mixup=0.4, noise=0.1)]
)
def test_an_example_depends_on_seed_and_position_alone(waveforms: Manifest, augment: AugmentConfig) -> None:
    inputs, masks, targets = read(reader(waveforms, augment))
    # As other ranks, or a run that was interrupted, read them: some of them, in another order.
    for some in ([7], [3, 19], list(range(19, -1, -2))):
        for whole, part in zip(
            (inputs, masks, targets), read(reader(waveforms, augment), POSITIONS[some]), strict=True
        ):
            np.testing.assert_array_equal(whole[some], part)
    assert not np.array_equal(inputs[0], inputs[5])  # the same recording and crop at another position
    assert not np.array_equal(inputs, read(reader(waveforms, augment, seed=1))[0])


def test_mixup_mixes_recordings_of_a_shard_and_their_classes(waveforms: Manifest) -> None:
    plain, masks, classes = read(reader(waveforms, None), POSITIONS[:ROWS])
    found, mixed_masks, targets = read(reader(waveforms, LabelledAugmentConfig(mixup=1.0)))
    assert targets.dtype == np.float32
    np.testing.assert_allclose(targets.sum(axis=1), 1, rtol=1e-6)
    one_hot = np.eye(3)[classes[:, 0]]
    partners = set()
    for index, (sample, mask, target) in enumerate(zip(found, mixed_masks, targets, strict=True)):
        first = index % ROWS
        # The share of the first recording that explains the mixture best, for every recording it may be mixed with.
        errors = []
        for second in range(ROWS):
            difference = (plain[first] - plain[second]).astype(np.float64)
            square = float((difference**2).sum())
            share = float((difference * (sample - plain[second])).sum()) / square if square else 1.0
            error = np.abs(sample - (share * plain[first] + (1 - share) * plain[second])).max()
            errors.append((error, share, second))
        error, share, second = min(errors)
        assert error < 1e-5
        partners.add((first, second))
        assert 0 <= share <= 1 + 1e-6
        np.testing.assert_allclose(target, share * one_hot[first] + (1 - share) * one_hot[second], atol=1e-4)
        np.testing.assert_array_equal(mask, masks[first] | masks[second])
    assert len(partners) > ROWS


def test_mixing_by_hand() -> None:
    a, b = np.array([1.0, 0.0], np.float32), np.array([0.0, np.nan], np.float32)
    np.testing.assert_array_equal(mix(a, b, 0.25), np.array([0.25, np.nan], np.float32))
    assert union(None, np.zeros(2, bool)) is None
    np.testing.assert_array_equal(union(np.array([True, False]), np.array([False, False])), [True, False])
    numbers = replace(TARGETS, task="regression", labels=("age",))
    np.testing.assert_array_equal(numbers.mixable(np.array([61.0], np.float32)), [61.0])
    np.testing.assert_array_equal(TARGETS.mixable(np.array([2])), [0, 0, 1])


def test_shares_of_classes_have_the_loss_of_their_mixture() -> None:
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    first, second, weights = torch.tensor([0, 1, 2, 2]), torch.tensor([1, 1, 0, 2]), torch.tensor([1.0, 2.0, 5.0])
    shares = 0.3 * functional.one_hot(first, 3) + 0.7 * functional.one_hot(second, 3)
    for weighing in (None, weights):
        total, weight = classification_loss(logits, shares, task="multi_class", weights=weighing)
        parts = [classification_loss(logits, ids, task="multi_class", weights=weighing) for ids in (first, second)]
        torch.testing.assert_close(total, 0.3 * parts[0][0] + 0.7 * parts[1][0])
        torch.testing.assert_close(weight, 0.3 * parts[0][1] + 0.7 * parts[1][1])


@pytest.mark.parametrize(
    "wrong", [{"gain": 1.0}, {"recording_gain": 1.0}, {"lead_dropout": -0.1}, {"noise": -1.0}, {"mixup": -0.5}]
)
def test_impossible_changes_are_refused(wrong: dict) -> None:
    with pytest.raises(ConfigError, match=f"--augment.{next(iter(wrong))}: wanted"):
        LabelledAugmentConfig(**wrong)


def test_nothing_is_changed_unless_it_is_asked_for(tmp_path: Path) -> None:
    assert not LabelledAugmentConfig().changes_anything
    for settings in ({"gain": 0.1}, {"recording_gain": 0.1}, {"noise": 0.1}, {"lead_dropout": 0.1}, {"mixup": 0.1}):
        assert LabelledAugmentConfig(**settings).changes_anything  # type: ignore[arg-type]
