"""The one preprocessing contract: a 12-lead recording -> band-passed, scaled, quantised waveform -> model input.

Two contracts exist because decimation and cropping do not commute. `ours` decimates the whole record lead by lead to
the model's rate and crops afterwards. `original` is what the published weights were trained with: the crop is taken at
the scaling rate, the 12 leads are concatenated, and the concatenation is decimated, which smears each lead a little
into the next. A checkpoint carries the config it was trained with.

Where nothing was recorded (a lead that is missing, the end of a recording shorter than a crop) the model's input is
zero, and `attention_mask` says so.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hubert_ecg.ecg.contract import PreprocessConfig
from hubert_ecg.ecg.filters import bandpass, decimate, decimation_gain, resample, scale_by_range, scale_min_max
from hubert_ecg.ecg.finding import Finding
from hubert_ecg.ecg.recorded import Recorded, recorded_part
from hubert_ecg.ecg.recording import STANDARD_LEADS, Recording
from hubert_ecg.errors import InputError, RecordingError

__all__ = [
    "AttendedSpans",
    "PreprocessConfig",
    "Waveform",
    "attention_mask",
    "fully_attended",
    "model_input",
    "prepare_waveform",
    "scaled_waveform",
    "token_mask",
]

AttendedSpans = np.ndarray | None
"""[span, 2] starts and ends in seconds of what the model may attend to; None: everything that was recorded."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Waveform:
    """One recording as it is stored: the scaled signal in 16 bits and the way back to mV."""

    counts: np.ndarray
    """[12, time] int16 at the config's `table_rate_hz`, at least one crop long, 0 where nothing was recorded; divide by
    `counts_per_unit` for the scaled signal."""
    offset_mv: np.ndarray
    """[12] float32: band-passed mV = offset_mv + gain_mv * counts / counts_per_unit."""
    gain_mv: np.ndarray
    """[12] float32, mV per unit of the scaled signal."""
    valid_samples: np.ndarray
    """[12] int32: samples of `counts` that were recorded, counted from the start; 0 for a lead that is missing."""
    attended_s: AttendedSpans = None
    """[span, 2] float32 seconds that the model may attend to; None: everything that was recorded."""
    findings: tuple[Finding, ...] = ()
    """What was done to it: `missing lead`, `filled` and `padded`, and `beats not found` where beats were asked for."""

    def millivolts(self, config: PreprocessConfig) -> np.ndarray:
        """[12, time] float32, the band-passed signal in mV at the table's rate; NaN where nothing was recorded.

        Where the table is decimated (`ours`), the ripple of the decimation filter leaves up to 1.2 % of amplitude.
        """
        scaled = self.counts / np.float32(config.counts_per_unit)
        samples = self.offset_mv[:, None] + self.gain_mv[:, None] * scaled
        samples[np.arange(samples.shape[1]) >= self.valid_samples[:, None]] = np.nan
        return samples


def prepare_waveform(recording: Recording, config: PreprocessConfig) -> Waveform:
    """Filter, scale and quantise a standard 12-lead recording; see `scaled_waveform` for the steps and errors.

    Recordings shorter than a crop get zeros at their end. With `attention_mask = "beats"` NeuroKit2 looks for beats;
    where it finds none the whole recording is attended to, and a finding says so.
    """
    recorded = _admit(recording, config)
    scaled, offset_mv, gain_mv = _scale(recorded, recording.sampling_rate_hz, config)
    if config.contract == "ours" and config.decimation > 1:
        scaled = decimate(scaled, config.decimation)
        gain_mv = gain_mv / decimation_gain(config.decimation)
    counts = np.rint(scaled * np.float32(config.counts_per_unit)).astype(np.int16)
    valid_samples = recorded.valid_samples(counts.shape[1])
    findings = recorded.findings
    if (valid_samples < counts.shape[1]).any():
        counts[np.arange(counts.shape[1]) >= valid_samples[:, None]] = 0
    if counts.shape[1] < config.table_crop_samples:
        findings += (_padded(recorded.samples.shape[1] / recording.sampling_rate_hz, config),)
        counts = np.pad(counts, ((0, 0), (0, config.table_crop_samples - counts.shape[1])))
    attended_s = None
    if config.attention_mask == "beats":
        from hubert_ecg.ecg.beats import beat_spans

        attended_s, found = beat_spans(recording)
        findings += found
    return Waveform(
        counts=counts,
        offset_mv=offset_mv,
        gain_mv=gain_mv.astype(np.float32, copy=False),
        valid_samples=valid_samples,
        attended_s=attended_s,
        findings=findings,
    )


