"""label: the code of every token of every declared crop, features and assignment fused, nothing stored but codes."""

import logging
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa

from hubert_ecg.clustering.codebook import Codebook
from hubert_ecg.errors import ArtifactError, ConfigError
from hubert_ecg.pipeline.dump import run_extraction
from hubert_ecg.pipeline.extract import (
    LATENT,
    Extractor,
    Feature,
    check_crop_starts,
    crops_of_shard,
    describe_feature,
    num_tokens,
    preprocess_of,
)
from hubert_ecg.storage import files, tables
from hubert_ecg.storage.artifact import Manifest, begin, open_artifact, write_part
from hubert_ecg.storage.codebooks import load_codebook

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class LabelConfig:
    """Assign every token of every recording to its nearest cluster, for one codebook or an ensemble of them."""

    waveforms: str
    """Waveform table W, the output of jobs.prepare."""
    codebooks: list[str]
    """Folders of codebooks, such as "[K/k100]"; several make an ensemble, one prediction head each."""
    output: str
    """Directory to write the token labels L to."""
    checkpoint: str | None = None
    """The checkpoint that latent codebooks were made from; its fingerprint is checked."""
    crop_starts_s: tuple[float, ...] = (0.0, 2.5, 5.0)
    """Starts of the 5 s crops that pre-training draws from, s; a start that does not fit a recording is left out."""
    workers: int = 0
    """Actors; 0 takes one per CPU, or one per GPU for latents where there are GPUs."""

    def __post_init__(self) -> None:
        if not self.codebooks:
            raise ConfigError('--codebooks: wanted at least one folder, got none; try "[K/k100]"')
        if len(set(_names(self.codebooks))) < len(self.codebooks):
            raise ConfigError(f"--codebooks: wanted each once, got {self.codebooks}")
        check_crop_starts(self.crop_starts_s)


def label(config: LabelConfig) -> Manifest:
    """Run the stage."""
    waveforms = open_artifact(config.waveforms, verb="prepare", role="--waveforms")
    preprocess = preprocess_of(waveforms)
    names = _names(config.codebooks)
    books = {name: load_codebook(path) for name, path in zip(names, config.codebooks, strict=True)}
    features = {
        name: _feature_of(book, path, config, waveforms)
        for (name, book), path in zip(books.items(), config.codebooks, strict=True)
    }
    inputs = {"waveforms": waveforms.fingerprint} | {
        f"codebook {name}": book.fingerprint for name, book in books.items()
    }
    for feature in features.values():
        inputs |= feature.inputs
    described = {"crop_starts_s": list(config.crop_starts_s), "codebooks": names}
    output = begin(config.output, verb="label", config=described, inputs=inputs)
    if isinstance(output, Manifest):
        return output
    arguments = {
        "directory": output.directory,
        "waveforms": waveforms,
        "books": books,
        "features": features,
        "crop_starts_s": config.crop_starts_s,
    }
    tasks = [{"part": part} for part in range(waveforms.parts)]
    latent = any(feature.descriptor["name"] == LATENT for feature in features.values())
    run_extraction(output, tasks, LabelShard, arguments, latent=latent, workers=config.workers)
    described_books = {
        name: {
            "num_clusters": len(book.centroids),
            "fingerprint": book.fingerprint,
            "descriptor": features[name].descriptor,
            "usage": _usage(output.directory, waveforms.parts, name, len(book.centroids)),
        }
        for name, book in books.items()
    }
    return output.finish(
        parts=waveforms.parts, facts={"codebooks": described_books, "tokens_per_crop": num_tokens(preprocess)}
    )


