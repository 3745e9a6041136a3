"""label: the code of every token of every declared crop, features and assignment fused, nothing stored but codes."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa

from hubert_ecg.clustering import quality
from hubert_ecg.clustering.codebook import Codebook
from hubert_ecg.ecg.preprocess import PreprocessConfig
from hubert_ecg.errors import ArtifactError, ConfigError
from hubert_ecg.pipeline.crops import Crops, WaveformShard, check_crop_starts
from hubert_ecg.pipeline.extract import (
    LATENT,
    Extractor,
    Feature,
    LatentSource,
    Precision,
    check_work,
    describe_descriptor,
    describe_latent,
    finite_crops,
    preprocess_of,
    set_aside,
    set_aside_facts,
)
from hubert_ecg.pipeline.shards import run_shards
from hubert_ecg.storage import files, tables
from hubert_ecg.storage.artifact import Manifest, begin, open_artifact, write_part
from hubert_ecg.storage.codebooks import load_codebook


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
    precision: Precision | None = None
    """Arithmetic of that checkpoint's model; by default what the codebook was fitted under."""
    crop_starts_s: tuple[float, ...] = (0.0, 2.5, 5.0)
    """Starts of the 5 s crops that pre-training draws from, s; a start that does not fit a recording is left out."""
    batch_size: int = 64
    """Crops computed together; on a GPU more of them keep it busier."""
    workers: int = 0
    """Shards worked on at once; 0 takes one per CPU, or one per GPU for latents where there are GPUs."""

    def __post_init__(self) -> None:
        if not self.codebooks:
            raise ConfigError('--codebooks: wanted at least one folder, got none; try "[K/k100]"')
        if len(set(_names(self.codebooks))) < len(self.codebooks):
            raise ConfigError(f"--codebooks: wanted each once, got {self.codebooks}")
        check_work(self.batch_size, self.workers)
        check_crop_starts(self.crop_starts_s)


def label(config: LabelConfig) -> Manifest:
    """Run the stage."""
    waveforms = open_artifact(config.waveforms, verb="prepare", role="--waveforms")
    preprocess = preprocess_of(waveforms)
    names = _names(config.codebooks)
    books = {name: load_codebook(path) for name, path in zip(names, config.codebooks, strict=True)}
    features = _features_of(config, books, preprocess)
    inputs = {"waveforms": waveforms.fingerprint} | {
        f"codebook {name}": book.fingerprint for name, book in books.items()
    }
    for feature in features.values():
        inputs |= feature.inputs
    described: dict[str, Any] = {"crop_starts_s": list(config.crop_starts_s), "codebooks": names}
    latent = any(feature.latent for feature in features.values())
    if latent:
        described["precision"] = {n: f.descriptor["precision"] for n, f in features.items() if f.latent}
    output = begin(config.output, verb="label", config=described, inputs=inputs)
    if isinstance(output, Manifest):
        return output
    arguments = {
        "directory": output.directory,
        "waveforms": waveforms,
        "books": books,
        "features": features,
        "config": config,
    }
    tasks = [{"part": part} for part in range(waveforms.parts)]
    run_shards(output, tasks, LabelShard, work_arguments=arguments, holds_model=latent, workers=config.workers)
    receipts = output.receipts(waveforms.parts)
    described_books = {
        name: {
            "num_clusters": book.num_clusters,
            "fingerprint": book.fingerprint,
            "descriptor": features[name].descriptor,
            "usage": _usage(receipts, name),
        }
        for name, book in books.items()
    }
    facts = {"codebooks": described_books, "tokens_per_crop": preprocess.num_tokens}
    return output.finish(parts=waveforms.parts, facts=facts | set_aside_facts(receipts))


class LabelShard:
    """Computes and writes the codes of one shard per call."""

    def __init__(
        self,
        directory: str,
        waveforms: Manifest,
        books: dict[str, Codebook],
        features: dict[str, Feature],
        config: LabelConfig,
    ) -> None:
        self.directory, self.waveforms, self.books, self.config = directory, waveforms, books, config
        self.features = features
        self.preprocess = preprocess_of(waveforms)
        # Codebooks of an ensemble often share a feature; it is then computed once.
        self.distinct = [f for place, f in enumerate(features.values()) if f not in list(features.values())[:place]]
        self.extractor = Extractor(self.distinct)
        self.schema = tables.code_schema(list(books))

    def __call__(self, task: dict[str, Any]) -> dict[str, Any]:
        start = time.monotonic()
        shard = WaveformShard.read(self.waveforms, task["part"], self.preprocess)
        rows, starts_s = [np.zeros(0, np.int64)], [np.zeros(0, np.float32)]
        codes = {name: [np.zeros((0, self.preprocess.num_tokens), np.uint16)] for name in self.books}
        bad: list[dict[str, str]] = []
        for crops in shard.crops(self.config.crop_starts_s, self.config.batch_size):
            rows.append(crops.rows)
            starts_s.append(crops.starts_s)
            for feature, features in zip(self.distinct, self.extractor.compute(crops), strict=True):
                lost = np.unique(crops.rows[~finite_crops(features)])
                bad += set_aside(shard.record_ids.take(lost).to_pylist(), feature)
                tokens = _tokens_to_assign(crops, features, lost)
                for name, book in self.books.items():
                    if self.features[name] == feature:
                        codes[name].append(assign_codes(book, features, tokens))
        table = self._table(shard, np.concatenate(rows), starts_s, codes)
        usage = {name: _count(of_book, self.books[name].num_clusters) for name, of_book in codes.items()}
        facts = {"usage": usage, "set_aside": bad}
        write_part(self.directory, task["part"], table, **facts, seconds=round(time.monotonic() - start, 3))
        return {"part": task["part"], "rows": table.num_rows}

    def _table(
        self, shard: WaveformShard, rows: np.ndarray, starts_s: list[np.ndarray], codes: dict[str, list[np.ndarray]]
    ) -> pa.Table:
        """One row per recording of the shard, in its order; the crops came in that order, too."""
        crops_before = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(shard.counts)))])
        tokens_before = crops_before * self.preprocess.num_tokens
        columns = [
            shard.record_ids.combine_chunks(),
            _list_column(crops_before, np.concatenate(starts_s), pa.float32()),
            *(_list_column(tokens_before, np.concatenate(of_book), pa.uint16()) for of_book in codes.values()),
        ]
        return pa.table(columns, schema=self.schema)


