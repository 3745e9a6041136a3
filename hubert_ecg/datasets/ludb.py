"""LUDB, the Lobachevsky University Database: 10 s at 500 Hz, with rhythm and diagnoses as comments of the headers.

Kalyakulina et al., LUDB: A New Open-Access Validation Tool for Electrocardiogram Delineation Algorithms, IEEE Access
2020. Not to be confused with the delineations beside the headers, which are not read.
"""

import re
from dataclasses import dataclass, field
from typing import Any, ClassVar

from hubert_ecg.datasets.cinc import unique_names
from hubert_ecg.datasets.headers import HeaderComments, read_headers
from hubert_ecg.datasets.source import LabelSet, Listing, build_listing
from hubert_ecg.datasets.splits import SplitConfig
from hubert_ecg.ecg.recording import Recording
from hubert_ecg.formats import read_recording
from hubert_ecg.storage import files
from hubert_ecg.storage.local_copy import local_copy

_RHYTHM = "rhythm:"
_AXIS = "electric axis of the heart:"
_PERSON = re.compile(r"<(age|sex|diagnoses)>\s*:", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class LudbSource:
    """The folder of LUDB, or its `data` folder. One recording per person.

    Label sets: `rhythm` and `axis` (one each where it is given), `diagnoses` (all other statements).
    """

    name: ClassVar[str] = "ludb"

    input: str = ""
    """The folder."""
    split: SplitConfig = field(default_factory=lambda: SplitConfig(method="stratified"))
    """How it is divided."""

    def listing(self) -> Listing:
        """Reads all headers, and nothing of the signals."""
        headers, left_out = read_headers(self.input)
        statements = [_statements(header) for header in headers]
        record_ids = unique_names(headers)
        labels = {
            "rhythm": [_after(_RHYTHM, row) for row in statements],
            "axis": [_after(_AXIS, row) for row in statements],
            "diagnoses": [_others(row) for row in statements],
        }
        titles = {"rhythm": "rhythm", "axis": "electric axis", "diagnoses": "diagnoses but rhythm and axis"}
        return build_listing(
            source=self.name,
            described=self.input,
            record_ids=record_ids,
            paths=[header.path for header in headers],
            split=self.split,
            patient_ids=record_ids,
            ages_years=[header.age_years for header in headers],
            sexes=[header.sex for header in headers],
            label_sets=[
                LabelSet(
                    name=name,
                    labels=tuple(sorted({label for row in column for label in row})),
                    title=titles[name],
                    none_is_negative=name == "diagnoses",
                )
                for name, column in labels.items()
            ],
            labels=labels,
            left_out=left_out,
        )

    def read(self, row: dict[str, Any]) -> Recording:
        """The record of one row."""
        with local_copy(files.join(self.input, row["path"])) as path:
            return read_recording(path, record_id=row["record_id"])


def _statements(header: HeaderComments) -> list[str]:
    """The diagnoses of a header, without the full stops that some end in."""
    lines = (line.rstrip(" .") for line in header.lines if not _PERSON.match(line))
    return [" ".join(line.split()) for line in lines if line]


def _after(start: str, statements: list[str]) -> list[str]:
    """What follows `start`, in statements that begin with it, each once."""
    found = [row[len(start) :].strip() for row in statements if row.lower().startswith(start)]
    return sorted(set(found))


def _others(statements: list[str]) -> list[str]:
    return sorted({row for row in statements if not row.lower().startswith((_RHYTHM, _AXIS))})
