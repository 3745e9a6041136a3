"""Checkpoints: a model with all that is needed to apply it, in a directory that plain transformers can read as well.

    config.json         architecture, as transformers writes it, with label names and the preprocessing contract
    model.safetensors   weights, float32
    README.md           the model card
    checkpoint.json     written last: what it is, thresholds, provenance, licence, the weights' fingerprint

Also read are the published forms: a Hugging Face directory (without `checkpoint.json`), here or on the hub, and the
original's `.pt` files.
Reading is strict: a missing, unexpected or mis-shaped weight is an error that lists them all.
"""

import copy
import json
import logging
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Self, get_args

import safetensors.torch
import torch
from safetensors import SafetensorError

from hubert_ecg.errors import CheckpointError
from hubert_ecg.models import HubertECG, HubertECGClassifier
from hubert_ecg.models.config import HubertECGConfig, Task
from hubert_ecg.storage import files, hub
from hubert_ecg.storage.artifact import code_version
from hubert_ecg.storage.artifact import fingerprint as digest
from hubert_ecg.storage.card import CARD, model_card
from hubert_ecg.storage.legacy import read_legacy
from hubert_ecg.storage.weights import ENCODER, Kind, architecture, canonical, check_fit, fingerprint, kind_of

log = logging.getLogger(__name__)

FORMAT_VERSION = 1
CONFIG, WEIGHTS, INFO = "config.json", "model.safetensors", "checkpoint.json"

PUBLISHED_CONTRACT = {"contract": "original"}
PUBLISHED_LICENCE = "CC-BY-NC-4.0"
"""Of the published weights; it travels with whatever is made from them."""
NOT_STATED = "not stated"

_OF_TRAINING = "standard"
"""The entry of `calibration` that a regression is trained with."""
_WRITER = "hubert-ecg"
"""Marks weights written here: without `checkpoint.json` beside them they are half a checkpoint."""


