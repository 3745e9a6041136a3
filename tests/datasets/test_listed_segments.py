"""Segments of a long WFDB record are read as parts of it, once; what only looks like a segment is a recording."""

from pathlib import Path

import numpy as np
import pytest
import wfdb

from hubert_ecg.datasets.files_folder import FilesSource

LEADS = ["I", "II", "V1", "V2", "V3", "V4", "V5", "V6"]


def write(folder: Path, name: str, num_samples: int = 1000) -> None:
    steps = np.random.default_rng(num_samples).integers(-400, 400, size=(num_samples, len(LEADS)))
    wfdb.wrsamp(
        name,
        fs=250,
        units=["mV"] * len(LEADS),
        sig_name=LEADS,
        d_signal=steps,
        fmt=["16"] * len(LEADS),
        adc_gain=[200.0] * len(LEADS),
        baseline=[0] * len(LEADS),
        write_dir=str(folder),
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """night/30 is made of 30_1 and 30_2; beside it lie 30_9, which no header names, and the pair 7 and 7_1."""
    night = tmp_path / "night"
    night.mkdir()
    for name, num_samples in (("30_1", 1000), ("30_2", 1500), ("30_9", 800), ("7", 900), ("7_1", 700)):
        write(night, name, num_samples)
    (night / "30_layout.hea").write_text(
        f"30_layout {len(LEADS)} 250 0\n" + "".join(f"~ 0 200/mV 16 0 0 0 0 {lead}\n" for lead in LEADS)
    )
    (night / "30.hea").write_text(f"30/3 {len(LEADS)} 250 2500\n30_layout 0\n30_1 1000\n30_2 1500\n")
    return tmp_path


def test_a_record_of_segments_is_one_recording(folder: Path) -> None:
    source = FilesSource(input=str(folder))
    listing = source.listing()
    rows = listing.table.to_pylist()
    assert [row["record_id"] for row in rows] == ["night/30", "night/30_9", "night/7", "night/7_1"]
    assert listing.left_out == {"segments of other WFDB records": 3}
    assert source.read(rows[0]).samples.shape == (8, 2500)


def test_segments_alone_can_be_asked_for(folder: Path) -> None:
    paths = FilesSource(input=str(folder), pattern="*30_[0-9].hea").listing().table["path"].to_pylist()
    assert paths == ["night/30_1.hea", "night/30_2.hea", "night/30_9.hea"]


def test_a_damaged_header_takes_no_segment_with_it(folder: Path) -> None:
    (folder / "night" / "30.hea").write_text("30/3 8 250 2500\n30_1 1000\n")
    listing = FilesSource(input=str(folder)).listing()
    assert {"night/30", "night/30_1", "night/30_2"} <= set(listing.table["record_id"].to_pylist())