def scaled_waveform(recording: Recording, config: PreprocessConfig) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Band-pass at the native rate, resample to the scaling rate, scale each lead to [-1, 1] over the whole record, or
    all alike where the config has a `range_mv`.

    Missing samples are filled by linear interpolation first, and held at the ends; what is missing in all leads at the
    end is cut off. A lead that is flat all through becomes -1 throughout (its voltage, with a `range_mv`), one that is
    missing 0.

    Returns (scaled [12, time] float32 at `scale_rate_hz`, offset [12] mV, gain [12] mV per unit).

    Raises RecordingError: `missing leads` (not 12 of them in standard order, or one holds nothing and `missing_leads`
    is `refuse`), `sampling rate too low`, `too short`, `not a number` (more than half of a lead is missing), `flat`
    (all leads are).
    """
    return _scale(_admit(recording, config), recording.sampling_rate_hz, config)


def model_input(
    waveforms: np.ndarray,
    start_s: float | np.ndarray,
    config: PreprocessConfig,
    valid_samples: np.ndarray | None = None,
) -> np.ndarray:
    """Crop stored waveforms and lay their leads out one after the other, at the model's rate.

    waveforms: [..., lead, time] at `table_rate_hz`, int16 counts or the scaled signal as floats; those shorter than a
    crop are padded with zeros at the end.
    start_s: start of the crop in seconds, one for all or one per element of the leading axes.
    valid_samples: [..., lead] samples that were recorded; what lies behind them is taken as zero, whatever it is.
    Returns [..., lead * crop_samples] float32.

    Raises InputError when a crop reaches beyond the waveform.
    """
    length = config.table_crop_samples
    if waveforms.shape[-1] < length:
        missing = length - waveforms.shape[-1]
        waveforms = np.pad(waveforms, [(0, 0)] * (waveforms.ndim - 1) + [(0, missing)])
    starts = table_starts(start_s, config)
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
    if valid_samples is not None and (valid_samples < starts[..., None] + length).any():
        crops = np.where(np.arange(length) < (valid_samples - starts[..., None])[..., None], crops, 0)
    if np.issubdtype(crops.dtype, np.integer):
        crops = crops * np.float32(1 / config.counts_per_unit)
    flat = np.ascontiguousarray(crops, np.float32).reshape(*crops.shape[:-2], -1)
    if config.contract == "original" and config.decimation > 1:
        return decimate(flat, config.decimation)
    return flat


def fully_attended(
    valid_samples: np.ndarray,
    attended_s: AttendedSpans | Sequence[AttendedSpans],
    start_s: float | np.ndarray,
    config: PreprocessConfig,
) -> bool:
    """Whether no crop needs an attention mask, told without making one; the arguments are those of `attention_mask`.

    False also for crops that lie in one of their spans altogether.
    """
    starts = table_starts(start_s, config)
    if np.any(valid_samples < starts[..., None] + config.table_crop_samples):
        return False
    return _without_spans(attended_s)


def attention_mask(
    valid_samples: np.ndarray,
    attended_s: AttendedSpans | Sequence[AttendedSpans],
    start_s: float | np.ndarray,
    config: PreprocessConfig,
) -> np.ndarray:
    """Which samples of the model's input the model may attend to.

    valid_samples: [..., lead] samples of the stored waveform that were recorded, counted from its start.
    attended_s: None, the [span, 2] seconds of all, or for a batch [recording, lead] one entry per recording.
    start_s: start of the crop in seconds, one for all or one per element of the leading axes.
    Returns [..., lead * crop_samples] bool: the sample was recorded and lies in a span. A crop whose spans leave no
    token to attend to (a pause of 5 s, say) has all that was recorded instead.
    """
    starts = table_starts(start_s, config)
    step = config.table_rate_hz // config.sampling_rate_hz
    # In the original contract a sample of the model stands for several of the table, the last of which decides.
    last = starts[..., None] + (np.arange(config.crop_samples) + 1) * step - 1
    recorded = last[..., None, :] < np.asarray(valid_samples)[..., None]
    mask = recorded.reshape(*recorded.shape[:-2], -1)
    if _without_spans(attended_s):
        return mask
    firsts = np.broadcast_to(last[..., 0] - step + 1, recorded.shape[:-2])
    if isinstance(attended_s, np.ndarray) or attended_s is None:
        spans_of: Sequence[AttendedSpans] = [attended_s] * firsts.size
    else:
        spans_of = attended_s
    inside = np.stack([_inside(spans, int(first), config) for spans, first in zip(spans_of, firsts.flat, strict=True)])
    attended = (recorded & inside.reshape(*firsts.shape, 1, -1)).reshape(mask.shape)
    return np.where(token_mask(attended, config).any(axis=-1, keepdims=True), attended, mask)


def token_mask(mask: np.ndarray, config: PreprocessConfig) -> np.ndarray:
    """Which tokens the model attends to under a mask over samples: those of whose samples at least half are unmasked.

    [..., lead * crop_samples] bool -> [..., token] bool. Equal to what a model with the rule `majority` makes of it.
    """
    grid = config.token_grid
    firsts = np.arange(grid.num_tokens(mask.shape[-1])) * grid.stride
    counts = np.cumsum(mask, axis=-1, dtype=np.int32)
    before = np.where(firsts > 0, counts[..., firsts - 1], 0)
    return 2 * (counts[..., firsts + grid.receptive_field - 1] - before) >= grid.receptive_field


def _admit(recording: Recording, config: PreprocessConfig) -> Recorded:
    """What was recorded, its gaps filled. Raises RecordingError for a recording that the config does not admit."""
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
    recorded = recorded_part(recording, missing_leads=config.missing_leads)
    duration_s = recorded.samples.shape[1] / rate_hz
    if round(duration_s * config.scale_rate_hz) < round(config.min_duration_s * config.scale_rate_hz):
        raise RecordingError("too short", f"{name}: wanted at least {config.min_duration_s:g} s, got {duration_s:g} s")
    if recorded.flat.all():
        raise RecordingError("flat", f"{name}: all {len(recorded.flat)} leads are flat; nothing was recorded")
    return recorded


def _scale(recorded: Recorded, rate_hz: float, config: PreprocessConfig) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The steps that `scaled_waveform` describes, on what was admitted."""
    flat = recorded.flat
    num_samples = round(recorded.samples.shape[1] / rate_hz * config.scale_rate_hz)
    filtered = bandpass(recorded.samples, low_hz=config.low_hz, high_hz=config.high_hz, sampling_rate_hz=rate_hz)
    # Rounding noise around a constant would otherwise be scaled up to the full range.
    filtered[flat] = filtered[flat, :1]
    if num_samples != filtered.shape[1] or rate_hz != config.scale_rate_hz:
        filtered = resample(filtered, num_samples)
        filtered[flat] = filtered[flat, :1]
    by_range = scale_by_range(filtered, config.range_mv) if config.range_mv else None
    scaled, offset_mv, gain_mv = by_range or scale_min_max(filtered)
    scaled[recorded.until == 0] = 0
    return scaled, offset_mv, gain_mv


