"""A training whose driver is asked to stop, and then killed: the same command goes on, to the undisturbed result."""

import os
import re
import signal
import subprocess
from pathlib import Path

import pytest
from processes import SECONDS
from small_training import ROOT, STEPS, await_that, checkpointed, command, config, result, write_inputs

from hubert_ecg.pipeline.curves import STEPS as STEPS_TABLE
from hubert_ecg.pipeline.training_run import WorkersConfig

pytestmark = [pytest.mark.slow, pytest.mark.timeout(8 * SECONDS)]


class Driver:
    """A training in a process of its own, and what it says."""

    def __init__(self, arguments: list[str], output: Path, life: int) -> None:
        self.output, self.log = output, output.with_name(f"life-{life}.log")
        self.process = subprocess.Popen(arguments, cwd=ROOT, stdout=self.log.open("w"), stderr=subprocess.STDOUT)

    def await_step(self, step: int) -> None:
        await_that(
            lambda: checkpointed(self.output)[-1:] >= [step], lambda: self.process.poll() is None, f"step {step}"
        )

    def await_end(self) -> tuple[int, str]:
        return self.process.wait(3 * SECONDS), self.log.read_text()


def test_a_stopped_and_then_killed_driver_goes_on_with_the_same_command(tmp_path: Path) -> None:
    inputs, output = write_inputs(tmp_path), tmp_path / "out"
    workers = WorkersConfig(threads_each=1)
    subprocess.run(command(config(inputs, tmp_path / "undisturbed", workers)), cwd=ROOT, check=True)
    arguments = command(config(inputs, output, workers))

    stopped = Driver(arguments, output, 1)
    stopped.await_step(4)
    os.kill(stopped.process.pid, signal.SIGTERM)
    code, said = stopped.await_end()
    assert code == 143, said
    (line,) = [line for line in said.splitlines() if line.startswith("stopped: ")]
    print(f"\nSIGTERM to the driver, exit code {code}: {line}")
    (after,) = re.findall(rf"saved after step (\d+) of {STEPS}; the same command goes on", line)
    assert checkpointed(output)[-1] == int(after) < STEPS
    assert "Traceback" not in said.split("asked to stop")[1]

    killed = Driver(arguments, output, 2)
    killed.await_step(int(after) + 4)
    rows_meanwhile = len((output / STEPS_TABLE).read_text().splitlines())
    os.kill(killed.process.pid, signal.SIGKILL)
    killed.await_end()
    saved = checkpointed(output)[-1]
    assert saved < STEPS
    assert not (output / "manifest.json").exists()
    assert f"going on after step {after}" in killed.log.read_text()
    assert rows_meanwhile >= 2  # the table is there while the run lives

    code, said = Driver(arguments, output, 3).await_end()
    assert code == 0, said
    print(f"SIGKILL to the driver when step {saved} was saved; the third life: {re.findall('going on after.*', said)}")
    assert int(re.findall(r"going on after step (\d+)", said)[0]) >= saved
    assert result(output) == result(tmp_path / "undisturbed")
    rows = [line.split(",")[0] for line in (output / STEPS_TABLE).read_text().splitlines()]
    assert rows == ["step", "10", "20", "30", "40"]
    print(f"same weights {result(output)[0]} and metrics as undisturbed: {result(output)[1]}")
