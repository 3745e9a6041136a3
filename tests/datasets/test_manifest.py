"""Manifest CSVs: labels, splits and ids as written by hand, the original's split files, and what is refused."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from hubert_ecg.datasets.manifest import ManifestSource
from hubert_ecg.errors import ConfigError, InputError, RecordingError
from hubert_ecg.storage import files
from hubert_ecg.storage.tables import label_type


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three recordings; the value of every sample of x.npy is 1, of y.npy 2, of sub/z.npy 3."""
    (tmp_path / "sub").mkdir()
    for value, name in enumerate(["x.npy", "y.npy", "sub/z.npy"], start=1):
        np.save(tmp_path / name, np.full((12, 100), value, dtype=np.float64))
    return tmp_path


def write(path: Path, *lines: str) -> str:
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def test_every_column_that_has_a_meaning_is_read(folder: Path) -> None:
    write(
        folder / "manifest.csv",
        "filename,record_id,patient_id,age,sex,split,NORM,AFIB",
        "x.npy,one,p1,61.5,F,train,1,0",
        "sub/z.npy,two,NA,,male,test,1,1",
        "y.npy,,p3,50,,val,0,0",
    )
    source = ManifestSource(input=str(folder))
    listing = source.listing()
    assert listing.source == "manifest"
    assert listing.dropped == []
    assert listing.label_sets["manifest"].labels == ("NORM", "AFIB")
    assert listing.table.to_pylist() == [
        {
            "record_id": record_id,
            "patient_id": patient_id,
            "age_years": age_years,
            "sex": sex,
            "path": path,
            "split": split,
            "fold": None,
            "tags": [],
            "labels.manifest": labels,
        }
        for record_id, patient_id, age_years, sex, path, split, labels in [
            ("one", "p1", 61.5, "female", "x.npy", "train", ["NORM"]),
            ("two", "NA", None, "male", "sub/z.npy", "test", ["NORM", "AFIB"]),
            ("y", "p3", 50.0, None, "y.npy", "val", []),
        ]
    ]
    recording = pickle.loads(pickle.dumps(source)).read(listing.table.to_pylist()[1])  # noqa: S301
    assert recording.samples.shape == (12, 100)
    assert (recording.samples == 3).all()
    assert (recording.record_id, recording.patient_id, recording.sex) == ("two", "NA", "male")
    assert recording.sampling_rate_hz == 500


def test_the_original_projects_split_files_read_unchanged(folder: Path) -> None:
    """A row number, float labels, empty ages, labels from column 4 on, and file names with folders of another machine
    or none, with `.npy` behind a header's name or none."""
    (folder / "y.npy").rename(folder / "HR00001.npy")
    header = ",filename,age,sex,NORM,AFIB"
    train = write(folder / "train.csv", header, "0,x.npy,50.0,0,1.0,0.0", "1,z,,1.0,0.0,0.0")
    test = write(folder / "test.csv", header, "7,/data/elsewhere/ptb-xl/HR00001.hea.npy,nan,,0.0,1.0")
    source = ManifestSource(input=str(folder), train=train, test=test)
    listing = source.listing()
    rows = listing.table.to_pylist()
    assert [row["split"] for row in rows] == ["train", "train", "test"]
    assert [row["labels.manifest"] for row in rows] == [["NORM"], [], ["AFIB"]]
    assert [row["age_years"] for row in rows] == [50, None, None]
    assert [row["sex"] for row in rows] == ["male", "female", None]
    assert [row["path"] for row in rows] == ["x.npy", "sub/z.npy", "HR00001.npy"]
    assert [source.read(row).samples[0, 0] for row in rows] == [1, 3, 2]
    # A cell that says 0 is an answer.
    assert listing.label_sets["manifest"].none_is_negative


