"""What the app makes of uploaded files: every format and shape, what is asked for, and that all stays in memory."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.testclient import TestClient

from hubert_ecg.ecg.recording import standard_12_lead
from serve.diagnosis.uploads import keep_in_memory, read_uploads, title_of
from serve.in_memory import memory_folder
from tests.serve.diagnosis.ecg_files import IDENTIFIERS, RATE_HZ, files_of, npy, npy_shapes, samples_mv

SAMPLES = samples_mv()
FILES = files_of(SAMPLES)
RATES = {"ecg.npy": RATE_HZ, "ecg.csv": RATE_HZ}
_seen: list[str] | None = None


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open" and _seen is not None:
        path, _, flags = arguments
        if isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            _seen.append(str(path))


sys.addaudithook(_hook)


@contextmanager
def files_opened_for_writing() -> Iterator[list[str]]:
    """Names of all files that Python code opens for writing meanwhile."""
    global _seen
    _seen = found = []
    try:
        yield found
    finally:
        _seen = None


@pytest.mark.parametrize("kind", FILES)
def test_every_format_is_read_and_only_asks_for_a_rate_that_it_does_not_say(kind: str) -> None:
    [asked] = read_uploads(FILES[kind], {})
    assert asked.needs_rate == (kind in ("npy", "csv"))
    [read] = read_uploads(FILES[kind], RATES)
    assert (read.problem, read.needs_rate) == (None, False)
    [recording] = read.recordings
    assert recording.sampling_rate_hz == RATE_HZ
    np.testing.assert_allclose(standard_12_lead(recording).samples, SAMPLES, atol=0.02)


@pytest.mark.skipif(memory_folder() is None, reason="this system has no folder in memory")
@pytest.mark.parametrize("kind", FILES)
def test_nothing_is_written_but_to_memory_and_nothing_stays(kind: str) -> None:
    before = set(os.listdir("/dev/shm"))
    with files_opened_for_writing() as found:
        read_uploads(FILES[kind], RATES)
        tempfile.TemporaryFile(dir="/dev/shm").close()  # the hook sees even files without a name
    assert len(found) > len(FILES[kind])
    assert [path for path in found if not path.startswith("/dev/shm")] == []
    assert set(os.listdir("/dev/shm")) - before == set()


def test_large_uploads_are_not_put_into_temporary_files() -> None:
    async def size_of_upload(request: Request) -> Response:
        async with request.form() as form:
            [upload] = form.values()
            assert isinstance(upload, UploadFile)
            return Response(str(len(await upload.read())))

    keep_in_memory()
    client = TestClient(Starlette(routes=[Route("/", size_of_upload, methods=["POST"])]))
    content = bytes(5 << 20)
    with files_opened_for_writing() as found:
        assert client.post("/", files={"file": ("large.npy", content)}).text == str(len(content))
    assert found == []


def test_no_identifier_of_a_file_is_kept() -> None:
    for files in FILES.values():
        [read] = read_uploads(files, RATES)
        for recording in read.recordings:
            held = f"{recording.record_id} {recording.patient_id} {recording.findings}"
            assert not any(word in held for word in IDENTIFIERS)


@pytest.mark.parametrize(("shape", "count"), [(shape, 2 if "batch" in shape else 1) for shape in npy_shapes(SAMPLES)])
def test_every_shape_of_an_array(shape: str, count: int) -> None:
    [read] = read_uploads([("a.npy", npy(npy_shapes(SAMPLES)[shape]))], {"a.npy": 500})
    assert len(read.recordings) == count
    leads = 1 if shape == "samples" else 12
    for recording in read.recordings:
        np.testing.assert_array_equal(recording.samples, SAMPLES[1:2] if leads == 1 else SAMPLES)
    assert [title_of("a.npy", place, count) for place in range(count)] == (
        ["a.npy"] if count == 1 else ["a.npy #1", "a.npy #2"]
    )


def test_several_files_are_read_one_by_one_and_a_bad_one_spoils_no_other() -> None:
    files = [("notes.txt", b"dear reader"), *FILES["dicom"], *FILES["wfdb mat"], *FILES["wfdb dat"]]
    read = read_uploads(files, {})
    assert [(each.name, len(each.recordings)) for each in read] == [
        ("notes.txt", 0), ("ecg.dcm", 1), ("rec.hea", 1), ("ecg.hea", 1),
    ]  # fmt: skip
    assert "something else" in str(read[0].problem)
    assert "/" not in str(read[0].problem)


def test_half_a_wfdb_record_asks_for_the_other_half() -> None:
    for name, content in FILES["wfdb dat"]:
        [read] = read_uploads([(name, content)], {})
        assert "upload both together" in str(read.problem)


def test_of_two_files_of_one_name_the_first_is_read_and_the_second_named() -> None:
    first, second = npy(SAMPLES), npy(SAMPLES[:, :4000])
    read = read_uploads([("a.npy", first), ("a.npy", second)], {"a.npy": 500})
    assert [len(each.recordings) for each in read] == [1, 0]
    assert read[0].recordings[0].samples.shape == (12, 5000)
    assert "twice" in str(read[1].problem)


def test_names_that_would_leave_the_folder_do_not() -> None:
    [read] = read_uploads([("../../etc/passwd.npy", npy(SAMPLES))], {"../../etc/passwd.npy": 500})
    assert len(read.recordings) == 1
    [bad] = read_uploads([("..", b"x")], {})
    assert "plain file name" in str(bad.problem)
