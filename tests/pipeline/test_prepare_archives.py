"""jobs.prepare on real archives: counts right, leads in order, amplitudes in mV, beside plain scipy on raw files."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import wfdb
from scipy import io, signal

from hubert_ecg.datasets.files_folder import FilesSource
from hubert_ecg.datasets.ptbxl import PtbxlSource
from hubert_ecg.datasets.splits import SplitConfig
from hubert_ecg.ecg.preprocess import PreprocessConfig, Waveform
from hubert_ecg.ecg.recording import STANDARD_LEADS
from hubert_ecg.pipeline.prepare import PrepareConfig, prepare
from hubert_ecg.storage import files, tables

PREPROCESS = PreprocessConfig()
ALL_TRAIN = SplitConfig(val_fraction=0.0, test_fraction=0.0)


def prepared(output: Path, **settings: Any) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Record id -> [12, time] mV at 100 Hz, and the report."""
    manifest = prepare(PrepareConfig(output=str(output), shard_size=64, **settings))
    millivolts = {}
    for part in range(manifest.parts):
        table = files.read_table(manifest.part(part))
        counts, offsets, gains = (table[name] for name in ("counts", "offset_mv", "gain_mv"))
        rows = zip(tables.list_rows(counts), tables.stack_rows(offsets), tables.stack_rows(gains), strict=True)
        for record_id, (row, offset_mv, gain_mv) in zip(table["record_id"].to_pylist(), rows, strict=True):
            valid = np.full(12, len(row) // 12, np.int32)
            waveform = Waveform(counts=row.reshape(12, -1), offset_mv=offset_mv, gain_mv=gain_mv, valid_samples=valid)
            millivolts[record_id] = waveform.millivolts(PREPROCESS)
    return millivolts, json.loads((output / "report.json").read_text())


def plainly_filtered(samples_mv: np.ndarray, rate_hz: float) -> np.ndarray:
    """[12, time] mV -> the same band-passed and at 100 Hz, by scipy alone."""
    taps = signal.firwin(int(0.3 * rate_hz) // 2 * 2 + 1, [0.05, 47.0], pass_zero=False, fs=rate_hz)
    filtered = signal.filtfilt(taps, [1.0], samples_mv.astype(np.float64), axis=1)
    return signal.resample(filtered, round(samples_mv.shape[1] * 100 / rate_hz), axis=1)


def assert_same_leads(ours_mv: np.ndarray, plain_mv: np.ndarray, record_id: str) -> None:
    """Every lead is that lead, in mV: decimation leaves 1.2 % of ripple and a soft corner, no more."""
    length = min(ours_mv.shape[1], plain_mv.shape[1])
    inside = slice(50, length - 50)
    for lead, ours, plain in zip(STANDARD_LEADS, ours_mv[:, inside], plain_mv[:, inside], strict=True):
        if np.ptp(plain) < 0.02:
            continue
        assert np.corrcoef(ours, plain)[0, 1] > 0.99, (record_id, lead)
        assert np.std(ours) == pytest.approx(np.std(plain), rel=0.05), (record_id, lead)


def by_wfdb(path: Path) -> tuple[np.ndarray, float]:
    """[12, time] mV in standard order, and the rate, as the wfdb package reads a record."""
    record = wfdb.rdrecord(str(path))
    names = [name.lower() for name in record.sig_name]
    return record.p_signal.T[[names.index(lead.lower()) for lead in STANDARD_LEADS]], record.fs


def by_scipy(path: Path) -> tuple[np.ndarray, float]:
    """The same of a Challenge record: wfdb refuses some of their headers."""
    lines = path.with_suffix(".hea").read_text().splitlines()
    signals = [line.split() for line in lines[1:13]]
    gains = np.array([float(re.match(r"[\d.]+", fields[2])[0]) for fields in signals])  # type: ignore[index]
    names = [fields[8].lower() for fields in signals]
    rows = io.loadmat(path.with_suffix(".mat"))["val"] / gains[:, None]
    return rows[[names.index(lead.lower()) for lead in STANDARD_LEADS]], float(lines[0].split()[2])


@pytest.mark.usefixtures("ray_cluster")
def test_challenge_records(shared_dir: Path, tmp_path: Path) -> None:
    folder = shared_dir / "data" / "cinc2021"
    ours, report = prepared(tmp_path / "w", source="cinc", input=str(folder), leaks="keep")
    assert (report["listed"], report["prepared"], len(ours)) == (20, 20, 20)
    for record_id, millivolts in ours.items():
        raw, rate_hz = by_scipy(folder / record_id)
        assert_same_leads(millivolts, plainly_filtered(raw, rate_hz), record_id)


@pytest.mark.usefixtures("ray_cluster")
def test_any_folder(shared_dir: Path, tmp_path: Path) -> None:
    folder = shared_dir / "data" / "ptbxl500"
    ours, report = prepared(
        tmp_path / "w", source="files", input=str(folder), files=FilesSource(split=ALL_TRAIN), leaks="keep"
    )
    assert (report["listed"], report["prepared"]) == (8, 8)
    for path in folder.rglob("*.hea"):
        record_id = next(name for name in ours if name.endswith(path.stem))
        assert_same_leads(ours[record_id], plainly_filtered(*by_wfdb(path.with_suffix(""))), record_id)


@pytest.mark.usefixtures("ray_cluster")
def test_ludb_in_plausible_mv_with_its_gains_found_inconsistent(ludb_dir: Path, tmp_path: Path) -> None:
    ours, report = prepared(tmp_path / "w", source="ludb", input=str(ludb_dir), leaks="keep")
    assert (report["listed"], report["prepared"], len(ours)) == (100, 100, 100)
    assert report["summary"]["findings"]["inconsistent gains"]["warning"] >= 50
    assert set(report["summary"]["labels"]) >= {"rhythm"}
    for record_id, millivolts in ours.items():
        path = next(ludb_dir.rglob(f"{record_id.rpartition('/')[2]}.hea")).with_suffix("")
        record = wfdb.rdrecord(str(path), physical=False)
        names = [name.lower() for name in record.sig_name]
        integers = record.d_signal.T[[names.index(lead.lower()) for lead in STANDARD_LEADS]]
        # Integers / 1000 are plausible mV, on which Einthoven holds exactly.
        assert_same_leads(millivolts, plainly_filtered(integers / 1000, record.fs), record_id)


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_ptbxl(ptbxl_dir: Path, tmp_path: Path) -> None:
    source = PtbxlSource(rate_hz=100, val_fold=8, test_fold=9)
    ours, report = prepared(tmp_path / "w", source="ptbxl", input=str(ptbxl_dir), ptbxl=source)
    assert (report["listed"], report["prepared"], len(ours)) == (4860, 4860, 4860)
    for record_id in list(ours)[::20]:
        path = next((ptbxl_dir / "records100").rglob(f"{int(record_id):05d}_lr.hea")).with_suffix("")
        assert_same_leads(ours[record_id], plainly_filtered(*by_wfdb(path)), record_id)
