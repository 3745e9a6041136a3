"""The model card of a checkpoint: a README.md that says what the weights are, need, and may be used for."""

import json
from typing import TYPE_CHECKING

from hubert_ecg.models.config import HubertECGConfig

if TYPE_CHECKING:
    from hubert_ecg.storage.checkpoint import CheckpointInfo

CARD = "README.md"
FOR_RESEARCH = (
    "For research. Not a medical device: nobody has shown that it is safe to decide on patients with it, and its "
    "figures hold for recordings like those it was evaluated on."
)

_HUB_LICENCES = {"CC-BY-NC-4.0": "cc-by-nc-4.0", "Apache-2.0": "apache-2.0", "MIT": "mit", "CC-BY-4.0": "cc-by-4.0"}
_ENCODERS = {"hubert": "HuBERT-ECG", "state_space": "state-space", "residual": "residual"}
_LONGEST_VALUE = 300


def model_card(info: "CheckpointInfo", config: HubertECGConfig) -> str:
    """Markdown with the header that the Hugging Face hub reads."""
    parts = [
        _header(info.licence),
        f"# HuBERT-ECG {'classifier' if info.kind == 'classifier' else 'pre-trained model'}\n",
        _what(info, config),
        *([_labels(info)] if info.kind == "classifier" else []),
        _input(info, config),
        _use(info),
        _origin(info),
        f"## Licence\n\n{_licence(info.licence)}\n",
    ]
    return "\n".join(parts)


def _header(licence: str) -> str:
    lines = ["---", "library_name: transformers", "tags:", "- ecg", "- hubert-ecg"]
    known = _HUB_LICENCES.get(licence)
    lines += [f"license: {known}"] if known else ["license: other", f"license_name: {json.dumps(licence)}"]
    return "\n".join([*lines, "---", ""])


def _what(info: "CheckpointInfo", config: HubertECGConfig) -> str:
    attention = f", {config.num_attention_heads} attention heads" if config.encoder == "hubert" else ""
    heads = (
        f"a {config.head} head for {len(info.label_names)} outputs ({info.task})"
        if info.kind == "classifier"
        else f"prediction heads for codebooks of {', '.join(map(str, config.vocab_sizes)) or 'no'} clusters; "
        f"it tells no diagnoses before it is fine-tuned"
    )
    return (
        f"A {_ENCODERS[config.encoder]} encoder (hidden size {config.hidden_size}, {config.num_hidden_layers} layers"
        f"{attention}) with {heads}. "
        f"Fingerprint of the weights: `{info.fingerprint}`.\n"
    )


def _labels(info: "CheckpointInfo") -> str:
    thresholds = [f"{value:.4g}" for value in info.thresholds or ()] or ["none"] * len(info.label_names)
    rows = [f"| {name} | {value} |" for name, value in zip(info.label_names, thresholds, strict=True)]
    note = "" if info.labels_are_named else "\nThe outputs have no names, so they are not to be shown as diagnoses.\n"
    return "\n".join(["## Outputs\n", "| label | threshold |", "|---|---|", *rows, note, f"{_calibrated(info)}\n"])


def _calibrated(info: "CheckpointInfo") -> str:
    """What is to be known of the scores before anyone reads them as probabilities."""
    carried = info.calibration or {}
    if info.task == "regression":
        return "Outputs are numbers in their own units."
    found = carried.get("probabilities")
    said = "Scores are not calibrated." if found is None else f"Scores are calibrated (method {found['method']})."
    if "abstention" in carried:
        said += f" Predictions are withheld by the rule {json.dumps(carried['abstention'])}."
    return said


def _input(info: "CheckpointInfo", config: HubertECGConfig) -> str:
    contract = json.dumps(info.preprocessing, indent=2)
    return (
        f"## Input\n\n12 leads (I, II, III, aVR, aVL, aVF, V1 to V6), one after the other, at "
        f"{config.sampling_rate_hz} Hz, prepared as follows:\n\n```json\n{contract}\n```\n"
    )


def _use(info: "CheckpointInfo") -> str:
    predict = (
        "\nclassifier = hubert_ecg.load(directory)  # filters, scales and crops a recording as this model needs it"
        if info.kind == "classifier"
        else ""
    )
    return (
        "## Use\n\n```python\nimport hubert_ecg, transformers\n"
        f"model = transformers.AutoModel.from_pretrained(directory){predict}\n```\n\n"
        f"{FOR_RESEARCH}\n"
    )


def _origin(info: "CheckpointInfo") -> str:
    lines = []
    for name, value in info.provenance.items():
        text = value if isinstance(value, str) else json.dumps(value)
        lines.append(f"- {name}: {text if len(text) <= _LONGEST_VALUE else text[:_LONGEST_VALUE] + ' ...'}")
    return "\n".join(["## Origin\n", *(lines or ["Not stated."]), ""])


def _licence(licence: str) -> str:
    if licence == "CC-BY-NC-4.0":
        return (
            "CC BY-NC 4.0, the licence of the published HuBERT-ECG weights; it binds whatever is made from them. Name "
            "the authors (E. Coppola et al., HuBERT-ECG); no commercial use."
        )
    return licence
