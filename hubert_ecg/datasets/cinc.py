"""PhysioNet/CinC Challenge 2020 and 2021: folders of .hea and .mat files with SNOMED CT codes in the headers."""

import posixpath
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, ClassVar

from hubert_ecg.datasets.cinc_codes import SCORED, condition_labels, parse_diagnoses, scored_labels
from hubert_ecg.datasets.headers import HeaderComments, read_headers
from hubert_ecg.datasets.source import LabelSet, Listing, build_listing
from hubert_ecg.datasets.splits import SplitConfig
from hubert_ecg.ecg.recording import Recording
from hubert_ecg.ecg.simulate import CONDITIONS
from hubert_ecg.formats import read_recording
from hubert_ecg.storage import files
from hubert_ecg.storage.local_copy import local_copy

_DIAGNOSES = "dx:"


@dataclass(frozen=True, kw_only=True)
class CincSource:
    """All recordings below a folder of the Challenge. Its headers name no patients, so each recording counts as one.

    The outermost folder (`georgia`, say) becomes a tag. Label sets: `snomed`, every code that occurs; `scored`, the
    Challenge's 26; `conditions`, the six of this project.
    """

    name: ClassVar[str] = "cinc"

    input: str = ""
    """The folder, with any folders in it."""
    split: SplitConfig = field(default_factory=lambda: SplitConfig(method="stratified", stratify_by="scored"))
    """How it is divided."""

    def listing(self) -> Listing:
        """Reads all headers, and nothing of the signals. A header without a `Dx` line has no labels."""
        headers, left_out = read_headers(self.input)
        codes = [_codes(header) for header in headers]
        every = tuple(sorted({code for row in codes for code in row or ()}))
        return build_listing(
            source=self.name,
            described=self.input,
            record_ids=unique_names(headers),
            paths=[header.path for header in headers],
            split=self.split,
            ages_years=[header.age_years for header in headers],
            sexes=[header.sex for header in headers],
            tags=[header.path.split("/")[:1] if "/" in header.path else [] for header in headers],
            label_sets=[
                LabelSet(name="snomed", labels=every, title="all SNOMED CT codes"),
                LabelSet(name="scored", labels=tuple(SCORED), title="scored diagnoses of the Challenge 2021"),
                LabelSet(
                    name="conditions",
                    labels=CONDITIONS,
                    title="six conditions",
                    none_is_negative=all(row is not None for row in codes),
                ),
            ],
            labels={
                "snomed": [None if row is None else sorted(row) for row in codes],
                "scored": [None if row is None else scored_labels(row) for row in codes],
                "conditions": [None if row is None else condition_labels(row) for row in codes],
            },
            left_out=left_out,
        )

    def read(self, row: dict[str, Any]) -> Recording:
        """The record of one row."""
        with local_copy(files.join(self.input, row["path"])) as path:
            return read_recording(path, record_id=row["record_id"])


def unique_names(headers: list[HeaderComments]) -> list[str]:
    """A record's name; where two folders hold the same name, with its folders."""
    counts = Counter(header.record_id for header in headers)
    return [
        header.record_id if counts[header.record_id] == 1 else posixpath.splitext(header.path)[0] for header in headers
    ]


def _codes(header: HeaderComments) -> list[str] | None:
    for line in header.lines:
        if line.lower().startswith(_DIAGNOSES):
            return parse_diagnoses(line[len(_DIAGNOSES) :])
    return None
