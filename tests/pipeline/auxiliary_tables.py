"""The small table of tests/training/padded.py with more that is known of its recordings, and less of their classes."""

from dataclasses import asdict
from pathlib import Path

import pyarrow as pa

from hubert_ecg.datasets.source import LabelSet
from hubert_ecg.storage import files
from hubert_ecg.storage.artifact import Manifest, StageOutput, begin, write_part
from tests.training.padded import write_waveforms

# One recording has no class, one no findings, one neither sex nor age, and one nothing at all.
CLASSES = [["NORM"], ["AFIB"], None, ["CRBBB"], None]
FINDINGS = [["LVH"], None, ["LVH", "STTC"], ["STTC"], None]
SEXES = ["female", "male", "female", None, None]
AGES_YEARS = [61.0, 25.0, None, None, None]


def write_auxiliary_waveforms(place: Path) -> Manifest:
    """Splits train, val and test of five recordings each, label sets `classes`, `findings` and `age`."""
    plain = write_waveforms(place / "plain", splits=("train", "val", "test"), classes=CLASSES)
    output = begin(str(place / "w"), verb="prepare", config=plain.config, inputs={})
    assert isinstance(output, StageOutput)
    added = {
        "sex": pa.array(SEXES, pa.string()),
        "age_years": pa.array(AGES_YEARS, pa.float32()),
        "labels.findings": pa.array(FINDINGS, pa.list_(pa.string())),
    }
    for part in range(plain.parts):
        table = files.read_table(plain.part(part))
        table = table.drop_columns([name for name in added if name in table.column_names])
        for name, column in added.items():
            table = table.append_column(name, column)
        write_part(output.directory, part, table)
    findings = LabelSet(name="findings", labels=("LVH", "STTC"))
    facts = plain.facts | {"label_sets": plain.facts["label_sets"] | {"findings": asdict(findings)}}
    return output.finish(parts=plain.parts, facts=facts)