@dataclass(frozen=True, kw_only=True)
class CheckpointInfo:
    """All that a checkpoint carries besides architecture and weights."""

    kind: Kind
    """`ssl`: pre-training model; `classifier`: fine-tuned model."""
    preprocessing: dict[str, Any]
    """The preprocessing contract of the model's input."""
    task: Task | None = None
    """What a classifier's outputs mean; None for a pre-training model."""
    label_names: tuple[str, ...] = ()
    """One per output of a classifier, in order."""
    thresholds: tuple[float, ...] | None = None
    """One per label: the probability from which it counts as present."""
    calibration: dict[str, Any] | None = None
    """How scores become calibrated probabilities; None: they have not been calibrated."""
    provenance: dict[str, Any] = field(default_factory=dict)
    """Where the model comes from: fingerprints of data and parent, codebooks, code version."""
    licence: str = NOT_STATED
    """Terms of use of the weights, an SPDX identifier where there is one. Not stated: that of the model's origin."""
    fingerprint: str = ""
    """16 hex digits over the weights; filled in by `save_checkpoint`."""
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise CheckpointError(f"checkpoint: wanted a kind of {get_args(Kind)}, got {self.kind!r}")
        if self.kind == "classifier" and (self.task not in get_args(Task) or not self.label_names):
            raise CheckpointError(
                f"checkpoint: wanted a classifier with a task of {get_args(Task)} and label names, "
                f"got task {self.task!r} and {len(self.label_names)} names"
            )
        if self.thresholds is not None and len(self.thresholds) != len(self.label_names):
            raise CheckpointError(
                f"checkpoint: wanted one threshold for each of {len(self.label_names)} labels, "
                f"got {len(self.thresholds)}"
            )

    @property
    def labels_are_named(self) -> bool:
        """Whether the label names mean something, rather than number the outputs of a model that came without any."""
        return self.label_names != placeholder_names(len(self.label_names))

    @property
    def identity(self) -> str:
        """The fingerprint of the weights; where probabilities are calibrated or predictions withheld, with one of that.

        Two checkpoints of one identity say the same of every recording. Thresholds that came with the training are told
        by the weights.
        """
        decisions = {name: value for name, value in (self.calibration or {}).items() if name != _OF_TRAINING}
        if not decisions and "calibrated" not in self.provenance:
            return self.fingerprint
        return f"{self.fingerprint}+{digest([decisions, self.thresholds])[:8]}"

    def to_json(self) -> dict[str, Any]:
        """A JSON value, which `from_json` turns back."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any], place: str = INFO) -> Self:
        """Raises CheckpointError for another format version and for anything `to_json` would not have written."""
        if not isinstance(value, dict) or value.get("format_version") != FORMAT_VERSION:
            version = value.get("format_version") if isinstance(value, dict) else None
            raise CheckpointError(
                f"{place}: wanted format version {FORMAT_VERSION}, got {version}; "
                f"read it with the version of this package that wrote it"
            )
        known = {item.name for item in fields(cls)}
        if set(value) != known:
            differing = ", ".join(sorted(set(value) ^ known))
            raise CheckpointError(f"{place}: missing or unknown entries: {differing}; the file is damaged")
        lists = {name: None if value[name] is None else tuple(value[name]) for name in ("label_names", "thresholds")}
        return cls(**(value | lists))


Model = HubertECG | HubertECGClassifier


def placeholder_names(num_labels: int) -> tuple[str, ...]:
    """What the outputs of a classifier are called whose labels nobody has named."""
    return tuple(f"label_{index}" for index in range(num_labels))


def check_diagnoses(info: CheckpointInfo, place: str) -> None:
    """CheckpointError unless the outputs of a checkpoint may be shown to people as diagnoses."""
    if info.kind != "classifier":
        _check_kind("ssl", "classifier", place)
    if not info.labels_are_named:
        raise CheckpointError(
            f"{place}: wanted a classifier that knows what its outputs mean, got one with {len(info.label_names)} "
            f"outputs without names; name them with jobs.convert --input ... --labels names.csv"
        )


def save_checkpoint(directory: str | os.PathLike[str], model: Model, info: CheckpointInfo) -> CheckpointInfo:
    """Write a checkpoint directory, complete or recognisably not; returns `info` with the fingerprint of the weights.

    The licence of what the model was made from and the code version are put in where `info` does not state them.
    Raises CheckpointError when model and info do not belong together.
    """
    place = files.absolute(directory)
    kind = "classifier" if isinstance(model, HubertECGClassifier) else "ssl"
    if info.kind != kind:
        raise CheckpointError(f"{place}: wanted info of a {kind} checkpoint for this model, got {info.kind}")
    config = json.loads(model.config.to_json_string(use_diff=False))
    if info.licence == NOT_STATED and model.config.licence:
        info = replace(info, licence=model.config.licence)
    info = replace(info, provenance={"code": code_version()} | info.provenance)
    config |= {"architectures": [type(model).__name__], "dtype": "float32"} | _carried(info)
    if isinstance(model, HubertECGClassifier):
        _check_labels(info.label_names, model.config.num_labels, place)
        config |= _label_fields(info.label_names) | {"task": info.task}
    weights = canonical(model.state_dict())
    info = replace(info, fingerprint=fingerprint(weights), format_version=FORMAT_VERSION)
    files.delete(files.join(place, INFO))
    files.write_json(files.join(place, CONFIG), config)
    data = safetensors.torch.save(weights, metadata={"format": "pt", "writer": _WRITER})
    files.write_bytes(files.join(place, WEIGHTS), data)
    files.write_bytes(files.join(place, CARD), model_card(info, model.config).encode())
    files.write_json(files.join(place, INFO), info.to_json())
    return info


def export_huggingface(directory: str | os.PathLike[str], model: Model, info: CheckpointInfo) -> None:
    """Write a plain Hugging Face directory: what transformers itself writes, and the model card."""
    place = files.absolute(directory)
    config = copy.deepcopy(model.config)
    for name, value in (_carried(info) | {"architectures": [type(model).__name__], "dtype": "float32"}).items():
        setattr(config, name, value)
    files.write_bytes(files.join(place, CONFIG), config.to_json_string(use_diff=False).encode())
    data = safetensors.torch.save(canonical(model.state_dict()), metadata={"format": "pt"})
    files.write_bytes(files.join(place, WEIGHTS), data)
    files.write_bytes(files.join(place, CARD), model_card(info, model.config).encode())


def load_checkpoint(
    place: str | os.PathLike[str], *, expect: Kind | None = None, label_names: Sequence[str] | None = None
) -> tuple[Any, CheckpointInfo]:
    """The model (HubertECG or HubertECGClassifier, on the CPU, in evaluation mode) and what its checkpoint carries.

    `place` is a directory of ours, a Hugging Face directory, a hub id (`owner/name` or `owner/name@revision`), or a
    `.pt` file of the original project. `label_names` names the outputs of a published classifier, which has none
    (`label_0`, ... otherwise).

    Raises CheckpointError when there is no checkpoint, when it is unfinished, damaged, or not of the kind expected,
    when a `.pt` file names anything suspicious, and when weights, configuration and label names do not fit.
    """
    place, origin = _locate(place)
    stored = _read_pickle(place) if _is_pickle(place) else _read_directory(place)
    stored = replace(stored, provenance=stored.provenance | origin)
    kind = kind_of(stored.weights)
    _check_kind(kind, expect, place)
    config = architecture(stored.config, stored.weights, place)
    info = stored.info or _published_info(stored, config, kind)
    if kind == "classifier":
        info = _with_labels(info, label_names, stored, config, place)
        for name, value in (_label_fields(info.label_names) | {"task": info.task}).items():
            setattr(config, name, value)
    for name, value in _carried(info).items():
        setattr(config, name, value)
    with torch.device("meta"):  # Nothing is drawn or allocated for weights that are about to be replaced.
        model = HubertECGClassifier(config) if kind == "classifier" else HubertECG(config)
    weights = _with_mask_token(stored.weights, config, kind)
    check_fit(model, weights, place)
    found = fingerprint(weights)
    if info.fingerprint and info.fingerprint != found:
        raise CheckpointError(
            f"{place}: wanted weights with fingerprint {info.fingerprint}, as {INFO} says, got {found}; "
            f"the files are damaged or belong to different checkpoints; copy or train it again"
        )
    model.load_state_dict(weights, assign=True)
    return model.eval(), replace(info, fingerprint=found)


def load_info(place: str | os.PathLike[str]) -> CheckpointInfo:
    """What a checkpoint carries. Reads no weights, except of published forms, whose fingerprint is nowhere written."""
    path, _ = _locate(place)
    if _is_pickle(path) or not files.exists(files.join(path, INFO)):
        return load_checkpoint(path)[1]
    _check_complete(path)
    return CheckpointInfo.from_json(_read_json(files.join(path, INFO)), files.join(path, INFO))


def _locate(place: str | os.PathLike[str]) -> tuple[str, dict[str, str]]:
    """The absolute path of a checkpoint, downloaded if it is on the hub, and what is to be said of its origin."""
    if isinstance(place, str) and hub.is_hub_id(place):
        return hub.download(place)
    return files.absolute(place), {}


def _carried(info: CheckpointInfo) -> dict[str, Any]:
    """What the model's own configuration carries of the info, so that it is not lost on the way through other tools."""
    return {"preprocessing": info.preprocessing, "licence": None if info.licence == NOT_STATED else info.licence}