def test_a_name_that_fits_two_files_is_refused_and_folders_decide_where_they_can(folder: Path) -> None:
    np.save(folder / "z.npy", np.zeros((12, 100)))
    (folder / "other").mkdir()
    np.save(folder / "other" / "z.npy", np.zeros((12, 100)))
    for name, found in [("z.npy", "z.npy"), ("there/sub/z.hea", "sub/z.npy"), ("other/z", "other/z.npy")]:
        manifest = write(folder / "m.csv", "filename", name)
        listing = ManifestSource(input=str(folder), manifest=manifest).listing()
        assert listing.table["path"].to_pylist() == [found]
    manifest = write(folder / "m.csv", "filename", "/elsewhere/z.edf")
    with pytest.raises(InputError, match="wanted one recording of that name in .*, got .*z.npy and .*z.npy"):
        ManifestSource(input=str(folder), manifest=manifest).listing()


def test_a_regression_has_numbers_and_gaps(folder: Path) -> None:
    manifest = write(folder / "m.csv", "filename,lvef,k", "x.npy,55.5,4", "y.npy,,3.5", "sub/z.npy,60,")
    listing = ManifestSource(input=str(folder), manifest=manifest, label_start_index=1, task="regression").listing()
    assert listing.label_sets["manifest"].labels == ("lvef", "k")
    assert listing.label_sets["manifest"].task == "regression"
    column = listing.table["labels.manifest"]
    assert column.type == label_type("regression")
    np.testing.assert_array_equal(column.to_pylist(), [[55.5, 4], [np.nan, 3.5], [60, np.nan]])
    manifest = write(folder / "m.csv", "filename,lvef", "x.npy,55.5", "y.npy,good")
    with pytest.raises(InputError, match="y.npy: wanted a number for lvef, got 'good'"):
        ManifestSource(input=str(folder), manifest=manifest, label_start_index=1, task="regression").listing()


def test_class_numbers_written_as_floats_are_the_same_classes(folder: Path) -> None:
    manifest = write(folder / "m.csv", "filename,class", "x.npy,10.0", "y.npy,9.0")
    listing = ManifestSource(input=str(folder), manifest=manifest, label_start_index=1, task="multi_class").listing()
    assert listing.label_sets["manifest"].labels == ("9", "10")


def test_a_manifest_on_an_object_store_reads_as_on_a_disk(s3_bucket: str, folder: Path) -> None:
    write(folder / "manifest.csv", "filename,patient_id", "z.npy,p", "x,q")
    for path in folder.rglob("*.*"):
        files.write_bytes(f"{s3_bucket}/in/{path.relative_to(folder)}", path.read_bytes())
    source = ManifestSource(input=f"{s3_bucket}/in")
    rows = source.listing().table.to_pylist()
    assert [row["path"] for row in rows] == ["sub/z.npy", "x.npy"]
    assert [source.read(row).samples[0, 0] for row in rows] == [3, 1]


def test_without_splits_patients_are_kept_together(folder: Path) -> None:
    lines = [f"{place}.npy,{place // 3}" for place in range(300)]
    manifest = write(folder / "m.csv", "filename,patient_id", *lines)
    table = ManifestSource(input=str(folder), manifest=manifest).listing().table
    by_patient: dict[str, set[str]] = {}
    for row in table.to_pylist():
        by_patient.setdefault(row["patient_id"], set()).add(row["split"])
    assert len(by_patient) == 100
    assert all(len(splits) == 1 for splits in by_patient.values())
    assert set(table["split"].to_pylist()) == {"train", "val", "test"}


def test_a_manifest_without_labels_has_no_label_set(folder: Path) -> None:
    write(folder / "manifest.csv", "filename", "x.npy")
    assert ManifestSource(input=str(folder)).listing().label_sets == {}


def test_a_wfdb_record_can_be_named_without_suffix(shared_dir: Path, folder: Path) -> None:
    name = "records500/00000/00001_hr"
    write(folder / "manifest.csv", "filename", f"{shared_dir}/data/ptbxl500/{name}")
    source = ManifestSource(input=str(folder))
    recording = source.read(source.listing().table.to_pylist()[0])
    assert recording.samples.shape == (12, 5000)
    assert (recording.age_years, recording.sex) == (56, "female")


