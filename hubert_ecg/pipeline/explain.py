"""explain: which samples of which lead speak for a label, of a file or of prepared recordings: pictures and a table."""

import hashlib
import logging
import re
import time
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hubert_ecg.ecg.preprocess import Waveform, prepare_waveform
from hubert_ecg.ecg.recording import Recording, standard_12_lead
from hubert_ecg.errors import ArtifactError, CheckpointError, ConfigError
from hubert_ecg.evaluation.ecg_figure import ecg_svg
from hubert_ecg.formats import read_recording
from hubert_ecg.pipeline.extract import check_contract, preprocess_of
from hubert_ecg.pipeline.shards import run_shards
from hubert_ecg.predictor import CropConfig, Predictor
from hubert_ecg.predictor.explain import NUM_STEPS, Explainer, Explanation
from hubert_ecg.predictor.prediction import positive_labels
from hubert_ecg.storage import files, tables
from hubert_ecg.storage.artifact import Manifest, begin, open_artifact, write_part
from hubert_ecg.storage.checkpoint import CheckpointInfo, load_info
from hubert_ecg.storage.local_copy import local_copy
from hubert_ecg.training.examples import spans_of

log = logging.getLogger(__name__)

FIGURES = "figures"
MOST_RECORDINGS = 1000
"""More pictures than this nobody looks at."""


@dataclass(frozen=True, kw_only=True)
class ExplainConfig:
    """Integrated gradients per lead and time: a table of them, and the ECG with what speaks for a label in orange-red
    and what speaks against it in blue. The baseline is the ECG with every lead flat at its median.
    """

    checkpoint: str
    """Classifier M, the output of jobs.finetune or jobs.calibrate."""
    output: str
    """Directory to write to: figures/*.svg, and the attributions as Parquet."""
    input: str = ""
    """A file with one recording, of any format that jobs.prepare reads."""
    sampling_rate_hz: float | None = None
    """Rate of a file that does not say it (.npy), Hz."""
    waveforms: str | None = None
    """Waveform table W, the output of jobs.prepare, in place of a file."""
    record_ids: list[str] = field(default_factory=list)
    """Recordings of W; without any the first ones of the split."""
    split: Literal["train", "val", "test"] = "test"
    """Split of W that recordings are taken from where none are named."""
    limit: int = 16
    """As many are taken then."""
    labels: list[str] = field(default_factory=list)
    """Labels to explain; without any those that apply to a recording, or its most probable one."""
    num_steps: int = NUM_STEPS
    """Points between baseline and recording at which gradients are taken; the table says what the sum is off by."""
    crops: CropConfig = field(default_factory=CropConfig)
    """Crops whose mean score is explained; three cover a recording of 10 s."""
    workers: int = 0
    """Shards worked on at once; 0 takes one per CPU, or one per GPU where there are GPUs."""

    def __post_init__(self) -> None:
        if bool(self.input) == (self.waveforms is not None):
            raise ConfigError("wanted --input FILE or --waveforms W, got neither or both")
        if self.num_steps < 1 or not 1 <= self.limit <= MOST_RECORDINGS or self.workers < 0:
            raise ConfigError(
                f"wanted --num_steps of at least 1, --limit of 1 to {MOST_RECORDINGS} and --workers of at least 0, "
                f"got {self.num_steps}, {self.limit} and {self.workers}"
            )


def explain(config: ExplainConfig) -> Manifest:
    """Run the stage. Raises RecordingError when the file cannot be used."""
    info = load_info(files.absolute(config.checkpoint))
    _check_labels(config, info)
    waveforms, tasks, inputs = _found(config, info)
    described = {
        "labels": config.labels,
        "num_steps": config.num_steps,
        "crops": asdict(config.crops),
        "rows": [{name: value for name, value in task.items() if name != "file"} for task in tasks],
        "thresholds": info.thresholds,
    }
    output = begin(config.output, verb="explain", config=described, inputs=inputs | {"checkpoint": info.fingerprint})
    if isinstance(output, Manifest):
        return output
    arguments = {
        "directory": output.directory,
        "waveforms": waveforms,
        "config": replace(config, checkpoint=files.absolute(config.checkpoint)),
    }
    run_shards(output, tasks, ExplainShard, work_arguments=arguments, holds_model=True, workers=config.workers)
    receipts = output.receipts(len(tasks))
    worst = max((receipt["worst_error"] for receipt in receipts), default=0.0)
    log.info("explain: %d explanations; sums are off by up to %.2g of a score", sum(r["rows"] for r in receipts), worst)
    return output.finish(parts=len(tasks), facts={"worst_completeness_error": worst})