@dataclass(frozen=True, kw_only=True)
class _Stored:
    """A checkpoint as it lies in its files; weights are canonical."""

    config: dict[str, Any]
    weights: dict[str, torch.Tensor]
    info: CheckpointInfo | None = None
    provenance: dict[str, Any] = field(default_factory=dict)


def _read_directory(place: str) -> _Stored:
    _check_complete(place)
    data = files.read_bytes(files.join(place, WEIGHTS))
    try:
        weights = canonical(safetensors.torch.load(data))
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(f"{place}/{WEIGHTS}: damaged ({error}); copy it again") from error
    config = _read_json(files.join(place, CONFIG))
    info_path = files.join(place, INFO)
    if files.exists(info_path):
        return _Stored(config=config, weights=weights, info=CheckpointInfo.from_json(_read_json(info_path), info_path))
    if (header.get("__metadata__") or {}).get("writer") == _WRITER:
        raise CheckpointError(
            f"{place}: wanted {INFO}, which is written last, got a half-written checkpoint; write or copy it again"
        )
    return _Stored(config=config, weights=weights, provenance={"format": "Hugging Face directory"})


def _read_pickle(place: str) -> _Stored:
    if not files.exists(place):
        raise CheckpointError(f"{place}: wanted a checkpoint file, got nothing there; check the path")
    legacy = read_legacy(files.read_bytes(place), place)
    provenance = {"format": "original .pt", "file": place.rsplit("/", 1)[-1], "extras": legacy.extras}
    return _Stored(config=legacy.config, weights=canonical(legacy.weights), provenance=provenance)