class LabelShard:
    """Computes and writes the codes of one shard per call."""

    def __init__(
        self,
        directory: str,
        waveforms: Manifest,
        books: dict[str, Codebook],
        features: dict[str, Feature],
        crop_starts_s: tuple[float, ...],
    ) -> None:
        self.directory, self.waveforms, self.books, self.crop_starts_s = directory, waveforms, books, crop_starts_s
        self.preprocess = preprocess_of(waveforms)
        # Codebooks of an ensemble often share a feature; it is then computed once.
        self.extractors = [
            (Extractor(feature), [name for name in features if features[name] == feature])
            for position, feature in enumerate(features.values())
            if feature not in list(features.values())[:position]
        ]

    def __call__(self, task: dict[str, Any]) -> dict[str, Any]:
        part = task["part"]
        ids = files.read_table(self.waveforms.part(part), ["record_id"])["record_id"]
        starts: list[list[np.ndarray]] = [[] for _ in range(len(ids))]
        codes: dict[str, list[list[np.ndarray]]] = {name: [[] for _ in range(len(ids))] for name in self.books}
        for crops in crops_of_shard(self.waveforms, part, self.preprocess, self.crop_starts_s):
            for row, start in zip(crops.rows, crops.starts_s, strict=True):
                starts[row].append(np.array([start], np.float32))
            for extractor, names in self.extractors:
                features = extractor.compute(crops.inputs)
                for name in names:
                    for row, of_crop in zip(crops.rows, self.books[name].assign(features), strict=True):
                        codes[name][row].append(of_crop)
        columns = [ids.combine_chunks(), tables.to_list_array([np.concatenate(s) for s in starts], pa.float32())]
        columns += [tables.to_list_array([np.concatenate(c) for c in rows], pa.uint16()) for rows in codes.values()]
        usage = {
            name: np.bincount(
                np.concatenate([codes for row in rows for codes in row]), minlength=len(self.books[name].centroids)
            ).tolist()
            for name, rows in codes.items()
            if rows
        }
        table = pa.table(columns, schema=tables.code_schema(list(self.books)))
        receipt = write_part(self.directory, part, table, usage=usage)
        return {"part": part, "rows": receipt["rows"]}


def _feature_of(book: Codebook, path: str, config: LabelConfig, waveforms: Manifest) -> Feature:
    """The feature a codebook wants, checked against what this run would compute."""
    preprocess = preprocess_of(waveforms)
    latent = book.descriptor["name"] == LATENT
    if latent and config.checkpoint is None:
        raise ConfigError(
            f"--checkpoint: {path} was made from layer {book.layer} of a checkpoint; name that checkpoint"
        )
    feature = describe_feature(book.descriptor["name"], preprocess, config.checkpoint if latent else None, book.layer)
    if feature.descriptor != book.descriptor:
        raise ArtifactError(
            f"{path}: wants features {book.descriptor}, these waveforms give {feature.descriptor}; "
            f"use waveforms of the same sampling rate, or make the codebook anew with jobs.dump and jobs.cluster"
        )
    if feature.fingerprint != book.checkpoint_fingerprint:
        raise ArtifactError(
            f"{path}: made from checkpoint {book.checkpoint_fingerprint}, --checkpoint {config.checkpoint} is "
            f"{feature.fingerprint}; name the checkpoint that the codebook was made from"
        )
    return feature


def _usage(directory: str, parts: int, name: str, num_clusters: int) -> dict[str, float]:
    """How many clusters occur, and the perplexity of their frequencies, over all tokens."""
    manifest = Manifest(directory=directory, verb="label", config={}, inputs={}, fingerprint="", rows=0, parts=parts)
    counts = np.zeros(num_clusters, np.int64)
    for receipt in manifest.receipts():
        counts += np.array(receipt["usage"].get(name, np.zeros(num_clusters)), np.int64)
    shares = counts[counts > 0] / max(1, counts.sum())
    return {"used": int((counts > 0).sum()), "perplexity": float(np.exp(-(shares * np.log(shares)).sum()))}


def _names(paths: list[str]) -> list[str]:
    """A codebook goes by the name of its folder; two of the same name by that of the folder above, too."""
    names = [PurePosixPath(files.absolute(path)).name for path in paths]
    above = [PurePosixPath(files.absolute(path)).parent.name for path in paths]
    return [f"{a}-{n}" if names.count(n) > 1 else n for n, a in zip(names, above, strict=True)]