class ExplainShard:
    """Explains the chosen recordings of one shard, or of one file, per call."""

    def __init__(self, directory: str, waveforms: Manifest | None, config: ExplainConfig) -> None:
        self.directory, self.waveforms, self.config = directory, waveforms, config
        self.predictor = Predictor.load(config.checkpoint, crops=config.crops)
        self.explainer = Explainer(self.predictor, num_steps=config.num_steps)

    def __call__(self, task: dict[str, Any]) -> dict[str, Any]:
        start = time.monotonic()
        recordings = self._file(task["file"]) if "file" in task else self._rows(task)
        rows = [row for name, waveform in recordings for row in self._explained(name, waveform)]
        columns = {name: [row[name] for row in rows] for name in _SCHEMA.names}
        worst = max((row["completeness_error"] for row in rows), default=0.0)
        table = pa.table(columns, schema=_SCHEMA)
        seconds = round(time.monotonic() - start, 3)
        receipt = write_part(self.directory, task["part"], table, worst_error=worst, seconds=seconds)
        return {"part": receipt["part"], "rows": len(recordings)}

    def _file(self, path: str) -> list[tuple[str, Waveform]]:
        preprocess = self.predictor.preprocess
        recording = standard_12_lead(_read(path, self.config), missing=preprocess.missing_leads)
        return [(recording.record_id or "recording", prepare_waveform(recording, preprocess))]

    def _rows(self, task: dict[str, Any]) -> list[tuple[str, Waveform]]:
        assert self.waveforms is not None
        columns = ["record_id", "counts", "valid_samples", "attended_s", "offset_mv", "gain_mv"]
        table = files.read_table(self.waveforms.part(task["shard"]), columns).take(pa.array(task["rows"], pa.int64()))
        counts, valid, offsets, gains = (
            tables.list_rows(table[name]) for name in ("counts", "valid_samples", "offset_mv", "gain_mv")
        )
        waveforms = [
            Waveform(counts=c.reshape(12, -1), valid_samples=v, offset_mv=o, gain_mv=g, attended_s=spans)
            for c, v, o, g, spans in zip(counts, valid, offsets, gains, spans_of(table["attended_s"]), strict=True)
        ]
        return list(zip(table["record_id"].to_pylist(), waveforms, strict=True))

    def _explained(self, record_id: str, waveform: Waveform) -> list[dict[str, Any]]:
        """One row per label, its picture written."""
        predictor = self.predictor
        outputs = predictor.apply([waveform.counts], [waveform.valid_samples], [waveform.attended_s])
        probabilities = outputs.probabilities[0].astype(float).tolist()
        labels = self.config.labels or list(
            positive_labels(predictor.labels, probabilities, predictor.thresholds, predictor.task)
            or [predictor.labels[int(np.argmax(probabilities))]]
        )
        rows = []
        for label in labels:
            found = self.explainer.explain_waveform(waveform.counts, label, waveform.valid_samples, waveform.attended_s)
            picture = files.join(self.directory, FIGURES, f"{_file_name(record_id)}.{_file_name(label)}.svg")
            files.write_bytes(picture, self._picture(waveform, found).encode())
            rows.append(_row(record_id, found, probabilities[predictor.labels.index(label)]))
        return rows

    def _picture(self, waveform: Waveform, found: Explanation) -> str:
        preprocess = self.predictor.preprocess
        return ecg_svg(
            waveform.millivolts(preprocess),
            preprocess.table_rate_hz,
            attributions=found.attributions,
            attribution_rate_hz=found.sampling_rate_hz,
        )


