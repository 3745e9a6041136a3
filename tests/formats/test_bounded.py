"""Whole files are read up to a bound."""

from pathlib import Path

import pytest

from hubert_ecg.errors import RecordingError
from hubert_ecg.formats.bounded import read_bounded


def test_a_file_of_the_largest_size_is_read_and_one_byte_more_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert read_bounded(str(path), max_bytes=5) == b"12345"
    with pytest.raises(RecordingError, match="wanted at most 4 bytes") as caught:
        read_bounded(str(path), max_bytes=4)
    assert caught.value.reason == "too large"


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(RecordingError) as caught:
        read_bounded(str(tmp_path))
    assert caught.value.reason == "missing file"