def assign_codes(book: Codebook, features: np.ndarray, tokens: np.ndarray | None) -> np.ndarray:
    """[crop, token, dim] -> [crop, token] uint16; NO_CODE where `tokens` [crop, token] is False (None: all True)."""
    if tokens is None:
        return book.assign(features)
    codes = np.full(tokens.shape, tables.NO_CODE, np.uint16)
    if tokens.any():
        codes[tokens] = book.assign(features[tokens])
    return codes


def _tokens_to_assign(crops: Crops, features: np.ndarray, lost: np.ndarray) -> np.ndarray | None:
    """[crop, token] bool: those that count, of recordings that are not set aside; None for all."""
    if len(lost) == 0:
        return crops.token_mask
    kept = np.isin(crops.rows, lost, invert=True)[:, None]
    return kept & (np.ones(features.shape[:2], bool) if crops.token_mask is None else crops.token_mask)


def _features_of(config: LabelConfig, books: dict[str, Codebook], preprocess: PreprocessConfig) -> dict[str, Feature]:
    """The feature that each codebook wants, checked against what this run would compute."""
    source: LatentSource | None = None
    features = {}
    for (name, book), path in zip(books.items(), config.codebooks, strict=True):
        if book.descriptor["name"] != LATENT:
            features[name] = describe_descriptor(book.descriptor["name"], preprocess)
        elif config.checkpoint is None:
            raise ConfigError(
                f"--checkpoint: {path} was made from layer {book.layer} of a checkpoint; name that checkpoint"
            )
        else:
            source = source or LatentSource.open(config.checkpoint)
            precision = config.precision or book.descriptor.get("precision", "float32")
            features[name] = describe_latent(source, preprocess, book.layer, precision)
        _check_feature(features[name], book, path, config)
    return features


def _check_feature(feature: Feature, book: Codebook, path: str, config: LabelConfig) -> None:
    """ArtifactError unless the codebook was fitted on this feature; a model's precision may differ."""
    if feature.fingerprint != book.checkpoint_fingerprint:
        raise ArtifactError(
            f"{path}: made from checkpoint {book.checkpoint_fingerprint}, --checkpoint {config.checkpoint} is "
            f"{feature.fingerprint}; name the checkpoint that the codebook was made from"
        )
    wanted, got = ({k: v for k, v in d.items() if k != "precision"} for d in (book.descriptor, feature.descriptor))
    if wanted != got:
        raise ArtifactError(
            f"{path}: wants features {wanted}, these waveforms give {got}; use waveforms of the same sampling rate, or "
            f"make the codebook anew with jobs.dump and jobs.cluster"
        )
    if feature.dim != book.dim:
        raise ArtifactError(
            f"{path}: wants features of {book.dim} columns, these waveforms give {feature.dim}; make the codebook anew "
            f"with jobs.dump and jobs.cluster"
        )


def _count(codes: list[np.ndarray], num_clusters: int) -> list[int]:
    """[cluster] tokens of each cluster; tokens without a code count for none."""
    flat = np.concatenate(codes).reshape(-1)
    return np.bincount(flat[flat != tables.NO_CODE], minlength=num_clusters).tolist()


def _usage(receipts: Sequence[dict[str, Any]], name: str) -> dict[str, float]:
    """How many clusters occur, and the perplexity of their frequencies, over all tokens that have a code."""
    counts = np.sum([receipt["usage"][name] for receipt in receipts], axis=0)
    return {"used": int((counts > 0).sum()), "perplexity": quality.perplexity(counts) if counts.any() else 1.0}


def _list_column(offsets: np.ndarray, values: np.ndarray, kind: pa.DataType) -> pa.ListArray:
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(values.reshape(-1), kind))


def _names(paths: list[str]) -> list[str]:
    """A codebook goes by the name of its folder; two of the same name by that of the folder above, too."""
    names = [PurePosixPath(files.absolute(path)).name for path in paths]
    above = [PurePosixPath(files.absolute(path)).parent.name for path in paths]
    return [f"{a}-{n}" if names.count(n) > 1 else n for n, a in zip(names, above, strict=True)]
