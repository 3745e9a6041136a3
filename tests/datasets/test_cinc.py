"""The Challenge's folders: codes, groups and persons from headers, counted a second way on the shared records."""

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from hubert_ecg.datasets.cinc import CincSource
from hubert_ecg.datasets.cinc_codes import CONDITION_CODES, SCORED, condition_labels, parse_diagnoses, scored_labels
from hubert_ecg.ecg.simulate import CONDITIONS
from hubert_ecg.errors import InputError
from hubert_ecg.storage import files


def test_the_scored_diagnoses_are_26_of_30_codes() -> None:
    codes = [code for _, of_label in SCORED.values() for code in of_label]
    assert len(SCORED) == 26
    assert len(codes) == len(set(codes)) == 30
    assert list(SCORED) == sorted(SCORED)
    assert ["NORM", *CONDITION_CODES] == list(CONDITIONS)


@pytest.mark.parametrize(
    ("text", "scored", "conditions"),
    [
        ("426783006", ["NSR"], ["NORM"]),
        # Sinus rhythm beside a block is no normal ECG.
        ("59118001,426783006", ["CRBBB|RBBB", "NSR"], ["CRBBB"]),
        ("713427006, 59118001", ["CRBBB|RBBB"], ["CRBBB"]),
        ("164909002", ["CLBBB|LBBB"], ["CLBBB"]),
        ("733534002", ["CLBBB|LBBB"], ["CLBBB"]),
        ("63593006,284470004", ["PAC|SVPB"], []),
        ("17338001", ["PVC|VPB"], []),
        ("270492004,164890007,164889003", ["AF", "AFL", "IAVB"], ["AFIB", "AFLT", "1AVB"]),
        ("PVC", ["PVC|VPB"], []),
        ("Unknown", [], []),
        ("", [], []),
        ("164865005", [], []),
    ],
)
def test_equal_diagnoses_are_grouped_as_the_challenge_does(text: str, scored: list[str], conditions: list[str]) -> None:
    codes = parse_diagnoses(text)
    assert scored_labels(codes) == scored
    assert condition_labels(codes) == conditions


def test_the_shared_records_list_as_their_headers_say(shared_dir: Path) -> None:
    """Counted here by regular expression over the headers' text."""
    folder = shared_dir / "data" / "cinc2021"
    source = CincSource(input=str(folder))
    listing = source.listing()
    rows = listing.table.to_pylist()
    texts = {path.stem: path.read_text() for path in folder.glob("*.hea")}
    assert listing.table.num_rows == len(texts) == 20
    codes = [
        code.replace("PAC", "284470004").replace("PVC", "427172004")
        for text in texts.values()
        for code in re.findall(r"\w+", re.findall(r"# ?Dx: (.*)", text)[0])
    ]
    assert Counter(label for row in rows for label in row["labels.snomed"]) == Counter(codes)
    assert listing.label_sets["snomed"].labels == tuple(sorted(set(codes)))
    ages = [float(re.findall(r"# ?Age: (\d+)", text)[0]) for text in texts.values()]
    assert sorted(row["age_years"] for row in rows) == sorted(ages)
    women = sum("Sex: Female" in text for text in texts.values())
    assert Counter(row["sex"] for row in rows) == {"female": women, "male": 20 - women}
    recording = source.read(rows[0])
    assert (recording.record_id, recording.samples.shape[0], recording.sampling_rate_hz) == ("A0001", 12, 500)
    # The first sample of lead I that the header promises, 28 steps of 1 uV.
    assert recording.samples[0, 0] == pytest.approx(0.028)


def test_folders_become_tags_and_names_stay_unique(tmp_path: Path) -> None:
    for folder in ("georgia/g1", "ningbo/g1"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "A1.hea").write_text("A1 1 500 10\nA1.mat 16 1000/mV 16 0 0 0 0 I\n#Dx: 426783006\n")
    (tmp_path / "ningbo" / "B2.hea").write_text(
        "B2 1 500 10\nB2.mat 16 1000/mV 16 0 0 0 0 I\n#Age: NaN\n#Sex: Unknown\n"
    )
    (tmp_path / "index.html").write_text("")
    listing = CincSource(input=str(tmp_path)).listing()
    rows = listing.table.to_pylist()
    assert {row["record_id"]: row["tags"] for row in rows} == {
        "georgia/g1/A1": ["georgia"], "ningbo/g1/A1": ["ningbo"], "B2": ["ningbo"]
    }  # fmt: skip
    unlabelled = next(row for row in rows if row["record_id"] == "B2")
    assert [unlabelled[f"labels.{name}"] for name in ("snomed", "scored", "conditions")] == [None] * 3
    assert (unlabelled["age_years"], unlabelled["sex"]) == (None, None)
    # Nobody said what B2 has not.
    assert not listing.label_sets["conditions"].none_is_negative
    assert listing.left_out == {"*.html": 1}


def test_an_absent_or_empty_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        CincSource(input=str(tmp_path / "absent")).listing()
    with pytest.raises(InputError, match="wanted at least one recording, got none"):
        CincSource(input=str(tmp_path)).listing()


def test_an_object_store_lists_and_reads_as_the_folder(s3_bucket: str, shared_dir: Path) -> None:
    folder = shared_dir / "data" / "cinc2021"
    for path in sorted(folder.glob("*"))[:6]:
        files.write_bytes(f"{s3_bucket}/in/{path.name}", path.read_bytes())
    remote, local = CincSource(input=f"{s3_bucket}/in"), CincSource(input=str(folder))
    rows = {row["record_id"]: row for row in local.listing().table.to_pylist()}
    found = remote.listing().table.to_pylist()
    assert len(found) == 3
    for row in found:
        wanted = rows[row["record_id"]]
        assert (row["labels.snomed"], row["age_years"]) == (wanted["labels.snomed"], wanted["age_years"])
    np.testing.assert_array_equal(remote.read(found[0]).samples, local.read(found[0]).samples)
