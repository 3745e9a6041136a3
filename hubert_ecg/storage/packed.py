"""Lists of 16-bit integers as bytes, for Parquet, and back.

Parquet stores integers in 32 bits and a list's bounds with each of its numbers: to read 12 x 1000 samples takes 0.26 ms
that way and 0.06 ms as bytes. The kind of integer stands in the metadata of the column.
"""

import numpy as np
import pyarrow as pa

KIND = b"packed"
"""Key of a column's metadata: the type of the numbers whose bytes its rows are."""
_TYPES = {"int16": pa.int16(), "uint16": pa.uint16()}
_BYTES = 2


def packed(table: pa.Table) -> pa.Table:
    """The table with its lists of 16-bit integers as bytes; those with a null in them stay as they are."""
    for place, field in enumerate(table.schema):
        if _is_short_list(field.type) and _is_full(table[place]):
            stored = pa.field(field.name, pa.large_binary(), metadata={KIND: str(field.type.value_type)})
            chunks = [_to_bytes(chunk) for chunk in table[place].chunks]
            table = table.set_column(place, stored, pa.chunked_array(chunks, pa.large_binary()))
    return table


def unpacked(table: pa.Table) -> pa.Table:
    """The table that was packed. The lists share the memory of the bytes."""
    for place, field in enumerate(table.schema):
        kind = (field.metadata or {}).get(KIND)
        if kind is not None:
            wanted = pa.list_(_TYPES[kind.decode()])
            chunks = [_to_lists(chunk, wanted) for chunk in table[place].chunks]
            table = table.set_column(place, pa.field(field.name, wanted), pa.chunked_array(chunks, wanted))
    return table


def _is_short_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) and kind.value_type in _TYPES.values()


def _is_full(column: pa.ChunkedArray) -> bool:
    return column.null_count == 0 and all(chunk.values.null_count == 0 for chunk in column.chunks)


def _to_bytes(lists: pa.ListArray) -> pa.LargeBinaryArray:
    bounds = lists.offsets.to_numpy().astype(np.int64)
    # Zero-length arrays may come without a buffer of values.
    values = lists.values.slice(bounds[0], bounds[-1] - bounds[0]).to_numpy(zero_copy_only=False)
    data = pa.py_buffer(np.ascontiguousarray(values).astype(values.dtype.newbyteorder("<"), copy=False))
    offsets = pa.py_buffer((bounds - bounds[0]) * _BYTES)
    return pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(lists), [None, offsets, data])


def _to_lists(rows: pa.LargeBinaryArray, kind: pa.ListType) -> pa.ListArray:
    _, offsets, data = rows.buffers()
    bounds = np.frombuffer(offsets, np.int64)[rows.offset : rows.offset + len(rows) + 1] // _BYTES
    numbers = np.frombuffer(data if data is not None else b"", np.dtype("<i2")).view(kind.value_type.to_pandas_dtype())
    first, last = (int(bounds[0]), int(bounds[-1])) if len(bounds) else (0, 0)
    return pa.ListArray.from_arrays(
        pa.array((bounds - first).astype(np.int32)), pa.array(numbers[first:last], kind.value_type), type=kind
    )
