"""Headers of a folder that are only segments of a longer WFDB record, so that no sample is prepared twice."""

import posixpath
import re
from concurrent.futures import ThreadPoolExecutor

from hubert_ecg.formats.wfdb_header import NO_FILE, parse_header
from hubert_ecg.storage import files

_SEGMENT = re.compile(r"(?P<record>.+)_(?:\d+|layout)\.hea", re.DOTALL)
"""How archives of long recordings name segments: 3000063_0001.hea and 3000063_layout.hea beside 3000063.hea."""
_THREADS = 8


def without_segments(folder: str, paths: list[str]) -> tuple[list[str], int]:
    """The paths but for segments whose record is among them too, and how many those are.

    Only headers beside which such a name lies are opened, so that an archive of single recordings costs nothing; and
    only what such a header names as its segment is left out.
    """
    there = set(paths)
    guessed = {f"{match['record']}.hea" for path in paths if (match := _SEGMENT.fullmatch(path))}
    records = sorted(guessed & there)
    if not records:
        return paths, 0
    with ThreadPoolExecutor(_THREADS) as pool:
        segments = {name for names in pool.map(lambda path: _segments(folder, path), records) for name in names}
    kept = [path for path in paths if path not in segments]
    return kept, len(paths) - len(kept)


def _segments(folder: str, path: str) -> list[str]:
    """Paths of the headers that a record's own header names; none where it is damaged, which shows when it is read."""
    try:
        header = parse_header(files.read_bytes(files.join(folder, path)).decode("utf-8", errors="replace"))
    except ValueError:
        return []
    beside = posixpath.dirname(path)
    return [posixpath.join(beside, f"{name}.hea") for name, _ in header.segments if name != NO_FILE]
