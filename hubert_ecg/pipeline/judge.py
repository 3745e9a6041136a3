"""How good codebooks are on the rows of a feature table: one pass over all rows for any number of codebooks."""

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np

from hubert_ecg.clustering import quality
from hubert_ecg.clustering.kmeans import sample_places
from hubert_ecg.clustering.nearest import Finder, nearest
from hubert_ecg.clustering.sums import PartialSums, distance_sums
from hubert_ecg.errors import ArtifactError, ConfigError
from hubert_ecg.pipeline.kmeans_rows import ROWS_PER_BLOCK, Rows, read_shard, run_tasks, spans
from hubert_ecg.pipeline.ray_cluster import remote
from hubert_ecg.storage import files, tables
from hubert_ecg.storage.artifact import Manifest

log = logging.getLogger(__name__)

NO_LABEL = "none of them"
"""Stands for recordings that are known to have none of a set's labels."""


@dataclass(frozen=True, kw_only=True)
class Labels:
    """The labels that clusters are compared with: every token of a recording carries the recording's labels."""

    waveforms: Manifest
    label_set: str
    labels: tuple[str, ...]
    """All labels of the set; the last is NO_LABEL where having none is an answer."""

    @classmethod
    def of(cls, waveforms: Manifest, label_set: str, features: Manifest) -> "Labels":
        """Raises ConfigError for a set that the table lacks or that has no classes, ArtifactError for features made
        from other waveforms."""
        sets = waveforms.facts["label_sets"]
        if label_set not in sets:
            raise ConfigError(f"--label_set: wanted one of {sorted(sets)}, got {label_set!r}")
        described = sets[label_set]
        if described.get("task") == "regression":
            raise ConfigError(f"--label_set {label_set}: wanted a set of classes, got numbers; choose another set")
        if features.inputs.get("waveforms") != waveforms.fingerprint:
            raise ArtifactError(
                f"{features.directory}: made from waveforms {features.inputs.get('waveforms')}, --waveforms "
                f"{waveforms.directory} is {waveforms.fingerprint}; name the table that the features were dumped from"
            )
        names = tuple(described["labels"]) + ((NO_LABEL,) if described.get("none_is_negative") else ())
        return cls(waveforms=waveforms, label_set=label_set, labels=names)

    def of_shard(self, features: Manifest, part: int) -> np.ndarray:
        """[row of the shard's table, label] int64: 1 where the recording carries the label."""
        column = tables.LABEL_PREFIX + self.label_set
        known = files.read_table(self.waveforms.part(part), ["record_id", column])
        carried = dict(zip(known["record_id"].to_pylist(), known[column].to_pylist(), strict=True))
        ids = files.read_table(features.part(part), ["record_id"])["record_id"].to_pylist()
        place = {label: number for number, label in enumerate(self.labels)}
        hot = np.zeros((len(ids), len(self.labels)), np.int64)
        for row, record_id in enumerate(ids):
            names = carried[record_id] or ([NO_LABEL] if NO_LABEL in place else [])
            hot[row, [place[name] for name in names]] = 1
        return hot


def judge(
    rows: Rows,
    centroids: list[np.ndarray],
    everything: list[PartialSums],
    *,
    labels: Labels | None,
    silhouette_rows: int,
    seed: int,
) -> list[dict[str, Any]]:
    """Figures of each set of centroids [cluster, column] float32, whose sums over all rows are `everything`.

    All figures are of all rows but the silhouette, which is of a sample. With labels, purity and mutual information
    are of pairs of a token and a label: tokens of recordings with several labels count once for each, those of
    recordings without any not at all.
    """
    import ray

    shared = ray.put(
        [(each, total.means(), _largest(total)) for each, total in zip(centroids, everything, strict=True)]
    )
    sample = sample_places(rows.total, silhouette_rows, np.random.default_rng([seed, 3]))
    arguments = [(rows, span, shared, labels, sample) for span in spans(rows.features.parts, tasks_per_cpu=4)]
    found = list(run_tasks("judging", _judge, arguments, size=lambda result: int(result[2])))
    sampled = ray.put(np.concatenate([rows_of_span for _, rows_of_span, _ in found]))
    silhouettes = ray.get([remote(_silhouette).remote(sampled, each) for each in centroids])
    figures = []
    for number, (each, total) in enumerate(zip(centroids, everything, strict=True)):
        distances = sum(spread[number][0] for spread, _, _ in found)
        values = _figures(each, total, distances) | {"silhouette": silhouettes[number]}
        if labels is not None:
            values |= _of_labels(sum(spread[number][1] for spread, _, _ in found), labels)
        figures.append(values)
    return figures