def _is_pickle(place: str) -> bool:
    return place.endswith((".pt", ".pth"))


def _check_complete(place: str) -> None:
    """CheckpointError unless configuration and weights are there."""
    missing = [name for name in (CONFIG, WEIGHTS) if not files.exists(files.join(place, name))]
    if len(missing) == 1:
        raise CheckpointError(f"{place}: half a checkpoint, {missing[0]} is missing; write or copy it again")
    if missing:
        found = ", ".join(files.list_names(place)[:8]) if files.exists(place) else "no such directory"
        raise CheckpointError(
            f"{place}: wanted a checkpoint directory ({CONFIG} and {WEIGHTS}) or a .pt file, got "
            f"{found or 'an empty directory'}; check the path"
        )


def _check_kind(kind: Kind, expect: Kind | None, place: str) -> None:
    if expect == "classifier" and kind == "ssl":
        raise CheckpointError(
            f"{place}: wanted a classifier, got a pre-trained model, which has no classification head and so cannot "
            f"tell diagnoses; fine-tune it first with jobs.finetune and use the checkpoint that writes"
        )
    if expect == "ssl" and kind == "classifier":
        raise CheckpointError(
            f"{place}: wanted a pre-trained model, got a classifier, which has no codebook heads; "
            f"use the checkpoint of jobs.pretrain it was fine-tuned from"
        )


def _published_info(stored: _Stored, config: HubertECGConfig, kind: Kind) -> CheckpointInfo:
    """The info of a checkpoint that has none: what is known of the published ones, and its own configuration's word."""
    own = config.preprocessing
    rate = {} if config.sampling_rate_hz == 100 else {"sampling_rate_hz": config.sampling_rate_hz}
    return CheckpointInfo(
        kind=kind,
        preprocessing=own or PUBLISHED_CONTRACT | rate,
        task=getattr(config, "task", None),
        label_names=placeholder_names(config.num_labels) if kind == "classifier" else (),
        provenance=stored.provenance,
        licence=config.licence or (NOT_STATED if own else PUBLISHED_LICENCE),
    )


def _with_labels(
    info: CheckpointInfo, given: Sequence[str] | None, stored: _Stored, config: HubertECGConfig, place: str
) -> CheckpointInfo:
    """`info` with the label names it has, those its configuration knows, or those given, which must not disagree."""
    names = stored.config.get("id2label") or {}
    known = tuple(str(names[index]) for index in sorted(names, key=int))
    if stored.info is None and len(known) == config.num_labels and known[0] != "LABEL_0":
        info = replace(info, label_names=known)
    named = info.labels_are_named and (stored.info is not None or info.label_names == known)
    if given is not None and named and tuple(given) != info.label_names:
        raise CheckpointError(
            f"{place}: has label names of its own, {', '.join(info.label_names)}, and other ones were given: "
            f"{', '.join(given)}; leave them out"
        )
    if given is not None:
        info = replace(info, label_names=tuple(given))
    _check_labels(info.label_names, config.num_labels, place)
    return info


def _check_labels(names: Sequence[str], num_labels: int, place: str) -> None:
    if len(names) != num_labels or len(set(names)) < len(names):
        raise CheckpointError(
            f"{place}: wanted {num_labels} different label names, one per output, got {len(names)}: {', '.join(names)}"
        )


def _label_fields(names: Sequence[str]) -> dict[str, Any]:
    return {
        "id2label": dict(enumerate(names)),
        "label2id": {name: index for index, name in enumerate(names)},
    }


def _with_mask_token(weights: dict[str, torch.Tensor], config: HubertECGConfig, kind: Kind) -> dict[str, torch.Tensor]:
    """Transformers leaves the mask token out of models configured without masking; ours have it, at zero then."""
    name = f"{ENCODER if kind == 'classifier' else ''}masked_spec_embed"
    if name in weights or config.mask_time_prob > 0 or config.mask_feature_prob > 0:
        return weights
    log.info("no mask token in a model without masking: %s is set to zero", name)
    return weights | {name: torch.zeros(config.hidden_size)}


def _read_json(path: str) -> dict[str, Any]:
    try:
        value = json.loads(files.read_bytes(path))
    except ValueError as error:
        raise CheckpointError(f"{path}: wanted JSON, got something else ({error}); copy it again") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: wanted a JSON object, got {type(value).__name__}; copy it again")
    return value
