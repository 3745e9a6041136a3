"""From a request's body to recordings: JSON numbers, a raw .npy, or uploaded files of any format that is read."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hubert_ecg.ecg.leads import STANDARD_LEADS
from hubert_ecg.ecg.recording import Recording
from hubert_ecg.errors import ConfigError, HubertEcgError, RecordingError
from hubert_ecg.formats import ReadOptions, read_recordings
from hubert_ecg.formats.amplitude import to_mv, with_checked_amplitude
from serve.in_memory import laid_out, parts_of_records, without_path
from serve.problems import Refusal, of_recording
from serve.schemas import RecordingIn


@dataclass(frozen=True, kw_only=True)
class Received:
    """One recording of a request, and what its sender says of the patient."""

    recording: Recording
    place: str
    """Where in the request it stands, for messages."""
    is_file: bool = False
    paced: bool = False


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a request may hold."""

    max_recordings: int
    max_duration_s: float
    max_bytes: int
    """A file may unpack to, and the samples of all files together may take."""


def from_json(recordings: Sequence[RecordingIn], *, single: bool, limits: Limits) -> list[Received]:
    """Recordings given as numbers; `single` says whether the field is `recording` or `recordings`."""
    _check_count(len(recordings), "recording" if single else "recordings", limits)
    received = []
    for index, given in enumerate(recordings):
        place = "recording" if single else f"recordings.{index}"
        try:
            recording = _of_numbers(given)
        except HubertEcgError as error:
            raise of_recording(error, place=place, index=index) from error
        received.append(Received(recording=recording, place=place, paced=given.paced))
    return _checked(received, limits)


def from_npy(data: bytes, options: ReadOptions, *, paced: bool, limits: Limits) -> list[Received]:
    """A raw .npy: (12, samples), (samples, 12) or a batch of these."""
    if not data.startswith(b"\x93NUMPY"):
        raise Refusal(422, "unreadable", "body: wanted a .npy file, got something else", field="body")
    with laid_out([("body.npy", data)]) as [path]:
        return _checked(_read(path, "body", options, limits, paced=paced), limits)


def from_files(
    files: Sequence[tuple[str, bytes]], options: ReadOptions, *, paced: bool, limits: Limits
) -> list[Received]:
    """Uploaded files, (name, content) each, of any format; the files of a WFDB record come together."""
    if not files:
        raise Refusal(422, "missing file", "files: wanted at least one file, got none", field="files")
    with laid_out(files) as paths:
        received: list[Received] = []
        parts = parts_of_records(paths)
        for place, path in enumerate(paths):
            if path not in parts:
                # Checked one by one: many headers may name the same signals.
                received += _read(path, f"files.{place}", options, limits, paced=paced)
                _check_count(len(received), "files", limits)
                _checked(received, limits)
                _check_size(received, limits)
        return received


def options_of(sampling_rate_hz: float | None, units: str, leads: Sequence[str] | None, limits: Limits) -> ReadOptions:
    """What the sender says of files that do not say it themselves."""
    try:
        return ReadOptions(
            sampling_rate_hz=sampling_rate_hz,
            units=units,  # type: ignore[arg-type]  # checked by ReadOptions
            lead_names=tuple(leads) if leads else None,
            max_bytes=limits.max_bytes,
        )
    except ConfigError as error:
        raise Refusal(422, "invalid field", str(error), field=str(error).split(":", 1)[0]) from error


def _of_numbers(given: RecordingIn) -> Recording:
    lengths = {len(row) for row in given.samples}
    if len(lengths) > 1:
        raise RecordingError(
            "wrong shape", f"wanted rows of one length, got rows of {min(lengths)} to {max(lengths)} samples"
        )
    leads = tuple(given.leads) if given.leads is not None else STANDARD_LEADS
    if len(leads) != len(given.samples):
        wanted = "as many rows as names in leads" if given.leads is not None else "12 rows, or names in leads"
        raise RecordingError("missing leads", f"wanted {wanted}, got {len(given.samples)} rows and {len(leads)} names")
    samples, findings = to_mv(np.array(given.samples, np.float32), given.units)
    return with_checked_amplitude(
        Recording(
            samples=samples,
            sampling_rate_hz=given.sampling_rate_hz,
            lead_names=leads,
            age_years=given.age_years,
            sex=given.sex,
            findings=findings,
        )
    )


def _read(path: str, place: str, options: ReadOptions, limits: Limits, *, paced: bool) -> list[Received]:
    try:
        found = read_recordings(path, options=options)
    except HubertEcgError as error:
        raise _without_path(of_recording(error, place=place, is_file=True), path, place) from error
    _check_count(len(found), place, limits)
    # Ids are numbers: those of the file may name a person.
    return [
        Received(recording=replace(recording, record_id="", patient_id=None), place=place, is_file=True, paced=paced)
        for recording in found
    ]


def _without_path(refusal: Refusal, path: str, place: str) -> Refusal:
    """The sender knows the file as `files.0`."""
    refusal.problem.message = without_path(refusal.problem.message, path, place)
    return refusal


def _checked(received: list[Received], limits: Limits) -> list[Received]:
    for index, each in enumerate(received):
        if each.recording.duration_s > limits.max_duration_s:
            raise Refusal(
                413,
                "too long",
                f"{each.place}: wanted at most {limits.max_duration_s:g} s, got {each.recording.duration_s:.0f} s; "
                "send a part of it",
                field=f"{each.place}.samples",
                recording=index,
            )
    return received


def _check_size(received: list[Received], limits: Limits) -> None:
    size = sum(each.recording.samples.nbytes for each in received)
    if size > limits.max_bytes:
        raise Refusal(
            413,
            "too large",
            f"files: wanted at most {limits.max_bytes} bytes of samples at once, got {size} or more; "
            "send several requests",
            field="files",
        )


def _check_count(count: int, field: str, limits: Limits) -> None:
    if count > limits.max_recordings:
        raise Refusal(
            413,
            "too many recordings",
            f"{field}: wanted at most {limits.max_recordings} recordings at once, got {count}; send several requests",
            field=field,
        )
