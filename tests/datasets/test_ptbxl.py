"""PTB-XL: a toy database worked out by hand, and the real one counted a second way."""

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hubert_ecg.datasets.ptbxl import PtbxlSource
from hubert_ecg.errors import ConfigError, InputError

STATEMENTS = """,description,diagnostic,form,rhythm,diagnostic_class,diagnostic_subclass
NORM,normal ECG,1.0,,,NORM,NORM
NDT,non-diagnostic T,1.0,1.0,,STTC,STTC
DIG,digitalis,1.0,1.0,,STTC,STTC
CLBBB,left block,1.0,,,CD,CLBBB
ABQRS,abnormal QRS,,1.0,,,
AFIB,atrial fibrillation,,,1.0,,
"""
DATABASE = """ecg_id,patient_id,age,sex,scp_codes,strat_fold,filename_lr,filename_hr,sample
1,15709.0,56.0,1,"{'NORM': 100.0, 'AFIB': 0.0}",1,lr/1,hr/1,natural
2,,300.0,0,"{'NDT': 0.0, 'DIG': 80.0, 'ABQRS': 15.0}",2,lr/2,hr/2,enriched
3,7.0,,1,"{'CLBBB': 100.0, 'NEW': 1.0}",3,lr/3,hr/3,natural
4,8.0,40,1,{'CLBBB': oops,3,lr/4,hr/4,natural
5,9.0,41,1,{},,lr/5,hr/5,natural
"""


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    (tmp_path / "scp_statements.csv").write_text(STATEMENTS)
    (tmp_path / "ptbxl_database.csv").write_text(DATABASE)
    return tmp_path


def test_a_toy_database_lists_as_worked_out_by_hand(toy: Path) -> None:
    listing = PtbxlSource(input=str(toy), val_fold=2, test_fold=3, rate_hz=100).listing()
    assert [thing for thing, _ in listing.dropped] == ["4", "5"]
    assert listing.table.drop_columns(
        [c for c in listing.table.column_names if c.startswith("labels.")]
    ).to_pylist() == [
        dict(zip(["record_id", "patient_id", "age_years", "sex", "path", "split", "fold", "tags"], row, strict=True))
        for row in [
            ("1", "15709", 56, "female", "lr/1", "train", 1, ["natural"]),
            ("2", None, 90, "male", "lr/2", "val", 2, ["enriched"]),
            ("3", "7", None, "female", "lr/3", "test", 3, ["natural"]),
        ]
    ]
    expected = {
        "all": (
            ("ABQRS", "AFIB", "CLBBB", "DIG", "NDT", "NEW", "NORM"),
            [["AFIB", "NORM"], ["ABQRS", "DIG", "NDT"], ["CLBBB", "NEW"]],
        ),
        "diagnostic": (("CLBBB", "DIG", "NDT", "NORM"), [["NORM"], ["DIG", "NDT"], ["CLBBB"]]),
        "subclass": (("CLBBB", "NORM", "STTC"), [["NORM"], ["STTC"], ["CLBBB"]]),
        "superclass": (("CD", "NORM", "STTC"), [["NORM"], ["STTC"], ["CD"]]),
        "form": (("ABQRS", "DIG", "NDT"), [[], ["ABQRS", "DIG", "NDT"], []]),
        "rhythm": (("AFIB",), [["AFIB"], [], []]),
        "conditions": (
            ("NORM", "AFIB", "AFLT", "CLBBB", "CRBBB", "1AVB"),
            [["NORM", "AFIB"], [], ["CLBBB"]],
        ),
    }
    assert {name: label_set.labels for name, label_set in listing.label_sets.items()} == {
        name: labels for name, (labels, _) in expected.items()
    }
    for name, (_, rows) in expected.items():
        assert listing.table[f"labels.{name}"].to_pylist() == rows, name


def test_the_rate_chooses_the_file(toy: Path) -> None:
    source = PtbxlSource(input=str(toy), val_fold=2, test_fold=3, rate_hz=500)
    assert source.listing().table["path"].to_pylist() == ["hr/1", "hr/2", "hr/3"]


