"""Kill the driver in the middle of dump and run it again: it continues, and the result equals an undisturbed run."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hubert_ecg.storage.artifact import open_artifact
from hubert_ecg.storage.files import read_table

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 240


def job(verb: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", f"jobs.{verb}", *arguments]


@pytest.mark.slow
def test_a_killed_dump_goes_on_and_equals_an_undisturbed_one(tmp_path: Path) -> None:
    waveforms, undisturbed, killed = (str(tmp_path / name) for name in ("w", "undisturbed", "killed"))
    size = ["--simulated.simulator.num_patients", "250", "--simulated.simulator.sampling_rate_hz", "100"]
    subprocess.run(job("prepare", *size, "--shard_size", "4", "--output", waveforms), check=True, cwd=ROOT)
    dump = ["--waveforms", waveforms, "--descriptor", "mixed", "--crop_starts_s", "[0, 1, 2, 3, 4, 5]", "--output"]
    subprocess.run(job("dump", *dump, undisturbed), check=True, cwd=ROOT)

    parts = Path(killed, "parts")
    process = subprocess.Popen(job("dump", *dump, killed), cwd=ROOT)
    deadline = time.monotonic() + SECONDS
    while len(list(parts.glob("part-*.json"))) < 5:
        assert process.poll() is None, "dump ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    done = {path.name: path.stat().st_mtime_ns for path in parts.glob("part-*.json")}
    total = open_artifact(undisturbed).parts
    print(f"\nkilled after {len(done)} of {total} shards")
    assert 5 <= len(done) < total
    assert not Path(killed, "manifest.json").exists()

    again = subprocess.run(job("dump", *dump, killed), cwd=ROOT, check=True, capture_output=True, text=True)
    print(next(line for line in again.stderr.splitlines() if "going on" in line))
    before, after = open_artifact(undisturbed), open_artifact(killed)
    assert after.rows == before.rows
    ids = [i for part in range(after.parts) for i in read_table(after.part(part))["record_id"].to_pylist()]
    assert len(set(ids)) * 6 == len(ids) == after.rows
    for part in range(after.parts):
        one, other = read_table(before.part(part)), read_table(after.part(part))
        assert one.equals(other)
    finished_before = [name for name, when in done.items() if Path(parts, name).stat().st_mtime_ns == when]
    # Tasks that were under way when the driver died may have finished their shard a moment later.
    assert len(finished_before) >= len(done) - (os.cpu_count() or 1)
    assert after.fingerprint == before.fingerprint
    assert json.loads(Path(killed, "manifest.json").read_text())["parts"] == total
