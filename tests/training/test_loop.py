"""The training loop on a toy regression: it learns, repeats itself after an interruption, and stops when it must."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from hubert_ecg.errors import CheckpointError, TrainingError
from hubert_ecg.training.loop import LoopConfig, Observer, train
from hubert_ecg.training.optimiser import OptimiserConfig, learning_rate, make_optimiser
from hubert_ecg.training.state import TrainerState, load_state, save_state
from hubert_ecg.training.step import Batch, Learner, StepLoss

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
            inputs[5] = torch.nan
        yield Batch(record_ids=[f"r{step}-{i}" for i in range(8)], inputs=inputs, targets=inputs @ TRUTH.T)
        step += 1


class Run(Observer):
    """One training with everything that a driver would keep of it."""

    def __init__(self, toy: Toy, state: TrainerState | None = None, steps: int = 60, **loop: int) -> None:
        self.toy, self.state = toy, state or TrainerState()
        self.saved: list[tuple[int, float | None]] = []
        self.rows: list[dict[str, float]] = []
        self.optimiser = make_optimiser(toy, CONFIG)
        self.loop = LoopConfig(**{"steps": steps, "validation_interval": 20, "patience": 0, "seed": 0} | loop)
        self.scores: list[float] = []
        self.losses: list[float] = []
        """Of the validations to come; without them scores and losses follow from the toy's weights."""
        self.stop_after: int | None = None

    def stop_asked(self) -> bool:
        return self.state.step + 1 == self.stop_after

    def on_row(self, row: dict[str, float]) -> None:
        self.rows.append(row)

    def save(self, state: TrainerState, score: float | None) -> None:
        self.saved.append((state.step, score))

    def go(self, source: Iterator[Batch]) -> "Run":
        learner = Learner(
            module=self.toy,
            step_loss=self.toy.loss,
            optimiser=self.optimiser,
            optimiser_config=CONFIG,
            steps=self.loop.steps,
            seed=0,
        )
        train(
            learner,
            source,
            self.state,
            config=self.loop,
            validate=self.validate,
            observer=self,
        )
        return self

    def distance(self) -> float:
        return float((self.toy.linear.weight.detach() - TRUTH).abs().sum())

    def validate(self) -> dict[str, float]:
        assert not self.toy.training
        score = self.scores.pop(0) if self.scores else -self.distance()
        return {"score": score, "val_loss": self.losses.pop(0) if self.losses else -score}


def weights(run: Run) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in run.toy.parameters()])


def test_it_learns() -> None:
    run = Run(Toy(), steps=200).go(batches())
    assert run.distance() < 1.0 < Run(Toy()).distance()
    assert [row["step"] for row in run.state.history] == list(range(20, 201, 20))


def interrupted(after: int, tmp_path: Path, **loop: int) -> Run:
    """A run whose process is killed after so many steps, and the one that goes on from its state."""
    first = Run(Toy(), **loop)
    stopped = batches()
    with pytest.raises(StopIteration):
        first.go(next(stopped) for _ in range(after))
    save_state(tmp_path, first.state, first.optimiser)
    torch.manual_seed(99)
    second = Run(Toy(), **loop)
    second.toy.load_state_dict(first.toy.state_dict())
    second.state = load_state(tmp_path, second.optimiser)
    assert second.state.step == after
    return second.go(batches(after))


@pytest.mark.parametrize("after", [40, 47])
def test_an_interrupted_run_goes_on_to_the_same_weights_and_metrics(tmp_path: Path, after: int) -> None:
    undisturbed = Run(Toy()).go(batches())
    second = interrupted(after, tmp_path)
    torch.testing.assert_close(weights(second), weights(undisturbed), rtol=0, atol=0)
    assert second.state == undisturbed.state  # the training loss since the last validation included


def test_a_loss_that_is_no_number_stops_the_run_and_names_the_recordings() -> None:
    run = Run(Toy())
    with pytest.raises(TrainingError, match="step 31: the loss is nan, made by rank 0, recording r30-5; look at"):
        run.go(batches(poisoned=30))
    assert torch.isfinite(weights(run)).all()
    assert run.saved == [(20, run.state.history[0]["score"])]


