"""How fast k-means is, beside scikit-learn's MiniBatchKMeans, a plain torch pass, and the matrix products alone.

    python -m benchmarks.cluster

All rows are made up: blobs in 39 and 768 columns. scikit-learn and ours start from the same centroids and take the same
batches on as many threads, one after the other; the start of Ray is left out everywhere. Ours is timed as the job runs
it, in Ray tasks: once from drawn batches, as scikit-learn has its batches in memory, and once with reading them from
the Parquet shards. Figures of one thread are CPU seconds, which a busy machine hardly changes.
"""

import argparse
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Event, Thread

import numpy as np
import pyarrow as pa
import torch
from sklearn.cluster import MiniBatchKMeans
from threadpoolctl import threadpool_limits

from benchmarks.processes import own_mib, workers
from benchmarks.report import Report, Row, reporting
from benchmarks.timing import in_turn
from hubert_ecg.clustering.kmeans import KMeansConfig, KMeansState, as_assigned, minibatch_step
from hubert_ecg.clustering.nearest import Finder, normalise_rows
from hubert_ecg.clustering.sums import block_sums, labelled_sums
from hubert_ecg.pipeline.cluster import ClusterConfig, cluster
from hubert_ecg.pipeline.kmeans_fit import batch_places, through_batches
from hubert_ecg.pipeline.kmeans_rows import (
    ROWS_PER_BLOCK,
    Rows,
    all_sums,
    draw,
    listed,
    read_shard,
    scan,
    sums_of_shards,
)
from hubert_ecg.pipeline.ray_cluster import available, start_ray
from hubert_ecg.storage import tables
from hubert_ecg.storage.artifact import Manifest, StageOutput, begin, write_part

TOKENS = 93
RECORDINGS_PER_SHARD = 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3, help="runs of each figure")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the rows, to try it out")
    place = os.environ.get("TMPDIR")
    with reporting("cluster", parser) as (options, report), tempfile.TemporaryDirectory(dir=place) as folder:
        start_ray()
        report.head(f"{available('CPU')} threads")
        narrow = write_blobs(f"{folder}/39", int(1_000_000 * options.scale), 39)
        wide = write_blobs(f"{folder}/768", int(200_000 * options.scale), 768)
        memory(narrow, folder, report)
        compare_fits(narrow, 100, KMeansConfig(batch_size=16_384, max_steps=61), options.runs, report)
        compare_fits(wide, 500, KMeansConfig(batch_size=16_384, max_steps=24), options.runs, report)
        compare_passes(narrow, 100, options.runs, report)
        compare_passes(wide, 500, options.runs, report)


