"""What a reader must be told where a file does not say it itself, and how much it may read."""

import math
from dataclasses import dataclass
from typing import Literal

from hubert_ecg.errors import ConfigError

Units = Literal["auto", "mV", "uV", "V"]


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """Settings of `read_recording`; a file that says a thing itself is followed."""

    sampling_rate_hz: float | None = None
    """Rate of formats that may not carry it (npy, npz, CSV without a time column), Hz."""
    units: Units = "auto"
    """Unit of formats that may not carry it (npy, npz, CSV). `auto`: mV where the amplitudes are an ECG's in mV,
    otherwise uV or V where they are in those, which is reported as a finding."""
    lead_names: tuple[str, ...] | None = None
    """Names of the leads of an array (npy, npz) or of the columns of a CSV without a header, in their order. Without
    them an array of 12 leads holds the standard ones, one of 8 I, II and V1 to V6."""
    max_bytes: int = 1 << 30
    """Files larger than this are refused."""

    def __post_init__(self) -> None:
        if self.sampling_rate_hz is not None and not 0 < self.sampling_rate_hz < math.inf:
            raise ConfigError(f"sampling_rate_hz: wanted a rate above 0 Hz, got {self.sampling_rate_hz}")
        if self.units not in ("auto", "mV", "uV", "V"):
            raise ConfigError(f"units: wanted auto, mV, uV or V, got {self.units!r}")
        if self.lead_names is not None and not self.lead_names:
            raise ConfigError("lead_names: wanted at least one name, got none; leave the setting out instead")
        if self.max_bytes < 1:
            raise ConfigError(f"max_bytes: wanted at least 1, got {self.max_bytes}")
