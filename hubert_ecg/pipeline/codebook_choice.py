"""Which codebooks are to be judged, on which feature table each, and which can share a pass over it."""

from collections.abc import Iterator
from typing import Any

from hubert_ecg.clustering.codebook import Codebook
from hubert_ecg.errors import ArtifactError
from hubert_ecg.storage import files
from hubert_ecg.storage.artifact import MANIFEST, Manifest, open_artifact
from hubert_ecg.storage.codebooks import DESCRIPTION, load_codebook


def named_codebooks(folders: list[str]) -> Iterator[tuple[str, Codebook]]:
    """Codebooks by the name of their folder, or of the output and the folder where there are several outputs."""
    paths = []
    for folder in map(files.absolute, folders):
        if files.exists(files.join(folder, DESCRIPTION)) or not files.exists(files.join(folder, MANIFEST)):
            paths.append(folder)
        else:
            outputs = open_artifact(folder, verb="cluster", role="--evaluate")
            if "num_clusters" not in outputs.config:
                raise ArtifactError(f"{folder}: wanted codebooks, got a judgement of some; name the codebooks")
            paths += [files.join(folder, name) for name in outputs.facts["codebooks"]]
    names = [path.rstrip("/").split("/")[-2:] for path in paths]
    lasts = [name[-1] for name in names]
    for path, name in zip(paths, names, strict=True):
        yield ("-".join(name) if lasts.count(name[-1]) > 1 else name[-1]), load_codebook(path)


def table_of(name: str, book: Codebook, tables: list[Manifest]) -> int:
    """Which of the feature tables a codebook can be judged on. Raises ArtifactError naming what differs from each."""
    differences = []
    for number, features in enumerate(tables):
        wanted = dict(book.descriptor) | {"checkpoint": book.checkpoint_fingerprint}
        got = features.facts["descriptor"] | {"checkpoint": features.inputs.get("checkpoint")}
        other = [key for key in sorted(set(wanted) | set(got)) if wanted.get(key) != got.get(key)]
        if not other:
            return number
        said = ", ".join(f"{key} {wanted.get(key)} (the table's is {got.get(key)})" for key in other)
        differences.append(f"{features.directory}: wants {said}")
    raise ArtifactError(
        f"codebook {name} does not fit {'; '.join(differences)}; dump features of its own kind and name them"
    )


def of_one_normalisation(books: dict[str, Codebook], places: dict[str, int]) -> list[list[str]]:
    """Codebooks that can share a pass: on the same table, their rows normalised alike."""
    groups: dict[Any, list[str]] = {}
    for name, book in books.items():
        vectors = tuple(None if vector is None else vector.tobytes() for vector in (book.mean, book.std))
        groups.setdefault((places[name], book.normalisation, *vectors), []).append(name)
    return list(groups.values())
