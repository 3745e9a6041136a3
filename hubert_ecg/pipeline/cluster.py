"""cluster: a feature table -> one codebook per number of clusters, judged; or codebooks judged on other tables."""

import logging
import time
from dataclasses import asdict, dataclass, field
from typing import Any

from hubert_ecg.clustering.codebook import Codebook, Normalisation
from hubert_ecg.clustering.kmeans import KMeansConfig
from hubert_ecg.errors import ConfigError, InputError
from hubert_ecg.pipeline.codebook_choice import named_codebooks, of_one_normalisation, table_of
from hubert_ecg.pipeline.judge import Labels, judge
from hubert_ecg.pipeline.kmeans_fit import Fitted, advance, finish
from hubert_ecg.pipeline.kmeans_rows import Rows, all_sums, scan
from hubert_ecg.pipeline.quality_table import elbows, quality_table, write_quality
from hubert_ecg.pipeline.ray_cluster import start_ray
from hubert_ecg.storage import files
from hubert_ecg.storage.artifact import Manifest, StageOutput, begin, open_artifact, write_part
from hubert_ecg.storage.codebooks import delete_states, load_states, save_codebook, save_states

log = logging.getLogger(__name__)

SET_ASIDE = "set_aside.json"
"""Beside the codebooks: recordings with rows that are not finite, and how many rows each."""
SHOWN = 20
"""Recordings named in the manifest; the file beside the codebooks names all."""


@dataclass(frozen=True, kw_only=True)
class ClusterConfig:
    """Fit codebooks to a feature table and judge them, or judge codebooks that are there."""

    features: list[str] | str
    """Feature table F, the output of jobs.dump; with --evaluate also several, such as "[F4, F8]"."""
    output: str
    """Directory to write the codebooks and their quality to: K/k100, K/k200, ..., K/quality.csv, K/quality.png."""
    num_clusters: list[int] | None = None
    """Numbers of clusters, such as "[100]" or "[100, 200, 500]"."""
    start: int | None = None
    """Instead of --num_clusters: the first number of clusters of a range,"""
    end: int | None = None
    """the last (included),"""
    step: int | None = None
    """and the step between them."""
    evaluate: list[str] | str | None = None
    """Fit nothing, but judge these codebooks on --features: folders such as K/k100, or outputs of jobs.cluster for all
    codebooks in them. Each is judged on the table of its own descriptor, layer and checkpoint."""
    normalisation: Normalisation = "l2"
    """What is done to a row before distances are measured; the codebook carries it and does it again when applied."""
    kmeans: KMeansConfig = field(default_factory=KMeansConfig)
    """Settings of the fit."""
    waveforms: str | None = None
    """Waveform table W that the features were dumped from: compare clusters with its labels,"""
    label_set: str | None = None
    """those of this set."""
    silhouette_rows: int = 5_000
    """Rows in the sample that the silhouette is taken of; its cost grows with their square."""
    batches_mb: int = 512
    """Rows of coming mini-batches held in Ray's shared memory at a time, MB; more means fewer reads of the table. The
    result is the same."""
    save_interval_s: float = 30.0
    """Seconds between two saved states, from which a run that was killed goes on."""

    def __post_init__(self) -> None:
        ranged = [self.start, self.end, self.step]
        if self.evaluate is not None:
            if self.num_clusters is not None or any(value is not None for value in ranged):
                raise ConfigError("--evaluate: judges codebooks that are there; leave out --num_clusters and ranges")
        elif (self.num_clusters is None) == any(value is None for value in ranged):
            raise ConfigError('--num_clusters: wanted "[100]" or all of --start, --end and --step, got both or neither')
        elif not self.ks or min(self.ks) < 2 or len(set(self.ks)) < len(self.ks):
            raise ConfigError(f"--num_clusters: wanted different numbers of at least 2, got {self.ks}")
        elif len(self.tables) != 1:
            raise ConfigError(f"--features: wanted one table to fit to, got {len(self.tables)}; choose one")
        elif max(self.ks) > self.kmeans.seeding_rows:
            raise ConfigError(
                f"--kmeans.seeding_rows: wanted at least {max(self.ks)}, as many as clusters, got "
                f"{self.kmeans.seeding_rows}"
            )
        if not self.tables:
            raise ConfigError("--features: wanted at least one table, got none")
        if (self.waveforms is None) != (self.label_set is None):
            raise ConfigError("--waveforms and --label_set: wanted both, to compare clusters with labels, or neither")
        for name in ("silhouette_rows", "batches_mb"):
            if getattr(self, name) < 1:
                raise ConfigError(f"--{name}: wanted at least 1, got {getattr(self, name)}")
        if self.save_interval_s < 0:
            raise ConfigError(f"--save_interval_s: wanted 0 or more, got {self.save_interval_s}")

    @property
    def tables(self) -> list[str]:
        """All feature tables."""
        return [self.features] if isinstance(self.features, str) else self.features

    @property
    def judged(self) -> list[str]:
        """All folders of --evaluate."""
        return [self.evaluate] if isinstance(self.evaluate, str) else self.evaluate or []

    @property
    def ks(self) -> list[int]:
        """All numbers of clusters to fit; none when codebooks are only judged."""
        if self.num_clusters is not None or self.evaluate is not None:
            return self.num_clusters or []
        assert self.start is not None
        assert self.end is not None
        assert self.step is not None
        return list(range(self.start, self.end + 1, max(1, self.step)))


