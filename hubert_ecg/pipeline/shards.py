"""Run one function over the unfinished shards of a stage with Ray Data, with progress, and survive being killed."""

import logging
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from hubert_ecg.storage.artifact import StageOutput

log = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 5.0


def run_shards(
    output: StageOutput,
    tasks: list[dict[str, Any]],
    work: Callable[..., dict[str, Any]] | type,
    *,
    cpus_per_task: float = 1.0,
    gpus_per_actor: float = 0.0,
    actors: int | None = None,
    work_arguments: dict[str, Any] | None = None,
) -> None:
    """Do each task whose shard has no receipt yet; `task["part"]` is the shard's index.

    `work` takes a task and returns the receipt it wrote with `write_part` (it must be safe to repeat: Ray runs a task
    again when its worker or node dies). A class is built once per process with `work_arguments`, then called per task:
    on GPUs by `actors` that hold one each, on CPUs by Ray tasks, whose processes live on from stage to stage with what
    they have imported.
    """
    import ray

    finished = output.finished_parts()
    pending = [task for task in tasks if task["part"] not in finished]
    if finished:
        log.info(
            "%s: going on, %d of %d shards were finished before", output.verb, len(tasks) - len(pending), len(tasks)
        )
    if not pending:
        return
    # One block per shard, so that the scheduler hands them out one by one as workers fall free.
    dataset = ray.data.from_items(pending, override_num_blocks=len(pending))
    arguments = work_arguments or {}
    if gpus_per_actor:
        pool = ray.data.ActorPoolStrategy(size=actors or 1)
        dataset = dataset.map(
            work, fn_constructor_kwargs=arguments, compute=pool, num_cpus=cpus_per_task, num_gpus=gpus_per_actor
        )
    elif isinstance(work, type):
        kept = {"key": uuid.uuid4().hex, "work": work, "arguments": arguments}
        dataset = dataset.map(_in_process, fn_kwargs=kept, num_cpus=cpus_per_task)
    else:
        dataset = dataset.map(work, fn_kwargs=arguments, num_cpus=cpus_per_task)
    for _ in _with_progress(output.verb, dataset.select_columns(["part", "rows"]).iter_rows(), len(pending)):
        pass


_instance: tuple[str, Any] = ("", None)
"""What this worker process has built last, under the key of the stage it was built for."""


def _in_process(task: dict[str, Any], *, key: str, work: type, arguments: dict[str, Any]) -> dict[str, Any]:
    """Call the instance of `work` that this process keeps for the stage, building it at the first task."""
    global _instance
    if _instance[0] != key:
        _instance = (key, work(**arguments))
    receipt: dict[str, Any] = _instance[1](task)
    return receipt


def _with_progress(verb: str, receipts: Iterator[dict[str, Any]], total: int) -> Iterator[dict[str, Any]]:
    """Log shards done, ECGs done, ECGs per second and time left, every few seconds and at the end."""
    start = last = time.monotonic()
    ecgs = 0
    for done, receipt in enumerate(receipts, start=1):
        ecgs += receipt["rows"]
        now = time.monotonic()
        if now - last >= SECONDS_BETWEEN_LINES or done == total:
            elapsed = max(now - start, 1e-9)
            left = elapsed / done * (total - done)
            log.info(
                "%s: %d/%d shards, %d ECGs, %.0f ECGs/s, %.0f s left", verb, done, total, ecgs, ecgs / elapsed, left
            )
            last = now
        yield receipt
