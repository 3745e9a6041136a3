"""Running work over shards: each once, on tasks and on actors, only what is missing, and Ray only when needed."""

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from hubert_ecg.errors import InputError
from hubert_ecg.pipeline.shards import SHARDS_PER_ACTOR, run_shards
from hubert_ecg.storage.artifact import Manifest, StageOutput, begin, write_part

ROOT = Path(__file__).resolve().parents[2]


def counting() -> type:
    """A class made here, so that Ray sends it to its workers, which cannot import this file."""

    class Counting:
        """Writes one row per shard: the process that did it and how many shards that process had done before."""

        def __init__(self, directory: str) -> None:
            self.directory, self.done = directory, 0

        def __call__(self, task: dict[str, Any]) -> dict[str, Any]:
            table = pa.table({"part": [task["part"]], "process": [os.getpid()], "before": [self.done]})
            self.done += 1
            return write_part(self.directory, task["part"], table)

    return Counting


def number_writer() -> Callable[..., dict[str, Any]]:
    def write_number(task: dict[str, Any], *, directory: str, number: int) -> dict[str, Any]:
        return write_part(directory, task["part"], pa.table({"number": [number + task["part"]]}))

    return write_number


def started(directory: Path) -> StageOutput:
    output = begin(str(directory), verb="dump", config={}, inputs={})
    assert isinstance(output, StageOutput)
    return output


def rows_of(output: StageOutput, parts: int) -> list[dict[str, Any]]:
    from hubert_ecg.storage.files import read_table

    manifest = output.finish(parts=parts, facts={})
    assert isinstance(manifest, Manifest)
    return [row for part in range(parts) for row in read_table(manifest.part(part)).to_pylist()]


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize(
    ("many", "holds_model", "workers"),
    [
        (False, False, 0),
        (True, True, 1),
        pytest.param(False, False, 1, marks=pytest.mark.slow),
        pytest.param(False, True, 0, marks=pytest.mark.slow),
        pytest.param(False, True, 1, marks=pytest.mark.slow),
        (True, False, 0),
        pytest.param(True, False, 1, marks=pytest.mark.slow),
        (True, True, 0),
    ],
)
def test_each_shard_is_done_once_by_processes_that_keep_what_they_built(
    tmp_path: Path, many: bool, holds_model: bool, workers: int
) -> None:
    import ray

    shards = 9
    if many:  # enough of them for actors
        shards = SHARDS_PER_ACTOR * (workers or int(ray.cluster_resources()["CPU"]))
    output = started(tmp_path)
    tasks = [{"part": part} for part in range(shards)]
    arguments = {"directory": output.directory}
    run_shards(output, tasks, counting(), work_arguments=arguments, holds_model=holds_model, workers=workers)
    rows = rows_of(output, shards)
    assert [row["part"] for row in rows] == list(range(shards))
    by_process: dict[int, list[int]] = {}
    for row in rows:
        by_process.setdefault(row["process"], []).append(row["before"])
    for before in by_process.values():
        assert sorted(before) == list(range(len(before))), "a process built its work anew"
    if many:
        assert len(by_process) <= (workers or int(ray.cluster_resources()["CPU"]))


@pytest.mark.usefixtures("ray_cluster")
def test_only_shards_without_a_receipt_are_done_and_said_to_be(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    output, write_number = started(tmp_path), number_writer()
    for part in (0, 2):
        write_number({"part": part}, directory=output.directory, number=100)
    with caplog.at_level(logging.INFO, logger="hubert_ecg"):
        run_shards(
            output,
            [{"part": part} for part in range(4)],
            write_number,
            work_arguments={"directory": output.directory, "number": 500},
        )
    assert [row["number"] for row in rows_of(output, 4)] == [100, 501, 102, 503]
    assert "dump: going on, 2 of 4 shards were finished before" in caplog.messages
    assert any("in all 2/2 shards, 2 ECGs" in message for message in caplog.messages)


def test_ray_is_not_started_for_nothing(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from hubert_ecg.pipeline.shards import run_shards\n"
        "from hubert_ecg.storage.artifact import StageOutput\n"
        f"output = StageOutput(directory={str(tmp_path)!r}, verb='dump', config={{}}, inputs={{}})\n"
        "run_shards(output, [], print)\n"
        "print('ray' in sys.modules)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout.strip() == "False"


def failing() -> type:
    class Failing:
        """Does all shards but one."""

        def __init__(self, directory: str) -> None:
            self.directory = directory

        def __call__(self, task: dict[str, Any]) -> dict[str, Any]:
            if task["part"] == 1:
                raise InputError("s3://b/W: the object store refused; check network") from OSError("curl 52")
            return write_part(self.directory, task["part"], pa.table({"part": [task["part"]]}))

    return Failing


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("many", [False, True])
def test_an_error_of_a_task_is_the_error_of_the_stage(tmp_path: Path, many: bool) -> None:
    import ray

    output = started(tmp_path)
    tasks = [{"part": part} for part in range(SHARDS_PER_ACTOR * int(ray.cluster_resources()["CPU"]) if many else 4)]
    with pytest.raises(InputError) as caught:
        run_shards(output, tasks, failing(), work_arguments={"directory": output.directory})
    assert str(caught.value) == "s3://b/W: the object store refused; check network"
    assert 1 not in output.finished_parts()
