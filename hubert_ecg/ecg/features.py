"""Descriptors: one row of numbers per token, computed from its descriptor window, for whole batches at once.

`time_frequency` is 16 statistics of a window and of its spectrum, `mfcc` 13 mel-frequency cepstral coefficients with
their first and second differences over neighbouring tokens, `mixed` the 16 statistics and the 13 coefficients.

Arithmetic runs on blocks of windows laid out as [sample, window], so that every reduction over a window is a sum of
long rows; this, not the arithmetic itself, is what decides the speed.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from typing import Any, Literal, Self

import numpy as np
from scipy import fft, signal

from hubert_ecg.ecg.recording import STANDARD_LEADS
from hubert_ecg.ecg.tokens import TokenGrid
from hubert_ecg.errors import ConfigError, InputError

TIME_FREQUENCY_COLUMNS = (
    "min",
    "max",
    "mean",
    "rms",
    "var",
    "std",
    "power",
    "peak",
    "p2p",
    "crest_factor",
    "skewness",
    "kurtosis",
    "spectrum_max",
    "spectrum_sum",
    "spectrum_mean",
    "spectrum_var",
)
"""`power` is the mean square, `peak` the largest magnitude, `kurtosis` Fisher's; moments are biased, as scipy has them.
The spectrum is |FFT|^2 / samples over all bins of both signs."""

MAX_MEL_FILTERS = 20
TOP_DB = 80.0
"""Mel energies more than this far below the largest of their window are raised to it, as librosa does per excerpt."""
POWER_FLOOR = 1e-10

BLOCK_BYTES = 1 << 18
"""Size of one block of windows: several of them fit into a core's second-level cache."""


