"""The one preprocessing contract: a 12-lead recording -> band-passed, scaled, quantised waveform -> model input.

Two contracts exist because decimation and cropping do not commute. `ours` decimates the whole record lead by lead to
the model's rate and crops afterwards. `original` is what the published weights were trained with: the crop is taken at
the scaling rate, the 12 leads are concatenated, and the concatenation is decimated, which smears each lead a little
into the next. A checkpoint carries the config it was trained with.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from typing import Any, Literal, Self

import numpy as np
from scipy import fft, signal

from hubert_ecg.ecg.recording import STANDARD_LEADS, Recording
from hubert_ecg.ecg.tokens import CONV_STEMS
from hubert_ecg.errors import ConfigError, InputError, RecordingError

SCALE_EPSILON_MV = 1e-8
"""Added to each lead's range before dividing by it, as in the original."""

TAPS_PER_HZ = 0.3
"""The band-pass has this many taps per Hz of sampling rate (150 at 500 Hz), plus one where that is even."""

MAX_MISSING_FRACTION = 0.5
"""A lead of which more than this is not a number is not worth filling in."""

HEADROOM = 2.0
"""Decimation overshoots [-1, 1] at steep edges; counts leave room for twice that range."""


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
    crop_s: float = 5.0
    """Length of the model's input per lead, seconds."""
    min_duration_s: float = 5.0
    """Recordings shorter than this many seconds are refused."""
    counts_per_unit: int = 16384
    """Steps of the stored 16-bit integers per unit of the scaled signal."""

    def __post_init__(self) -> None:
        if self.contract not in ("ours", "original"):
            raise ConfigError(f"contract: wanted ours or original, got {self.contract!r}")
        if not 0 < self.low_hz < self.high_hz:
            raise ConfigError(f"pass band: wanted 0 < low_hz < high_hz, got {self.low_hz} and {self.high_hz} Hz")
        if self.scale_rate_hz <= 2 * self.high_hz:
            raise ConfigError(
                f"scale_rate_hz: wanted more than twice high_hz = {self.high_hz} Hz, got {self.scale_rate_hz} Hz"
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
        if self.min_duration_s < self.crop_s:
            raise ConfigError(f"min_duration_s: wanted at least crop_s = {self.crop_s} s, got {self.min_duration_s} s")
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

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, for manifests and checkpoints."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The config that `to_dict` described. Raises ConfigError for a key it does not know."""
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown:
            raise ConfigError(f"preprocessing: unknown settings {unknown}; this version may be too old for them")
        return cls(**values)


@dataclass(frozen=True, kw_only=True, eq=False)
class Waveform:
    """One recording as it is stored: the scaled signal in 16 bits and the way back to mV."""

    counts: np.ndarray
    """[12, time] int16 at the config's `table_rate_hz`; divide by `counts_per_unit` for the scaled signal."""
    offset_mv: np.ndarray
    """[12] float32: band-passed mV = offset_mv + gain_mv * counts / counts_per_unit."""
    gain_mv: np.ndarray
    """[12] float32, mV per unit of the scaled signal."""

    def millivolts(self, config: PreprocessConfig) -> np.ndarray:
        """[12, time] float32, the band-passed signal in mV at the table's rate.

        Where the table is decimated (`ours`), the ripple of the decimation filter leaves up to 1.2 % of amplitude.
        """
        scaled = self.counts / np.float32(config.counts_per_unit)
        return self.offset_mv[:, None] + self.gain_mv[:, None] * scaled


def prepare_waveform(recording: Recording, config: PreprocessConfig) -> Waveform:
    """Filter, scale and quantise a standard 12-lead recording; see `scaled_waveform` for the steps and errors."""
    scaled, offset_mv, gain_mv = scaled_waveform(recording, config)
    if config.contract == "ours" and config.decimation > 1:
        scaled = decimate(scaled, config.decimation)
        gain_mv = gain_mv / _decimation_gain(config.decimation)
    counts = np.rint(scaled * np.float32(config.counts_per_unit)).astype(np.int16)
    return Waveform(counts=counts, offset_mv=offset_mv, gain_mv=gain_mv.astype(np.float32, copy=False))


def scaled_waveform(recording: Recording, config: PreprocessConfig) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Band-pass at the native rate, resample to the scaling rate, scale each lead to [-1, 1] over the whole record.

    Missing samples are filled by linear interpolation first, and held at the ends. A lead that is flat all through
    becomes -1 throughout.

    Returns (scaled [12, time] float32 at `scale_rate_hz`, offset [12] mV, gain [12] mV per unit).

    Raises RecordingError: `missing leads` (not 12 of them in standard order), `sampling rate too low`, `too short`,
    `not a number` (more than half of a lead is missing), `flat` (all leads are).
    """
    name = recording.record_id or "recording"
    if recording.lead_names != STANDARD_LEADS:
        raise RecordingError(
            "missing leads",
            f"{name}: wanted the leads {list(STANDARD_LEADS)} in this order, got {list(recording.lead_names)}; "
            "call standard_12_lead first",
        )
    rate_hz = recording.sampling_rate_hz
    if rate_hz <= 2 * config.high_hz:
        raise RecordingError(
            "sampling rate too low",
            f"{name}: wanted more than {2 * config.high_hz:g} Hz for a pass band up to {config.high_hz:g} Hz, "
            f"got {rate_hz:g} Hz",
        )
    num_samples = round(recording.duration_s * config.scale_rate_hz)
    if num_samples < round(config.min_duration_s * config.scale_rate_hz):
        raise RecordingError(
            "too short",
            f"{name}: wanted at least {config.min_duration_s:g} s, got {recording.duration_s:g} s",
        )
    samples = _fill_missing(recording.samples, name)
    flat = (samples == samples[:, :1]).all(axis=1)
    if flat.all():
        raise RecordingError("flat", f"{name}: all {len(flat)} leads are flat; nothing was recorded")
    filtered = bandpass(samples, low_hz=config.low_hz, high_hz=config.high_hz, sampling_rate_hz=rate_hz)
    # Rounding noise around a constant would otherwise be scaled up to the full range.
    filtered[flat] = filtered[flat, :1]
    if num_samples != filtered.shape[1] or rate_hz != config.scale_rate_hz:
        filtered = resample(filtered, num_samples)
        filtered[flat] = filtered[flat, :1]
    return scale_min_max(filtered)


def model_input(waveforms: np.ndarray, start_s: float | np.ndarray, config: PreprocessConfig) -> np.ndarray:
    """Crop stored waveforms and lay their leads out one after the other, at the model's rate.

    waveforms: [..., lead, time] at `table_rate_hz`, int16 counts or the scaled signal as floats.
    start_s: start of the crop in seconds, one for all or one per element of the leading axes.
    Returns [..., lead * crop_samples] float32.

    Raises InputError when a crop reaches beyond the waveform.
    """
    length = config.table_crop_samples
    starts = np.rint(np.asarray(start_s, np.float64) * config.table_rate_hz).astype(np.int64)
    if starts.size and (starts.min() < 0 or starts.max() + length > waveforms.shape[-1]):
        raise InputError(
            f"crop: wanted {config.crop_s:g} s from {np.min(start_s):g} to {np.max(start_s):g} s on, "
            f"the waveform covers 0 to {waveforms.shape[-1] / config.table_rate_hz:g} s"
        )
    if starts.ndim == 0:
        crops = waveforms[..., starts : starts + length]
    else:
        places = starts[..., None, None] + np.arange(length)
        crops = np.take_along_axis(waveforms, np.broadcast_to(places, (*waveforms.shape[:-1], length)), axis=-1)
    if np.issubdtype(crops.dtype, np.integer):
        crops = crops * np.float32(1 / config.counts_per_unit)
    flat = np.ascontiguousarray(crops, np.float32).reshape(*crops.shape[:-2], -1)
    if config.contract == "original" and config.decimation > 1:
        return decimate(flat, config.decimation)
    return flat


def bandpass(samples: np.ndarray, *, low_hz: float, high_hz: float, sampling_rate_hz: float) -> np.ndarray:
    """Zero-phase band-pass of each lead. [lead, time] mV -> [lead, time] mV, float32.

    Equal to scipy.signal.filtfilt with the Hamming-windowed FIR filter of `firwin` and its default padding: for an FIR
    filter, filtering forth and back is one convolution of the oddly extended signal with the taps' autocorrelation,
    and only taps - 1 samples of the extension reach the result. That convolution is done by FFT for all leads at once.
    """
    num_taps = _num_taps(sampling_rate_hz)
    edge = num_taps - 1
    # float32 is enough once the electrode offset, which can dwarf the signal, is out of the way.
    mean = samples.mean(axis=1, keepdims=True, dtype=np.float64).astype(np.float32)
    extended = np.pad(samples - mean, ((0, 0), (edge, edge)), mode="reflect", reflect_type="odd")
    length = fft.next_fast_len(extended.shape[1], real=True)
    response = _bandpass_response(low_hz, high_hz, sampling_rate_hz, length)
    filtered = fft.irfft(fft.rfft(extended, n=length) * response, n=length)
    return filtered[:, edge : edge + samples.shape[1]] + mean * response[0]


def resample(samples: np.ndarray, num_samples: int) -> np.ndarray:
    """FFT resampling of each lead to `num_samples` samples. [lead, time] -> [lead, num_samples], same dtype."""
    return signal.resample(samples, num_samples, axis=1)


def scale_min_max(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each lead to [-1, 1] by its own extremes; a flat lead to -1.

    [lead, time] mV -> (scaled [lead, time], offset [lead] mV, gain [lead] mV), with mV = offset + gain * scaled.
    """
    low = samples.min(axis=1)
    gain = (samples.max(axis=1) - low + np.float32(SCALE_EPSILON_MV)) / 2
    scaled = (samples - low[:, None]) / gain[:, None] - 1
    return scaled, low + gain, gain


def decimate(samples: np.ndarray, factor: int) -> np.ndarray:
    """Zero-phase decimation along the last axis. [..., time] -> [..., ceil(time / factor)] float32.

    Equal within 1e-6 of the signal's range to scipy.signal.decimate (Chebyshev filter of order 8, forth and back).
    The inside is filtered by FFT; the ends, where that filter's start-up matters, by a small precomputed matrix.
    """
    num_samples = samples.shape[-1]
    reach = _decimation_reach(factor)
    if num_samples < 2 * reach:
        return signal.decimate(samples, factor, axis=-1).astype(np.float32, copy=False)
    samples = samples.astype(np.float32, copy=False)
    num_outputs = -(-num_samples // factor)
    folded = fft.next_fast_len(num_outputs, real=True)
    spectrum = fft.rfft(samples, n=folded * factor, axis=-1)
    spectrum *= _decimation_response(factor, folded * factor)
    decimated = fft.irfft(_fold_spectrum(spectrum, factor, folded), n=folded, axis=-1)[..., :num_outputs]
    head, tail = _decimation_ends(factor, num_samples % factor)
    decimated[..., : head.shape[1]] = samples[..., : head.shape[0]] @ head
    decimated[..., -tail.shape[1] :] = samples[..., -tail.shape[0] :] @ tail
    return decimated


def _fill_missing(samples: np.ndarray, name: str) -> np.ndarray:
    """[lead, time] float32 with every run that is not finite interpolated, the end runs held."""
    finite = np.isfinite(samples)
    if finite.all():
        # Readers often hand over transposed [time, lead] arrays, on which everything below is several times slower.
        return np.ascontiguousarray(samples, np.float32)
    missing = 1 - finite.mean(axis=1)
    worst = int(missing.argmax())
    if missing[worst] > MAX_MISSING_FRACTION:
        raise RecordingError(
            "not a number",
            f"{name}: lead {STANDARD_LEADS[worst]} is missing for {missing[worst]:.0%} of its samples, "
            f"wanted at most {MAX_MISSING_FRACTION:.0%}",
        )
    filled = samples.astype(np.float32, order="C")
    places = np.arange(samples.shape[1])
    for lead in np.flatnonzero(missing):
        known = finite[lead]
        filled[lead] = np.interp(places, places[known], samples[lead, known])
    return filled


def _num_taps(sampling_rate_hz: float) -> int:
    return int(TAPS_PER_HZ * sampling_rate_hz) // 2 * 2 + 1


@lru_cache(maxsize=64)
def _bandpass_response(low_hz: float, high_hz: float, sampling_rate_hz: float, length: int) -> np.ndarray:
    """[length // 2 + 1] float32: the squared magnitude of the FIR filter, which is the response of filtfilt."""
    taps = signal.firwin(_num_taps(sampling_rate_hz), [low_hz, high_hz], pass_zero=False, fs=sampling_rate_hz)
    return (np.abs(fft.rfft(taps, n=length)) ** 2).astype(np.float32)


@lru_cache(maxsize=8)
def _decimation_filter(factor: int) -> np.ndarray:
    """Second-order sections of the filter of scipy.signal.decimate."""
    return signal.cheby1(8, 0.05, 0.8 / factor, output="sos")


def _fold_spectrum(spectrum: np.ndarray, factor: int, length: int) -> np.ndarray:
    """Half spectrum of every `factor`-th sample, `length` of them, from that of all samples: aliases added up."""
    bins = length // 2 + 1
    folded = sum(spectrum[..., m * length : m * length + bins] for m in range((factor - 1) // 2 + 1))
    mirrored = sum(spectrum[..., m * length : m * length - bins : -1] for m in range(1, factor // 2 + 1))
    return (folded + np.conj(mirrored)) / np.float32(factor)


def _decimation_reach(factor: int) -> int:
    """Samples after which the zero-phase impulse response has fallen below 1e-7 of its peak, rounded up."""
    return 90 * factor


def _decimation_gain(factor: int) -> float:
    """What decimation does to a constant: just below 1, the ripple of the filter's pass band."""
    return float(_decimation_response(factor, 2)[0])


@lru_cache(maxsize=64)
def _decimation_response(factor: int, length: int) -> np.ndarray:
    """[length // 2 + 1] float32: the squared magnitude of the filter, applied forth and back."""
    frequencies = np.arange(length // 2 + 1) / length
    _, response = signal.freqz_sos(_decimation_filter(factor), worN=frequencies, fs=1.0)
    return (np.abs(response) ** 2).astype(np.float32)


@lru_cache(maxsize=32)
def _decimation_ends(factor: int, remainder: int) -> tuple[np.ndarray, np.ndarray]:
    """Matrices [input, output] float32 of the first and last outputs, for lengths of this remainder modulo `factor`.

    They are read off the filter itself, applied to unit impulses in a record long enough that its ends do not meet.
    """
    reach = _decimation_reach(factor)
    num_samples = 4 * reach + remainder
    impulses = signal.sosfiltfilt(_decimation_filter(factor), np.eye(num_samples), axis=-1)[:, ::factor]
    num_outputs = reach // factor
    head = impulses[: 2 * reach, :num_outputs]
    tail = impulses[-2 * reach :, -num_outputs:]
    return np.ascontiguousarray(head, np.float32), np.ascontiguousarray(tail, np.float32)