def test_multi_class_reads_one_hot_columns_and_class_names(folder: Path) -> None:
    one_hot = write(folder / "a.csv", "filename,A,B,C", "x.npy,0,0,1", "y.npy,1,0,0")
    names = write(folder / "b.csv", "filename,class", "x.npy,10", "y.npy,9")
    for manifest, labels, expected in [
        (one_hot, ("A", "B", "C"), [["C"], ["A"]]),
        (names, ("9", "10"), [["10"], ["9"]]),
    ]:
        listing = ManifestSource(
            input=str(folder), manifest=manifest, label_start_index=1, task="multi_class"
        ).listing()
        assert listing.label_sets["manifest"].task == "multi_class"
        assert listing.label_sets["manifest"].labels == labels
        assert listing.table["labels.manifest"].to_pylist() == expected


def test_a_row_without_file_name_is_dropped_with_its_reason(folder: Path) -> None:
    write(folder / "manifest.csv", "filename,patient_id", "x.npy,p1", ",p2")
    listing = ManifestSource(input=str(folder)).listing()
    assert listing.table["record_id"].to_pylist() == ["x"]
    assert [reason for _, reason in listing.dropped] == ["it has no file name"]
    assert "row 2" in listing.dropped[0][0]


def test_a_missing_file_surfaces_when_it_is_read(folder: Path) -> None:
    write(folder / "manifest.csv", "filename", "absent.npy")
    source = ManifestSource(input=str(folder))
    with pytest.raises(RecordingError) as caught:
        source.read(source.listing().table.to_pylist()[0])
    assert caught.value.reason == "missing file"


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["file,NORM", "x.npy,1"], "wanted a column filename, got file, NORM"),
        (["filename,NORM", "x.npy,1"], "set label_start_index to the first"),
        (["filename,a,b,c,NORM", "x.npy,0,0,0,2"], "x.npy: wanted 0 or 1 for label NORM, got"),
        (["filename,a,b,c,NORM", "x.npy,0,0,0,yes"], "x.npy: wanted 0 or 1 for label NORM, got 'yes'"),
        (["filename,a,b,c,NORM", "x.npy,0,0,0,"], "x.npy: wanted a value for label NORM, got nothing"),
        (["filename,age", "x.npy,old"], "x.npy: wanted an age in years, got 'old'"),
        (["filename,split", "x.npy,training"], r"wanted splits among train, val, test, got \['training'\]"),
        (["filename,split", "x.npy,"], "wanted train, val or test in `split`, got nothing"),
        (["filename", "x.npy", "x.npy"], "1 ids more than once: x"),
        (["filename,patient_id,split", "x.npy,p,train", "y.npy,p,test"], "1 in several: p"),
        (["filename"], "wanted at least one recording, got none"),
        (["filename", '"x.npy'], "wanted a CSV file"),
    ],
)
def test_what_a_manifest_lacks_is_said(folder: Path, lines: list[str], words: str) -> None:
    manifest = write(folder / "m.csv", *lines)
    with pytest.raises(InputError, match=words):
        ManifestSource(input=str(folder), manifest=manifest).listing()


def test_a_row_of_several_classes_is_refused(folder: Path) -> None:
    manifest = write(folder / "m.csv", "filename,A,B", "x.npy,1,1")
    with pytest.raises(InputError, match="wanted exactly one class, got 2"):
        ManifestSource(input=str(folder), manifest=manifest, label_start_index=1, task="multi_class").listing()


def test_split_files_with_other_columns_are_refused(folder: Path) -> None:
    train = write(folder / "train.csv", "filename,NORM", "x.npy,1")
    test = write(folder / "test.csv", "filename,AFIB", "y.npy,1")
    with pytest.raises(InputError, match=r"a difference in \['AFIB', 'NORM'\]"):
        ManifestSource(input=str(folder), train=train, test=test, label_start_index=1).listing()


def test_a_missing_manifest_and_contradicting_settings_are_refused(folder: Path) -> None:
    with pytest.raises(InputError, match=r"manifest\.csv: no such file"):
        ManifestSource(input=str(folder)).listing()
    with pytest.raises(ConfigError, match="got both"):
        ManifestSource(input=str(folder), manifest="a.csv", train="b.csv")
    with pytest.raises(ConfigError, match="label_start_index"):
        ManifestSource(label_start_index=-1)
    with pytest.raises(ConfigError, match="sampling_rate_hz"):
        ManifestSource(sampling_rate_hz=0)
