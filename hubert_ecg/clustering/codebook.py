"""Codebook: fitted centroids with all that is needed to apply them, so that rows are never assigned unnormalised."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, Self

import numpy as np

from hubert_ecg.clustering.nearest import Finder, normalise_rows, squared_distances
from hubert_ecg.errors import ConfigError, InputError

MAX_CLUSTERS = 65_535
"""Codes are uint16, and one value stays free to mark what has no code."""

Normalisation = Literal["l2", "standardise", "none"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Codebook:
    """Turns descriptor rows, as they come, into codes."""

    centroids: np.ndarray
    """[cluster, column] float32, in the space of normalised rows."""
    descriptor: Mapping[str, Any]
    """Definition of the rows it was fitted on, as plain JSON values."""
    normalisation: Normalisation = "l2"
    """What is done to a row first: unit length, zero mean and unit deviation per column, or nothing."""
    mean: np.ndarray | None = None
    """[column] float32, for `standardise`."""
    std: np.ndarray | None = None
    """[column] float32, for `standardise`; a column of deviation 0 is only centred."""
    layer: int | None = None
    """Encoder layer whose output the rows are; none for descriptors of the signal."""
    checkpoint_fingerprint: str | None = None
    """Of the model that made the rows; none for descriptors of the signal."""
    counts: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    """[cluster] int64: rows of each cluster over all the rows it was fitted on."""
    inertia: float = 0.0
    """Sum of squared distances of all those rows to their centroids."""

    def __post_init__(self) -> None:
        if self.centroids.ndim != 2 or not 1 <= len(self.centroids) <= MAX_CLUSTERS:
            raise ConfigError(
                f"codebook: wanted centroids [cluster, column] with 1 to {MAX_CLUSTERS} clusters, "
                f"got shape {self.centroids.shape}"
            )
        if self.normalisation not in ("l2", "standardise", "none"):
            raise ConfigError(f"codebook: wanted normalisation l2, standardise or none, got {self.normalisation!r}")
        wanted = (self.dim,) if self.normalisation == "standardise" else None
        for name, vector in (("mean", self.mean), ("std", self.std)):
            got = None if vector is None else vector.shape
            if got != wanted:
                raise ConfigError(f"codebook: {self.normalisation} wants {name} of shape {wanted}, got {got}")
        if len(self.counts) not in (0, self.num_clusters):
            raise ConfigError(
                f"codebook: wanted one count for each of {self.num_clusters} clusters, got {len(self.counts)}"
            )

    @property
    def num_clusters(self) -> int:
        return len(self.centroids)

    @property
    def dim(self) -> int:
        """Columns of a row."""
        return self.centroids.shape[1]

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits over everything that decides which code a row gets, and over nothing else."""
        _, described = self.to_storage()
        meaning = {name: described[name] for name in ("normalisation", "descriptor", "layer", "checkpoint_fingerprint")}
        digest = hashlib.sha256(json.dumps(meaning, sort_keys=True).encode())
        for vector in (self.centroids, self.mean, self.std):
            if vector is not None:
                digest.update(str(vector.shape).encode())
                digest.update(np.ascontiguousarray(vector, "<f4").tobytes())
        return digest.hexdigest()[:16]

    @cached_property
    def _finder(self) -> Finder:
        return Finder.of(self.centroids)

    def normalise(self, rows: np.ndarray) -> np.ndarray:
        """Rows [..., column] into the space of the centroids, float32.

        Raises InputError for rows of another width, and for rows that are not finite, with their number.
        """
        if rows.shape[-1:] != (self.dim,):
            raise InputError(
                f"codebook {self.fingerprint}: wanted rows of {self.dim} columns, got shape {rows.shape}; "
                "use the features it was fitted on"
            )
        # What is not finite stays so all the way into the sum, where it is found; no need for warnings as well.
        with np.errstate(invalid="ignore", over="ignore"):
            normalised = normalise_with(rows, self.normalisation, self.mean, self.std)
            bad = ~np.isfinite(normalised.sum(axis=-1, dtype=np.float64))
        if bad.any():
            raise InputError(
                f"codebook {self.fingerprint}: {np.count_nonzero(bad)} of {bad.size} rows are not finite numbers; "
                "leave out their recordings"
            )
        return normalised

    def assign(self, rows: np.ndarray) -> np.ndarray:
        """Rows [..., column], not normalised -> codes [...] uint16, the nearest centroid after normalisation."""
        flat = self.normalise(rows).reshape(-1, self.dim)
        return self._finder.nearest(flat).astype(np.uint16).reshape(rows.shape[:-1])

    def assign_with_distances(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As `assign`, with the squared distance of each normalised row to its centroid, [...] float32."""
        flat = self.normalise(rows).reshape(-1, self.dim)
        labels = self._finder.nearest(flat)
        distances = squared_distances(flat, self.centroids, labels)
        return labels.astype(np.uint16).reshape(rows.shape[:-1]), distances.reshape(rows.shape[:-1])

    def to_storage(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Arrays by name (for safetensors) and plain JSON values; `from_storage` is the way back."""
        arrays = {"centroids": self.centroids, "counts": self.counts}
        if self.mean is not None and self.std is not None:
            arrays |= {"mean": self.mean, "std": self.std}
        described = {
            "normalisation": self.normalisation,
            "descriptor": dict(self.descriptor),
            "layer": self.layer,
            "checkpoint_fingerprint": self.checkpoint_fingerprint,
            "inertia": self.inertia,
        }
        return arrays, described

    @classmethod
    def from_storage(cls, arrays: Mapping[str, np.ndarray], described: Mapping[str, Any]) -> Self:
        """The codebook that `to_storage` took apart. Raises InputError when a part is missing or unknown."""
        parts: dict[str, Any] = {**arrays, **described}
        try:
            return cls(**parts)
        except TypeError as error:
            raise InputError(f"codebook: {sorted(arrays)} and {sorted(described)} do not make one: {error}") from error


def normalise_with(
    rows: np.ndarray, normalisation: Normalisation, mean: np.ndarray | None = None, std: np.ndarray | None = None
) -> np.ndarray:
    """Rows [..., column] normalised as a codebook will do it, float32: what a fit must be given.

    `standardise` needs the [column] vectors `mean` and `std`.
    """
    rows = rows.astype(np.float32, copy=False)
    if normalisation == "l2":
        return normalise_rows(rows)
    if normalisation == "none":
        return rows
    if mean is None or std is None:
        raise ConfigError("normalisation standardise: wanted the mean and deviation of each column, got none")
    return (rows - mean) / np.where(std > 0, std, np.float32(1))