def write_blobs(directory: str, num_rows: int, dim: int) -> Manifest:
    """At least `num_rows` rows around 300 points, as jobs.dump would store them."""
    rng = np.random.default_rng(dim)
    middles = rng.standard_normal((300, dim)).astype(np.float32) + 1
    output = begin(directory, verb="dump", config={}, inputs={"waveforms": "made up"})
    assert isinstance(output, StageOutput)
    parts = -(-num_rows // (TOKENS * RECORDINGS_PER_SHARD))
    for part in range(parts):
        count = TOKENS * RECORDINGS_PER_SHARD
        rows = middles[rng.integers(300, size=count)] + 0.7 * rng.standard_normal((count, dim), np.float32)
        table = pa.table(
            [
                pa.array([f"{part}-{number}" for number in range(RECORDINGS_PER_SHARD)]),
                pa.array(np.zeros(RECORDINGS_PER_SHARD), pa.float32()),
                tables.to_fixed_list_array(rows.reshape(RECORDINGS_PER_SHARD, -1), pa.float32()),
                pa.nulls(RECORDINGS_PER_SHARD, pa.list_(pa.bool_())),
            ],
            schema=tables.feature_schema(TOKENS * dim),
        )
        write_part(directory, part, table)
    facts = {"descriptor": {"name": "made up"}, "dim": dim, "tokens_per_crop": TOKENS}
    return output.finish(parts=parts, facts=facts)


def compare_fits(features: Manifest, num_clusters: int, config: KMeansConfig, runs: int, report: Report) -> None:
    """Mini-batch steps of the job against MiniBatchKMeans.partial_fit."""
    rows = scan(features, "l2")
    steps = range(config.max_steps)
    config = replace(config, max_no_improvement=None)
    places = partial(batch_places, config, rows.total, steps, False)
    seeds = first_rows(rows, num_clusters)
    threads = available("CPU")
    ours, with_reading, theirs = [], [], []
    for _ in range(runs + 1):  # the first is a warm-up
        began = time.perf_counter()
        drawn = draw(rows, places, "reading batches")
        read = time.perf_counter()
        states = {num_clusters: KMeansState.start(seeds)}
        for taken in through_batches(drawn, states, config, steps, first_list=0):
            states = taken
        ours.append(time.perf_counter() - read)
        with_reading.append(time.perf_counter() - began)
        batches = batches_of(rows, places)
        with threadpool_limits(threads):
            began = time.perf_counter()
            model = their_steps(batches, seeds)
            theirs.append(time.perf_counter() - began)
        del drawn, batches
    batches = batches_of(rows, places)
    works = {"ours": partial(our_steps, batches, seeds, config), "theirs": partial(their_steps, batches, seeds)}
    with threadpool_limits(1):
        cpu = in_turn(works, runs, clock=time.process_time)
    centroids = [as_assigned(states[num_clusters].centroids), as_assigned(model.cluster_centers_)]
    inertias = [sums.inertia(each) for sums, each in zip(all_sums(rows, centroids, "inertia"), centroids, strict=True)]
    name = f"mini-batch k-means, {rows.total:,} x {rows.dim}, K = {num_clusters}"
    steps_of = f"{config.max_steps} steps of MiniBatchKMeans.partial_fit"
    against = f"{steps_of}, same batches of {config.batch_size:,} in memory"
    sides = {
        "as Ray tasks": (ours[1:], theirs[1:], "s"),
        "with reading": (with_reading[1:], theirs[1:], "s"),
        "one thread": (cpu["ours"], cpu["theirs"], "CPU s"),
        "inertia of all rows": (inertias[:1], inertias[1:], "inertia"),
    }
    for what, (one, other, unit) in sides.items():
        report.add(figure(f"{name}, {what}", one, other, unit, against))


def our_steps(batches: list[np.ndarray], seeds: np.ndarray, config: KMeansConfig) -> KMeansState:
    state = KMeansState.start(seeds)
    for batch in batches:
        state = minibatch_step(state, config, sums=partial(labelled_sums, batch), rows=partial(np.asarray, batch))
    return state


def their_steps(batches: list[np.ndarray], seeds: np.ndarray) -> MiniBatchKMeans:
    model = MiniBatchKMeans(len(seeds), init=seeds, n_init=1, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for batch in batches:
            model.partial_fit(batch)
    return model


def first_rows(rows: Rows, number: int) -> np.ndarray:
    """[row, column] float32, normalised: the rows that everything starts from."""
    return np.concatenate(blocks_of(rows, partial(first_places, number)))


def first_places(number: int) -> list[np.ndarray]:
    return [np.arange(number)]


def blocks_of(rows: Rows, places: Callable[[], Iterable[np.ndarray]]) -> list[np.ndarray]:
    import ray

    return ray.get(draw(rows, places, "reading rows").blocks)


def batches_of(rows: Rows, places: Callable[[], Iterable[np.ndarray]]) -> list[np.ndarray]:
    """The very batches of the steps, [row, column] each, gathered in this process."""
    import ray

    drawn = draw(rows, places, "reading batches")
    blocks = tuple(ray.get(drawn.blocks))
    return [np.concatenate(listed(number, drawn.cuts, blocks)) for number in range(len(drawn.cuts[0]) - 1)]


def compare_passes(features: Manifest, num_clusters: int, runs: int, report: Report) -> None:
    """A pass over all rows: normalise, assign and add up, on one thread; and the job's pass from Parquet."""
    rows = scan(features, "l2")
    centroids = first_rows(rows, num_clusters)
    raw = np.concatenate([read_shard(features, part).rows for part in range(features.parts)])
    unit = normalise_rows(raw)
    torch.set_num_threads(1)
    works = {
        "ours": partial(numpy_pass, raw, centroids),
        "torch": partial(torch_pass, raw, centroids),
        "numpy products": partial(numpy_products, unit, centroids),
        "torch products": partial(torch_products, unit, centroids),
        "reading": partial(read_all, features),
        "task": partial(sums_of_shards, rows, range(features.parts), [centroids]),
    }
    with threadpool_limits(1):
        cpu = in_turn(works, runs, clock=time.process_time)
    name = f"pass over all rows, {rows.total:,} x {rows.dim}, K = {num_clusters}, one thread"
    both = [one + other for one, other in zip(cpu["torch"], cpu["reading"], strict=True)]
    sides = {
        "": (cpu["ours"], cpu["torch"], "torch: normalise, product, argmin, accumulate"),
        ", beside numpy": (cpu["ours"], cpu["numpy products"], "its matrix products alone, numpy"),
        ", beside torch": (cpu["ours"], cpu["torch products"], "its matrix products alone, torch"),
        ", as a task with reading Parquet": (cpu["task"], both, "the torch pass and reading the same shards"),
    }
    for what, (one, other, against) in sides.items():
        report.add(figure(f"{name}{what}", one, other, "CPU s", against))


def read_all(features: Manifest) -> None:
    for part in range(features.parts):
        read_shard(features, part)


def numpy_pass(raw: np.ndarray, centroids: np.ndarray) -> None:
    """What a task does with the rows of its shards."""
    finder = Finder.of(centroids)
    for start in range(0, len(raw), ROWS_PER_BLOCK):
        block_sums(normalise_rows(raw[start : start + ROWS_PER_BLOCK]), finder)


def numpy_products(unit: np.ndarray, centroids: np.ndarray) -> None:
    """In blocks that suit the cache, into one buffer: as fast as numpy gets."""
    weights = np.ascontiguousarray(centroids.T)
    out = np.empty((2048, len(centroids)), np.float32)
    for start in range(0, len(unit), 2048):
        block = unit[start : start + 2048]
        np.matmul(block, weights, out=out[: len(block)])


def torch_products(unit: np.ndarray, centroids: np.ndarray) -> None:
    weights = torch.from_numpy(centroids).T.contiguous()
    out = torch.empty((2048, len(centroids)))
    for block in torch.from_numpy(unit).split(2048):
        torch.matmul(block, weights, out=out[: len(block)])


def torch_pass(raw: np.ndarray, centroids: np.ndarray) -> None:
    """As a person would write it, in the block size that is fastest here."""
    middles = torch.from_numpy(centroids)
    norms = (middles**2).sum(1)
    sums, counts = torch.zeros_like(middles), torch.zeros(len(middles), dtype=torch.int64)
    for block in torch.from_numpy(raw).split(1024):
        unit = torch.nn.functional.normalize(block)
        codes = (norms - 2 * (unit @ middles.T)).argmin(1)
        sums.index_add_(0, codes, unit)
        counts += torch.bincount(codes, minlength=len(middles))


def memory(features: Manifest, folder: str, report: Report) -> None:
    """Peak memory of the whole job on a table and on ten times its rows, its batches bounded to 32 MB."""
    tenfold = repeated(features, f"{folder}/tenfold", 10)
    peaks = []
    for name, table in (("once", features), ("tenfold", tenfold)):
        kmeans = KMeansConfig(max_steps=100, max_no_improvement=None, lloyd_passes=1)
        config = ClusterConfig(
            features=table.directory,
            output=f"{folder}/codebooks-{name}",
            num_clusters=[50, 100],
            kmeans=kmeans,
            batches_mb=32,
        )
        with Watch() as watch:
            cluster(config)
        peaks.append(watch.peaks)
    for kind, once in peaks[0].items():
        name = f"peak memory of jobs.cluster, {tenfold.rows * TOKENS:,} x 39, {kind}"
        report.add(figure(name, [peaks[1][kind]], [once], "MiB", "the same job on a tenth of the rows"))


def repeated(features: Manifest, directory: str, times: int) -> Manifest:
    """A table whose shards are those of `features` several times over, as links to the same files."""
    output = begin(directory, verb="dump", config={"times": times}, inputs=features.inputs)
    assert isinstance(output, StageOutput)
    Path(directory, "parts").mkdir()
    for part in range(times * features.parts):
        for ending in ("parquet", "json"):
            source = Path(features.part(part % features.parts)).with_suffix(f".{ending}")
            Path(directory, "parts", f"part-{part:05d}.{ending}").hardlink_to(source)
    return output.finish(parts=times * features.parts, facts=features.facts)


class Watch:
    """Peak memory while it lasts, MiB: of the driver, of the largest Ray worker, and of Ray's shared memory."""

    def __enter__(self) -> "Watch":
        self.peaks = {"driver": 0.0, "largest worker": 0.0, "shared memory": 0.0}
        self.stop = Event()
        self.thread = Thread(target=self._watch)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join()

    def _watch(self) -> None:
        while not self.stop.wait(0.05):
            self._note("driver", own_mib(os.getpid()))
            for pid in workers():
                self._note("largest worker", own_mib(pid))
            self._note("shared memory", stored_mib())

    def _note(self, kind: str, mib: float) -> None:
        self.peaks[kind] = max(self.peaks[kind], mib)


def stored_mib() -> float:
    """Objects in Ray's shared memory, by what the cluster has left of it."""
    import ray

    kind = "object_store_memory"
    return (ray.cluster_resources().get(kind, 0) - ray.available_resources().get(kind, 0)) / 2**20


def figure(name: str, ours: list[float], theirs: list[float], unit: str, against: str) -> Row:
    return Row(name=name, ours=tuple(ours), theirs=tuple(theirs), unit=unit, against=against, in_turn=True)


if __name__ == "__main__":
    main()
