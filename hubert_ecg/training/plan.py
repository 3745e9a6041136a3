"""Which recordings make up each training step: a seeded endless stream that any rank can enter at any step.

Every epoch visits every selected recording once. Shards are shuffled, taken in windows of a few shards, and shuffled
within the window, so that order is random while reading stays sequential. Step s of a run with global batch G is
stream positions [sG, (s+1)G); rank r takes the r-th of `world_size` equal slices of it. Nothing depends on what was
read before, so a resumed run sees the recordings that an undisturbed one would have seen.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hubert_ecg.errors import ConfigError, InputError


@dataclass(frozen=True, kw_only=True)
class Window:
    """Some shards of one epoch, and the part of their shuffled rows that lies at or after the first wanted step."""

    epoch: int
    parts: tuple[int, ...]
    first_position: int
    """Stream position of the window's first row."""
    seed: int


@dataclass(frozen=True, kw_only=True)
class StepPlan:
    """The stream of one run. `selected[p]` are the usable row numbers of shard p."""

    selected: tuple[np.ndarray, ...]
    batch_size: int
    """Recordings per step over all ranks."""
    world_size: int
    seed: int
    window_parts: int = 16
    """Shards that are shuffled together; 16 shards of 256 ECGs are about 100 MB."""

    endless: bool = True
    """Epoch after epoch (training) or one pass whose last step may be short (validation)."""

    def __post_init__(self) -> None:
        if self.num_rows == 0:
            raise InputError("training: wanted at least one recording with a label, got none; check --split and labels")
        if self.batch_size % self.world_size:
            raise ConfigError(
                f"--batch_size: wanted a multiple of {self.world_size} workers, got {self.batch_size}; "
                f"each rank takes an equal share"
            )

    @cached_property
    def num_rows(self) -> int:
        return sum(len(rows) for rows in self.selected)

    @property
    def rank_batch(self) -> int:
        return self.batch_size // self.world_size

    def windows(self, first_step: int, last_step: int) -> Iterator[Window]:
        """The windows that hold the rows of steps [first_step, last_step)."""
        begin, end = first_step * self.batch_size, last_step * self.batch_size
        end = end if self.endless else min(end, self.num_rows)
        epoch = begin // self.num_rows
        position = epoch * self.num_rows
        while position < end:
            order = np.random.default_rng([self.seed, epoch]).permutation(len(self.selected))
            for start in range(0, len(order), self.window_parts):
                parts = tuple(int(part) for part in order[start : start + self.window_parts])
                size = sum(len(self.selected[part]) for part in parts)
                if size and position + size > begin and position < end:
                    yield Window(epoch=epoch, parts=parts, first_position=position, seed=self.seed)
                position += size
            epoch += 1

    def rank_rows(self, window: Window, rank: int, first_step: int, last_step: int) -> np.ndarray:
        """The rank's rows of a window in stream order, [row, 3]: shard, row within the shard, stream position."""
        rows = np.concatenate([np.stack(np.broadcast_arrays(p, self.selected[p]), axis=1) for p in window.parts])
        shuffle = np.random.default_rng([window.seed, window.epoch, window.parts[0]]).permutation(len(rows))
        positions = window.first_position + np.arange(len(rows))
        mine = (positions % self.batch_size) // self.rank_batch == rank
        wanted = mine & (positions >= first_step * self.batch_size) & (positions < last_step * self.batch_size)
        return np.concatenate([rows[shuffle], positions[:, None]], axis=1)[wanted].astype(np.int64)