def test_a_gradient_that_is_no_number_stops_the_run_and_names_the_recordings() -> None:
    class Rooted(Toy):
        def loss(self, batch: Batch, step: int) -> StepLoss:
            """The square root's derivative at zero is infinite: recording 2 of step 30 has a finite loss of zero."""
            inputs = batch.inputs.clone()
            inputs[[name == "r30-2" for name in batch.record_ids]] = 0
            # The clamp's derivative at zero is 1 as well, so that the weight, at zero input, gets 0 x infinity.
            total = self.linear.weight.mul(inputs).sum(1).abs().sqrt().sum()
            return StepLoss(total=total, weight=torch.tensor(float(len(inputs))))

    run = Run(Rooted())
    with pytest.raises(TrainingError, match="step 31: the gradient's norm is nan, made by rank 0, recording r30-2;"):
        run.go(batches())
    assert torch.isfinite(weights(run)).all()


def test_weights_that_have_diverged_are_not_blamed_on_recordings() -> None:
    run = Run(Toy())
    with torch.no_grad():
        run.toy.linear.bias.fill_(torch.inf)
    with pytest.raises(TrainingError, match="step 1: the loss is inf, made by every recording of the batch"):
        run.go(batches())


def test_checkpoints_are_made_at_their_interval_at_the_best_and_at_the_end() -> None:
    run = Run(Toy(), steps=70, checkpoint_interval=25)
    run.scores = [0.5, 0.7, 0.6, 0.7005]
    run.go(batches())
    assert run.saved == [(20, 0.5), (25, None), (40, 0.7), (50, None), (70, 0.7005)]


def test_without_an_interval_every_validation_makes_one() -> None:
    run = Run(Toy(), steps=50)
    run.scores = [0.5, 0.7, 0.6]
    run.go(batches())
    assert run.saved == [(20, 0.5), (40, 0.7), (50, 0.6)]


def test_a_stop_saves_the_step_it_comes_at_and_the_next_run_goes_on_from_there() -> None:
    run = Run(Toy(), steps=60)
    run.stop_after = 33
    run.go(batches())
    assert run.saved[-1] == (33, None)
    run.stop_after = None
    run.go(batches(33))
    undisturbed = Run(Toy(), steps=60).go(batches())
    torch.testing.assert_close(weights(run), weights(undisturbed), rtol=0, atol=0)


def test_rows_tell_loss_rate_and_speed() -> None:
    run = Run(Toy(), steps=25, log_interval=10).go(batches())
    assert [row["step"] for row in run.rows] == [10, 20, 25]
    assert run.state.history[0]["train_loss"] == pytest.approx(np.mean([row["loss"] for row in run.rows[:2]]))
    for row in run.rows:
        assert row["lr"] == pytest.approx(learning_rate(int(row["step"]) - 1, steps=25, config=CONFIG))
        assert row["ecgs_per_s"] > 0
        assert 0 <= row["waiting_share"] <= 1


def test_patience_counts_validations_without_a_lower_loss() -> None:
    run = Run(Toy(), patience=3, steps=400, checkpoint_interval=1000)
    # A loss lower by less than 1e-3 does not end the count, nor does a higher score; both kinds of better are saved.
    run.losses = [0.9, 0.7, 0.7, 0.6995, 0.8, 0.1]
    run.scores = [0.5, 0.4, 0.6, 0.6, 0.61, 0.9]
    run.go(batches())
    assert run.saved == [(20, 0.5), (40, 0.4), (60, 0.6), (100, 0.61)]
    assert (run.state.step, run.state.best_loss, run.state.best_score) == (100, 0.7, 0.61)


def test_the_state_of_another_model_is_refused(tmp_path: Path) -> None:
    run = Run(Toy(), steps=20).go(batches())
    save_state(tmp_path, run.state, run.optimiser)
    other = make_optimiser(torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)), CONFIG)
    with pytest.raises(CheckpointError, match="begun with another model"):
        load_state(tmp_path, other)


def test_a_finished_model_of_another_run_is_judged_and_kept() -> None:
    run = Run(Toy(), steps=40)
    run.state = TrainerState(step=40, loss_sum=0.5, loss_steps=1)
    run.go(batches())
    assert [(row["step"], row["train_loss"]) for row in run.state.history] == [(40, 0.5)]
    assert run.saved == [(40, -run.distance())]
    before = len(run.saved)
    assert len(run.go(batches()).saved) == before  # and once only
