"""What a row per token is, and how it is computed from crops: the shared core of dump and label."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from hubert_ecg.ecg.features import DescriptorConfig
from hubert_ecg.ecg.preprocess import PreprocessConfig
from hubert_ecg.errors import ArtifactError, CheckpointError, ConfigError
from hubert_ecg.pipeline.crops import Crops
from hubert_ecg.storage import files
from hubert_ecg.storage.artifact import Manifest

Precision = Literal["float32", "bfloat16"]
LATENT: Literal["latent"] = "latent"

NOT_FINITE = "not finite"
"""Reason for which a recording is set aside: some of its features are not numbers."""
LISTED_SET_ASIDE = 100
"""So many recordings that were set aside are named in a manifest; the receipts name all."""


def check_work(batch_size: int, workers: int) -> None:
    """ConfigError for a number of crops or workers that gets nothing done."""
    if batch_size < 1 or workers < 0:
        raise ConfigError(
            f"wanted --batch_size of at least 1 and --workers of at least 0, got {batch_size} and {workers}"
        )


@dataclass(frozen=True, kw_only=True)
class Feature:
    """What a row per token is: a descriptor, or the output of a layer of a checkpoint."""

    descriptor: dict[str, Any]
    """The definition that a codebook carries: name and settings, or name `latent`, layer and precision."""
    dim: int
    """Numbers per token."""
    checkpoint: str | None = None
    """Absolute path of the checkpoint, for latents."""
    fingerprint: str | None = None
    """Fingerprint of the checkpoint's weights, for latents."""

    @property
    def inputs(self) -> dict[str, str]:
        """What a stage that computes this feature reads besides waveforms, by name."""
        return {"checkpoint": self.fingerprint} if self.fingerprint else {}

    @property
    def latent(self) -> bool:
        return self.descriptor["name"] == LATENT


@dataclass(frozen=True, kw_only=True)
class LatentSource:
    """A pre-trained checkpoint in any form that can be loaded, as far as a driver needs to know it."""

    path: str
    """Absolute path."""
    fingerprint: str
    """Of the weights."""
    layers: int
    """Encoder layers."""
    hidden_size: int
    """Numbers per token."""
    preprocessing: dict[str, Any]
    """The contract that it was trained under."""

    @classmethod
    def open(cls, checkpoint: str) -> "LatentSource":
        """Loads the checkpoint, so that one that cannot be loaded fails before any worker starts."""
        from hubert_ecg.storage.checkpoint import load_checkpoint

        path = files.absolute(checkpoint)
        model, info = load_checkpoint(path, expect="ssl")
        return cls(
            path=path,
            fingerprint=info.fingerprint,
            layers=model.config.num_hidden_layers,
            hidden_size=model.config.hidden_size,
            preprocessing=info.preprocessing,
        )


class Extractor:
    """Crops -> rows [crop, token, dim] float32 for each of some features, 0 for tokens that do not count.

    Built once per Ray actor or worker process; features of one checkpoint share one model, run once per batch.
    """

    def __init__(self, features: Sequence[Feature]) -> None:
        self.features = list(features)
        self.models = {key: _LatentModel(of_model) for key, of_model in _by_model(self.features).items()}
        self.descriptors = {
            place: DescriptorConfig.from_dict(feature.descriptor)
            for place, feature in enumerate(self.features)
            if not feature.latent
        }

    def compute(self, crops: Crops) -> list[np.ndarray]:
        """One array per feature, in their order."""
        layers = {key: model(crops) for key, model in self.models.items()}
        return [
            layers[_model_key(feature)][feature.descriptor["layer"]]
            if feature.latent
            else self.descriptors[place].compute(crops.inputs, crops.token_mask)
            for place, feature in enumerate(self.features)
        ]


