"""Any folder or list of recordings: each once, whatever else lies there counted, labels and batches where given."""

from pathlib import Path

import numpy as np
import pytest

from hubert_ecg.datasets.files_folder import FilesSource
from hubert_ecg.datasets.splits import SplitConfig
from hubert_ecg.errors import ConfigError, InputError, RecordingError
from hubert_ecg.storage import files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """a.npy and ward/b.npy, whose samples are 1 and 2, and things that are no recordings."""
    (tmp_path / "ward").mkdir()
    np.save(tmp_path / "a.npy", np.full((12, 100), 1.0))
    np.save(tmp_path / "ward" / "b.npy", np.full((12, 100), 2.0))
    for name in ("notes.txt", "ward/scan.PDF", "ward/more.pdf", "RECORDS", "lost.dat", ".cache"):
        (tmp_path / name).write_text("x")
    return tmp_path


def paths(source: FilesSource) -> list[str]:
    found: list[str] = source.listing().table["path"].to_pylist()
    return found


def test_recordings_are_listed_and_all_else_is_counted(folder: Path) -> None:
    source = FilesSource(input=str(folder), sampling_rate_hz=250)
    listing = source.listing()
    rows = listing.table.to_pylist()
    assert [(row["record_id"], row["path"]) for row in rows] == [("a", "a.npy"), ("ward/b", "ward/b.npy")]
    assert listing.left_out == {
        "*.txt": 1, "*.pdf": 2, "files without suffix": 1, "*.dat without a header of that name": 1, "hidden files": 1
    }  # fmt: skip
    assert listing.label_sets == {}
    recording = source.read(rows[1])
    assert (recording.record_id, recording.sampling_rate_hz) == ("ward/b", 250)
    assert (recording.samples == 2).all()


def test_a_wfdb_record_is_one_recording(shared_dir: Path) -> None:
    """Eight records of two files each, and twenty of another kind: counted by their headers' names."""
    data = shared_dir / "data"
    for name, count in (("ptbxl500", 8), ("cinc2021", 20)):
        source = FilesSource(input=str(data / name))
        listing = source.listing()
        assert listing.table.num_rows == count
        assert listing.left_out == {}
        row = listing.table.to_pylist()[0]
        assert source.read(row).samples.shape[0] == 12


def test_a_name_that_two_files_share_keeps_its_suffix(folder: Path) -> None:
    (folder / "a.edf").write_text("x")
    assert FilesSource(input=str(folder)).listing().table["record_id"].to_pylist() == ["a.edf", "a.npy", "ward/b"]


def test_a_pattern_replaces_the_suffixes(folder: Path) -> None:
    assert paths(FilesSource(input=str(folder), pattern="ward/*")) == ["ward/b.npy", "ward/more.pdf", "ward/scan.PDF"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.txt", "# archive of 2019\nward/b.npy\n\na.npy\n"),
        ("LIST", "ward/b.npy\na.npy"),
        ("list.csv", "patient,filename\n1,ward/b.npy\n2,a.npy\n"),
        ("list.tsv", "path\tx\nward/b.npy\t\na.npy\t1\n"),
    ],
)
def test_a_list_of_paths_is_an_archive(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text)
    source = FilesSource(input=str(folder / name))
    rows = source.listing().table.to_pylist()
    assert [row["record_id"] for row in rows] == ["ward/b", "a"]
    assert [source.read(row).samples[0, 0] for row in rows] == [2, 1]


def test_a_list_may_name_files_anywhere_and_wfdb_records_without_suffix(ludb_dir: Path, folder: Path) -> None:
    (folder / "list.txt").write_text(f"{ludb_dir}/data/1\n{folder}/a.npy\n")
    source = FilesSource(input=str(folder / "list.txt"))
    assert [source.read(row).samples.shape for row in source.listing().table.to_pylist()] == [(12, 5000), (12, 100)]
    assert FilesSource(input=str(ludb_dir / "RECORDS")).listing().table.num_rows == 100


def test_a_batch_becomes_its_recordings_where_asked(folder: Path) -> None:
    batch = np.random.default_rng(0).normal(size=(3, 12, 50)).astype(np.float32)
    np.save(folder / "ward" / "c.npy", batch)
    source = FilesSource(input=str(folder), batches=True)
    rows = source.listing().table.to_pylist()
    assert [row["record_id"] for row in rows] == ["a", "ward/b", "ward/c#0", "ward/c#1", "ward/c#2"]
    np.testing.assert_array_equal(source.read(rows[4]).samples, batch[2])
    whole = FilesSource(input=str(folder))
    with pytest.raises(RecordingError, match=r"a batch of 3; .* \(--files.batches true does\)"):
        whole.read(whole.listing().table.to_pylist()[2])


