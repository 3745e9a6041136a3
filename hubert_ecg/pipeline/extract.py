"""Rows per token of the recordings of one waveform shard: the shared core of dump and label."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from hubert_ecg.ecg.features import DescriptorConfig
from hubert_ecg.ecg.preprocess import PreprocessConfig, model_input
from hubert_ecg.ecg.tokens import TokenGrid
from hubert_ecg.errors import ArtifactError, ConfigError
from hubert_ecg.storage import files, tables
from hubert_ecg.storage.artifact import Manifest

FeatureName = Literal["time_frequency", "mfcc", "mixed", "latent"]
LATENT: Literal["latent"] = "latent"
CROPS_PER_BATCH = 64


@dataclass(frozen=True, kw_only=True)
class Crops:
    """The crops of some recordings of a shard, ready for a descriptor or a model."""

    rows: np.ndarray
    """[crop] row of the recording in its shard."""
    starts_s: np.ndarray
    """[crop] start within the recording, s."""
    inputs: np.ndarray
    """[crop, 12 * T] float32 model input."""


@dataclass(frozen=True, kw_only=True)
class Feature:
    """What a row per token is: a descriptor, or the output of a layer of a checkpoint."""

    descriptor: dict[str, Any]
    """The definition that a codebook carries: name and settings, or name `latent` and the layer."""
    dim: int
    """Numbers per token."""
    checkpoint: str | None = None
    """Absolute path of the checkpoint, for latents."""
    fingerprint: str | None = None
    """Fingerprint of the checkpoint's weights, for latents."""

    @property
    def inputs(self) -> dict[str, str]:
        return {"checkpoint": self.fingerprint} if self.fingerprint else {}


class Extractor:
    """Model inputs [crop, 12 * T] -> rows [crop, token, dim] float32, by a descriptor or by an encoder layer.

    Built once per Ray task or actor; a latent extractor loads its checkpoint then.
    """

    compute: Callable[[np.ndarray], np.ndarray]

    def __init__(self, feature: Feature) -> None:
        if feature.descriptor["name"] != LATENT:
            self.compute = DescriptorConfig.from_dict(feature.descriptor).compute
            return
        import torch

        from hubert_ecg.storage.checkpoint import load_checkpoint

        assert feature.checkpoint is not None
        self.layer = feature.descriptor["layer"]
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model, _ = load_checkpoint(feature.checkpoint, expect="ssl")
        self.model.to(self.device)
        self.compute = self._latents

    def _latents(self, inputs: np.ndarray) -> np.ndarray:
        import torch

        with torch.inference_mode():
            batch = torch.from_numpy(np.ascontiguousarray(inputs)).to(self.device)
            hidden = self.model.encode(batch, output_hidden_states=True).hidden_states[self.layer + 1]
            return hidden.float().cpu().numpy()


def crops_of_shard(
    waveforms: Manifest,
    part: int,
    preprocess: PreprocessConfig,
    starts_s: tuple[float, ...],
    rows: np.ndarray | None = None,
) -> Iterator[Crops]:
    """Every declared crop that fits its recording, in order of row and start, some crops at a time."""
    table = files.read_table(waveforms.part(part), ["counts"])
    counts = [row.reshape(12, -1) for row in tables.list_rows(table["counts"])]
    wanted = range(len(counts)) if rows is None else rows.tolist()
    pairs = [(row, start) for row in wanted for start in fitting_starts(counts[row].shape[1], starts_s, preprocess)]
    for begin in range(0, len(pairs), CROPS_PER_BATCH):
        batch = pairs[begin : begin + CROPS_PER_BATCH]
        inputs = np.stack([model_input(counts[row], start, preprocess) for row, start in batch])
        numbers, starts = zip(*batch, strict=True)
        yield Crops(rows=np.array(numbers), starts_s=np.array(starts, np.float32), inputs=inputs)


def fitting_starts(num_samples: int, starts_s: tuple[float, ...], preprocess: PreprocessConfig) -> list[float]:
    """The declared crop starts at which a whole crop fits into a waveform of `num_samples` table samples."""
    length = preprocess.table_crop_samples
    return [start for start in starts_s if round(start * preprocess.table_rate_hz) + length <= num_samples]


def check_crop_starts(starts_s: tuple[float, ...]) -> None:
    """ConfigError unless the starts are distinct, ascending and not negative; the first must be 0 to fit every ECG."""
    if not starts_s or list(starts_s) != sorted(set(starts_s)) or starts_s[0] != 0:
        raise ConfigError(
            f"--crop_starts_s: wanted ascending starts in seconds, the first 0, got {list(starts_s)}; try '[0, 2.5, 5]'"
        )


def preprocess_of(waveforms: Manifest) -> PreprocessConfig:
    """The contract that a waveform table was made under."""
    return PreprocessConfig.from_dict(waveforms.config["preprocess"])


def num_tokens(preprocess: PreprocessConfig) -> int:
    """Tokens in one crop."""
    return TokenGrid.at_rate(preprocess.sampling_rate_hz).num_tokens(12 * preprocess.crop_samples)


def describe_feature(
    name: FeatureName, preprocess: PreprocessConfig, checkpoint: str | None, layer: int | None
) -> Feature:
    """The definition of a feature under a waveform table's contract.

    Raises ArtifactError when the checkpoint was trained under another contract, ConfigError when it lacks the layer.
    """
    if name != LATENT:
        descriptor = DescriptorConfig(name=name, sampling_rate_hz=preprocess.sampling_rate_hz)
        return Feature(descriptor=descriptor.to_dict(), dim=descriptor.dim)
    from hubert_ecg.storage.checkpoint import load_info

    assert checkpoint is not None
    path = files.absolute(checkpoint)
    info = load_info(path)
    check_contract(info.preprocessing, preprocess, checkpoint)
    model = files.read_json(files.join(path, "config.json"))
    layers = model["num_hidden_layers"]
    if layer is None or not 0 <= layer < layers:
        raise ConfigError(f"--layer: wanted 0 to {layers - 1}, as {checkpoint} has {layers} layers, got {layer}")
    descriptor_json = {"name": LATENT, "layer": layer}
    return Feature(descriptor=descriptor_json, dim=model["hidden_size"], checkpoint=path, fingerprint=info.fingerprint)


def check_contract(carried: dict[str, Any], waveforms: PreprocessConfig, checkpoint: str) -> None:
    """ArtifactError unless a checkpoint was trained under the contract that the waveforms were made under."""
    wanted = PreprocessConfig.from_dict(carried)
    if wanted != waveforms:
        there, here = wanted.to_dict(), waveforms.to_dict()
        differing = ", ".join(
            f"{name} {there[name]} (waveforms: {here[name]})" for name in there if there[name] != here[name]
        )
        raise ArtifactError(f"{checkpoint}: wants waveforms prepared with {differing}; run jobs.prepare accordingly")
