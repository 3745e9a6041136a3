"""Run one function over the unfinished shards of a stage with Ray Data, with progress, and survive being killed."""

import json
import logging
import time
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from hubert_ecg.errors import HubertEcgError
from hubert_ecg.pipeline.ray_cluster import available, start_ray
from hubert_ecg.pipeline.user_errors import made, told
from hubert_ecg.storage.artifact import StageOutput

log = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 2.0
"""Shards that end sooner than this after the last line wait for the next one."""

SHARDS_PER_ACTOR = 16
"""With fewer shards than this for each, actors on CPUs are not worth starting."""
QUEUED_PER_ACTOR = 4
"""Shards an actor has been handed, the one it works on among them. Ray Data looks for results ten times a second, and a
shard of descriptors takes no longer than that: without some in store an actor would wait half of the time."""
QUEUED_PER_MODEL = 2
"""The same for actors that hold a model, whose shards take seconds."""

Work = Callable[..., dict[str, Any]] | type


def run_shards(
    output: StageOutput,
    tasks: list[dict[str, Any]],
    work: Work,
    *,
    work_arguments: dict[str, Any] | None = None,
    holds_model: bool = False,
    workers: int = 0,
) -> None:
    """Do each task whose shard has no receipt yet; `task["part"]` is the shard's index. Starts Ray if there are any.

    `work` takes a task, writes its shard with `write_part` and returns at least its `part` and `rows`, the recordings
    it has done. It must be safe to repeat: Ray runs a task again when its worker or node dies. A class is built once
    per process with `work_arguments`, then called per task.

    Few shards are done by Ray tasks of one CPU, whose processes live on from stage to stage with what they have
    imported: for a stage of seconds, importing would otherwise be most of the time. Many are done by actors, which are
    handed their next shards before they are done with one. `holds_model` says that the work is a model's: then it is
    done by actors with a GPU each where the cluster has GPUs. `workers` is how many work at once; 0 takes all CPUs, or
    all GPUs for actors on them. The first error of this project that a task raises ends the stage, and is raised here.
    """
    finished = output.finished_parts()
    pending = [task for task in tasks if task["part"] not in finished]
    if finished:
        log.info(
            "%s: going on, %d of %d shards were finished before", output.verb, len(tasks) - len(pending), len(tasks)
        )
    if not pending:
        return
    start_ray()
    import ray

    # One block per shard, so that the scheduler hands them out one by one as workers fall free.
    dataset = ray.data.from_items(pending, override_num_blocks=len(pending))
    arguments = work_arguments or {}
    gpus = available("GPU") if holds_model else 0
    size = min(workers or gpus or max(1, available("CPU")), len(pending))
    if gpus or len(pending) >= SHARDS_PER_ACTOR * size:
        queued = QUEUED_PER_MODEL if holds_model else QUEUED_PER_ACTOR
        done = dataset.map(
            _Worker,
            fn_constructor_kwargs={"work": work, "arguments": arguments},
            compute=ray.data.ActorPoolStrategy(size=size, max_tasks_in_flight_per_actor=queued),
            # With a GPU Ray Data reserves a CPU too, and warns of those who ask for both.
            **({"num_gpus": 1} if gpus else {"num_cpus": 1}),
        )
    else:
        kept = {"key": uuid.uuid4().hex, "work": work, "arguments": arguments}
        compute = ray.data.TaskPoolStrategy(size=workers or None)
        done = dataset.map(_in_process, fn_kwargs=kept, compute=compute, num_cpus=1)
    for _ in _with_progress(output.verb, done.iter_rows(), len(pending)):
        pass


class _Worker:
    """The work of a stage in one process; tells the driver how long each shard took, or which error ended it.

    An error that the user can fix is an answer like others: raised, it would come out of Ray Data as another one.
    """

    def __init__(self, work: Work, arguments: dict[str, Any]) -> None:
        self.work, self.arguments = work, arguments
        self.built: Callable[..., dict[str, Any]] | None = None

    def __call__(self, task: dict[str, Any]) -> dict[str, Any]:
        start, receipt, error = time.monotonic(), {"part": task["part"], "rows": 0}, ""
        try:
            self.built = self.built or self._build()
            receipt = self.built(task)
        except HubertEcgError as raised:
            error = json.dumps(told(raised))
        seconds = time.monotonic() - start
        return {"part": receipt["part"], "rows": receipt["rows"], "seconds": seconds, "error": error}

    def _build(self) -> Callable[..., dict[str, Any]]:
        return self.work(**self.arguments) if isinstance(self.work, type) else partial(self.work, **self.arguments)


_kept: tuple[str, Any] = ("", None)
"""What this worker process has built last, under the key of the stage it was built for."""


def _in_process(task: dict[str, Any], *, key: str, work: Work, arguments: dict[str, Any]) -> dict[str, Any]:
    """Do a task with the `_Worker` that this process keeps for the stage, building it at the first task."""
    global _kept
    if _kept[0] != key:
        _kept = (key, _Worker(work, arguments))
    receipt: dict[str, Any] = _kept[1](task)
    return receipt


def _with_progress(verb: str, receipts: Iterator[dict[str, Any]], total: int) -> Iterator[dict[str, Any]]:
    """Log the shard that has just ended, what is done in all, ECGs per second and the time left."""
    start = last = time.monotonic()
    ecgs = 0
    for done, receipt in enumerate(receipts, start=1):
        if receipt["error"]:
            raise made(json.loads(receipt["error"]))
        ecgs += receipt["rows"]
        now = time.monotonic()
        if now - last >= SECONDS_BETWEEN_LINES or done == total:
            elapsed = max(now - start, 1e-9)
            log.info(
                "%s: shard %d, %d ECGs in %.2f s; in all %d/%d shards, %d ECGs, %.0f ECGs/s, %.0f s left",
                verb,
                receipt["part"],
                receipt["rows"],
                receipt["seconds"],
                done,
                total,
                ecgs,
                ecgs / elapsed,
                elapsed / done * (total - done),
            )
            last = now
        yield receipt