def cluster(config: ClusterConfig) -> Manifest:
    """Run the stage."""
    tables = [open_artifact(path, verb="dump", role="--features") for path in config.tables]
    waveforms = None
    if config.waveforms is not None:
        waveforms = open_artifact(config.waveforms, verb="prepare", role="--waveforms")
    labels = [_labels(config, waveforms, features) for features in tables]
    if config.evaluate is not None:
        return _evaluate(config, tables, labels)
    return _fit(config, tables[0], labels[0])


def _fit(config: ClusterConfig, features: Manifest, labels: Labels | None) -> Manifest:
    most = features.rows * features.facts["tokens_per_crop"]
    _refuse_too_few(features, most, config)
    described = {
        "num_clusters": config.ks,
        "normalisation": config.normalisation,
        "kmeans": asdict(config.kmeans),
        **_judging(config),
    }
    output = begin(config.output, verb="cluster", config=described, inputs=_inputs({"features": features}, labels))
    if isinstance(output, Manifest):
        return output
    start_ray()
    rows = scan(features, config.normalisation)
    _refuse_too_few(features, rows.total, config)
    log.info("cluster: %s rows of %d numbers, K = %s", f"{rows.total:,}", rows.dim, config.ks)
    fitted = _fit_states(config, output, rows)
    books = {f"k{k}": _codebook(rows, of_k) for k, of_k in fitted.items()}
    for name, book in books.items():
        save_codebook(files.join(output.directory, name), book)
    figures = judge(
        rows,
        [of_k.centroids for of_k in fitted.values()],
        [of_k.everything for of_k in fitted.values()],
        labels=labels,
        silhouette_rows=config.silhouette_rows,
        seed=config.kmeans.seed,
    )
    described_books = [
        _described(name, book) | {"steps": of_k.state.step}
        for (name, book), of_k in zip(books.items(), fitted.values(), strict=True)
    ]
    fingerprints = {name: book.fingerprint for name, book in books.items()}
    manifest = _finish(output, fingerprints, [a | b for a, b in zip(described_books, figures, strict=True)], [rows])
    delete_states(output.directory)
    return manifest


def _fit_states(config: ClusterConfig, output: StageOutput, rows: Rows) -> dict[int, Fitted]:
    """The fits, taken up where an earlier run left them, saved every so often."""
    states = found = load_states(output.directory)
    if found:
        steps = ", ".join(f"K = {k} at step {state.step}" for k, state in found.items())
        log.info("cluster: going on from %s", steps)
    last = time.monotonic()
    for states in advance(rows, config.ks, config.kmeans, found, batches_mb=config.batches_mb):
        if time.monotonic() - last >= config.save_interval_s:
            save_states(output.directory, states)
            last = time.monotonic()
    return finish(rows, {k: states[k] for k in config.ks})


