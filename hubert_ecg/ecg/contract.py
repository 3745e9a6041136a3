"""The settings of the preprocessing contract, as a manifest and a checkpoint carry them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Self

import numpy as np

from hubert_ecg.ecg.recording import STANDARD_LEADS, MissingLeads
from hubert_ecg.ecg.tokens import CONV_STEMS, TokenGrid
from hubert_ecg.errors import ConfigError

HEADROOM = 2.0
"""Decimation overshoots [-1, 1] at steep edges; counts leave room for twice that range."""

SHORTEST_S = 1.0
"""`min_duration_s` may not be lower: about one heart beat, and three times as long as the band-pass filter."""

LEAST_RANGE_MV, LARGEST_RANGE_MV = 0.5, 100.0
"""Of `range_mv`: below it hearts are cut off, above it steps of the stored integers become coarse."""

ADMISSION = ("min_duration_s", "missing_leads")
"""Settings that choose which recordings are taken; those that are taken look the same under any of them."""


@dataclass(frozen=True, kw_only=True)
class PreprocessConfig:
    """What is done to a recording before the model sees it."""

    contract: Literal["ours", "original"] = "ours"
    """`ours`: each lead decimated, then cropped. `original`: cropped, leads concatenated, then decimated."""
    low_hz: float = 0.05
    """Lower edge of the band-pass, Hz."""
    high_hz: float = 47.0
    """Upper edge of the band-pass, Hz; a recording must be sampled at more than twice this."""
    scale_rate_hz: int = 500
    """Rate at which each lead is scaled to [-1, 1], Hz."""
    sampling_rate_hz: int = 100
    """Rate of the model's input, Hz: 50, 100 or 500."""
    range_mv: float = 0.0
    """Voltage that is scaled to 1, mV, the same for all leads and recordings; what lies beyond is cut off. 0: each lead
    is scaled by its own extremes, as the published models have it, and its voltage is gone."""
    crop_s: float = 5.0
    """Length of the model's input per lead, seconds."""
    min_duration_s: float = 5.0
    """Recordings shorter than this many seconds are refused; those shorter than a crop are padded with zeros, which the
    model does not attend to."""
    counts_per_unit: int = 16384
    """Steps of the stored 16-bit integers per unit of the scaled signal."""
    missing_leads: MissingLeads = "refuse"
    """Recordings that lack a lead altogether: `refuse`, or `zero`: take them, the lead zero and not attended to."""
    attention_mask: Literal["padding", "beats"] = "padding"
    """What the model attends to. `padding`: all that was recorded. `beats`: from P onset to T offset of each beat."""

    def __post_init__(self) -> None:
        for name, options in (
            ("contract", ("ours", "original")),
            ("missing_leads", ("refuse", "zero")),
            ("attention_mask", ("padding", "beats")),
        ):
            if getattr(self, name) not in options:
                raise ConfigError(f"{name}: wanted {options[0]} or {options[1]}, got {getattr(self, name)!r}")
        if not 0 < self.low_hz < self.high_hz:
            raise ConfigError(f"pass band: wanted 0 < low_hz < high_hz, got {self.low_hz} and {self.high_hz} Hz")
        if self.scale_rate_hz <= 2 * self.high_hz:
            raise ConfigError(
                f"scale_rate_hz: wanted more than twice high_hz = {self.high_hz} Hz, got {self.scale_rate_hz} Hz"
            )
        if self.range_mv and not LEAST_RANGE_MV <= self.range_mv <= LARGEST_RANGE_MV:
            raise ConfigError(
                f"range_mv: wanted 0, or {LEAST_RANGE_MV:g} to {LARGEST_RANGE_MV:g} mV, got {self.range_mv} mV"
            )
        if self.sampling_rate_hz not in CONV_STEMS:
            raise ConfigError(f"sampling_rate_hz: wanted one of {sorted(CONV_STEMS)} Hz, got {self.sampling_rate_hz}")
        if self.scale_rate_hz % self.sampling_rate_hz:
            raise ConfigError(
                f"scale_rate_hz: wanted a multiple of sampling_rate_hz = {self.sampling_rate_hz} Hz, "
                f"got {self.scale_rate_hz} Hz"
            )
        if self.crop_s <= 0 or (self.crop_s * self.sampling_rate_hz) % 1:
            raise ConfigError(
                f"crop_s: wanted a positive whole number of samples at {self.sampling_rate_hz} Hz, got {self.crop_s} s"
            )
        if not self.min_duration_s >= SHORTEST_S:
            raise ConfigError(f"min_duration_s: wanted at least {SHORTEST_S:g} s, got {self.min_duration_s} s")
        if not 1 <= self.counts_per_unit <= np.iinfo(np.int16).max / HEADROOM + 1:
            raise ConfigError(f"counts_per_unit: wanted 1 to 16384, got {self.counts_per_unit}")

    @property
    def decimation(self) -> int:
        """Samples at the scaling rate per sample of the model's input."""
        return self.scale_rate_hz // self.sampling_rate_hz

    @property
    def table_rate_hz(self) -> int:
        """Rate of stored waveforms, Hz: the model's rate for `ours`, the scaling rate for `original`."""
        return self.sampling_rate_hz if self.contract == "ours" else self.scale_rate_hz

    @property
    def crop_samples(self) -> int:
        """Samples per lead of the model's input."""
        return round(self.crop_s * self.sampling_rate_hz)

    @property
    def table_crop_samples(self) -> int:
        """Samples per lead of a stored waveform that one model input is made from."""
        return round(self.crop_s * self.table_rate_hz)

    @property
    def token_grid(self) -> TokenGrid:
        """The map from samples of the model's input to its tokens."""
        return TokenGrid.at_rate(self.sampling_rate_hz)

    @property
    def num_tokens(self) -> int:
        """Tokens of one model input."""
        return self.token_grid.num_tokens(len(STANDARD_LEADS) * self.crop_samples)

    def differences(self, other: "PreprocessConfig") -> dict[str, tuple[Any, Any]]:
        """Setting -> (own value, other's value), where the two make different model inputs of one recording.

        `ADMISSION` is left out: a model may be applied to recordings that its training would not have admitted.
        """
        mine, theirs = asdict(self), asdict(other)
        return {
            name: (mine[name], theirs[name]) for name in mine if name not in ADMISSION and mine[name] != theirs[name]
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, for manifests and checkpoints.

        Without `range_mv` where leads are scaled by their extremes: that is what tables and checkpoints from before
        there was a choice say.
        """
        values = asdict(self)
        return values if self.range_mv else {name: value for name, value in values.items() if name != "range_mv"}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The config that `to_dict` described, also by a version that had fewer settings.

        Raises ConfigError for a key it does not know.
        """
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown:
            raise ConfigError(f"preprocessing: unknown settings {unknown}; this version may be too old for them")
        return cls(**values)
