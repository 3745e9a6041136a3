"""LUDB: rhythm, axis and diagnoses recovered from the headers, counted a second way."""

import re
from collections import Counter
from pathlib import Path

from hubert_ecg.datasets.ludb import LudbSource

HEADER = """{name} 12 500 5000
{name}.dat 16 1716(6)/mV 0 0 -120 -32198 0 i
#<age>: 51
#<sex>: F
#<diagnoses>:
#Rhythm: Sinus bradycardia.
#Electric axis of the heart: left axis deviation. 
#Left  ventricular hypertrophy. 
#Left ventricular hypertrophy.
"""  # noqa: W291


def test_a_header_reads_as_worked_out_by_hand(tmp_path: Path) -> None:
    (tmp_path / "7.hea").write_text(HEADER.format(name="7"))
    (tmp_path / "8.hea").write_text("8 1 500 5000\n8.dat 16 200/mV 0 0 0 0 0 i\n#<diagnoses>:\n")
    listing = LudbSource(input=str(tmp_path)).listing()
    first, second = listing.table.drop_columns(["split"]).to_pylist()
    assert first == {
        "record_id": "7",
        "patient_id": "7",
        "age_years": 51,
        "sex": "female",
        "path": "7.hea",
        "fold": None,
        "tags": [],
        "labels.rhythm": ["Sinus bradycardia"],
        "labels.axis": ["left axis deviation"],
        "labels.diagnoses": ["Left ventricular hypertrophy"],
    }
    assert [second[f"labels.{name}"] for name in ("rhythm", "axis", "diagnoses")] == [[], [], []]


def test_the_real_headers_count_as_their_text_does(ludb_dir: Path) -> None:
    source = LudbSource(input=str(ludb_dir))
    listing = source.listing()
    rows = listing.table.to_pylist()
    text = "\n".join(path.read_text() for path in (ludb_dir / "data").glob("*.hea"))
    assert len(rows) == len(list((ludb_dir / "data").glob("*.hea"))) == 100
    rhythms = Counter(match.rstrip(" .\r") for match in re.findall(r"#Rhythm: (.*)", text))
    assert Counter(label for row in rows for label in row["labels.rhythm"]) == rhythms
    assert rhythms["Sinus rhythm"] == 67
    assert all(len(row["labels.rhythm"]) == 1 for row in rows)
    assert listing.label_sets["rhythm"].labels == tuple(sorted(rhythms))
    axes = Counter(label for row in rows for label in row["labels.axis"])
    assert axes["normal"] == text.count("#Electric axis of the heart: normal")
    diagnoses = Counter(label for row in rows for label in row["labels.diagnoses"])
    assert diagnoses["Left ventricular hypertrophy"] == text.count("#Left ventricular hypertrophy.") == 49
    assert not [label for label in diagnoses if label.startswith(("Rhythm", "Electric", "<"))]
    recording = source.read(rows[0])
    assert (recording.samples.shape, recording.sampling_rate_hz) == ((12, 5000), 500)
    assert (recording.age_years, recording.sex) == (rows[0]["age_years"], rows[0]["sex"])


def test_every_split_gets_common_rhythms(ludb_dir: Path) -> None:
    rows = LudbSource(input=str(ludb_dir)).listing().table.to_pylist()
    sinus = Counter(row["split"] for row in rows if row["labels.rhythm"] == ["Sinus rhythm"])
    assert abs(sinus["val"] - 6.7) < 3
    assert abs(sinus["test"] - 6.7) < 3
