"""Read a Philips ECG export (restingecgdata, SierraECG and PhilipsECG 1.03 and 1.04) in mV.

Facts of the format are those of the sierraecg package (https://github.com/sixlettervariables/sierra-ecg-tools). Its own
reader is not used: a negative length in damaged data makes it run for ever, and it fails on uncompressed samples.
"""

import base64
import binascii
import os
from xml.etree.ElementTree import Element

import numpy as np

from hubert_ecg.ecg.recording import STANDARD_LEADS, Recording
from hubert_ecg.errors import RecordingError
from hubert_ecg.formats.person import age_between, age_in_years, known_id, known_sex
from hubert_ecg.formats.voltage import to_millivolts
from hubert_ecg.formats.xli import decode_xli
from hubert_ecg.formats.xml import attribute_at, number, read_xml, text_at

_DOCUMENTS = ("SierraECG", "PhilipsECG")
_VERSIONS = ("1.03", "1.04")
_SIGNAL = "dataacquisition/signalcharacteristics"
_STANDARD_SETS = ("STD-12", "10-WIRE")
_MV_PER_UV = 1e-3
_MAX_LEADS = 32


def read_philips(path: str, *, record_id: str | None = None) -> Recording:
    """The rhythm of a Philips export in mV, with the patient's id, age and sex where they are given.

    Samples may be base64 or plain numbers, compressed (XLI) or not. Representative beats are left out.

    Raises RecordingError: `missing file`, `too large`, `unreadable`, `unknown format`, `truncated`, `unknown unit`,
    `missing leads`, `bad sampling rate`.
    """
    root = read_xml(path, "restingecgdata")
    _check_version(root, path)
    waveforms, signal = root.find(".//parsedwaveforms"), root.find(_SIGNAL)
    if waveforms is None:
        raise RecordingError("unreadable", f"{path}: wanted parsedwaveforms, got none; export it with its waveforms")
    names = _lead_names(waveforms, signal, path)
    rate_hz = _sampling_rate_hz(waveforms, signal, path)
    counts = _counts(waveforms, signal, names, _num_samples(waveforms, rate_hz, path), path)
    gains_mv = np.full(len(names), _gain_mv(waveforms, signal, path))
    zero = number(_setting(waveforms, signal, "signaloffset")) or 0.0
    patient = root.find("patient/generalpatientdata")
    return Recording(
        samples=to_millivolts(counts, gain_mv=gains_mv, offset_mv=-zero * gains_mv, what=path),
        sampling_rate_hz=rate_hz,
        lead_names=names,
        record_id=record_id or os.path.splitext(os.path.basename(path))[0],
        patient_id=known_id(text_at(patient, "patientid")) or known_id(text_at(patient, "MRN")),
        age_years=_age_years(root, patient),
        sex=known_sex(text_at(patient, "sex")),
    )


def _check_version(root: Element, path: str) -> None:
    document = text_at(root, "documentinfo/documenttype")
    version = text_at(root, "documentinfo/documentversion")
    if document not in _DOCUMENTS or not version.startswith(_VERSIONS):
        raise RecordingError(
            "unknown format",
            f"{path}: wanted a {' or '.join(_DOCUMENTS)} document of version {' or '.join(_VERSIONS)}, "
            f"got {document[:40] or 'none'} {version[:40]}",
        )


def _setting(waveforms: Element, signal: Element | None, *names: str) -> str:
    """Version 1.04 repeats settings of the signal as attributes of the waveforms; those come first."""
    found = [waveforms.get(name, "").strip() for name in names] + [text_at(signal, name) for name in names]
    return next((text for text in found if text), "")


def _lead_names(waveforms: Element, signal: Element | None, path: str) -> tuple[str, ...]:
    labels = waveforms.get("leadlabels", "").split()
    num_leads = number(waveforms.get("numberofleads", "") or text_at(signal, "numberchannelsallocated"))
    if not labels and text_at(signal, "acquisitiontype") in _STANDARD_SETS:
        labels = list(STANDARD_LEADS)
    names = tuple(labels if num_leads is None else labels[: max(0, int(num_leads))])
    if not 1 <= len(names) <= _MAX_LEADS:
        raise RecordingError(
            "missing leads", f"{path}: wanted 1 to {_MAX_LEADS} labelled leads, got {len(names)} of {num_leads}"
        )
    return names


