"""Weights as a checkpoint holds them: names, architecture read off their shapes, strict comparison, fingerprint."""

import hashlib
import re
from collections.abc import Mapping
from typing import Any, Literal

import torch

from hubert_ecg.ecg.tokens import CONV_STEMS
from hubert_ecg.errors import CheckpointError, ConfigError
from hubert_ecg.models.config import HubertECGClassifierConfig, HubertECGConfig, build_config, config_fields

Kind = Literal["ssl", "classifier"]

ENCODER = "hubert_ecg."
"""Prefix of the encoder's weights in a classifier; in a pre-training model they have none."""

_POSITIONAL = ".pos_conv_embed.conv."
_SPELLINGS = {
    f"{_POSITIONAL}weight_g": f"{_POSITIONAL}parametrizations.weight.original0",
    f"{_POSITIONAL}weight_v": f"{_POSITIONAL}parametrizations.weight.original1",
}
_LISTED = 8


def canonical(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Float32 copies on the CPU, the positional convolution's weight norm spelled as current torch spells it."""
    result = {}
    for name, tensor in weights.items():
        for old, new in _SPELLINGS.items():
            name = name.replace(old, new)
        copy = tensor.detach().to("cpu", torch.float32 if tensor.is_floating_point() else tensor.dtype, copy=True)
        result[name] = copy.contiguous()
    return result


def kind_of(weights: Mapping[str, torch.Tensor]) -> Kind:
    """A classifier holds its encoder under a prefix."""
    return "classifier" if any(name.startswith(ENCODER) for name in weights) else "ssl"


def architecture(values: Mapping[str, Any], weights: Mapping[str, torch.Tensor], place: str) -> HubertECGConfig:
    """The configuration of these weights: `values` as a config.json has them, sizes of heads read off the weights.

    Entries that are no fields of the configuration, such as a library's version, are left out. Raises CheckpointError
    when the values make no configuration.
    """
    kind = kind_of(weights)
    target = HubertECGClassifierConfig if kind == "classifier" else HubertECGConfig
    ignored = {"num_labels", "id2label", "label2id", "dtype", "architectures", "transformers_version"}
    fields = {name: value for name, value in values.items() if name in config_fields(target) - ignored}
    fields |= _classifier_head(values, weights) if kind == "classifier" else _codebook_heads(values, weights)
    stem = (tuple(fields.get("conv_kernel", ())), tuple(fields.get("conv_stride", ())))
    rates = [rate for rate, known in CONV_STEMS.items() if known == stem]
    if "sampling_rate_hz" not in fields and rates:
        fields["sampling_rate_hz"] = rates[0]
    try:
        return build_config(target, fields)
    except ConfigError as error:
        raise CheckpointError(f"{place}: its configuration does not describe a model: {error}") from error


def check_fit(model: torch.nn.Module, weights: Mapping[str, torch.Tensor], place: str) -> None:
    """CheckpointError that lists every missing, unexpected and mis-shaped weight, unless there is none."""
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    got = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    problems = {
        "missing": sorted(wanted.keys() - got.keys()),
        "unexpected": sorted(got.keys() - wanted.keys()),
        "of another shape": [
            f"{name} (wanted {list(wanted[name])}, got {list(got[name])})"
            for name in sorted(wanted.keys() & got.keys())
            if wanted[name] != got[name]
        ],
    }
    if any(problems.values()):
        found = "; ".join(f"{len(names)} {what}: {', '.join(names)}" for what, names in problems.items() if names)
        raise CheckpointError(
            f"{place}: weights and configuration do not fit; {found}; use the files of one checkpoint"
        )


def fingerprint(weights: Mapping[str, torch.Tensor]) -> str:
    """16 hex digits over names, types, shapes and numbers of canonical weights, whatever their order."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name]
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()[:16]


def _codebook_heads(values: Mapping[str, Any], weights: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """Sizes of the heads. A head that only the configuration knows of is kept, so that it is reported missing."""
    stated = list(values.get("vocab_sizes") or [])
    found = [int(match[1]) for name in weights if (match := re.match(r"(?:final_proj|label_embedding)\.(\d+)\.", name))]
    count = max([len(stated), *(index + 1 for index in found)])
    fallback = stated + [1] * (count - len(stated))
    sizes = [_rows(weights, f"label_embedding.{index}.weight") or fallback[index] for index in range(count)]
    heads: dict[str, Any] = {"vocab_sizes": sizes}
    widths = [_rows(weights, f"final_proj.{index}.weight") for index in range(count)]
    if any(widths):
        heads["classifier_proj_size"] = next(width for width in widths if width)
    return heads


def _classifier_head(values: Mapping[str, Any], weights: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """Form of the head and number of labels, from whichever weight of it is there."""
    forms = {
        "label_embedding": ["label_embedding.weight"],
        "mlp": ["classifier.2.weight", "classifier.2.bias"],
        "linear": ["classifier.weight", "classifier.bias"],
    }
    labels = {head: _rows(weights, *names) for head, names in forms.items()}
    head = next((head for head, count in labels.items() if count), values.get("head", "linear"))
    num_labels = labels[head] or len(values.get("id2label") or {}) or values.get("num_labels") or 1
    width = _rows(weights, "classifier.0.weight", "classifier.0.bias") or 0
    return {"head": head, "num_labels": num_labels, "head_hidden_size": width, "vocab_sizes": []}


def _rows(weights: Mapping[str, torch.Tensor], *names: str) -> int | None:
    """Length of the first of these weights that is there."""
    return next((weights[name].shape[0] for name in names if name in weights and weights[name].ndim), None)
