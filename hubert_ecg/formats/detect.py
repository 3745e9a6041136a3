"""Tell a file's format from its content, and from its name where the content does not say."""

import os
import re
from typing import Literal

from hubert_ecg.errors import RecordingError
from hubert_ecg.formats.csv import names_leads

Format = Literal["npy", "npz", "wfdb", "edf", "bdf", "dicom", "aecg", "muse", "philips", "csv"]

KNOWN_FORMATS = (
    "NumPy (.npy, .npz), WFDB (.hea with .dat, .mat or .flac), EDF, EDF+ and BDF, DICOM, HL7 aECG, GE MUSE XML, "
    "Philips XML, CSV with lead names"
)

_HEAD_BYTES = 1 << 14
_FORMAT_BY_SUFFIX: dict[str, Format] = {
    ".npy": "npy", ".npz": "npz", ".hea": "wfdb", ".dat": "wfdb", ".mat": "wfdb", ".flac": "wfdb", ".edf": "edf",
    ".rec": "edf", ".bdf": "bdf", ".dcm": "dicom", ".dicom": "dicom", ".csv": "csv", ".tsv": "csv",
}  # fmt: skip
_FORMAT_BY_ROOT: dict[str, Format] = {"AnnotatedECG": "aecg", "RestingECG": "muse", "restingecgdata": "philips"}
_ROOT = re.compile(r"<(?![?!])(?:[\w.-]+:)?([\w.-]+)")
_SKIPPED_XML = re.compile(r"<!--.*?-->|<\?.*?\?>|<!DOCTYPE[^>\[]*(?:\[.*?\]\s*)?>", re.DOTALL)
_WFDB_RECORD_LINE = re.compile(r"\S+(?:/\d+)?[ \t]+\d+(?:[ \t]+[\d.].*)?", re.ASCII)
_ADVICE = {
    "gzip": "it is compressed with gzip; unpack it first",
    "scp": "SCP-ECG is not read; convert it to one of the known formats, DICOM or HL7 aECG say",
    "zip": "it is an archive; unpack it first",
}


def detect_format(path: str) -> Format:
    """The format of a file, or of a WFDB record named without suffix. Content wins over the name.

    Raises RecordingError: `missing file`, `unknown format` (lists those that can be read).
    """
    if not os.path.isfile(path):
        return _without_a_file(path)
    with open(path, "rb") as file:
        head = file.read(_HEAD_BYTES)
    named = _FORMAT_BY_SUFFIX.get(os.path.splitext(path)[1].lower())
    found = _by_mark(head)
    # The signal files of WFDB bear no mark and may hold any bytes: the header beside them tells.
    if found is None and named in (None, "wfdb") and header_path(path) != path and os.path.isfile(header_path(path)):
        return "wfdb"
    found = found or _by_text(head) or named
    if found is None:
        raise _unknown(path, _foreign(head))
    return found


def header_path(path: str) -> str:
    """The .hea file of a WFDB record that is named by any of its files, or by none of their suffixes."""
    stem, suffix = os.path.splitext(path)
    if suffix.lower() == ".hea":
        return path
    return stem + ".hea" if suffix.lower() in _FORMAT_BY_SUFFIX else path + ".hea"


def _without_a_file(path: str) -> Format:
    """A WFDB record may be named without a file of that name lying there."""
    if os.path.isfile(path + ".hea") or _FORMAT_BY_SUFFIX.get(os.path.splitext(path)[1].lower()) == "wfdb":
        return "wfdb"
    raise RecordingError("missing file", f"{path}: no such file, nor {path}.hea; check the data set's folder")


def _by_mark(head: bytes) -> Format | None:
    """By the bytes that a binary format begins with."""
    if head.startswith(b"\x93NUMPY"):
        return "npy"
    if head.startswith(b"PK\x03\x04") and b".npy" in head[:256]:
        return "npz"
    if head.startswith(b"\xffBIOSEMI"):
        return "bdf"
    if head.startswith(b"0       ") and len(head) >= 256:
        return "edf"
    return "dicom" if head[128:132] == b"DICM" else None


def _by_text(head: bytes) -> Format | None:
    """By the root element or the header of a text; and a DICOM data set that lacks the preamble with the mark."""
    if head[:2] in (b"\x02\x00", b"\x08\x00") and head[3:4] == b"\x00" and head[4:6].isalpha():
        return "dicom"
    text = _text(head)
    if text is None:
        return None
    if text.lstrip().startswith("<"):
        return _FORMAT_BY_ROOT.get(_root_element(text))
    first = next((line for line in text.splitlines() if line.strip() and not line.startswith("#")), "")
    if _WFDB_RECORD_LINE.fullmatch(first.strip()):
        return None
    return "csv" if names_leads(first) else None


def _text(head: bytes) -> str | None:
    """The beginning of a text file, None for what is no text. Some carts write UTF-16."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return head[: len(head) // 2 * 2].decode("utf-16", errors="replace")
    if b"\0" in head:
        return None
    return head.decode("utf-8-sig", errors="replace")


def _root_element(text: str) -> str:
    match = _ROOT.search(_SKIPPED_XML.sub("", text))
    return match[1] if match else ""


def _foreign(head: bytes) -> str:
    """A word for formats that are recognised and not read, otherwise an empty one."""
    if head.startswith(b"\x1f\x8b"):
        return "gzip"
    if head.startswith(b"PK\x03\x04"):
        return "zip"
    return "scp" if head[16:22] == b"SCPECG" else ""


def _unknown(path: str, foreign: str) -> RecordingError:
    advice = f"; {_ADVICE[foreign]}" if foreign else ""
    return RecordingError("unknown format", f"{path}: wanted {KNOWN_FORMATS}; got something else{advice}")
