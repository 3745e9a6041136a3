"""Files: atomic writes, clear errors, and tables that come back as they went."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from hubert_ecg.errors import InputError
from hubert_ecg.storage import files, tables


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, target: Path) -> Path:
        raise OSError("no space left")

    files.write_bytes(str(tmp_path / "a"), b"old")
    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="no space"):
        files.write_bytes(str(tmp_path / "a"), b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert files.read_bytes(str(tmp_path / "a")) == b"old"


def test_missing_and_damaged_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "bad").write_bytes(b"{")
    with pytest.raises(InputError, match="no such file"):
        files.read_bytes(str(tmp_path / "nothing"))
    with pytest.raises(InputError, match="wanted JSON"):
        files.read_json(str(tmp_path / "bad"))
    with pytest.raises(InputError, match="wanted a Parquet file"):
        files.read_table(str(tmp_path / "bad"))


def test_not_a_number_never_gets_into_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(str(tmp_path / "a.json"), {"auroc": float("nan")})


def test_waveforms_of_any_length_come_back_sample_by_sample(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [rng.integers(-32768, 32767, size).astype(np.int16) for size in (12000, 0, 36, 12)]
    fixed = rng.normal(size=(4, 12)).astype(np.float32)
    columns = {
        "counts": tables.to_list_array(rows, pa.int16()),
        "gain": tables.to_fixed_list_array(fixed, pa.float32()),
    }
    path = str(tmp_path / "t.parquet")
    digest = files.write_table(path, pa.table(columns), row_group_size=3)
    assert digest == files.write_table(path, pa.table(columns), row_group_size=3)
    table = files.read_table(path)
    for got, wanted in zip(tables.list_rows(table["counts"]), rows, strict=True):
        np.testing.assert_array_equal(got, wanted)
    np.testing.assert_array_equal(tables.stack_rows(table["gain"]), fixed)
    sliced = tables.list_rows(table.slice(2, 1)["counts"])
    np.testing.assert_array_equal(sliced[0], rows[2])
    assert files.read_row_group(path, 1).num_rows == 1


def test_uris_stay_as_they_are() -> None:
    assert files.absolute("s3://bucket/a") == "s3://bucket/a"
    assert files.absolute("a").startswith("/")
    assert files.join("s3://bucket/a/", "b", "c") == "s3://bucket/a/b/c"