def _padded(duration_s: float, config: PreprocessConfig) -> Finding:
    return Finding(
        kind="padded",
        severity="warning",
        detail=f"Recorded for {duration_s:.2f} s; the model reads {config.crop_s:g} s, the rest of which is zero and "
        "not attended to.",
        start_s=duration_s,
        end_s=config.crop_s,
    )


def table_starts(start_s: float | np.ndarray, config: PreprocessConfig) -> np.ndarray:
    """Starts in seconds -> int64 samples of the stored waveform, same shape."""
    return np.rint(np.asarray(start_s, np.float64) * config.table_rate_hz).astype(np.int64)


def _without_spans(attended_s: AttendedSpans | Sequence[AttendedSpans]) -> bool:
    if attended_s is None or isinstance(attended_s, np.ndarray):
        return attended_s is None
    return all(spans is None for spans in attended_s)


def _inside(spans_s: AttendedSpans, first: int, config: PreprocessConfig) -> np.ndarray:
    """[crop_samples] bool: whether each sample of a crop that starts at table sample `first` lies in a span."""
    if spans_s is None:
        return np.ones(config.crop_samples, bool)
    places = (np.asarray(spans_s, np.float64) - first / config.table_rate_hz) * config.sampling_rate_hz
    # Float32 seconds of a whole sample must not round up to the next.
    edges = np.ceil(places - 1e-3).clip(0, config.crop_samples).astype(np.int64)
    steps = np.zeros(config.crop_samples + 1, np.int64)
    np.add.at(steps, edges[:, 0], 1)
    np.add.at(steps, edges[:, 1], -1)
    return np.cumsum(steps[:-1]) > 0
