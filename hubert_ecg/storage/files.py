"""The one seam to the file system: whole-file reads and atomic whole-file writes, local or `s3://`.

A file written here is there completely or not at all: local files are written beside their target and renamed, and an
object store publishes an object only when its upload is complete. Where an object store is, and who asks, it learns
from the standard environment variables (AWS_ENDPOINT_URL, AWS_REGION, AWS_PROFILE, ...), never from a path.
"""

import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs
from tenacity import retry, retry_if_exception, stop_after_attempt, wait_random_exponential

from hubert_ecg.errors import InputError
from hubert_ecg.storage import packed

_ATTEMPTS = 8
"""Tries of one request to an object store, with growing pauses, before it counts as failed."""
_BROKEN_OFF = re.compile(r"response stream|partial file|curlCode: (18|56)\b")
"""What the S3 client says of an answer that ended in the middle, which it does not always ask for again."""
_CONNECT_TIMEOUT_S = 10
_REQUEST_TIMEOUT_S = 60
_AT_ONCE = 16
"""Small files that are read at the same time."""
_PIECE_BYTES = 8 * 1024 * 1024
_COPY_OF_THE_CODE = "/runtime_resources/working_dir_files/"
"""Where Ray unpacks what `ray job submit --working-dir` has sent."""


def absolute(path: str | os.PathLike[str]) -> str:
    """An absolute local path, or the URI as it is: what may be handed to a process in another directory.

    Raises InputError for a relative path inside a submitted job, which runs in a copy of the code that Ray deletes.
    """
    text = os.fspath(path)
    if is_rooted(text) or text.startswith("~"):
        return text if "://" in text else str(Path(text).expanduser().resolve())
    if _COPY_OF_THE_CODE in os.getcwd():
        raise InputError(
            f"{text}: wanted an absolute path or s3:// in a job that was submitted to a cluster, got a relative one, "
            f"which would lie in the job's copy of the code and go with it"
        )
    return str(Path(text).resolve())


def join(directory: str, *names: str) -> str:
    return "/".join([directory.rstrip("/"), *names])


def within(directory: str, path: str) -> str:
    """`path` below `directory`, unless it is absolute or a URI, which is its own place."""
    return path if is_rooted(path) else join(directory, path)


def is_rooted(path: str) -> bool:
    """Whether a path says by itself where it is."""
    return "://" in path or os.path.isabs(path)


def exists(path: str) -> bool:
    return _kind(path) != fs.FileType.NotFound


def is_file(path: str) -> bool:
    return _kind(path) == fs.FileType.File


def list_names(directory: str) -> list[str]:
    """The sorted names of the files directly in a directory; empty when there is none."""
    system, name = _resolve(directory)
    selector = fs.FileSelector(name, allow_not_found=True)
    with _clear_errors(directory):
        infos = system.get_file_info(selector)
    return sorted(info.base_name for info in infos if info.type == fs.FileType.File)


def list_directories(directory: str) -> list[str]:
    """The sorted names of the directories directly in a directory; empty when there is none."""
    system, name = _resolve(directory)
    with _clear_errors(directory):
        infos = system.get_file_info(fs.FileSelector(name, allow_not_found=True))
    return sorted(info.base_name for info in infos if info.type == fs.FileType.Directory)


def walk(directory: str) -> Iterator[tuple[str, int]]:
    """(path below the directory, bytes) of every file in it and in its folders, in no promised order.

    Nothing is opened and no list is built: an object store is asked once per thousand objects. Raises InputError when
    there is no such directory.
    """
    if _scheme(directory) == "s3":
        found = _walk_s3(directory)
    elif _scheme(directory):
        found = _walk_other(directory)
    else:
        found = _walk_local(directory)
    yield from found


def _broke_off(error: BaseException) -> bool:
    return isinstance(error.__cause__, OSError) and _BROKEN_OFF.search(str(error.__cause__)) is not None


_whole_answer = retry(
    retry=retry_if_exception(_broke_off),
    stop=stop_after_attempt(_ATTEMPTS),
    wait=wait_random_exponential(multiplier=0.1, max=5),
    reraise=True,
)
"""Read again, from the beginning, what broke off."""


@_whole_answer
def read_bytes(path: str) -> bytes:
    system, name = _resolve(path)
    with _clear_errors(path), system.open_input_stream(name) as stream:
        return bytes(stream.read())


@_whole_answer
def download(path: str, target: str) -> None:
    """Copy a file to a local path, a piece at a time."""
    system, name = _resolve(path)
    with _clear_errors(path), system.open_input_stream(name) as stream, open(target, "wb") as file:
        shutil.copyfileobj(stream, file, _PIECE_BYTES)


