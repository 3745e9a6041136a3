"""WFDB headers of a whole folder, read for the comments in which data sets keep diagnoses; signals stay unread."""

import posixpath
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

from hubert_ecg.datasets.folder import find_recordings
from hubert_ecg.formats.wfdb_header import age_and_sex
from hubert_ecg.storage import files

_THREADS = 8
"""Enough to hide the latency of an object store; a local disk is no slower for it."""
_AT_ONCE = 4096
"""Headers in flight, so that memory does not follow the folder's size."""


@dataclass(frozen=True, kw_only=True)
class HeaderComments:
    """What the comment lines of one header say, without their `#`."""

    path: str
    """Of the header, below the folder."""
    record_id: str
    """Name of the header without suffix."""
    lines: tuple[str, ...]
    age_years: float | None
    sex: str | None


def read_headers(folder: str) -> tuple[list[HeaderComments], dict[str, int]]:
    """The comments of every .hea file below a folder, sorted by path, and what else lies there, counted.

    Raises InputError when there is no such folder.
    """
    found = find_recordings(folder, pattern="*.hea")
    return list(_read(folder, found.paths)), found.left_out


def _read(folder: str, paths: list[str]) -> Iterator[HeaderComments]:
    waiting = iter(paths)
    with ThreadPoolExecutor(_THREADS) as pool:
        while chunk := list(islice(waiting, _AT_ONCE)):
            contents = pool.map(lambda path: files.read_bytes(files.join(folder, path)), chunk)
            for path, content in zip(chunk, contents, strict=True):
                lines = _comments(content)
                age_years, sex = age_and_sex(lines)
                yield HeaderComments(
                    path=path,
                    record_id=posixpath.splitext(posixpath.basename(path))[0],
                    lines=lines,
                    age_years=age_years,
                    sex=sex,
                )


def _comments(content: bytes) -> tuple[str, ...]:
    lines = (line.strip() for line in content.decode("utf-8", errors="replace").splitlines())
    return tuple(line.lstrip("#").strip() for line in lines if line.startswith("#"))
