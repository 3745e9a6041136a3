"""The training loop on a toy regression: it learns, repeats itself after an interruption, and stops when it must."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from hubert_ecg.errors import CheckpointError, TrainingError
from hubert_ecg.training.loop import Batch, LoopConfig, StepLoss, train
from hubert_ecg.training.optimiser import OptimiserConfig, make_optimiser
from hubert_ecg.training.state import TrainerState, load_state, save_state

CONFIG = OptimiserConfig(lr=0.05, weight_decay=0.0)
TRUTH = torch.tensor([[1.0, -2.0, 0.5]])


class Toy(torch.nn.Module):
    """Linear regression with dropout, so that unseeded randomness would show."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.linear = torch.nn.Linear(3, 1)
        self.dropout = torch.nn.Dropout(0.2)

    def loss(self, batch: Batch, step: int) -> StepLoss:
        error = self.linear(self.dropout(batch.inputs)) - batch.targets
        return StepLoss(total=(error**2).sum(), weight=torch.tensor(float(len(error))))


def batches(first_step: int = 0, poisoned: int | None = None) -> Iterator[Batch]:
    step = first_step
    while True:
        inputs = torch.from_numpy(np.random.default_rng(step).normal(size=(8, 3)).astype(np.float32))
        if step == poisoned:
            inputs[0] = torch.nan
        yield Batch(record_ids=[f"r{step}-{i}" for i in range(8)], inputs=inputs, targets=inputs @ TRUTH.T)
        step += 1


class Run:
    """One training with everything that a driver would keep of it."""

    def __init__(self, toy: Toy, state: TrainerState | None = None, patience: int = 0, steps: int = 60) -> None:
        self.toy, self.state, self.reports = toy, state or TrainerState(), []
        self.optimiser = make_optimiser(toy, CONFIG)
        self.loop = LoopConfig(steps=steps, validation_interval=20, patience=patience, seed=0)
        self.scores: list[float] | None = None

    def go(self, source: Iterator[Batch]) -> "Run":
        train(
            self.toy,
            self.toy.loss,
            source,
            self.optimiser,
            self.state,
            optimiser_config=CONFIG,
            config=self.loop,
            validate=self.validate,
            report=lambda state, metrics, better: self.reports.append((state.step, better)),
        )
        return self

    def distance(self) -> float:
        return float((self.toy.linear.weight.detach() - TRUTH).abs().sum())

    def validate(self) -> dict[str, float]:
        assert not self.toy.training
        return {"score": self.scores.pop(0) if self.scores else -self.distance()}


def weights(run: Run) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in run.toy.parameters()])


def test_it_learns() -> None:
    run = Run(Toy(), steps=200).go(batches())
    assert run.distance() < 1.0 < Run(Toy()).distance()
    assert [row["step"] for row in run.state.history] == list(range(20, 201, 20))


def test_an_interrupted_run_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    undisturbed = Run(Toy()).go(batches())
    first = Run(Toy(), steps=60)
    first.loop = LoopConfig(steps=60, validation_interval=20, patience=0, seed=0)
    stopped = batches()
    with pytest.raises(StopIteration):
        first.go(next(stopped) for _ in range(40))  # the feed ends as if the process had been killed after step 40
    save_state(tmp_path, first.state, first.optimiser)
    torch.manual_seed(99)
    second = Run(Toy())
    second.toy.load_state_dict(first.toy.state_dict())
    second.state = load_state(tmp_path, second.optimiser)
    assert second.state.step == 40
    second.go(batches(40))
    torch.testing.assert_close(weights(second), weights(undisturbed), rtol=0, atol=0)


def test_a_loss_that_is_no_number_stops_the_run_and_names_the_recordings() -> None:
    run = Run(Toy())
    with pytest.raises(TrainingError, match=r"step 30, rank 0: the loss is nan; recordings \['r30-0'"):
        run.go(batches(poisoned=30))
    assert torch.isfinite(weights(run)).all()
    assert run.reports == [(20, True)]


def test_patience_counts_validations_without_a_better_score() -> None:
    run = Run(Toy(), patience=2, steps=400)
    run.scores = [0.5, 0.7, 0.7, 0.7005, 0.9]  # an improvement below 1e-3 does not count
    run.go(batches())
    assert run.state.step == 80
    assert run.reports == [(20, True), (40, True), (60, False), (80, False)]
    assert run.state.best_score == 0.7


def test_the_state_of_another_model_is_refused(tmp_path: Path) -> None:
    run = Run(Toy(), steps=20).go(batches())
    save_state(tmp_path, run.state, run.optimiser)
    other = make_optimiser(torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)), CONFIG)
    with pytest.raises(CheckpointError, match="begun with another model"):
        load_state(tmp_path, other)