def test_impossible_settings_and_folders_are_refused(toy: Path) -> None:
    for settings in ({"val_fold": 10}, {"test_fold": 0}, {"rate_hz": 250}):
        with pytest.raises(ConfigError):
            PtbxlSource(input=str(toy), **settings)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"wanted records in fold 9, got folds \[1, 2, 3\]; change val_fold"):
        PtbxlSource(input=str(toy)).listing()
    with pytest.raises(InputError, match=r"no such file; wanted the folder of PTB-XL"):
        PtbxlSource(input=str(toy / "absent")).listing()
    (toy / "ptbxl_database.csv").write_text("ecg_id,age\n1,2\n")
    with pytest.raises(InputError, match="wanted columns patient_id, sex"):
        PtbxlSource(input=str(toy)).listing()


def test_the_real_database_counts_as_the_raw_csv_does(ptbxl_dir: Path) -> None:
    """Counted here from the text of the CSV by regular expression, sharing no step with the library."""
    source = PtbxlSource(input=str(ptbxl_dir), val_fold=8, test_fold=9, rate_hz=100)
    listing = source.listing()
    raw = pd.read_csv(ptbxl_dir / "ptbxl_database.csv", dtype=str)
    keys = [set(re.findall(r"'([^']+)':", text)) for text in raw["scp_codes"]]
    assert listing.table.num_rows == len(raw) == 4860
    assert listing.dropped == []
    sizes = {name: len(label_set.labels) for name, label_set in listing.label_sets.items()}
    assert sizes == {
        "all": 71, "diagnostic": 44, "subclass": 23, "superclass": 5, "form": 19, "rhythm": 12, "conditions": 6
    }  # fmt: skip
    assert Counter(label for row in listing.table["labels.all"].to_pylist() for label in row) == Counter(
        key for row in keys for key in row
    )
    conduction = ["LAFB", "IRBBB", "1AVB", "IVCD", "CRBBB", "CLBBB", "LPFB", "WPW", "ILBBB", "3AVB", "2AVB"]
    superclass = listing.table["labels.superclass"].to_pylist()
    assert sum("CD" in row for row in superclass) == sum(bool(row & set(conduction)) for row in keys) > 0
    assert sum("NORM" in row for row in superclass) == 1799
    subclass = listing.table["labels.subclass"].to_pylist()
    assert sum("_AVB" in row for row in subclass) == sum(bool(row & {"1AVB", "2AVB", "3AVB"}) for row in keys) > 0
    conditions = Counter(label for row in listing.table["labels.conditions"].to_pylist() for label in row)
    assert conditions == {"NORM": 1799, "AFIB": 726, "AFLT": 33, "CLBBB": 249, "CRBBB": 262, "1AVB": 372}
    assert Counter(listing.table["split"].to_pylist()) == {"train": 3782, "val": 539, "test": 539}
    assert Counter(row[0] for row in listing.table["tags"].to_pylist()) == {"natural": 3960, "enriched": 900}
    assert np.nanmax(listing.table["age_years"].to_numpy()) == 90


def test_a_real_record_reads_with_the_databases_person(ptbxl_dir: Path) -> None:
    source = PtbxlSource(input=str(ptbxl_dir), val_fold=8, test_fold=9, rate_hz=100)
    row = source.listing().table.slice(0, 1).to_pylist()[0]
    recording = source.read(row)
    assert recording.samples.shape == (12, 1000)
    assert (recording.sampling_rate_hz, recording.lead_names[3]) == (100, "AVR")
    assert (recording.record_id, recording.patient_id, recording.age_years, recording.sex) == (
        "1",
        "15709",
        56,
        "female",
    )
    # The first sample of the raw file, -119 counts of 1 uV.
    assert recording.samples[0, 0] == pytest.approx(-0.119)


def test_rare_labels_can_be_removed(toy: Path) -> None:
    listing = PtbxlSource(input=str(toy), val_fold=2, test_fold=3, rate_hz=100, min_count=2).listing()
    assert {name: label_set.labels for name, label_set in listing.label_sets.items() if label_set.labels} == {}
    assert listing.table.num_rows == 3
    listing = PtbxlSource(input=str(toy), val_fold=2, test_fold=3, rate_hz=100, min_count=1).listing()
    # NEW, which no table describes, is used; `conditions` loses those that nobody has.
    assert listing.label_sets["all"].labels == ("ABQRS", "AFIB", "CLBBB", "DIG", "NDT", "NEW", "NORM")
    assert listing.label_sets["conditions"].labels == ("NORM", "AFIB", "CLBBB")
    with pytest.raises(ConfigError, match="min_count"):
        PtbxlSource(min_count=-1)
