"""export: a checkpoint -> a graph for runtimes without torch, checked against it, and what is needed to use it."""

from dataclasses import dataclass
from typing import Literal

from hubert_ecg.ecg.preprocess import PreprocessConfig
from hubert_ecg.models.onnx import output_names, to_onnx
from hubert_ecg.storage import files
from hubert_ecg.storage.artifact import Manifest, begin
from hubert_ecg.storage.card import CARD, model_card
from hubert_ecg.storage.checkpoint import load_checkpoint

GRAPH, DESCRIPTION = "model.onnx", "model.json"


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Export a checkpoint for serving elsewhere."""

    checkpoint: str
    """Any checkpoint that jobs.convert reads."""
    output: str
    """Directory to write to."""
    format: Literal["onnx"] = "onnx"
    """`onnx`: model.onnx, and model.json with labels, thresholds and preprocessing."""


def export(config: ExportConfig) -> Manifest:
    """Run the stage."""
    model, info = load_checkpoint(config.checkpoint)
    output = begin(
        config.output, verb="export", config={"format": config.format}, inputs={"checkpoint": info.fingerprint}
    )
    if isinstance(output, Manifest):
        return output
    num_samples = 12 * PreprocessConfig.from_dict(info.preprocessing).crop_samples
    files.write_bytes(files.join(output.directory, GRAPH), to_onnx(model, num_samples))
    description = info.to_json() | {
        "input": {"name": "ecg", "shape": ["batch", num_samples], "dtype": "float32"},
        "outputs": list(output_names(model)),
    }
    files.write_json(files.join(output.directory, DESCRIPTION), description)
    files.write_bytes(files.join(output.directory, CARD), model_card(info, model.config).encode())
    facts = {"kind": info.kind, "labels": list(info.label_names), "licence": info.licence}
    return output.finish(parts=0, facts=facts, content=[info.fingerprint])
