"""Uploaded files for readers that take paths: laid in memory under safe names; no patient's data reach a disk."""

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hubert_ecg.errors import RecordingError
from hubert_ecg.formats import detect_format
from hubert_ecg.formats.detect import header_path
from serve.problems import Refusal

MEMORY_FOLDER = "/dev/shm"
"""Where the system has it, a folder that is memory."""


def memory_folder() -> str | None:
    """That folder; None where there is none, and the system's folder for temporary files has to do."""
    return MEMORY_FOLDER if os.path.isdir(MEMORY_FOLDER) and os.access(MEMORY_FOLDER, os.W_OK) else None


@contextmanager
def laid_out(files: Sequence[tuple[str, bytes]]) -> Iterator[list[str]]:
    """Paths of (name, content) pairs, side by side in one folder that is gone afterwards. Raises Refusal for names."""
    names = [_safe_name(name, place) for place, (name, _) in enumerate(files)]
    if len(set(names)) < len(names):
        raise Refusal(422, "duplicate file", "files: wanted files of different names, got one twice", field="files")
    with tempfile.TemporaryDirectory(dir=memory_folder()) as folder:
        for name, (_, content) in zip(names, files, strict=True):
            Path(folder, name).write_bytes(content)
        yield [os.path.join(folder, name) for name in names]


def belongs_to_another(path: str) -> bool:
    """Whether a file holds the signals of a WFDB record whose header lies beside it."""
    try:
        header = header_path(path)
        return header != path and detect_format(path) == "wfdb" and os.path.isfile(header)
    except RecordingError:
        return False  # it is no known format; reading it says so


def without_path(message: str, path: str, name: str) -> str:
    """Messages of readers name a file by its path; its sender knows it by another name."""
    return message.replace(path, name).replace(f"{os.path.dirname(path)}/", "")


def _safe_name(name: str, place: int) -> str:
    """The last part of an upload's name: headers of WFDB name their signal files by it."""
    base = os.path.basename(name.replace("\\", "/")).strip()
    if base in ("", ".", "..") or "\0" in base or len(base.encode()) > 200:
        raise Refusal(422, "bad file name", "files: wanted a plain file name", field=f"files.{place}")
    return base