def upload(source: str, path: str) -> None:
    """Copy a local file to a path, a piece at a time."""
    system, name = _resolve(path)
    if isinstance(system, fs.LocalFileSystem):
        with _replacing(name) as temporary:
            shutil.copyfile(source, temporary)
        return
    with _clear_errors(path), open(source, "rb") as file, system.open_output_stream(name) as stream:
        shutil.copyfileobj(file, stream, _PIECE_BYTES)


def filesystem(path: str) -> tuple[fs.FileSystem, str]:
    """The file system that a path is on, and the path there: for libraries that write by themselves."""
    return _resolve(path)


def version(path: str) -> tuple[int, int]:
    """(bytes, time of the last change in ns) of a file: what differs when it was replaced. (-1, -1): there is none."""
    system, name = _resolve(path)
    with _clear_errors(path):
        info = system.get_file_info(name)
    return (info.size, info.mtime_ns or 0) if info.type == fs.FileType.File else (-1, -1)


def write_bytes(path: str, data: bytes) -> None:
    system, name = _resolve(path)
    if not isinstance(system, fs.LocalFileSystem):
        with _clear_errors(path), system.open_output_stream(name) as stream:
            stream.write(data)
        return
    with _replacing(name) as temporary, open(temporary, "wb") as file:
        file.write(data)


@contextmanager
def _replacing(name: str) -> Iterator[Path]:
    """A temporary local path beside a file, which takes its place when the block has ended well."""
    target = Path(name)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def delete(path: str) -> None:
    """Delete a file; nothing happens when there is none."""
    system, name = _resolve(path)
    with _clear_errors(path):
        if system.get_file_info(name).type != fs.FileType.NotFound:
            system.delete_file(name)


def delete_directory(path: str) -> None:
    """Delete a directory and all that is in it; nothing happens when there is none."""
    system, name = _resolve(path)
    with _clear_errors(path):
        if system.get_file_info(name).type == fs.FileType.Directory:
            system.delete_dir(name)


def read_json(path: str) -> Any:
    try:
        return json.loads(read_bytes(path))
    except ValueError as error:
        raise InputError(f"{path}: wanted JSON, got something else ({error}); the file is damaged") from error


def read_jsons(paths: Sequence[str]) -> list[Any]:
    """The content of many files, in order; from an object store several at a time, for each answer takes a while."""
    if not any(_scheme(path) for path in paths):
        return [read_json(path) for path in paths]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(read_json, paths))


