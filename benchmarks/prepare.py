"""How fast jobs.prepare is, beside a plain loop of wfdb and the original's preprocessing steps from scipy.

    python -m benchmarks.prepare --records 5000 --tiled 50000

Records are simulated ECGs written as WFDB at 500 and 100 Hz and listed again and again under new names. Both sides read
the same files, from the page cache. The job's figures include reading, findings, Parquet and the report, not the start
of the cluster and its processes; its cores are those that Ray was given, its seconds wall-clock.
"""

import argparse
import csv
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.processes import peak_worker_mib
from benchmarks.report import Report, Row, reporting
from benchmarks.timing import ms_each, seconds_of
from hubert_ecg.ecg.preprocess import PreprocessConfig, prepare_waveform
from hubert_ecg.ecg.recording import STANDARD_LEADS, standard_12_lead
from hubert_ecg.ecg.simulate import CONDITIONS, simulate_condition
from hubert_ecg.formats import read_recording

if TYPE_CHECKING:
    from hubert_ecg.pipeline.prepare import PrepareConfig

DISTINCT = 64
"""Different recordings; more would only fill the disk."""
WARM_UP = 1024
"""Records of a job that goes before each one that is timed."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=5000, help="records in the job whose speed is compared")
    parser.add_argument("--tiled", type=int, default=50_000, help="records in the large job")
    parser.add_argument("--plain", type=int, default=200, help="records in one run of the plain loop")
    parser.add_argument("--runs", type=int, default=5, help="runs of the plain loop and of preprocessing alone")
    with reporting("prepare", parser) as (options, report), tempfile.TemporaryDirectory() as folder:
        report.head()
        for rate_hz in (500, 100):
            archive = Path(folder) / str(rate_hz)
            compare(archive, write_archive(archive, rate_hz), rate_hz, options, report)


def compare(archive: Path, names: list[str], rate_hz: int, options: argparse.Namespace, report: Report) -> None:
    """All figures of one sampling rate."""
    paths = [str(archive / names[i % len(names)]) for i in range(options.plain)]
    recordings = [standard_12_lead(read_recording(path + ".hea")) for path in paths]
    arrays = [np.asarray(recording.samples, np.float64) for recording in recordings]
    config = PreprocessConfig()
    original = seconds_of(lambda: [original_steps(array, rate_hz) for array in arrays], options.runs)
    ours = seconds_of(lambda: [prepare_waveform(recording, config) for recording in recordings], options.runs)
    report.add(
        Row(
            name=f"preprocessing alone, {rate_hz} Hz",
            ours=ms_each(ours, options.plain),
            theirs=ms_each(original, options.plain),
            unit="ms per ECG",
            against="the original's steps, in scipy",
        )
    )
    plain = seconds_of(lambda: [original_steps(plain_read(path), rate_hz) for path in paths], options.runs)
    small_ms, small_mib = job(archive, names, options.records)
    whole = f"all of jobs.prepare, {rate_hz} Hz"
    report.add(
        Row(
            name=f"{whole}, {options.records:,} ECGs",
            ours=(small_ms,),
            theirs=ms_each(plain, options.plain),
            unit="core ms per ECG",
            against="a loop of wfdb and those steps, which checks and writes nothing",
            facts={"largest worker, MiB": small_mib},
        )
    )
    large_ms, large_mib = job(archive, names, options.tiled)
    report.add(
        Row(
            name=f"{whole}, {options.tiled:,} ECGs",
            ours=(large_ms,),
            theirs=(small_ms,),
            unit="core ms per ECG",
            against=f"the job with {options.records:,}",
            facts={"largest worker, MiB": large_mib},
        )
    )


def plain_read(path: str) -> np.ndarray:
    """[12, time] float64 mV, as wfdb reads it."""
    import wfdb

    samples: np.ndarray = wfdb.rdrecord(path).p_signal.T
    return samples


def original_steps(samples: np.ndarray, rate_hz: int) -> np.ndarray:
    """Band-pass, resample to 500 Hz, scale each lead, decimate by 5: the plain way, with scipy."""
    from scipy import signal

    taps = int(0.3 * rate_hz) // 2 * 2 + 1
    kernel = signal.firwin(taps, [0.05, 47.0], pass_zero=False, fs=rate_hz)
    filtered = signal.filtfilt(kernel, [1.0], samples, axis=1)
    resampled = signal.resample(filtered, round(samples.shape[1] * 500 / rate_hz), axis=1)
    low, high = resampled.min(axis=1, keepdims=True), resampled.max(axis=1, keepdims=True)
    scaled = 2 * (resampled - low) / (high - low + 1e-8) - 1
    return signal.decimate(scaled, 5, axis=1)


def write_archive(folder: Path, rate_hz: int) -> list[str]:
    """Simulated recordings of 10 s as WFDB format 16; returns their names."""
    import wfdb

    folder.mkdir(parents=True)
    names = []
    for index in range(DISTINCT):
        recording = simulate_condition([CONDITIONS[index % len(CONDITIONS)]], seed=index)[0]
        step = round(recording.sampling_rate_hz / rate_hz)
        names.append(f"ecg{index:03d}")
        wfdb.wrsamp(
            names[-1],
            fs=rate_hz,
            units=["mV"] * 12,
            sig_name=list(STANDARD_LEADS),
            p_signal=recording.samples[:, ::step].T.astype(np.float64),
            fmt=["16"] * 12,
            write_dir=str(folder),
        )
    return names


def job(archive: Path, names: list[str], records: int) -> tuple[float, float]:
    """(core ms per record of the whole job, peak resident MiB of any worker), on a cluster that has started."""
    import ray

    from hubert_ecg.pipeline.prepare import prepare
    from hubert_ecg.pipeline.ray_cluster import available, start_ray

    start_ray()
    # The start of a cluster includes its worker processes and what they import.
    prepare(settings(archive, names, WARM_UP))
    start = time.perf_counter()
    prepare(settings(archive, names, records))
    core_seconds = (time.perf_counter() - start) * available("CPU")
    peak_mib = peak_worker_mib()
    ray.shutdown()
    shutil.rmtree(archive / f"w{WARM_UP}")
    return 1e3 * core_seconds / records, peak_mib


def settings(archive: Path, names: list[str], records: int) -> "PrepareConfig":
    """A job over `records` recordings, the same few listed again and again."""
    from hubert_ecg.datasets.manifest import ManifestSource
    from hubert_ecg.pipeline.prepare import PrepareConfig

    manifest = archive / f"tiled{records}.csv"
    with open(manifest, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["filename", "record_id", "patient_id", "split", "label"])
        rows = ((f"{names[i % len(names)]}.hea", f"{i:08d}", f"{i:08d}", "train", i % 2) for i in range(records))
        writer.writerows(rows)
    source = ManifestSource(manifest=str(manifest), label_start_index=4)
    return PrepareConfig(output=str(archive / f"w{records}"), source="manifest", input=str(archive), manifest=source)


if __name__ == "__main__":
    main()
