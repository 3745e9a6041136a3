"""Uploaded files for readers that take paths: laid in memory under safe names; no patient's data reach a disk."""

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hubert_ecg.errors import RecordingError
from hubert_ecg.formats import referenced_files
from serve.problems import Refusal

MEMORY_FOLDER = "/dev/shm"
"""Where the system has it, a folder that is memory."""


def memory_folder() -> str | None:
    """That folder; None where there is none, and the system's folder for temporary files has to do."""
    return MEMORY_FOLDER if os.path.isdir(MEMORY_FOLDER) and os.access(MEMORY_FOLDER, os.W_OK) else None


@contextmanager
def laid_out(files: Sequence[tuple[str, bytes]]) -> Iterator[list[str]]:
    """Paths of (name, content) pairs, side by side in one folder that is gone afterwards.

    Raises Refusal for names, and where there is no room.
    """
    names = [_safe_name(name, place) for place, (name, _) in enumerate(files)]
    if len(set(names)) < len(names):
        raise Refusal(422, "duplicate file", "files: wanted files of different names, got one twice", field="files")
    with tempfile.TemporaryDirectory(dir=memory_folder()) as folder:
        for name, (_, content) in zip(names, files, strict=True):
            try:
                Path(folder, name).write_bytes(content)
            except OSError as error:
                raise Refusal(
                    503, "no room", "files: no room for them just now; try again later", headers={"retry-after": "1"}
                ) from error
        yield [os.path.join(folder, name) for name in names]


def parts_of_records(paths: Sequence[str]) -> set[str]:
    """The files that WFDB headers among these need: they are read with their header."""
    parts: set[str] = set()
    for path in paths:
        if path.lower().endswith(".hea"):
            try:
                names = referenced_files(path)
            except RecordingError:
                continue  # reading it says so
            parts |= {os.path.join(os.path.dirname(path), name) for name in names} - {path}
    return parts


def without_path(message: str, path: str, name: str) -> str:
    """Messages of readers name a file by its path; its sender knows it by another name."""
    return message.replace(path, name).replace(f"{os.path.dirname(path)}/", "")


def _safe_name(name: str, place: int) -> str:
    """The last part of an upload's name: headers of WFDB name their signal files by it."""
    base = os.path.basename(name.replace("\\", "/")).strip()
    if base in ("", ".", "..") or "\0" in base or len(base.encode()) > 200:
        raise Refusal(422, "bad file name", "files: wanted a plain file name", field=f"files.{place}")
    return base