def test_labels_are_joined_by_name_and_what_they_do_not_mention_stays_open(folder: Path) -> None:
    np.save(folder / "c.npy", np.zeros((12, 100)))
    (folder / "labels.csv").write_text(
        "filename,AFIB,NORM,patient_id,age,sex,split\nb,1,0,p1,70,F,test\na.npy,0,0,p2,,1,train\nc,0,1,p3,5,M,val\n"
    )
    source = FilesSource(input=str(folder), labels=str(folder / "labels.csv"))
    listing = source.listing()
    rows = {row["record_id"]: row for row in listing.table.to_pylist()}
    assert set(rows) == {"a", "c", "ward/b"}
    assert rows["ward/b"]["labels.files"] == ["AFIB"]
    assert rows["a"]["labels.files"] == []
    assert (rows["ward/b"]["split"], rows["ward/b"]["patient_id"], rows["ward/b"]["age_years"]) == ("test", "p1", 70)
    assert listing.label_sets["files"].none_is_negative
    recording = source.read(rows["ward/b"])
    assert (recording.patient_id, recording.age_years, recording.sex) == ("p1", 70, "female")
    (folder / "labels.csv").write_text("record_id,AFIB\na,1\n")
    partial = source.listing()
    assert {row["record_id"]: row["labels.files"] for row in partial.table.to_pylist()} == {
        "a": ["AFIB"], "c": None, "ward/b": None
    }  # fmt: skip
    assert not partial.label_sets["files"].none_is_negative


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("filename,AFIB\nabsent,1\n", "absent: wanted a recording of"),
        ("filename,AFIB\na,1\na.npy,0\n", "wanted one row per recording, got two for a.npy"),
        ("name,AFIB\na,1\n", "wanted a column filename or record_id"),
        ("filename,AFIB\na,2\n", "wanted 0 or 1 for label AFIB"),
    ],
)
def test_labels_that_fit_nothing_are_refused(folder: Path, text: str, words: str) -> None:
    (folder / "labels.csv").write_text(text)
    with pytest.raises(InputError, match=words):
        FilesSource(input=str(folder), labels=str(folder / "labels.csv")).listing()


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        FilesSource(input=str(tmp_path / "absent")).listing()
    with pytest.raises(InputError, match="wanted at least one recording, got none"):
        FilesSource(input=str(tmp_path)).listing()
    (tmp_path / "l.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="wanted a column filename or path, got a, b"):
        FilesSource(input=str(tmp_path / "l.csv")).listing()
    with pytest.raises(ConfigError, match="sampling_rate_hz"):
        FilesSource(sampling_rate_hz=float("nan"))


def test_a_folder_that_grows_moves_and_renames_nothing(folder: Path) -> None:
    for place in range(60):
        np.save(folder / f"r{place}.npy", np.zeros((12, 1)))
    source = FilesSource(input=str(folder), split=SplitConfig(val_fraction=0.3, test_fraction=0.3))
    before = {row["record_id"]: row["split"] for row in source.listing().table.to_pylist()}
    np.save(folder.joinpath("ward", "new.npy"), np.zeros((12, 1)))
    after = {row["record_id"]: row["split"] for row in source.listing().table.to_pylist()}
    assert len(after) == len(before) + 1
    assert {name: after[name] for name in before} == before


def test_an_object_store_lists_and_reads_as_a_disk(s3_bucket: str, folder: Path) -> None:
    batch = np.random.default_rng(0).normal(size=(2, 12, 50)).astype(np.float32)
    np.save(folder / "ward" / "c.npy", batch)
    (folder / "list.txt").write_text("ward/b.npy\n")
    for path in folder.rglob("*.*"):
        files.write_bytes(f"{s3_bucket}/in/{path.relative_to(folder)}", path.read_bytes())
    source = FilesSource(input=f"{s3_bucket}/in", batches=True)
    rows = source.listing().table.to_pylist()
    assert [row["record_id"] for row in rows] == ["a", "ward/b", "ward/c#0", "ward/c#1"]
    assert [source.read(row).samples[0, 0] for row in rows[:2]] == [1, 2]
    np.testing.assert_array_equal(source.read(rows[3]).samples, batch[1])
    listed = FilesSource(input=f"{s3_bucket}/in/list.txt")
    assert listed.read(listed.listing().table.to_pylist()[0]).samples[0, 0] == 2


def test_what_files_do_not_say_can_be_said_for_them(tmp_path: Path) -> None:
    """Three leads in uV, whose names and unit no array carries."""
    np.save(tmp_path / "a.npy", np.random.default_rng(0).normal(size=(3, 500)) * 1e6)
    source = FilesSource(input=str(tmp_path), lead_names=("I", "II", "V1"), units="uV", sampling_rate_hz=250)
    recording = source.read(source.listing().table.to_pylist()[0])
    assert recording.lead_names == ("I", "II", "V1")
    np.testing.assert_allclose(recording.samples, np.load(tmp_path / "a.npy") / 1000, rtol=1e-6)
    with pytest.raises(ConfigError, match="units"):
        FilesSource(units="kV")  # type: ignore[arg-type]


def test_a_folder_without_recordings_says_what_lies_there(tmp_path: Path) -> None:
    for name in ("a.scp", "b.scp", "notes.txt"):
        (tmp_path / name).write_text("x")
    with pytest.raises(InputError, match=r"got none; left out: 2 \*\.scp, 1 \*\.txt"):
        FilesSource(input=str(tmp_path)).listing()
