"""The crops that a prediction rests on: where they start, and their model inputs and masks."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

import numpy as np

from hubert_ecg.ecg.preprocess import AttendedSpans, PreprocessConfig, attention_mask, fully_attended, model_input
from hubert_ecg.errors import ConfigError

Placement = Literal["spread", "random"]
Reduce = Literal["mean", "max"]


@dataclass(frozen=True, kw_only=True)
class CropConfig:
    """Test-time augmentation: which crops of a recording the model sees, and how their outputs become one."""

    num_crops: int = 3
    """Crops of 5 s per recording; one that is no longer than a crop has one."""
    placement: Placement = "spread"
    """`spread`: evenly, from the first sample to the last; `random`: anywhere, drawn with the seed."""
    reduce: Reduce = "mean"
    """The mean of the crops' outputs or, for labels that do not exclude one another, their maximum."""
    seed: int = 0
    """Of random crops. A recording's crops depend on it and on its length only: not on other recordings, and not on its
    samples, whose last bits differ between processors."""

    def __post_init__(self) -> None:
        if self.num_crops < 1:
            raise ConfigError(f"num_crops: wanted at least 1, got {self.num_crops}")
        for name, options in (("placement", get_args(Placement)), ("reduce", get_args(Reduce))):
            if getattr(self, name) not in options:
                raise ConfigError(f"{name}: wanted {' or '.join(options)}, got {getattr(self, name)!r}")
        if self.seed < 0:
            raise ConfigError(f"seed: wanted 0 or more, got {self.seed}")

    def starts_s(self, recorded_samples: int, preprocess: PreprocessConfig) -> np.ndarray:
        """[crop] starts in seconds, ascending, of a prepared waveform; 0 alone where there is no room."""
        room = (recorded_samples - preprocess.table_crop_samples) / preprocess.table_rate_hz
        if room <= 0:
            return np.zeros(1)
        if self.placement == "random":
            return np.sort(np.random.default_rng([self.seed, recorded_samples]).uniform(0, room, self.num_crops))
        if self.num_crops == 1:
            return np.array([room / 2])
        return np.linspace(0, room, self.num_crops)


@dataclass(frozen=True, kw_only=True, eq=False)
class Crops:
    """The crops of some recordings, those of each together."""

    inputs: np.ndarray
    """[crop, 12 * T] float32 model input."""
    mask: np.ndarray | None
    """[crop, 12 * T] bool, the samples that count; None where all do."""
    starts_s: list[np.ndarray]
    """Per recording [crop] its starts, s."""

    @property
    def bounds(self) -> list[tuple[int, int]]:
        """Per recording the first of its crops and the one after its last."""
        return list(pairwise(np.cumsum([0, *map(len, self.starts_s)]).tolist()))


def cut(
    counts: Sequence[np.ndarray],
    valid_samples: Sequence[np.ndarray] | None,
    attended_s: Sequence[AttendedSpans] | None,
    config: CropConfig,
    preprocess: PreprocessConfig,
) -> Crops:
    """The crops of prepared waveforms, each [12, time] int16.

    `valid_samples`, each [12], and `attended_s` are those of `Waveform`; by default all was recorded.
    """
    recorded = [np.full(12, row.shape[1]) for row in counts] if valid_samples is None else valid_samples
    spans = [None] * len(counts) if attended_s is None else attended_s
    found = [
        cut_at(row, valid, attended, config.starts_s(int(valid.max()), preprocess), preprocess)
        for row, valid, attended in zip(counts, recorded, spans, strict=True)
    ]
    mask = None
    if any(crops.mask is not None for crops in found):
        mask = np.concatenate([np.ones(c.inputs.shape, bool) if c.mask is None else c.mask for c in found])
    return Crops(
        inputs=np.concatenate([crops.inputs for crops in found]),
        mask=mask,
        starts_s=[starts for crops in found for starts in crops.starts_s],
    )


def cut_at(
    counts: np.ndarray,
    valid_samples: np.ndarray,
    attended_s: AttendedSpans,
    starts_s: np.ndarray,
    preprocess: PreprocessConfig,
) -> Crops:
    """The crops of one waveform [12, time] that begin at [crop] `starts_s`."""
    several = np.broadcast_to(valid_samples, (len(starts_s), 12))
    where = (several, [attended_s] * len(starts_s), starts_s, preprocess)
    waveforms = np.broadcast_to(counts, (len(starts_s), *counts.shape))
    return Crops(
        inputs=model_input(waveforms, starts_s, preprocess, several),
        mask=None if fully_attended(*where) else attention_mask(*where),
        starts_s=[starts_s],
    )