def _figures(centroids: np.ndarray, everything: PartialSums, distances: np.ndarray) -> dict[str, Any]:
    rows = int(everything.counts.sum())
    inertia = everything.inertia(centroids)
    return {
        "num_clusters": len(centroids),
        "rows": rows,
        "inertia": inertia,
        "inertia_per_row": inertia / rows,
        "davies_bouldin": quality.davies_bouldin(everything.means(), everything.counts, distances),
        "calinski_harabasz": quality.calinski_harabasz(everything),
        "used": quality.usage(everything.counts),
        "perplexity": quality.perplexity(everything.counts),
    }


def _of_labels(table: np.ndarray, labels: Labels) -> dict[str, Any]:
    if table.sum() == 0:
        raise ArtifactError(
            f"{labels.waveforms.directory}: wanted recordings with labels of {labels.label_set} among those of the "
            f"features, got none; choose another --label_set"
        )
    return {
        "label_set": labels.label_set,
        "purity": quality.purity(table),
        "nmi": quality.normalised_mutual_information(table),
        "pnmi": quality.label_normalised_mutual_information(table),
    }


def _largest(everything: PartialSums) -> float:
    """Length of the longest mean: the scale of the distances."""
    means = everything.means()
    return float(np.sqrt(np.einsum("kd,kd->k", means, means).max()))


def _judge(
    rows: Rows,
    span: range,
    codebooks: list[tuple[np.ndarray, np.ndarray, float]],
    labels: Labels | None,
    sample: np.ndarray,
) -> tuple[list[tuple[np.ndarray, np.ndarray]], np.ndarray, int]:
    """Per codebook the sums of distances [cluster] and the counts [cluster, label]; sampled rows; number of rows."""
    num_labels = 0 if labels is None else len(labels.labels)
    found = [
        (np.zeros(len(centroids)), np.zeros((len(centroids), num_labels), np.int64)) for centroids, _, _ in codebooks
    ]
    finders = [Finder.of(centroids) for centroids, _, _ in codebooks]
    sampled = [np.zeros((0, rows.dim), np.float32)]
    offsets = rows.offsets
    for part in span:
        shard = read_shard(rows.features, part)
        hot = None if labels is None else labels.of_shard(rows.features, part)
        wanted = sample[np.searchsorted(sample, offsets[part]) : np.searchsorted(sample, offsets[part + 1])]
        sampled.append(rows.normalise(shard.rows[wanted - offsets[part]]))
        for start in range(0, len(shard.rows), ROWS_PER_BLOCK):
            block = rows.normalise(shard.rows[start : start + ROWS_PER_BLOCK])
            recordings = shard.recordings[start : start + ROWS_PER_BLOCK]
            for (distances, table), finder, (_, means, largest) in zip(found, finders, codebooks, strict=True):
                codes = finder.nearest(block)
                distances += distance_sums(block, codes, means, largest=largest)
                if hot is not None:
                    table += quality.contingency(codes, recordings, len(means), len(hot)) @ hot
    return found, np.concatenate(sampled), int(offsets[span.stop] - offsets[span.start])


def _silhouette(sample: np.ndarray, centroids: np.ndarray) -> float | None:
    return quality.silhouette(sample, nearest(sample, centroids))
