"""ECGs whose place on the paper is known, PDFs as pictures, and what the pictures show."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

DOTS_PER_MM = 300 / 25.4
RATE_HZ = 500.0


def spikes(seconds: float = 10.0, *, high_mv: float = 1.0, every_s: float = 1.0) -> np.ndarray:
    """[12, time] mV at 500 Hz: a square wave of 40 ms, `high_mv` high, beginning at each whole `every_s`."""
    times = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    return np.tile(np.where((times + 1e-9) % every_s < 0.04, high_mv, 0.0), (12, 1))


def page_pixels(pdf: bytes, page: int, folder: Path) -> np.ndarray:
    """[row, column, 3] of a page at 300 dpi."""
    path = _written(pdf, folder, "pdftoppm")
    command = [
        "pdftoppm",
        "-r",
        "300",
        "-f",
        str(page),
        "-l",
        str(page),
        "-singlefile",
        str(path),
        str(folder / "page"),
    ]
    subprocess.run(command, check=True, timeout=120)
    head, pixels = (folder / "page.ppm").read_bytes().split(b"\n255\n", 1)
    width, height = (int(each) for each in head.split()[1:3])
    return np.frombuffer(pixels, np.uint8).reshape(height, width, 3)


def page_text(pdf: bytes, folder: Path) -> str:
    path = _written(pdf, folder, "pdftotext")
    command = ["pdftotext", "-layout", str(path), "-"]
    return subprocess.run(command, check=True, timeout=60, capture_output=True).stdout.decode()


def _written(pdf: bytes, folder: Path, tool: str) -> Path:
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed; install poppler-utils")
    path = folder / "report.pdf"
    path.write_bytes(pdf)
    return path


def ink(pixels: np.ndarray) -> np.ndarray:
    """[row, column] bool: the black of curves and letters."""
    return np.asarray(pixels.max(axis=2) < 110)


def runs(there: np.ndarray) -> list[tuple[int, int]]:
    """(first, last) of each run of True in [place]."""
    edges = np.flatnonzero(np.diff(there.astype(np.int8), prepend=0, append=0))
    return [(int(a), int(b) - 1) for a, b in zip(edges[::2], edges[1::2], strict=True)]
