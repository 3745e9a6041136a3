"""A recording's files on this machine, wherever they are: readers open local files, archives may be `s3://`."""

import atexit
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from hubert_ecg.errors import InputError, RecordingError
from hubert_ecg.formats import referenced_files
from hubert_ecg.storage import files

_HEADER = ".hea"
_BESIDE_A_HEADER = (".dat", ".mat", ".flac")
_ONE_OF_A_BATCH = re.compile(r"(.+\.np[yz])(#\d+)", re.IGNORECASE)


@contextmanager
def local_copy(path: str) -> Iterator[str]:
    """A local path under which `path` can be read: itself when it is local, else a copy that goes when the block ends.

    With a WFDB header come the files that it names, with a signal file its header. A WFDB record may be named without
    suffix, one recording of a batch as `batch.npy#3`; a batch is kept until another one is asked for, since its
    recordings are read one after the other.

    Raises RecordingError (`missing file`), InputError when the object store refuses.
    """
    if "://" not in path:
        yield path
        return
    if match := _ONE_OF_A_BATCH.fullmatch(path):
        yield _last_batch.fetch(match[1]) + match[2]
        return
    with tempfile.TemporaryDirectory(prefix="hubert-ecg-") as folder:
        yield _fetch(path, folder)


def _fetch(path: str, folder: str) -> str:
    stem, suffix = os.path.splitext(path)
    if suffix.lower() == _HEADER:
        return _fetch_record(path, folder)
    if suffix.lower() in _BESIDE_A_HEADER and files.exists(stem + _HEADER):
        _fetch_record(stem + _HEADER, folder)
        return os.path.join(folder, os.path.basename(path))
    try:
        return _fetch_file(path, folder)
    except RecordingError:
        if files.exists(path + _HEADER):
            return _fetch_record(path + _HEADER, folder).removesuffix(_HEADER)
        raise RecordingError(
            "missing file", f"{path}: no such file, nor {path}{_HEADER}; check the data set's folder"
        ) from None


def _fetch_record(header_path: str, folder: str) -> str:
    """The header and all that it names, segments and their signals included."""
    local_header = _fetch_file(header_path, folder)
    remote_folder = header_path.rpartition("/")[0]
    waiting = [local_header]
    while waiting:
        for name in referenced_files(waiting.pop()):
            local = os.path.join(folder, name)
            if os.path.basename(name) != name or name in ("", ".", ".."):
                raise RecordingError("unreadable", f"{header_path}: wanted files beside the header, got {name[:120]!r}")
            if not os.path.exists(local):
                _fetch_file(files.join(remote_folder, name), folder)
                if name.endswith(_HEADER):
                    waiting.append(local)
    return local_header


def _fetch_file(path: str, folder: str) -> str:
    """Asked for at once, and looked up only where that failed: a look-up is a request more for each of millions."""
    local = os.path.join(folder, os.path.basename(path))
    try:
        files.download(path, local)
    except InputError:
        if files.is_file(path):
            raise
        raise RecordingError("missing file", f"{path}: no such file; check the data set's folder") from None
    return local


@dataclass
class _LastBatch:
    """The batch file that was fetched last."""

    key: tuple[str, tuple[int, int]] | None = None
    folder: tempfile.TemporaryDirectory[str] | None = None

    def fetch(self, path: str) -> str:
        key = (path, files.version(path))
        if self.folder is None or key != self.key:
            self.clear()
            self.folder = tempfile.TemporaryDirectory(prefix="hubert-ecg-")
            _fetch_file(path, self.folder.name)
            self.key = key
        return os.path.join(self.folder.name, os.path.basename(path))

    def clear(self) -> None:
        if self.folder is not None:
            self.folder.cleanup()
        self.key = self.folder = None


_last_batch = _LastBatch()
atexit.register(_last_batch.clear)
