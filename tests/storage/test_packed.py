"""Lists of 16-bit integers go to disk as bytes and come back the same."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hubert_ecg.storage import files, tables
from hubert_ecg.storage.packed import packed, unpacked

ROWS = [[1, -2, 32767], [], [-32768], [5, 6]]


def lists(rows: list, kind: str = "int16") -> pa.Table:
    column = pa.array(rows, pa.list_(pa.type_for_alias(kind)))
    return pa.table({"a": pa.array(["x"] * len(rows), pa.string()), "counts": column})


@pytest.mark.parametrize(
    "table",
    [
        lists(ROWS),
        lists([[0, 65_535], [7]], "uint16"),
        lists(ROWS).slice(1, 2),
        lists([]),
        lists([[], []]),
        pa.concat_tables([lists(ROWS), lists(ROWS).slice(2), lists([])]),
    ],
    ids=["rows", "codes", "slice", "no rows", "empty rows", "chunks"],
)
def test_what_was_packed_comes_back(table: pa.Table, tmp_path: Path) -> None:
    assert unpacked(packed(table)).equals(table)
    path = str(tmp_path / "t.parquet")
    files.write_table(path, table)
    assert files.read_table(path).equals(table)
    assert files.read_table(path, ["counts"]).equals(table.select(["counts"]))


def test_other_readers_see_the_bytes(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    files.write_table(str(path), lists(ROWS))
    raw = pq.read_table(path)["counts"].to_pylist()
    assert [np.frombuffer(row, "<i2").tolist() for row in raw] == ROWS


def test_a_slice_of_what_was_read_is_read_right(tmp_path: Path) -> None:
    assert [row.tolist() for row in tables.list_rows(unpacked(packed(lists(ROWS)).slice(2))["counts"])] == ROWS[2:]


@pytest.mark.parametrize("rows", [[[1], None], [[1, None]]])
def test_nulls_stay_lists(rows: list) -> None:
    table = lists(rows)
    assert packed(table).schema == table.schema
    assert unpacked(packed(table)).equals(table)
