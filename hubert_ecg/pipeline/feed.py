"""Training examples through Ray Data: tasks read and crop ahead of the model, in the order that the plan fixes."""

from collections.abc import Iterator

import pyarrow as pa

from hubert_ecg.pipeline.ray_cluster import quiet_ray_data
from hubert_ecg.training.examples import ExampleReader
from hubert_ecg.training.plan import StepPlan, Window

READER_CPUS = 0.5
"""CPUs reserved by one reading task: less than one, so that it fits beside training workers on a small machine."""
BLOCK_BYTES = 16 * 2**20
"""Size of the pieces in which examples travel; Ray's 128 MiB would hold up the first step."""


def feed(reader: ExampleReader, plan: StepPlan, *, rank: int, first_step: int, last_step: int) -> Iterator[pa.Table]:
    """One table of `plan.rank_batch` examples per step in [first_step, last_step), in step order."""
    import ray

    context = quiet_ray_data()
    context.target_max_block_size = BLOCK_BYTES
    context.execution_options.preserve_order = True
    windows = list(plan.windows(first_step, last_step))
    dataset = ray.data.from_items(list(range(len(windows))), override_num_blocks=len(windows)).map_batches(
        _read_window,
        batch_size=1,
        batch_format="numpy",
        num_cpus=READER_CPUS,
        fn_kwargs={"windows": windows, "reader": reader, "plan": plan, "span": (rank, first_step, last_step)},
    )
    yield from dataset.iter_batches(batch_size=plan.rank_batch, batch_format="pyarrow", prefetch_batches=2)


def _read_window(
    batch: dict, *, windows: list[Window], reader: ExampleReader, plan: StepPlan, span: tuple[int, int, int]
) -> Iterator[pa.Table]:
    for index in batch["item"].tolist():
        yield from reader.read(plan.rank_rows(windows[index], *span))