@dataclass(frozen=True, kw_only=True)
class DescriptorConfig:
    """Which descriptor, and all that is needed to compute it again: a codebook carries it."""

    name: Literal["time_frequency", "mfcc", "mixed"] = "mfcc"
    """`time_frequency` (16 columns), `mfcc` (39) or `mixed` (29)."""
    sampling_rate_hz: int = 100
    """Rate of the model input, Hz."""
    low_hz: float = 0.05
    """Lower edge of the first mel filter, Hz."""
    high_hz: float = 47.0
    """Upper edge of the last mel filter, Hz; half the sampling rate where that is less."""
    num_mfcc: int = 13
    """Cepstral coefficients kept, the zeroth among them."""
    delta_width: int = 5
    """Tokens that a difference is fitted over, an odd number."""

    def __post_init__(self) -> None:
        if self.name not in ("time_frequency", "mfcc", "mixed"):
            raise ConfigError(f"descriptor: wanted time_frequency, mfcc or mixed, got {self.name!r}")
        grid = TokenGrid.at_rate(self.sampling_rate_hz)
        if not 0 <= self.low_hz < min(self.high_hz, self.sampling_rate_hz / 2):
            raise ConfigError(
                f"descriptor: wanted low_hz below high_hz and half of {self.sampling_rate_hz} Hz, "
                f"got {self.low_hz} and {self.high_hz} Hz"
            )
        num_filters = num_mel_filters(grid.stride, self.sampling_rate_hz, self.low_hz, self.high_hz)
        if not 1 <= self.num_mfcc <= num_filters:
            raise ConfigError(f"num_mfcc: wanted 1 to {num_filters}, the number of mel filters, got {self.num_mfcc}")
        if self.delta_width < 3 or self.delta_width % 2 == 0:
            raise ConfigError(f"delta_width: wanted an odd number of at least 3 tokens, got {self.delta_width}")

    @property
    def grid(self) -> TokenGrid:
        return TokenGrid.at_rate(self.sampling_rate_hz)

    @property
    def column_names(self) -> tuple[str, ...]:
        """One name per column of a row."""
        cepstral = tuple(f"mfcc_{i}" for i in range(self.num_mfcc))
        if self.name == "time_frequency":
            return TIME_FREQUENCY_COLUMNS
        if self.name == "mixed":
            return TIME_FREQUENCY_COLUMNS + cepstral
        return tuple(prefix + column for prefix in ("", "delta_", "delta_delta_") for column in cepstral)

    @property
    def dim(self) -> int:
        """Columns of a row."""
        return len(self.column_names)

    def compute(self, inputs: np.ndarray, recorded: np.ndarray | None = None) -> np.ndarray:
        """Model inputs [batch, sample] of 12 concatenated leads -> [batch, token, dim] float32.

        `recorded` [batch, token] bool, None for all: tokens that count. The rows of the others are 0, and no
        difference of a token that counts looks at them.
        """
        if self.name == "time_frequency":
            return _only(recorded, time_frequency(inputs, self.grid))
        mel_settings = (self.sampling_rate_hz, self.low_hz, self.high_hz, self.num_mfcc)
        cepstral = _only(recorded, mfcc(inputs, self.grid, *mel_settings))
        if self.name == "mixed":
            return np.concatenate([_only(recorded, time_frequency(inputs, self.grid)), cepstral], axis=-1)
        samples_per_lead = inputs.shape[-1] // len(STANDARD_LEADS)
        return with_deltas(cepstral, self.grid, samples_per_lead, self.delta_width, recorded)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The config that `to_dict` described. Raises ConfigError for a key it does not know."""
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown:
            raise ConfigError(f"descriptor: unknown settings {unknown}; this version may be too old for them")
        return cls(**values)


def time_frequency(inputs: np.ndarray, grid: TokenGrid) -> np.ndarray:
    """[batch, sample] -> [batch, token, 16] float32, the columns of TIME_FREQUENCY_COLUMNS.

    What is undefined for a constant window (skewness, kurtosis) or an all-zero one (crest factor) is 0.
    """
    return _by_blocks(inputs, grid, len(TIME_FREQUENCY_COLUMNS), _time_frequency_block)


def mfcc(
    inputs: np.ndarray,
    grid: TokenGrid,
    sampling_rate_hz: int,
    low_hz: float = DescriptorConfig.low_hz,
    high_hz: float = DescriptorConfig.high_hz,
    num_mfcc: int = DescriptorConfig.num_mfcc,
) -> np.ndarray:
    """[batch, sample] -> [batch, token, num_mfcc] float32 mel-frequency cepstral coefficients, without deltas.

    Each row equals librosa.feature.mfcc of its window as one uncentred frame: periodic Hann window, power spectrum,
    Slaney mel filters (evenly spaced below 1 kHz, so evenly over the pass band), decibels with a floor 80 dB below the
    window's largest, orthonormal DCT-II.
    """
    width = grid.stride
    hann = signal.get_window("hann", width, fftbins=True).astype(np.float32)[:, None]
    filters = _mel_filters(width, sampling_rate_hz, low_hz, high_hz)
    cosines = _cosines(len(filters), num_mfcc)

    def block(windows: np.ndarray) -> np.ndarray:
        decibels = 10 * np.log10(np.maximum(filters @ _power(windows * hann), np.float32(POWER_FLOOR)))
        np.maximum(decibels, decibels.max(axis=0) - np.float32(TOP_DB), out=decibels)
        return cosines @ decibels

    return _by_blocks(inputs, grid, num_mfcc, block)


def with_deltas(
    rows: np.ndarray, grid: TokenGrid, samples_per_lead: int, width: int, recorded: np.ndarray | None = None
) -> np.ndarray:
    """Append first and second differences over neighbouring tokens. [batch, token, column] -> [..., 3 * column].

    A difference is the slope (curvature) of the line (parabola) fitted to `width` tokens around each, as
    librosa.feature.delta with mode `nearest`. It never looks across leads: a token belongs to the lead that holds most
    of its window, and the first and last token of a lead are repeated beyond its ends. Nor does it look across a gap:
    where `recorded` [batch, token] bool is given, that holds for each run of recorded tokens within a lead.
    """
    leads = tuple(grid.lead_of_token(samples_per_lead).tolist())
    if len(leads) != rows.shape[1]:
        raise InputError(
            f"descriptor: wanted {len(leads)} tokens for {samples_per_lead} samples a lead, got {rows.shape[1]}"
        )
    if recorded is None:
        operators = _delta_operators_of_leads(leads, width)
    else:
        operators = _delta_operators(np.array(leads), recorded, width)
    return np.concatenate([rows, *(operator @ rows for operator in operators)], axis=-1)


def num_mel_filters(width: int, sampling_rate_hz: int, low_hz: float, high_hz: float) -> int:
    """As many mel filters as leave each at least as wide as a bin of the window's spectrum, at most MAX_MEL_FILTERS."""
    bins = (min(high_hz, sampling_rate_hz / 2) - low_hz) * width / sampling_rate_hz
    return min(MAX_MEL_FILTERS, int(bins) - 1)


