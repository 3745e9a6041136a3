"""Codebooks on disk, finished and under way: arrays as safetensors, everything else as JSON, no pickles."""

import hashlib
from dataclasses import fields
from typing import Any

import numpy as np
from safetensors.numpy import load, save

from hubert_ecg.clustering.codebook import Codebook
from hubert_ecg.clustering.kmeans import KMeansState
from hubert_ecg.errors import ArtifactError
from hubert_ecg.storage import files

ARRAYS = "codebook.safetensors"
DESCRIPTION = "codebook.json"

STATES = "state"
"""Folder of an unfinished output where fits under way are kept."""
STATES_DESCRIPTION = "fits.json"


def save_codebook(directory: str, codebook: Codebook) -> None:
    """Write both files; the description last, so that a half-written codebook is not found."""
    arrays, description = codebook.to_storage()
    files.write_bytes(files.join(directory, ARRAYS), save(arrays))
    files.write_json(files.join(directory, DESCRIPTION), description)


def load_codebook(directory: str) -> Codebook:
    """ArtifactError when there is no codebook in the directory."""
    path = files.join(files.absolute(directory), DESCRIPTION)
    if not files.exists(path):
        raise ArtifactError(
            f"{directory}: wanted a codebook ({DESCRIPTION}), got none there; name one of the folders that "
            f"jobs.cluster wrote, such as K/k100"
        )
    arrays = load(files.read_bytes(files.join(files.absolute(directory), ARRAYS)))
    return Codebook.from_storage(arrays, files.read_json(path))


def save_states(directory: str, states: dict[int, KMeansState]) -> None:
    """Keep fits under way, by number of clusters, in the place of those kept before.

    The arrays go into a file of a new name, and only then does the description name it: whenever a process dies, the
    old pair or the new one is whole.
    """
    folder = files.join(directory, STATES)
    arrays: dict[str, np.ndarray] = {}
    described: dict[str, dict[str, Any]] = {}
    for k, state in states.items():
        values = {field.name: getattr(state, field.name) for field in fields(state)}
        arrays |= {f"k{k}.{name}": value for name, value in values.items() if isinstance(value, np.ndarray)}
        described[str(k)] = {name: value for name, value in values.items() if not isinstance(value, np.ndarray)}
    data = save(arrays)
    name = f"fits-{hashlib.sha256(data).hexdigest()[:16]}.safetensors"
    files.write_bytes(files.join(folder, name), data)
    files.write_json(files.join(folder, STATES_DESCRIPTION), {"arrays": name, "fits": described})
    _delete_all(folder, [other for other in files.list_names(folder) if other not in (name, STATES_DESCRIPTION)])


def load_states(directory: str) -> dict[int, KMeansState]:
    """Fits under way, by number of clusters; empty when none were kept."""
    folder = files.join(directory, STATES)
    if not files.exists(files.join(folder, STATES_DESCRIPTION)):
        return {}
    found = files.read_json(files.join(folder, STATES_DESCRIPTION))
    arrays = load(files.read_bytes(files.join(folder, found["arrays"])))
    return {
        int(k): KMeansState(centroids=arrays[f"k{k}.centroids"], counts=arrays[f"k{k}.counts"], **scalars)
        for k, scalars in found["fits"].items()
    }


def delete_states(directory: str) -> None:
    """Forget the fits under way; their codebooks are there."""
    folder = files.join(directory, STATES)
    _delete_all(folder, files.list_names(folder))


def _delete_all(folder: str, names: list[str]) -> None:
    for name in names:
        files.delete(files.join(folder, name))
