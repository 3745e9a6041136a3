"""One step on a toy: clipping, averaged weights, float16, rates, and what of them goes on after an interruption."""

from pathlib import Path

import numpy as np
import pytest
import torch

from hubert_ecg.errors import ConfigError
from hubert_ecg.training.average import WeightAverage
from hubert_ecg.training.compute import ComputeConfig
from hubert_ecg.training.loss_scale import LEAST_SCALE, LossScale
from hubert_ecg.training.optimiser import OptimiserConfig, make_optimiser
from hubert_ecg.training.state import TrainerState, load_state, save_state
from hubert_ecg.training.step import Batch, Learner, StepLoss


class Toy:
    """Linear regression, 3 numbers to 1, with everything that a step changes."""

    def __init__(
        self,
        *,
        model: dict[str, torch.Tensor] | None = None,
        loss_factor: float = 1.0,
        pieces: int = 1,
        scaled: bool = False,
        **settings: float,
    ) -> None:
        torch.manual_seed(5)
        self.module = torch.nn.Linear(3, 1)
        if model is not None:
            self.module.load_state_dict(model)
        self.loss_factor = loss_factor
        config = OptimiserConfig(lr=0.1, warmup_share=0.0, **settings)
        self.learner = Learner(
            module=self.module,
            step_loss=self.loss,
            optimiser=make_optimiser(self.module, config),
            optimiser_config=config,
            steps=10,
            seed=0,
            accumulation_steps=pieces,
            loss_scale=LossScale("cpu") if scaled else None,
            average=WeightAverage(self.module, config.ema_decay) if config.ema_decay else None,
        )

    def loss(self, batch: Batch, step: int) -> StepLoss:
        errors = self.module(batch.inputs) - batch.targets
        weights = batch.inputs[:, :1].abs()  # unequal ones
        return StepLoss(total=self.loss_factor * (weights * errors**2).sum(), weight=weights.sum())

    def weights(self) -> torch.Tensor:
        return torch.cat([p.detach().flatten().clone() for p in self.module.parameters()])

    def gradient(self) -> torch.Tensor:
        return torch.cat([p.grad.flatten().clone() for p in self.module.parameters() if p.grad is not None])


def batch(step: int = 0, size: int = 7) -> Batch:
    rng = np.random.default_rng(step)
    inputs = torch.from_numpy(rng.normal(size=(size, 3)).astype(np.float32))
    ids = [f"r{step}-{place}" for place in range(size)]
    return Batch(record_ids=ids, inputs=inputs, targets=inputs.sum(dim=1, keepdim=True), attention_mask=inputs > 0)


def test_a_batch_splits_into_pieces_that_know_their_place() -> None:
    whole = batch(size=7)
    pieces = whole.split(3)
    assert [(len(piece.record_ids), piece.offset) for piece in pieces] == [(3, 0), (2, 3), (2, 5)]
    assert [name for piece in pieces for name in piece.record_ids] == whole.record_ids
    for name in ("inputs", "targets", "attention_mask"):
        assert torch.equal(torch.cat([getattr(piece, name) for piece in pieces]), getattr(whole, name))
    assert [piece.offset for piece in pieces[1].split(2)] == [3, 4]
    assert (pieces[2].only(1).record_ids, pieces[2].only(1).offset) == (["r0-6"], 6)
    assert len(batch(size=2).split(5)) == 2
    assert whole.split(1) == [whole]


@pytest.mark.parametrize("pieces", [1, 2, 7])
def test_the_gradient_is_that_of_the_weighted_mean(pieces: int) -> None:
    toy = Toy(pieces=pieces, clip_norm=0.0)
    given = batch()
    loss = toy.loss(given, 0)
    wanted = torch.autograd.grad(loss.total / loss.weight, list(toy.module.parameters()))
    result = toy.learner.step(given, 0)
    torch.testing.assert_close(toy.gradient(), torch.cat([g.flatten() for g in wanted]))
    assert result.loss == pytest.approx(float((loss.total / loss.weight).detach()))
    assert result.gradient_norm == pytest.approx(float(toy.gradient().norm()))


def test_gradients_are_clipped_after_accumulation() -> None:
    free, clipped = Toy(pieces=3, clip_norm=0.0), Toy(pieces=3, clip_norm=0.01)
    norm = free.learner.step(batch(), 0).gradient_norm
    assert norm > 0.1
    assert clipped.learner.step(batch(), 0).gradient_norm == pytest.approx(norm)
    torch.testing.assert_close(clipped.gradient(), free.gradient() * (0.01 / norm))


def test_the_mean_of_weights_follows_its_formula() -> None:
    toy = Toy(ema_decay=0.2)
    mean = toy.weights()
    # (1 + t) / (10 + t) is 1/10, 2/11, 3/12, ...: below 0.2 in the first two steps, above it from then on.
    for step, decay in enumerate((1 / 10, 2 / 11, 0.2, 0.2)):
        before = toy.weights()
        toy.learner.step(batch(step), step)
        assert not torch.equal(toy.weights(), before)
        mean = decay * mean + (1 - decay) * toy.weights()
        own = toy.weights()
        with toy.learner.averaged():
            torch.testing.assert_close(toy.weights(), mean)
            assert not torch.allclose(toy.weights(), own)
        assert torch.equal(toy.weights(), own)


