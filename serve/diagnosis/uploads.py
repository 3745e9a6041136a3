"""From uploaded files to recordings, in memory: what belongs together, what is in it, and what a file does not say."""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from starlette.formparsers import MultiPartParser

from hubert_ecg.ecg.recording import Recording
from hubert_ecg.errors import HubertEcgError, RecordingError
from hubert_ecg.formats import ReadOptions, read_recordings
from serve.in_memory import laid_out, parts_of_records, without_path
from serve.problems import Refusal

MIB = 1 << 20
DEFAULT_MAX_MIB = 64
"""Of one file, as the service's own limit of a request."""
_UNPACKED = 4
"""A compressed file may unpack to this many times the largest upload; so in the service."""


@dataclass(frozen=True, kw_only=True)
class FileRead:
    """What became of one uploaded file, or of the files of one WFDB record."""

    name: str
    recordings: tuple[Recording, ...] = ()
    needs_rate: bool = False
    """Whether all that is missing is the sampling rate, which the file does not say."""
    problem: str | None = None
    """Why nothing could be read."""


def read_uploads(
    files: Sequence[tuple[str, bytes]], rates_hz: Mapping[str, float], *, max_mib: float = DEFAULT_MAX_MIB
) -> list[FileRead]:
    """Read (name, content) pairs; `rates_hz` by file name, for those that do not say theirs. Never raises."""
    single = dict(reversed(files))  # of one name the first
    doubles = sorted(name for name, count in Counter(name for name, _ in files).items() if count > 1)
    refused = [FileRead(name=name, problem=f"{name}: uploaded twice; only the first is read") for name in doubles]
    try:
        with laid_out(list(single.items())) as paths:
            named = sorted(zip(single, paths, strict=True), key=lambda pair: [name for name, _ in files].index(pair[0]))
            parts = parts_of_records(paths)
            read = [_read(path, name, rates_hz.get(name), max_mib) for name, path in named if path not in parts]
    except Refusal as refusal:
        read = [FileRead(name="upload", problem=refusal.problem.message)]
    return read + refused


def _read(path: str, name: str, rate_hz: float | None, max_mib: float) -> FileRead:
    try:
        options = ReadOptions(sampling_rate_hz=rate_hz, max_bytes=round(_UNPACKED * max_mib * MIB))
        found = read_recordings(path, options=options)
    except RecordingError as error:
        if error.reason == "bad sampling rate" and rate_hz is None:
            return FileRead(name=name, needs_rate=True)
        return FileRead(name=name, problem=_explained(without_path(str(error), path, name), error.reason))
    except HubertEcgError as error:
        return FileRead(name=name, problem=without_path(str(error), path, name))
    # The file's own ids may name a person; its name on the user's disk is what the user knows it by.
    return FileRead(name=name, recordings=tuple(replace(each, record_id="", patient_id=None) for each in found))


def _explained(message: str, reason: str) -> str:
    if reason == "missing file":
        return f"{message} (a WFDB record is a header, .hea, with its signal file, .dat or .mat: upload both together)"
    return message


def keep_in_memory() -> None:
    """Have the server of the app, which otherwise puts what is above 1 MB into temporary files, hold uploads in memory.

    Streamlit limits how large an upload may be, and reads it with Starlette's parser, whose own limit this is.
    """
    MultiPartParser.spool_max_size = sys.maxsize


def title_of(name: str, place: int, count: int) -> str:
    """What a recording is called: the file's name, with its number where the file holds several."""
    return name if count == 1 else f"{name} #{place + 1}"
