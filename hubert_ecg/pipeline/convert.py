"""convert: any checkpoint (ours, a Hugging Face directory or hub id, an original `.pt`) -> ours, or Hugging Face's."""

import csv
import logging
from dataclasses import dataclass
from typing import Literal

from hubert_ecg.errors import ConfigError
from hubert_ecg.storage import files
from hubert_ecg.storage.artifact import Manifest, begin, fingerprint
from hubert_ecg.storage.checkpoint import export_huggingface, load_checkpoint, save_checkpoint

log = logging.getLogger(__name__)

_HEADERS = ("label", "name", "label_name")


@dataclass(frozen=True, kw_only=True)
class ConvertConfig:
    """Turn a checkpoint of any form into ours, which every job reads, or into a plain Hugging Face directory."""

    input: str
    """A checkpoint directory, an original .pt file, or a hub id: owner/name or owner/name@revision."""
    output: str
    """Directory to write to."""
    to: Literal["ours", "huggingface"] = "ours"
    """`huggingface` writes what transformers itself would; thresholds and calibration stay behind."""
    labels: str | None = None
    """CSV file that names the outputs of a published classifier: one name per line, in the order of the outputs."""


def convert(config: ConvertConfig) -> Manifest:
    """Run the stage. Weights stay as they are, bit by bit, and so does the licence."""
    names = read_label_names(config.labels) if config.labels else None
    model, info = load_checkpoint(config.input, label_names=names)
    inputs = {"checkpoint": info.fingerprint}
    if names:
        inputs["labels"] = fingerprint(names)
    output = begin(config.output, verb="convert", config={"to": config.to}, inputs=inputs)
    if isinstance(output, Manifest):
        return output
    if config.to == "ours":
        save_checkpoint(output.directory, model, info)
    else:
        export_huggingface(output.directory, model, info)
        if info.thresholds is not None or info.calibration is not None:
            log.warning("thresholds and calibration have no place in a Hugging Face directory; the model card has them")
    if info.kind == "classifier" and not info.labels_are_named:
        log.warning(
            "the %d outputs have no names: serving them as diagnoses is refused; give --labels", len(info.label_names)
        )
    facts = {"kind": info.kind, "labels": list(info.label_names), "licence": info.licence, "from": info.provenance}
    return output.finish(parts=0, facts=facts, content=[info.fingerprint])


def read_label_names(path: str) -> tuple[str, ...]:
    """The names of a CSV file with one name per line, a first line `label` left out. ConfigError for any other file."""
    text = files.read_bytes(files.absolute(path)).decode("utf-8-sig")
    rows = [[cell.strip() for cell in row] for row in csv.reader(text.splitlines()) if any(map(str.strip, row))]
    if rows and rows[0][0].lower() in _HEADERS:
        rows = rows[1:]
    wide = next((row for row in rows if len(row) != 1), None)
    if wide or not rows:
        raise ConfigError(
            f"{path}: wanted one label name per line, in the order of the model's outputs, got "
            f"{wide if wide else 'no names'}; remove the other columns"
        )
    return tuple(row[0] for row in rows)