def write_json(path: str, value: Any) -> None:
    """NaN and infinity are refused: they are not JSON, and other readers would choke on them."""
    write_bytes(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def write_table(path: str, table: pa.Table, *, row_group_size: int | None = None) -> str:
    """Write one Parquet file and return the SHA-256 of its bytes (hex). Same table, same bytes.

    Lists of 16-bit integers, waveforms and codes, are stored as their bytes (little-endian), which other readers of
    Parquet see and `read_table` turns back: they are read five times as fast as Parquet's own lists.
    """
    sink = pa.BufferOutputStream()
    table = packed.packed(table)
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


def write_tables(path: str, schema: pa.Schema, tables: Iterable[pa.Table]) -> None:
    """Write tables of one schema into one Parquet file, a row group each; one at a time is in memory."""
    system, name = _resolve(path)
    local = isinstance(system, fs.LocalFileSystem)
    target = str(Path(name).with_name(f".{Path(name).name}.{uuid.uuid4().hex}")) if local else name
    try:
        with (
            _clear_errors(path),
            system.open_output_stream(target) as sink,
            pq.ParquetWriter(sink, schema, compression="zstd") as writer,
        ):
            for table in tables:
                writer.write_table(table)
        if local:
            os.replace(target, name)
    finally:
        if local:
            Path(target).unlink(missing_ok=True)


@_whole_answer
def read_table(path: str, columns: list[str] | None = None) -> pa.Table:
    system, name = _resolve(path)
    try:
        with _clear_errors(path, advice="the directory it belongs to is unfinished or damaged"):
            return packed.unpacked(pq.read_table(name, columns=columns, filesystem=system))
    except pa.ArrowInvalid as error:
        raise InputError(f"{path}: wanted a Parquet file, got something else ({error}); write it again") from error


@_whole_answer
def read_row_group(path: str, index: int) -> pa.Table:
    """One row group of a Parquet file, without reading the others."""
    system, name = _resolve(path)
    with _clear_errors(path), system.open_input_file(name) as file:
        return packed.unpacked(pq.ParquetFile(file).read_row_group(index))


def _kind(path: str) -> fs.FileType:
    system, name = _resolve(path)
    with _clear_errors(path):
        return system.get_file_info(name).type


def _scheme(path: str) -> str:
    return path.split("://", 1)[0].lower() if "://" in path else ""


def _resolve(path: str) -> tuple[fs.FileSystem, str]:
    scheme = _scheme(path)
    if not scheme:
        return fs.LocalFileSystem(), str(Path(path).expanduser().resolve())
    place = path.split("://", 1)[1]
    if "@" in place.split("/", 1)[0]:
        # The path itself is not shown: it would put the key into a log.
        raise InputError(f"{scheme}://...@...: wanted a path without credentials; put them into the environment")
    if scheme == "s3":
        return _s3(
            place.split("/", 1)[0], os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        ), (place.rstrip("/"))
    with _clear_errors(path):
        try:
            system, name = fs.FileSystem.from_uri(path)
        except pa.ArrowInvalid as error:
            raise InputError(f"{path}: wanted a local path or s3://; {error}") from error
    return system, name


@lru_cache(maxsize=16)
def _s3(bucket: str, endpoint: str | None) -> fs.S3FileSystem:
    """One client per bucket, kept: making one costs more than most requests."""
    settings: dict[str, Any] = {}
    if endpoint:
        scheme, _, host = endpoint.rpartition("://")
        settings = {"endpoint_override": host.rstrip("/"), "scheme": scheme or "https"}
    elif not (os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")):
        with _clear_errors(f"s3://{bucket}"):
            settings = {"region": fs.resolve_s3_region(bucket)}
    return fs.S3FileSystem(
        **settings,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=_ATTEMPTS),
        connect_timeout=_CONNECT_TIMEOUT_S,
        request_timeout=_REQUEST_TIMEOUT_S,
        allow_delayed_open=True,
    )


@contextmanager
def _clear_errors(path: str, advice: str = "check the path") -> Iterator[None]:
    """What a file system says, as an InputError that names the path. A full local disk stays an OSError."""
    try:
        yield
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; {advice}") from error
    except OSError as error:
        if not _scheme(path):
            raise
        raise InputError(f"{path}: the object store refused: {error}; check bucket, network and credentials") from error


def _walk_local(directory: str) -> Iterator[tuple[str, int]]:
    root = str(Path(directory).expanduser().resolve())
    if not os.path.isdir(root):
        raise InputError(f"{directory}: no such folder; check the path")
    waiting, seen = [""], {root}
    while waiting:
        folder = waiting.pop()
        try:
            entries = list(os.scandir(os.path.join(root, folder)))
        except PermissionError as error:
            raise InputError(f"{join(directory, folder)}: this user may not list the folder; ask its owner") from error
        for entry in entries:
            path = f"{folder}/{entry.name}" if folder else entry.name
            if entry.is_dir():
                # Links to folders are followed, but not round in a circle.
                real = os.path.realpath(entry.path) if entry.is_symlink() else entry.path
                if real not in seen:
                    seen.add(real)
                    waiting.append(path)
            elif entry.is_file():
                yield path, entry.stat().st_size


def _walk_s3(directory: str) -> Iterator[tuple[str, int]]:
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    _resolve(directory)  # refuses credentials in the path
    bucket, _, prefix = directory.split("://", 1)[1].rstrip("/").partition("/")
    prefix = f"{prefix}/" if prefix else ""
    retries = Config(
        retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
        connect_timeout=_CONNECT_TIMEOUT_S,
        read_timeout=_REQUEST_TIMEOUT_S,
    )
    client = boto3.client("s3", config=retries)
    found = False
    try:
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for item in page.get("Contents", ()):
                found = True
                path = item["Key"][len(prefix) :]
                if path and not path.endswith("/"):
                    yield path, item["Size"]
    except (BotoCoreError, ClientError) as error:
        raise InputError(
            f"{directory}: the object store refused: {error}; check bucket, network and credentials"
        ) from error
    if not found:
        raise InputError(f"{directory}: no such folder; check the path")


def _walk_other(directory: str) -> Iterator[tuple[str, int]]:
    system, name = _resolve(directory)
    with _clear_errors(directory):
        infos = system.get_file_info(fs.FileSelector(name, recursive=True))
    for info in infos:
        if info.type == fs.FileType.File:
            yield info.path[len(name) :].lstrip("/"), info.size


def _is_number_list(kind: pa.DataType) -> bool:
    is_list = pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind)
    return is_list and (pa.types.is_integer(kind.value_type) or pa.types.is_floating(kind.value_type))
