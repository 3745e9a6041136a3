"""The one seam to the file system: whole-file reads and atomic whole-file writes, local or `s3://`.

A file written here is there completely or not at all: local files are written beside their target and renamed, and an
object store publishes an object only when its upload is complete.
"""

import hashlib
import json
import os
import uuid
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from hubert_ecg.errors import InputError


def absolute(path: str | os.PathLike[str]) -> str:
    """An absolute local path, or the URI as it is: what may be handed to a process in another directory."""
    text = os.fspath(path)
    return text if "://" in text else str(Path(text).expanduser().resolve())


def join(directory: str, *names: str) -> str:
    return "/".join([directory.rstrip("/"), *names])


def exists(path: str) -> bool:
    system, name = _resolve(path)
    return system.get_file_info(name).type != fs.FileType.NotFound


def list_names(directory: str) -> list[str]:
    """The sorted names of the files directly in a directory; empty when there is none."""
    system, name = _resolve(directory)
    selector = fs.FileSelector(name, allow_not_found=True)
    return sorted(info.base_name for info in system.get_file_info(selector) if info.type == fs.FileType.File)


def read_bytes(path: str) -> bytes:
    system, name = _resolve(path)
    try:
        with system.open_input_stream(name) as stream:
            return bytes(stream.read())
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; check the path") from error


def write_bytes(path: str, data: bytes) -> None:
    system, name = _resolve(path)
    if not isinstance(system, fs.LocalFileSystem):
        with system.open_output_stream(name) as stream:
            stream.write(data)
        return
    target = Path(name)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def delete(path: str) -> None:
    """Delete a file; nothing happens when there is none."""
    system, name = _resolve(path)
    if system.get_file_info(name).type != fs.FileType.NotFound:
        system.delete_file(name)


def read_json(path: str) -> Any:
    try:
        return json.loads(read_bytes(path))
    except ValueError as error:
        raise InputError(f"{path}: wanted JSON, got something else ({error}); the file is damaged") from error


def write_json(path: str, value: Any) -> None:
    """NaN and infinity are refused: they are not JSON, and other readers would choke on them."""
    write_bytes(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def write_table(path: str, table: pa.Table, *, row_group_size: int | None = None) -> str:
    """Write one Parquet file and return the SHA-256 of its bytes (hex). Same table, same bytes."""
    sink = pa.BufferOutputStream()
    # Waveforms, features and codes are numbers without repeats: dictionaries would only cost time.
    numeric = [field.name for field in table.schema if _is_number_list(field.type)]
    split = [f"{name}.list.element" for name in numeric]
    pq.write_table(
        table,
        sink,
        compression="zstd",
        use_dictionary=[field.name for field in table.schema if field.name not in numeric],
        use_byte_stream_split=split,
        row_group_size=row_group_size,
    )
    data = sink.getvalue().to_pybytes()
    write_bytes(path, data)
    return hashlib.sha256(data).hexdigest()


def read_table(path: str, columns: list[str] | None = None) -> pa.Table:
    system, name = _resolve(path)
    try:
        return pq.read_table(name, columns=columns, filesystem=system)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; the directory it belongs to is unfinished or damaged") from error
    except pa.ArrowInvalid as error:
        raise InputError(f"{path}: wanted a Parquet file, got something else ({error}); write it again") from error


def read_row_group(path: str, index: int) -> pa.Table:
    """One row group of a Parquet file, without reading the others."""
    system, name = _resolve(path)
    with system.open_input_file(name) as file:
        return pq.ParquetFile(file).read_row_group(index)


def _resolve(path: str) -> tuple[fs.FileSystem, str]:
    if "://" in path:
        system, name = fs.FileSystem.from_uri(path)
        return system, name
    return fs.LocalFileSystem(), str(Path(path).expanduser().resolve())


def _is_number_list(kind: pa.DataType) -> bool:
    is_list = pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind)
    return is_list and (pa.types.is_integer(kind.value_type) or pa.types.is_floating(kind.value_type))
