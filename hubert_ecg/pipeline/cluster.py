"""cluster: a feature table -> one codebook per number of clusters, by mini-batch k-means over Ray tasks."""

import logging
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from hubert_ecg.clustering import quality
from hubert_ecg.clustering.codebook import Codebook, normalise_with
from hubert_ecg.clustering.kmeans import (
    KMeansConfig,
    KMeansState,
    PartialSums,
    block_sums,
    kmeans_plus_plus,
    lloyd_update,
    merge,
    minibatch_update,
    nearest,
    reseed_dead,
    squared_distances,
)
from hubert_ecg.errors import ConfigError, InputError
from hubert_ecg.pipeline.ray_cluster import available
from hubert_ecg.storage import files, tables
from hubert_ecg.storage.artifact import Manifest, begin, open_artifact, write_part
from hubert_ecg.storage.codebooks import load_codebook, save_codebook

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ClusterConfig:
    """Fit codebooks to a feature table."""

    features: str
    """Feature table F, the output of jobs.dump."""
    output: str
    """Directory to write the codebooks to: K/k100, K/k200, ..."""
    num_clusters: list[int] | None = None
    """Numbers of clusters, such as "[100]" or "[100, 200, 500]"."""
    start: int | None = None
    """Instead of --num_clusters: the first number of clusters of a range,"""
    end: int | None = None
    """the last (included),"""
    step: int | None = None
    """and the step between them."""
    normalisation: Literal["l2", "standardise", "none"] = "l2"
    """What is done to a row before distances are measured; the codebook carries it and does it again when applied."""
    kmeans: KMeansConfig = field(default_factory=KMeansConfig)
    """Settings of the fit."""

    def __post_init__(self) -> None:
        ranged = [self.start, self.end, self.step]
        if (self.num_clusters is None) == any(value is None for value in ranged):
            raise ConfigError('--num_clusters: wanted "[100]" or all of --start, --end and --step, got both or neither')
        if not self.ks or min(self.ks) < 2 or len(set(self.ks)) < len(self.ks):
            raise ConfigError(f"--num_clusters: wanted different numbers of at least 2, got {self.ks}")

    @property
    def ks(self) -> list[int]:
        """All numbers of clusters to fit."""
        if self.num_clusters is not None:
            return self.num_clusters
        assert self.start is not None
        assert self.end is not None
        assert self.step is not None
        return list(range(self.start, self.end + 1, max(1, self.step)))


def cluster(config: ClusterConfig) -> Manifest:
    """Run the stage."""
    features = open_artifact(config.features, verb="dump", role="--features")
    described = {"num_clusters": config.ks, "normalisation": config.normalisation, "kmeans": asdict(config.kmeans)}
    output = begin(config.output, verb="cluster", config=described, inputs={"features": features.fingerprint})
    if isinstance(output, Manifest):
        return output
    rows = Rows.load(features, config.normalisation)
    log.info("cluster: %d rows of %d numbers, K = %s", rows.total, features.facts["dim"], config.ks)
    if rows.total < max(config.ks):
        raise InputError(
            f"{config.features}: wanted at least {max(config.ks)} rows for as many clusters, got {rows.total}; "
            f"dump more recordings or ask for fewer clusters"
        )
    finished = output.finished_parts()
    for part, num_clusters in enumerate(config.ks):
        folder = files.join(output.directory, f"k{num_clusters}")
        if part in finished:
            log.info("cluster: K = %d was finished before", num_clusters)
            continue
        state, inertia = fit(rows, num_clusters, config.kmeans)
        codebook = Codebook(
            centroids=state.centroids.astype(np.float32),
            descriptor=features.facts["descriptor"],
            normalisation=config.normalisation,
            mean=rows.mean,
            std=rows.std,
            layer=features.facts["descriptor"].get("layer"),
            checkpoint_fingerprint=features.inputs.get("checkpoint"),
            counts=state.counts,
            inertia=inertia,
        )
        save_codebook(folder, codebook)
        figures = {
            "num_clusters": num_clusters,
            "inertia_per_row": inertia / rows.total,
            "used": quality.usage(state.counts),
            "perplexity": quality.perplexity(state.counts),
            "steps": state.step,
        }
        log.info("cluster: " + ", ".join(f"{name} {value:.5g}" for name, value in figures.items()))
        write_part(output.directory, part, pa.Table.from_pylist([figures]), fingerprint=codebook.fingerprint)
    books = {f"k{k}": load_codebook(files.join(output.directory, f"k{k}")).fingerprint for k in config.ks}
    figures_of_all = [
        files.read_table(files.join(output.directory, "parts", f"part-{part:05d}.parquet")).to_pylist()[0]
        for part in range(len(config.ks))
    ]
    facts = {"codebooks": books, "quality": figures_of_all, "rows": rows.total}
    return output.finish(parts=len(config.ks), facts=facts, content=list(books.values()))