def _sampling_rate_hz(waveforms: Element, signal: Element | None, path: str) -> float:
    text = waveforms.get("samplespersecond", "").strip() or text_at(signal, "samplingrate")
    rate = number(text)
    if rate is None or rate <= 0:
        raise RecordingError("bad sampling rate", f"{path}: wanted a sampling rate above 0 Hz, got {text[:40]!r}")
    return rate


def _num_samples(waveforms: Element, rate_hz: float, path: str) -> int:
    """Samples per lead, as the file says."""
    duration_ms = number(waveforms.get("durationperchannel", ""))
    num_samples = 0 if duration_ms is None else round(duration_ms * rate_hz / 1000)
    if num_samples < 1:
        raise RecordingError("unreadable", f"{path}: wanted a durationperchannel above 0 ms, got {duration_ms}")
    return num_samples


def _gain_mv(waveforms: Element, signal: Element | None, path: str) -> float:
    """mV per count. The resolution is in microvolts throughout the format."""
    text = _setting(waveforms, signal, "resolution", "signalresolution")
    resolution_uv = number(text)
    if resolution_uv is None or resolution_uv <= 0:
        raise RecordingError("unknown unit", f"{path}: wanted a resolution above 0 uV per count, got {text[:40]!r}")
    return resolution_uv * _MV_PER_UV


def _counts(
    waveforms: Element, signal: Element | None, names: tuple[str, ...], num_samples: int, path: str
) -> np.ndarray:
    """[lead, time] float64: the samples as the converter gave them."""
    bits, encoding = _setting(waveforms, signal, "bitspersample"), waveforms.get("dataencoding", "")
    if number(bits or "16") != 16 or encoding not in ("Base64", "Plain"):
        raise RecordingError("unreadable", f"{path}: wanted Base64 or Plain samples of 16 bits, got {encoding[:20]}")
    text = waveforms.text or ""
    method = _compression(waveforms)
    if method == "XLI" and encoding == "Base64":
        counts = decode_xli(_decode_base64(text, path), len(names), num_samples, path)
        # Only XLI holds these four as what I and II do not foretell.
        return _limb_leads(counts) if names[:6] == STANDARD_LEADS[:6] else counts
    if method:
        raise RecordingError("unreadable", f"{path}: wanted samples uncompressed or in XLI, got {method[:40]}")
    signed = _setting(waveforms, signal, "signalsigned").lower() != "false"
    flat = _plain(text, path) if encoding == "Plain" else _base64_counts(text, signed, path)
    if flat.size < len(names) * num_samples:
        raise RecordingError(
            "truncated",
            f"{path}: wanted {num_samples} samples of {len(names)} leads, got {flat.size} in all; export it again",
        )
    return flat[: len(names) * num_samples].reshape(len(names), num_samples).astype(np.float64)


def _compression(waveforms: Element) -> str:
    """The method's name; empty where the samples are not compressed."""
    method = (waveforms.get("compression") or waveforms.get("compressmethod") or "").strip()
    if waveforms.get("compressflag", "").strip().lower() == "false" or method.lower() in ("uncompressed", "none"):
        return ""
    return method


def _decode_base64(text: str, path: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise RecordingError("unreadable", f"{path}: wanted samples in base64; {error!s:.200}") from error


def _base64_counts(text: str, signed: bool, path: str) -> np.ndarray:
    content = _decode_base64(text, path)
    return np.frombuffer(content, "<i2" if signed else "<u2", count=len(content) // 2)


def _plain(text: str, path: str) -> np.ndarray:
    try:
        return np.array(text.split(), dtype=np.float64)
    except ValueError as error:
        raise RecordingError("unreadable", f"{path}: wanted samples as numbers; {error!s:.200}") from error


def _limb_leads(counts: np.ndarray) -> np.ndarray:
    """XLI keeps III, aVR, aVL and aVF as the difference from what follows from I and II, in whole numbers."""
    i, ii, iii_rest, avr_rest, avl_rest, avf_rest = counts[:6]
    iii = ii - i - iii_rest
    avr = -np.floor((i + ii) / 2) - avr_rest
    avl = np.floor((i - iii) / 2) - avl_rest
    avf = np.floor((ii + iii) / 2) - avf_rest
    return np.concatenate([np.stack([i, ii, iii, avr, avl, avf]), counts[6:]])


def _age_years(root: Element, patient: Element | None) -> float | None:
    """The age given, or reckoned; never the cart's default age."""
    age = age_in_years(number(text_at(patient, "age/years")), "years")
    born = text_at(patient, "age/dateofbirth") or text_at(patient, "dateofbirth")
    return age_between(born, attribute_at(root, "dataacquisition", "date")) if age is None else age
