"""Token labels as they come out when every lead is trimmed to whole shards: the descriptors drift from their tokens.

A fault of the published code, here for comparison only: at 100 Hz the descriptors of a token are those of samples that
lie 2 (lead I) to 46 (V6) of its 64 samples later.
"""

from dataclasses import replace

import numpy as np
import pyarrow as pa

from hubert_ecg.clustering.codebook import Codebook
from hubert_ecg.ecg.preprocess import PreprocessConfig
from hubert_ecg.pipeline.crops import WaveformShard
from hubert_ecg.pipeline.extract import Extractor, describe_descriptor, preprocess_of
from hubert_ecg.pipeline.label import assign_codes
from hubert_ecg.storage import files
from hubert_ecg.storage.artifact import Manifest, begin, write_part

AT_ONCE = 64
"""Crops computed together."""


def unaligned_labels(waveforms: Manifest, aligned: Manifest, name: str, book: Codebook, output: str) -> Manifest:
    """The labels `aligned`, with the codes of codebook `name` made anew from descriptors that drift."""
    found = begin(output, verb="label", config=aligned.config | {"aligned": False}, inputs=aligned.inputs)
    if isinstance(found, Manifest):
        return found
    preprocess = preprocess_of(waveforms)
    extractor = Extractor([describe_descriptor(book.descriptor["name"], preprocess)])
    for part in range(waveforms.parts):
        shard = WaveformShard.read(waveforms, part, preprocess)
        codes = []
        for crops in shard.crops(aligned.config["crop_starts_s"], AT_ONCE):
            drifting = replace(crops, inputs=drift(crops.inputs, preprocess))
            [features] = extractor.compute(drifting)
            codes.append(assign_codes(book, features, crops.token_mask))
        table = files.read_table(aligned.part(part))
        column = table.schema.get_field_index(f"codes.{name}")
        made = _as_before(table.column(column), np.concatenate(codes).reshape(-1))
        write_part(found.directory, part, table.set_column(column, table.schema.field(column), made))
    books = {
        each: {key: value for key, value in facts.items() if key != "usage"}
        for each, facts in aligned.facts["codebooks"].items()
    }
    return found.finish(parts=waveforms.parts, facts=aligned.facts | {"codebooks": books})


def drift(inputs: np.ndarray, preprocess: PreprocessConfig) -> np.ndarray:
    """[crop, 12 * T] -> the same shape: leads trimmed alike at both ends, one after the other, and zeros at the end."""
    samples, grid = preprocess.crop_samples, preprocess.token_grid
    kept = preprocess.num_tokens * grid.stride // 12
    before = (samples - kept) // 2
    trimmed = inputs.reshape(len(inputs), 12, samples)[:, :, before : before + kept].reshape(len(inputs), 12 * kept)
    return np.pad(trimmed, ((0, 0), (0, inputs.shape[1] - trimmed.shape[1])))


def _as_before(column: pa.ChunkedArray, values: np.ndarray) -> pa.Array:
    """A list column with other values in rows of the same lengths."""
    lengths = np.array([len(row) for row in column], np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(values, pa.uint16()))