@dataclass(frozen=True, kw_only=True)
class Rows:
    """All rows of a feature table, normalised, in Ray's shared memory (which spills to disk), one block per shard."""

    blocks: list[Any]
    """References to [row, column] float32 arrays."""
    offsets: np.ndarray
    """[block + 1] number of the first row of each block."""
    mean: np.ndarray | None
    """[column] for `standardise`, else None."""
    std: np.ndarray | None
    """[column] for `standardise`, else None."""

    @property
    def total(self) -> int:
        return int(self.offsets[-1])

    @classmethod
    def load(cls, features: Manifest, normalisation: Literal["l2", "standardise", "none"]) -> "Rows":
        """Read every shard with a task of its own. Raises InputError when there are rows that are not finite."""
        import ray

        mean = std = None
        if normalisation == "standardise":
            moments = ray.get([_remote(_moments).remote(features, part) for part in range(features.parts)])
            count, total, square = (sum(values) for values in zip(*moments, strict=True))
            mean = (total / count).astype(np.float32)
            std = np.sqrt(np.maximum(square / count - (total / count) ** 2, 0)).astype(np.float32)
        load = _remote(_load_rows, num_returns=2)
        pairs = [load.remote(features, part, normalisation, mean, std) for part in range(features.parts)]
        sizes = ray.get([size for _, size in pairs])
        offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        return cls(blocks=[block for block, _ in pairs], offsets=offsets, mean=mean, std=std)

    def gather(self, places: np.ndarray) -> np.ndarray:
        """Rows by number, [place] ascending -> [place, column]; blocks are picked from where they lie."""
        import ray

        pick = _remote(_pick)
        parts = ray.get([pick.remote(self.blocks[block], within) for block, within in self._by_block(places)])
        return np.concatenate(parts)

    def batch_sums(self, places: np.ndarray, centroids: np.ndarray) -> PartialSums:
        """Sums of the rows at `places`, [place] ascending, under their nearest centroid; one task per CPU."""
        import ray

        shared = ray.put(centroids)
        work = _remote(_sums_at)
        chunks = np.array_split(places, max(1, available("CPU")))
        tasks = []
        for chunk in chunks:
            by_block = list(self._by_block(chunk))
            if by_block:
                blocks = [self.blocks[block] for block, _ in by_block]
                tasks.append(work.remote(shared, [within for _, within in by_block], *blocks))
        return merge(ray.get(tasks))

    def all_sums(self, centroids: np.ndarray) -> PartialSums:
        """Sums of all rows under their nearest centroid; one task per block."""
        import ray

        shared = ray.put(centroids)
        work = _remote(block_sums)
        return merge(ray.get([work.remote(block, shared) for block in self.blocks]))

    def _by_block(self, places: np.ndarray) -> list[tuple[int, np.ndarray]]:
        """(block, rows within it) of ascending places, blocks without any left out."""
        cuts = np.searchsorted(places, self.offsets)
        return [
            (block, places[cuts[block] : cuts[block + 1]] - self.offsets[block])
            for block in range(len(self.blocks))
            if cuts[block + 1] > cuts[block]
        ]


def fit(rows: Rows, num_clusters: int, config: KMeansConfig) -> tuple[KMeansState, float]:
    """k-means of distributed rows: the steps of clustering.kmeans.fit, with its sums taken by Ray tasks.

    Returns the state, its counts those of all rows, and the inertia of all rows.
    """
    order = np.random.default_rng([config.seed, 0]).permutation(rows.total)
    sample = rows.gather(np.sort(order[: max(config.seeding_rows, num_clusters)]))
    state = KMeansState.start(kmeans_plus_plus(sample, num_clusters, seed=config.seed, n_init=config.n_init))
    while not state.finished(config):
        places = np.sort(config.batch_rng(state.step).integers(rows.total, size=config.batch_size))
        centroids = state.centroids.astype(np.float32)
        state = minibatch_update(state, rows.batch_sums(places, centroids), config)
        if config.reassignment_ratio > 0 and state.rows_since_move >= 10 * num_clusters:
            state = _move_dead(state, rows, places, centroids, config)
    for _ in range(config.lloyd_passes):
        state = lloyd_update(state, rows.all_sums(state.centroids.astype(np.float32)))
    final = state.centroids.astype(np.float32)
    everything = rows.all_sums(final)
    return replace(state, counts=everything.counts), everything.inertia(final)


def _move_dead(
    state: KMeansState, rows: Rows, places: np.ndarray, centroids: np.ndarray, config: KMeansConfig
) -> KMeansState:
    """Move dead centroids to rows of the batch; the batch travels to the driver only when there are any."""
    if not (state.counts < max(1.0, config.reassignment_ratio * state.counts.max())).any():
        return replace(state, rows_since_move=0)
    batch = rows.gather(places)
    distances = squared_distances(batch, centroids, nearest(batch, centroids))
    return reseed_dead(state, batch, distances, ratio=config.reassignment_ratio, rng=config.move_rng(state.step))


def _read_rows(features: Manifest, part: int) -> np.ndarray:
    """[row, column] float32 of one shard; one row per token."""
    column = files.read_table(features.part(part), ["features"])["features"]
    return tables.stack_rows(column).reshape(-1, features.facts["dim"])


def _load_rows(
    features: Manifest, part: int, normalisation: Any, mean: np.ndarray | None, std: np.ndarray | None
) -> tuple[np.ndarray, int]:
    rows = _read_rows(features, part)
    bad = ~np.isfinite(rows).all(axis=1)
    if bad.any():
        raise InputError(
            f"{features.part(part)}: {bad.sum()} of {len(rows)} rows are not finite numbers; dump them anew"
        )
    return normalise_with(rows, normalisation, mean, std), len(rows)


def _moments(features: Manifest, part: int) -> tuple[int, np.ndarray, np.ndarray]:
    rows = _read_rows(features, part).astype(np.float64)
    return len(rows), rows.sum(axis=0), (rows**2).sum(axis=0)


def _pick(block: np.ndarray, within: np.ndarray) -> np.ndarray:
    return block[within]


def _sums_at(centroids: np.ndarray, within: list[np.ndarray], *blocks: np.ndarray) -> PartialSums:
    rows = np.concatenate([block[places] for block, places in zip(blocks, within, strict=True)])
    return block_sums(rows, centroids)


def _remote(function: Any, **options: Any) -> Any:
    """A function as a Ray task of one CPU."""
    import ray

    return ray.remote(function).options(num_cpus=1, **options)
