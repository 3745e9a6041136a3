"""What recordings a folder holds: one walk over its names, opening nothing, each recording once."""

import posixpath
from collections import Counter
from dataclasses import dataclass, field
from fnmatch import fnmatch
from itertools import takewhile

from hubert_ecg.errors import InputError
from hubert_ecg.storage import files

RECORDING_SUFFIXES = frozenset(
    [".npy", ".npz", ".hea", ".edf", ".rec", ".bdf", ".dcm", ".dicom", ".xml", ".csv", ".tsv"],
)
"""Suffixes of the files that are taken for recordings; what they truly hold is seen when they are read."""
_HEADER = ".hea"
_SIGNALS = (".dat", ".mat", ".flac")
_SUFFIXES = RECORDING_SUFFIXES | set(_SIGNALS)


@dataclass(frozen=True, kw_only=True)
class Found:
    """The recordings of a folder."""

    paths: list[str]
    """Below the folder, sorted; a WFDB record by its header."""
    left_out: dict[str, int]
    """`*.suffix`, or what else was the matter -> number of files that are no recordings."""


def find_recordings(folder: str, *, pattern: str = "") -> Found:
    """All recordings below a folder. `pattern` (`*.ecg`, say) replaces the known suffixes; hidden files are no data.

    Raises InputError when there is no such folder.
    """
    paths, signals, left_out = [], [], Counter[str]()
    for path, _ in files.walk(folder):
        suffix = posixpath.splitext(path)[1].lower()
        if any(part.startswith(".") for part in path.split("/")):
            left_out["hidden files"] += 1
        elif fnmatch(path, pattern) if pattern else suffix in RECORDING_SUFFIXES:
            paths.append(path)
        elif suffix in _SIGNALS:
            signals.append(path)
        else:
            left_out[f"*{suffix}" if suffix else "files without suffix"] += 1
    headers = {posixpath.splitext(path)[0] for path in paths if path.lower().endswith(_HEADER)}
    for path in signals:
        stem, suffix = posixpath.splitext(path)
        if stem not in headers:
            left_out[f"*{suffix.lower()} without a header of that name"] += 1
    return Found(paths=sorted(paths), left_out=dict(left_out))


def bare_name(path: str) -> str:
    """A file's name without folders and without the suffixes of recordings, however many: a/HR1.hea.npy -> HR1."""
    name = posixpath.basename(path)
    while True:
        stem, suffix = posixpath.splitext(name)
        if not stem or suffix.lower() not in _SUFFIXES:
            return name
        name = stem


@dataclass(frozen=True, kw_only=True)
class FolderIndex:
    """Finds the recordings of a folder under the names that lists made elsewhere give them."""

    folder: str
    by_bare_name: dict[str, str | list[str]] = field(repr=False)
    """A path, or where several files share a bare name all of them; a list each would be twice the memory."""

    @classmethod
    def of(cls, folder: str, paths: list[str]) -> "FolderIndex":
        by_bare_name: dict[str, str | list[str]] = {}
        for path in paths:
            name = bare_name(path)
            before = by_bare_name.get(name)
            if before is None:
                by_bare_name[name] = path
            elif isinstance(before, str):
                by_bare_name[name] = [before, path]
            else:
                before.append(path)
        return cls(folder=folder, by_bare_name=by_bare_name)

    def find(self, name: str) -> str | None:
        """The path below the folder of the recording that a list calls `name`, or None.

        It has the same bare name; of several the one whose folders, then whose suffix agree best. Raises InputError,
        naming two, when several agree equally well.
        """
        name = name.replace("\\", "/")
        found = self.by_bare_name.get(bare_name(name))
        if found is None or isinstance(found, str):
            return found
        scores = [_agreement(name, path) for path in found]
        best = [path for path, score in zip(found, scores, strict=True) if score == max(scores)]
        if len(best) > 1:
            raise InputError(
                f"{name}: wanted one recording of that name in {self.folder}, got {best[0]} and {best[1]}; "
                "give the list file names with their folders and suffixes"
            )
        return best[0]


def _agreement(name: str, path: str) -> tuple[bool, int, bool]:
    """Whether it is the very path; how many folders, counted from the file, are the same; and whether the suffix is."""
    folders = zip(name.split("/")[-2::-1], path.split("/")[-2::-1], strict=False)
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], folders))
    return name == path, shared, posixpath.splitext(name)[1] == posixpath.splitext(path)[1]