class _LatentModel:
    """The outputs of some layers of one checkpoint; the layers above them are left away."""

    def __init__(self, features: Sequence[Feature]) -> None:
        import torch

        from hubert_ecg.storage.checkpoint import load_checkpoint

        first = features[0]
        assert first.checkpoint is not None
        self.layers = sorted({feature.descriptor["layer"] for feature in features})
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.bf16 = first.descriptor["precision"] == "bfloat16"
        self.model, info = load_checkpoint(first.checkpoint, expect="ssl")
        if info.fingerprint != first.fingerprint:
            raise CheckpointError(
                f"{first.checkpoint}: wanted weights {first.fingerprint}, as when this run was started, got "
                f"{info.fingerprint}; leave checkpoints alone while they are read"
            )
        # Where norms stand before their blocks, what leaves the last layer is normed once more: then the layer after
        # the deepest one that is wanted has to stay, or that one's output would be another.
        deepest = self.layers[-1] + bool(self.model.config.do_stable_layer_norm)
        self.model.encoder.layers = self.model.encoder.layers[: deepest + 1]
        self.model.to(self.device)

    def __call__(self, crops: Crops) -> dict[int, np.ndarray]:
        """Layer -> [crop, token, dim] float32."""
        import torch

        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            inputs = torch.from_numpy(crops.inputs).to(self.device)
            attention = None if crops.attention is None else torch.from_numpy(crops.attention).to(self.device)
            hidden = self.model.encode(inputs, attention, output_hidden_states=True).hidden_states
        rows = {layer: hidden[layer + 1].float().cpu().numpy() for layer in self.layers}
        if crops.token_mask is None:
            return rows
        return {layer: np.where(crops.token_mask[..., None], of_layer, 0) for layer, of_layer in rows.items()}


def finite_crops(rows: np.ndarray) -> np.ndarray:
    """Which crops have finite features only. [crop, token, dim] -> [crop] bool."""
    return np.isfinite(rows).all(axis=(1, 2))


def set_aside(record_ids: Sequence[str], feature: Feature) -> list[dict[str, str]]:
    """Entries of a receipt for recordings whose features are not finite."""
    name = feature.descriptor["name"]
    detail = f"{name} features are not finite numbers"
    return [{"record_id": record_id, "reason": NOT_FINITE, "detail": detail} for record_id in record_ids]


def set_aside_facts(receipts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Facts of a manifest about all that its shards set aside: how many for which reason, and the first by name."""
    entries = [entry for receipt in receipts for entry in receipt["set_aside"]]
    return {
        "set_aside": {NOT_FINITE: len({entry["record_id"] for entry in entries})} if entries else {},
        "set_aside_recordings": entries[:LISTED_SET_ASIDE],
    }


def preprocess_of(waveforms: Manifest) -> PreprocessConfig:
    """The contract that a waveform table was made under."""
    return PreprocessConfig.from_dict(waveforms.config["preprocess"])


def describe_descriptor(name: Literal["time_frequency", "mfcc", "mixed"], preprocess: PreprocessConfig) -> Feature:
    """The definition of a descriptor of the signal under a waveform table's contract."""
    descriptor = DescriptorConfig(name=name, sampling_rate_hz=preprocess.sampling_rate_hz)
    return Feature(descriptor=descriptor.to_dict(), dim=descriptor.dim)


def describe_latent(
    source: LatentSource, preprocess: PreprocessConfig, layer: int | None, precision: Precision
) -> Feature:
    """The definition of a layer's output under a waveform table's contract.

    Raises ArtifactError when the checkpoint was trained under another contract, ConfigError when it lacks the layer.
    """
    check_contract(source.preprocessing, preprocess, source.path)
    if layer is None or not 0 <= layer < source.layers:
        raise ConfigError(
            f"--layer: wanted 0 to {source.layers - 1}, as {source.path} has {source.layers} layers, got {layer}"
        )
    return Feature(
        descriptor={"name": LATENT, "layer": layer, "precision": precision},
        dim=source.hidden_size,
        checkpoint=source.path,
        fingerprint=source.fingerprint,
    )


def check_contract(carried: dict[str, Any], waveforms: PreprocessConfig, checkpoint: str) -> None:
    """ArtifactError unless a checkpoint was trained under the contract that the waveforms were made under."""
    differences = PreprocessConfig.from_dict(carried).differences(waveforms)
    if differences:
        differing = ", ".join(f"{name} {there} (waveforms: {here})" for name, (there, here) in differences.items())
        raise ArtifactError(f"{checkpoint}: wants waveforms prepared with {differing}; run jobs.prepare accordingly")


def _model_key(feature: Feature) -> tuple[str | None, str]:
    return feature.checkpoint, feature.descriptor["precision"]


def _by_model(features: Sequence[Feature]) -> dict[tuple[str | None, str], list[Feature]]:
    groups: dict[tuple[str | None, str], list[Feature]] = {}
    for feature in features:
        if feature.latent:
            groups.setdefault(_model_key(feature), []).append(feature)
    return groups