def _by_blocks(
    inputs: np.ndarray, grid: TokenGrid, dim: int, compute: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Apply `compute` ([sample, window] -> [column, window]) to blocks of a batch. -> [batch, token, column]."""
    if inputs.ndim != 2:
        raise InputError(f"descriptor: wanted model inputs [batch, sample], got shape {inputs.shape}")
    windows = grid.windows(inputs)
    num_tokens, width = windows.shape[1:]
    rows = np.empty((len(inputs), num_tokens, dim), np.float32)
    for part in _blocks(len(inputs), num_tokens * width * rows.itemsize):
        block = windows[part].reshape(-1, width).T
        rows[part] = compute(np.ascontiguousarray(block, np.float32)).T.reshape(-1, num_tokens, dim)
    return rows


def _blocks(batch: int, bytes_each: int) -> Iterator[slice]:
    step = max(1, BLOCK_BYTES // bytes_each)
    return (slice(start, start + step) for start in range(0, batch, step))


def _time_frequency_block(windows: np.ndarray) -> np.ndarray:
    """[sample, window] -> [column, window], float32."""
    width = len(windows)
    low, high = windows.min(axis=0), windows.max(axis=0)
    p2p = high - low
    # Moments of the window stretched to [0, 1] keep the digits that a small variation on a large level would lose. A
    # constant window stays at 0 throughout; dividing by 1 leaves the zeros that its moments are.
    moving = p2p > 0
    stretched = (windows - low) / np.where(moving, p2p, np.float32(1))
    level = stretched.mean(axis=0)
    stretched -= level
    squares = stretched * stretched
    spread = squares.mean(axis=0)
    divisor = np.where(moving, spread, np.float32(1))
    third = np.einsum("sw,sw->w", stretched, squares) / width
    fourth = np.einsum("sw,sw->w", squares, squares) / width
    mean, variance = low + level * p2p, spread * p2p * p2p
    power = variance + mean * mean
    rms, peak = np.sqrt(power), np.maximum(high, -low)
    spectrum = _power(windows) / np.float32(width)
    columns = {
        "min": low,
        "max": high,
        "mean": mean,
        "rms": rms,
        "var": variance,
        "std": np.sqrt(variance),
        "power": power,
        "peak": peak,
        "p2p": p2p,
        "crest_factor": peak / np.where(rms > 0, rms, np.float32(1)),
        "skewness": third / (divisor * np.sqrt(divisor)),
        "kurtosis": np.where(moving, fourth / (divisor * divisor) - 3, np.float32(0)),
        "spectrum_max": spectrum.max(axis=0),
        # Parseval: the bins of |FFT|^2 / samples have the window's mean square as their mean.
        "spectrum_sum": power * width,
        "spectrum_mean": power,
        "spectrum_var": _bin_weights(width) @ np.square(spectrum - power),
    }
    return np.stack([columns[name] for name in TIME_FREQUENCY_COLUMNS])


def _power(windows: np.ndarray) -> np.ndarray:
    """[sample, window] -> [bin, window] float32: squared magnitudes of the non-negative frequencies."""
    spectrum = fft.rfft(windows, axis=0)
    return np.square(spectrum.real) + np.square(spectrum.imag)


@lru_cache(maxsize=8)
def _bin_weights(width: int) -> np.ndarray:
    """[bin] float32: share of each non-negative frequency among all bins; those with a negative twin count twice."""
    weights = np.full(width // 2 + 1, 2.0)
    weights[0] = 1
    if width % 2 == 0:
        weights[-1] = 1
    return (weights / width).astype(np.float32)


@lru_cache(maxsize=8)
def _mel_filters(width: int, sampling_rate_hz: int, low_hz: float, high_hz: float) -> np.ndarray:
    """[filter, bin] float32."""
    from librosa.filters import mel

    return mel(
        sr=sampling_rate_hz,
        n_fft=width,
        n_mels=num_mel_filters(width, sampling_rate_hz, low_hz, high_hz),
        fmin=low_hz,
        fmax=min(high_hz, sampling_rate_hz / 2),
    )


@lru_cache(maxsize=8)
def _cosines(num_filters: int, num_mfcc: int) -> np.ndarray:
    """[coefficient, filter] float32: the orthonormal DCT-II."""
    return fft.dct(np.eye(num_filters), type=2, norm="ortho", axis=0)[:num_mfcc].astype(np.float32)


@lru_cache(maxsize=8)
def _delta_operators_of_leads(leads: tuple[int, ...], width: int) -> np.ndarray:
    """[2, token, token] float32: `_delta_operators` of a recording without gaps."""
    return _delta_operators(np.array(leads), np.ones(len(leads), bool), width)


def _delta_operators(leads: np.ndarray, recorded: np.ndarray, width: int) -> np.ndarray:
    """[2, ..., token, token] float32: what takes rows to their first and second differences within a run.

    leads [token]: the lead of each token; recorded [..., token] bool. A run is a stretch of tokens of one lead that are
    all recorded, or all not.
    """
    tokens = np.arange(len(leads))
    begins = np.concatenate([np.ones((*recorded.shape[:-1], 1), bool), recorded[..., 1:] != recorded[..., :-1]], -1)
    begins[..., 1:] |= leads[1:] != leads[:-1]
    ends = np.concatenate([begins[..., 1:], np.ones((*recorded.shape[:-1], 1), bool)], -1)
    first = np.maximum.accumulate(np.where(begins, tokens, 0), axis=-1)
    last = np.minimum.accumulate(np.where(ends, tokens, len(tokens) - 1)[..., ::-1], axis=-1)[..., ::-1]
    operators = np.zeros((2, *recorded.shape, len(tokens)), np.float32)
    slopes = [signal.savgol_coeffs(width, polyorder=order, deriv=order, use="dot") for order in (1, 2)]
    for place, offset in enumerate(range(-(width // 2), width // 2 + 1)):
        neighbour = np.clip(tokens + offset, first, last)[..., None]
        for operator, slope in zip(operators, slopes, strict=True):
            weight = np.take_along_axis(operator, neighbour, axis=-1) + np.float32(slope[place])
            np.put_along_axis(operator, neighbour, weight, axis=-1)
    return operators


def _only(recorded: np.ndarray | None, rows: np.ndarray) -> np.ndarray:
    """The rows [batch, token, column] of recorded tokens, 0 in the place of others; InputError for another shape."""
    if recorded is None:
        return rows
    if recorded.shape != rows.shape[:2]:
        raise InputError(f"descriptor: wanted a token mask of shape {rows.shape[:2]}, got {recorded.shape}")
    return np.where(recorded[..., None], rows, np.float32(0))
