"""What a second worker brings to jobs.dump and jobs.label, and what the driver of a job keeps in memory per file.

    python -m benchmarks.scaling --records 100000 --files 1000 100000

Scaling: the same job on Ray clusters of one and of two cores, started before the clock, in turns; efficiency is half of
the ratio of the two times. The driver and Ray's own processes share the machine's cores with the workers,
so that two workers on two cores cannot reach 100 %. Memory: the peak of the driver's own process (not its workers') in
jobs.prepare over so many recordings, each a file of its own in the listing, less its peak with the fewest of them; all
in processes that have prepared a few files before. Linux only.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from benchmarks import prepare as preparing
from benchmarks.dump import mfcc_codebook, recut, simulated, tiled
from benchmarks.report import Report, Row, reporting
from hubert_ecg.storage.artifact import open_artifact

WARM_UP_FILES = 200
WARM_UP_S = 2.0
"""That idle worker processes are given to start."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["scaling", "memory"], help="one part (default: both)")
    parser.add_argument("--records", type=int, default=100_000, help="records of the jobs at one and two workers")
    parser.add_argument("--runs", type=int, default=3, help="runs of each job at each number of workers")
    parser.add_argument("--files", type=int, nargs=2, default=(1000, 100_000), help="files of the jobs whose driver")
    parser.add_argument("--driver", type=int, metavar="FILES", help=argparse.SUPPRESS)
    parser.add_argument("--archive", type=Path, help=argparse.SUPPRESS)
    with reporting("scaling", parser) as (options, report), tempfile.TemporaryDirectory() as folder:
        if options.driver:
            print(json.dumps(_drive(options.archive, options.driver)))
            return
        report.head()
        if options.only != "memory":
            scaling(folder, options.records, options.runs, report)
        if options.only != "scaling":
            driver_memory(Path(folder, "archive"), *options.files, report)


def scaling(folder: str, records: int, runs: int, report: Report) -> None:
    """Wall-clock seconds of dump and label at one and two workers."""
    from hubert_ecg.pipeline.dump import DumpConfig, dump
    from hubert_ecg.pipeline.label import LabelConfig, label

    waveforms = recut(open_artifact(simulated(f"{folder}/simulated")), f"{folder}/recut", 512)
    large = tiled(waveforms, f"{folder}/large", records)
    mfcc_codebook(waveforms, f"{folder}/codebook")
    output = f"{folder}/output"
    dumping = DumpConfig(waveforms=large.directory, output=output, descriptor="time_frequency", split="all")
    labelling = LabelConfig(waveforms=large.directory, output=output, codebooks=[f"{folder}/codebook"])
    works: dict[str, Callable[[], object]] = {"dump": lambda: dump(dumping), "label": lambda: label(labelling)}
    for name, work in works.items():
        seconds: dict[int, list[float]] = {1: [], 2: []}
        for _ in range(runs):
            for workers, times in seconds.items():
                times.append(_timed(work, workers))
                shutil.rmtree(output)
        row = Row(
            name=f"jobs.{name} with two workers, {large.rows:,} ECGs",
            ours=tuple(seconds[2]),
            theirs=tuple(seconds[1]),
            unit="s",
            against="the same with one worker",
            in_turn=True,
        )
        report.add(replace(row, facts={"efficiency, %": 50 * (row.ratio or 0)}))


def _timed(work: Callable[[], object], workers: int) -> float:
    import ray

    from hubert_ecg.pipeline.ray_cluster import start_ray

    start_ray(num_cpus=workers)
    try:
        time.sleep(WARM_UP_S)
        began = time.perf_counter()
        work()
        return time.perf_counter() - began
    finally:
        ray.shutdown()


def driver_memory(archive: Path, few: int, many: int, report: Report) -> None:
    """Bytes per file that the driver of jobs.prepare needs at its peak."""
    preparing.write_archive(archive, 100)
    peaks = []
    for files in (few, many):
        command = [sys.executable, "-m", "benchmarks.scaling", "--driver", str(files), "--archive", str(archive)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        peaks.append(json.loads(done.stdout.splitlines()[-1])["peak_bytes"])
        print(f"  prepare of {files} files: the driver's peak is {peaks[-1] / 2**20:.1f} MiB", flush=True)
    per_file = (peaks[1] - peaks[0]) / (many - few)
    name = f"memory of the driver of jobs.prepare, {few:,} to {many:,} files"
    report.add(Row(name=name, ours=(per_file,), unit="bytes per file"))


def _drive(archive: Path, files: int) -> dict[str, int]:
    """Prepare so many files and tell this process's peak meanwhile; that of imports and start-up does not count."""
    from hubert_ecg.pipeline.prepare import prepare

    names = [f"ecg{index:03d}" for index in range(preparing.DISTINCT)]
    prepare(preparing.settings(archive, names, WARM_UP_FILES))
    Path("/proc/self/clear_refs").write_text("5")  # the highest so far is what is in use now
    prepare(preparing.settings(archive, names, files))
    status = Path("/proc/self/status").read_text()
    return {"peak_bytes": int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) * 1024}


if __name__ == "__main__":
    main()