_SCHEMA = pa.schema(
    [
        pa.field("record_id", pa.string()),
        pa.field("label", pa.string()),
        pa.field("probability", pa.float32()),
        pa.field("score", pa.float32()),
        pa.field("baseline_score", pa.float32()),
        pa.field("completeness_error", pa.float32()),
        pa.field("sampling_rate_hz", pa.float32()),
        pa.field("crop_starts_s", pa.list_(pa.float32())),
        # [12 * time], lead after lead.
        pa.field("attributions", pa.list_(pa.float32())),
    ]
)


def _row(record_id: str, found: Explanation, probability: float) -> dict[str, Any]:
    return {
        "record_id": record_id,
        "label": found.label,
        "probability": probability,
        "score": found.score,
        "baseline_score": found.baseline_score,
        "completeness_error": found.completeness_error,
        "sampling_rate_hz": found.sampling_rate_hz,
        "crop_starts_s": list(found.crop_starts_s),
        "attributions": found.attributions.reshape(-1),
    }


def _read(path: str, config: ExplainConfig) -> Recording:
    with local_copy(path) as local:
        return read_recording(local, sampling_rate_hz=config.sampling_rate_hz)


def _check_labels(config: ExplainConfig, info: CheckpointInfo) -> None:
    if info.kind != "classifier":
        raise CheckpointError(f"{config.checkpoint}: wanted a classifier, got a pre-trained model; run jobs.finetune")
    unknown = sorted(set(config.labels) - set(info.label_names))
    if unknown:
        raise ConfigError(f"--labels: wanted some of {', '.join(info.label_names)}, got {', '.join(unknown)}")


def _found(config: ExplainConfig, info: CheckpointInfo) -> tuple[Manifest | None, list[dict[str, Any]], dict[str, str]]:
    """(waveform table if there is one, tasks, fingerprints of the input)."""
    if config.waveforms is None:
        recording = _read(files.absolute(config.input), config)
        content = hashlib.sha256(recording.samples.tobytes()).hexdigest()[:16]
        return None, [{"part": 0, "file": files.absolute(config.input)}], {"recording": content}
    waveforms = open_artifact(config.waveforms, verb="prepare", role="--waveforms")
    check_contract(info.preprocessing, preprocess_of(waveforms), config.checkpoint)
    return waveforms, _chosen(config, waveforms), {"waveforms": waveforms.fingerprint}


def _chosen(config: ExplainConfig, waveforms: Manifest) -> list[dict[str, Any]]:
    """One task per shard that holds a chosen recording. Raises ArtifactError for records that are not there."""
    tasks: list[dict[str, Any]] = []
    missing, left = set(config.record_ids), config.limit
    for shard in range(waveforms.parts):
        table = files.read_table(waveforms.part(shard), ["record_id", "split"])
        if config.record_ids:
            chosen = pc.is_in(table["record_id"], pa.array(config.record_ids, pa.string()))
        else:
            chosen = pc.equal(table["split"], config.split)
        rows = np.flatnonzero(chosen.to_numpy())
        if not config.record_ids:
            rows = rows[:left]
            left -= len(rows)
        if len(rows):
            tasks.append({"part": len(tasks), "shard": shard, "rows": rows.tolist()})
            missing -= set(table["record_id"].take(pa.array(rows)).to_pylist())
    if missing or not tasks:
        named = f"recordings {', '.join(sorted(missing)[:5])}" if missing else f"recordings in split {config.split}"
        raise ArtifactError(f"{config.waveforms}: wanted {named}, got none of them; choose others")
    return tasks


def _file_name(text: str) -> str:
    """The text as part of a file's name; what cannot stand in one is replaced, and a hash keeps it distinct."""
    safe = re.sub(r"[^\w.-]", "_", text)
    return safe if safe == text else f"{safe}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"