def _evaluate(config: ClusterConfig, tables: list[Manifest], labels: list[Labels | None]) -> Manifest:
    """Judge codebooks that are there, each on the table it fits."""
    books = dict(named_codebooks(config.judged))
    places = {name: table_of(name, book, tables) for name, book in books.items()}
    inputs = {f"codebook {name}": book.fingerprint for name, book in books.items()}
    numbered = {"features" if len(tables) == 1 else f"features {n}": table for n, table in enumerate(tables, start=1)}
    output = begin(
        config.output,
        verb="cluster",
        config={"evaluate": sorted(books), "seed": config.kmeans.seed, **_judging(config)},
        inputs=_inputs(numbered, labels[0]) | inputs,
    )
    if isinstance(output, Manifest):
        return output
    start_ray()
    figures, scanned = [], []
    for group in of_one_normalisation(books, places):
        place, first = places[group[0]], books[group[0]]
        rows = scan(tables[place], first.normalisation, mean=first.mean, std=first.std)
        _refuse_too_few(tables[place], rows.total, config)
        scanned.append(rows)
        centroids = [books[name].centroids for name in group]
        everything = all_sums(rows, centroids, "assigning rows")
        found = judge(
            rows,
            centroids,
            everything,
            labels=labels[place],
            silhouette_rows=config.silhouette_rows,
            seed=config.kmeans.seed,
        )
        figures += [_described(name, books[name]) | of_book for name, of_book in zip(group, found, strict=True)]
    return _finish(output, {name: book.fingerprint for name, book in books.items()}, figures, scanned)


def _labels(config: ClusterConfig, waveforms: Manifest | None, features: Manifest) -> Labels | None:
    if waveforms is None or config.label_set is None:
        return None
    return Labels.of(waveforms, config.label_set, features)


def _judging(config: ClusterConfig) -> dict[str, Any]:
    return {"label_set": config.label_set, "silhouette_rows": config.silhouette_rows}


def _inputs(tables: dict[str, Manifest], labels: Labels | None) -> dict[str, str]:
    found = {name: table.fingerprint for name, table in tables.items()}
    return found if labels is None else found | {"waveforms": labels.waveforms.fingerprint}


def _refuse_too_few(features: Manifest, rows: int, config: ClusterConfig) -> None:
    wanted = max(config.ks, default=1)
    if rows < wanted:
        raise InputError(
            f"{features.directory}: wanted at least {wanted} rows for as many clusters, got {rows}; "
            f"dump more recordings or ask for fewer clusters"
        )


def _codebook(rows: Rows, fitted: Fitted) -> Codebook:
    features = rows.features
    return Codebook(
        centroids=fitted.centroids,
        descriptor=features.facts["descriptor"],
        normalisation=rows.normalisation,
        mean=rows.mean,
        std=rows.std,
        layer=features.facts["descriptor"].get("layer"),
        checkpoint_fingerprint=features.inputs.get("checkpoint"),
        counts=fitted.everything.counts,
        inertia=fitted.everything.inertia(fitted.centroids),
    )


def _described(name: str, book: Codebook) -> dict[str, Any]:
    return {"codebook": name, "descriptor": book.descriptor["name"], "layer": book.layer}


def _finish(
    output: StageOutput, fingerprints: dict[str, str], figures: list[dict[str, Any]], scanned: list[Rows]
) -> Manifest:
    """Write the quality table, its picture and the recordings set aside, and then the manifest."""
    table = quality_table(figures)
    write_quality(output.directory, table)
    write_part(output.directory, 0, table)
    set_aside = {record_id: rows for of in scanned for record_id, rows in of.not_finite.items()}
    files.write_json(files.join(output.directory, SET_ASIDE), set_aside)
    if set_aside:
        log.warning(
            "cluster: %d rows of %d recordings are not finite and were set aside, see %s",
            sum(set_aside.values()),
            len(set_aside),
            SET_ASIDE,
        )
    for row in table.to_pylist():
        log.info("cluster: %s", ", ".join(f"{key} {_short(value)}" for key, value in row.items() if value is not None))
    facts = {
        "codebooks": fingerprints,
        "quality": table.to_pylist(),
        "elbows": elbows(table),
        "rows": sum(of.total for of in scanned),
        "set_aside": {
            "rows": sum(set_aside.values()),
            "recordings": len(set_aside),
            "first": sorted(set_aside)[:SHOWN],
        },
    }
    return output.finish(parts=1, facts=facts, content=list(fingerprints.values()))


def _short(value: Any) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)
