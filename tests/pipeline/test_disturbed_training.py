"""Workers that are killed, suspended or asked to end in the middle of a training: the result is the undisturbed one."""

import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from processes import SECONDS
from small_training import (
    CHECKPOINT_INTERVAL,
    STEPS,
    VALIDATION_INTERVAL,
    await_that,
    checkpointed,
    config,
    result,
    worker_processes,
    write_inputs,
)

from hubert_ecg.pipeline.pretrain import PretrainConfig, pretrain
from hubert_ecg.pipeline.training_run import WorkersConfig

pytestmark = [pytest.mark.slow, pytest.mark.timeout(8 * SECONDS)]

INTERVALS = {*range(CHECKPOINT_INTERVAL, STEPS + 1, CHECKPOINT_INTERVAL), VALIDATION_INTERVAL, STEPS}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="module")
def undisturbed(inputs: Path, ray_cluster: None) -> dict[int, Any]:
    """The result of a training that nothing happens to, by number of workers; made when it is asked for."""

    class Results(dict[int, Any]):
        def __missing__(self, num: int) -> Any:
            pretrain(config(inputs, inputs / f"undisturbed{num}", workers(num)))
            self[num] = result(inputs / f"undisturbed{num}")
            return self[num]

    return Results()


def workers(num: int, **settings: Any) -> WorkersConfig:
    return WorkersConfig(**{"num": num, "cpus_each": 0.5, "threads_each": 1, "max_failures": 2} | settings)


class Training:
    """A training in a thread of its own."""

    def __init__(self, made: PretrainConfig) -> None:
        self.output, self.errors = Path(made.output), []
        self.thread = threading.Thread(target=self._run, args=(made,), daemon=True)
        self.thread.start()

    def _run(self, made: PretrainConfig) -> None:
        try:
            pretrain(made)
        except Exception as error:
            self.errors.append(error)

    def await_step(self, step: int) -> float:
        what = f"step {step}, with {checkpointed(self.output)}"
        return await_that(lambda: checkpointed(self.output)[-1:] >= [step], self.thread.is_alive, what)

    def await_end(self) -> None:
        self.thread.join(3 * SECONDS)
        assert not self.thread.is_alive()
        assert not self.errors


def test_a_killed_worker_of_two_is_made_up_for(inputs: Path, undisturbed: dict[int, Any], tmp_path: Path) -> None:
    training = Training(config(inputs, tmp_path / "out", workers(2)))
    training.await_step(CHECKPOINT_INTERVAL)
    before = worker_processes(os.getpid())
    os.kill(before[-1], signal.SIGKILL)
    saved = checkpointed(training.output)
    training.await_end()
    print(f"\nkilled {before[-1]} of the workers {before} when the checkpoints were {saved}")
    assert len(before) == 2
    assert saved[-1] < STEPS
    assert checkpointed(training.output) == sorted(INTERVALS)  # and none of them made twice
    assert result(training.output) == undisturbed[2]
    print(f"same weights {result(training.output)[0]} and metrics as undisturbed: {result(training.output)[1]}")


@pytest.mark.parametrize("num", [1, 2])
def test_a_worker_that_hangs_is_replaced(inputs: Path, undisturbed: dict[int, Any], tmp_path: Path, num: int) -> None:
    timeout_s = 60.0
    training = Training(config(inputs, tmp_path / "out", workers(num, hang_timeout_s=timeout_s)))
    training.await_step(CHECKPOINT_INTERVAL)
    victim = worker_processes(os.getpid())[-1]
    os.kill(victim, signal.SIGSTOP)
    try:
        reached = checkpointed(training.output)[-1]
        seconds = training.await_step(reached + CHECKPOINT_INTERVAL + 1)
        print(
            f"\nsuspended worker {victim}; {seconds:.0f} s later the run had gone on, of which {timeout_s:.0f} s wait"
        )
        training.await_end()
    finally:
        if Path(f"/proc/{victim}").exists():
            os.kill(victim, signal.SIGCONT)
            raise AssertionError("the suspended process is still there, with all that it holds")
    assert result(training.output) == undisturbed[num]


def test_sigterm_to_a_worker_saves_first(inputs: Path, undisturbed: dict[int, Any], tmp_path: Path) -> None:
    training = Training(config(inputs, tmp_path / "out", workers(2), checkpoint_interval=1000))
    training.await_step(VALIDATION_INTERVAL)
    victim = worker_processes(os.getpid())[-1]
    os.kill(victim, signal.SIGTERM)
    training.await_end()
    made = set(checkpointed(training.output))
    print(f"\nSIGTERM to worker {victim}: checkpoints {sorted(made)}")
    (extra,) = made - {VALIDATION_INTERVAL, 2 * VALIDATION_INTERVAL, STEPS}
    assert VALIDATION_INTERVAL < extra < STEPS
    assert result(training.output) == undisturbed[2]
