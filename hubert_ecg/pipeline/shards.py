"""Run one function over the unfinished shards of a stage with Ray Data, with progress, and survive being killed."""

import logging
import time
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
    again when its worker or node dies). A class is built once per actor with `work_arguments`, then called per task;
    `actors` of them share the tasks.
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
    resources: dict[str, Any] = {"num_cpus": cpus_per_task}
    if gpus_per_actor:
        resources["num_gpus"] = gpus_per_actor
    if isinstance(work, type):
        dataset = dataset.map(
            work,
            fn_constructor_kwargs=work_arguments or {},
            compute=ray.data.ActorPoolStrategy(size=actors or 1),
            **resources,
        )
    else:
        dataset = dataset.map(work, fn_kwargs=work_arguments or {}, **resources)
    for _ in _with_progress(output.verb, dataset.select_columns(["part", "rows"]).iter_rows(), len(pending)):
        pass


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