def test_without_a_decay_the_weights_themselves_are_judged() -> None:
    toy = Toy()
    toy.learner.step(batch(), 0)
    own = toy.weights()
    with toy.learner.averaged():
        assert torch.equal(toy.weights(), own)
    assert toy.learner.parts == {}
    with pytest.raises(ConfigError, match=r"--optimiser.ema_decay: wanted a decay in \[0, 1\), got 1"):
        OptimiserConfig(ema_decay=1.0)


def test_weights_that_do_not_train_are_not_averaged() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 1)).requires_grad_(False)
    module[1].requires_grad_(True)
    assert set(WeightAverage(module, 0.9).means) == {"1.weight", "1.bias"}


def test_batch_norms_are_averaged_with_the_weights() -> None:
    """Their statistics are those of the weights they were taken with."""
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2)).requires_grad_(False)
    average = WeightAverage(module, 0.9)
    assert set(average.means) == {"1.running_mean", "1.running_var"}
    module(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    own = module[1].running_mean.clone()
    average.update(0)
    with average.in_use():
        torch.testing.assert_close(module[1].running_mean, 0.9 * own)
    assert torch.equal(module[1].running_mean, own)


def test_a_scaled_loss_gives_the_same_gradient_and_step() -> None:
    plain, scaled = Toy(pieces=2), Toy(pieces=2, scaled=True)
    for step in range(3):
        results = [toy.learner.step(batch(step), step) for toy in (plain, scaled)]
        # The scale is a power of two, so that nothing is rounded differently.
        assert torch.equal(plain.gradient(), scaled.gradient())
        assert torch.equal(plain.weights(), scaled.weights())
        assert results[0].loss == results[1].loss
    assert scaled.learner.parts["loss_scale"].described()["scale"] == 65536.0


def test_an_overflow_leaves_the_step_out_and_halves_the_scale_until_it_cannot_help() -> None:
    toy = Toy(scaled=True, loss_factor=1e36)
    before = toy.weights()
    result = toy.learner.step(batch(), 0)
    assert torch.equal(toy.weights(), before)
    assert result.is_finite
    assert not np.isfinite(result.gradient_norm)
    state = toy.learner.parts["loss_scale"].described()
    assert state["scale"] == 32768.0
    again = LossScale("cpu")
    again.restore({}, state)
    assert again.described() == state
    again.restore({}, state | {"scale": LEAST_SCALE / 2})
    toy.learner.loss_scale = again
    toy.loss_factor = 1e39  # no scale mends this
    assert not toy.learner.step(batch(), 1).is_finite


def test_a_loss_that_is_no_number_is_no_overflow() -> None:
    toy = Toy(scaled=True, loss_factor=float("nan"))
    assert not toy.learner.step(batch(), 0).is_finite


@pytest.mark.parametrize("scaled", [False, True])
def test_an_interrupted_training_with_averaged_weights_goes_on_as_if_nothing_had_been(
    tmp_path: Path, scaled: bool
) -> None:
    undisturbed, first = (Toy(ema_decay=0.9, scaled=scaled) for _ in range(2))
    if first.learner.loss_scale and undisturbed.learner.loss_scale:
        for toy in (undisturbed, first):
            toy.learner.loss_scale.scaler.set_growth_interval(4)  # so that the scale changes in between
    for step in range(6):
        undisturbed.learner.step(batch(step), step)
    for step in range(3):
        first.learner.step(batch(step), step)
    with first.learner.averaged():
        model = {name: tensor.clone() for name, tensor in first.module.state_dict().items()}
        save_state(tmp_path, TrainerState(step=3), first.learner.optimiser, first.learner.parts)
    second = Toy(ema_decay=0.9, scaled=scaled, model=model)
    assert load_state(tmp_path, second.learner.optimiser, second.learner.parts).step == 3
    assert torch.equal(second.weights(), first.weights())
    for step in range(3, 6):
        second.learner.step(batch(step), step)
    assert torch.equal(second.weights(), undisturbed.weights())
    with second.learner.averaged(), undisturbed.learner.averaged():
        assert torch.equal(second.weights(), undisturbed.weights())
    assert {name: part.described() for name, part in second.learner.parts.items()} == {
        name: part.described() for name, part in undisturbed.learner.parts.items()
    }
    if scaled:
        assert second.learner.parts["loss_scale"].described()["scale"] == 2 * 65536.0


def test_float16_computes_products_in_half_precision() -> None:
    layer = torch.nn.Linear(2, 2)
    for precision, dtype in (("float16", torch.float16), ("bfloat16", torch.bfloat16), ("float32", torch.float32)):
        with ComputeConfig(precision=precision).autocast(torch.device("cpu")):  # type: ignore[arg-type]
            assert layer(torch.ones(1, 2)).dtype == dtype
