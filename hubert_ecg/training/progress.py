"""How a training is getting on: its speed and its waiting for data, as one line for people and as rows for a table."""

import time

import torch

SECONDS_BETWEEN_LINES = 5.0
STEPS_OF_MEAN = 20
"""Steps whose mean loss the line shows."""


class Progress:
    """Loss and speed since the last row, and since the last line."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.losses: list[float] = []
        self.of_row, self.of_line = _Span(), _Span()

    def add(self, loss: float, ecgs: int, waited_s: float) -> None:
        """One step: its loss and its number of recordings over all ranks, and how long this rank waited for them."""
        self.losses = [*self.losses[1 - STEPS_OF_MEAN :], loss]
        for span in (self.of_row, self.of_line):
            span.add(loss, ecgs, waited_s)

    def row(self, step: int, lr: float) -> dict[str, float]:
        """Since the last row: mean loss, recordings per second and the share of the time spent waiting for data; with
        the learning rate of the last step."""
        span, self.of_row = self.of_row, _Span()
        elapsed = span.elapsed_s()
        return {
            "step": step,
            "loss": span.loss / span.steps,
            "lr": lr,
            "ecgs_per_s": span.ecgs / elapsed,
            "waiting_share": span.waited_s / elapsed,
        }

    def due(self) -> bool:
        """Whether it is time for a line."""
        return self.of_line.elapsed_s() >= SECONDS_BETWEEN_LINES

    def line(self, step: int) -> str:
        span, self.of_line = self.of_line, _Span()
        elapsed = span.elapsed_s()
        return (
            f"step {step}/{self.steps}: loss {sum(self.losses) / len(self.losses):.4f}, "
            f"{span.ecgs / elapsed:.0f} ECGs/s, {duration(elapsed / span.steps * (self.steps - step))} left, "
            f"{100 * span.waited_s / elapsed:.0f} % of the time waiting for data"
        )


class _Span:
    """What happened since a moment."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.steps, self.ecgs, self.loss, self.waited_s = 0, 0, 0.0, 0.0

    def add(self, loss: float, ecgs: int, waited_s: float) -> None:
        self.steps += 1
        self.ecgs += ecgs
        self.loss += loss
        self.waited_s += waited_s

    def elapsed_s(self) -> float:
        return max(time.monotonic() - self.began, 1e-9)


def gpu_row(device: torch.device) -> dict[str, float]:
    """What a row says beside `Progress.row` where a GPU trains: the most memory that tensors have taken so far."""
    if device.type != "cuda":
        return {}
    return {"gpu_memory_gb": torch.cuda.max_memory_allocated(device) / 1e9}


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3 h 20 min`, `2 d 4 h`: as exact as a forecast deserves."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 24 else f"{hours // 24} d {hours % 24} h"
