"""predict: raw recordings of any source, or prepared waveforms -> one Parquet table of what a classifier says."""

import logging
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import pyarrow as pa

from hubert_ecg.ecg.preprocess import PreprocessConfig
from hubert_ecg.errors import ArtifactError, CheckpointError, ConfigError, InputError
from hubert_ecg.pipeline.extract import check_contract, preprocess_of
from hubert_ecg.pipeline.predict_rows import ALL, PredictionShard, PreparedRecordings, RawShard, Rows
from hubert_ecg.pipeline.prepare_shard import ShardWork
from hubert_ecg.pipeline.raw_input import RawInput, RawRecordings, delete_listing
from hubert_ecg.pipeline.shards import run_shards
from hubert_ecg.predictor import CropConfig
from hubert_ecg.predictor.embedding import FINAL
from hubert_ecg.storage import files
from hubert_ecg.storage.artifact import Manifest, Shards, StageOutput, begin, open_artifact
from hubert_ecg.storage.checkpoint import CheckpointInfo, load_info

log = logging.getLogger(__name__)

PREDICTIONS = "predictions.parquet"
REPORT = "report.json"


@dataclass(frozen=True, kw_only=True)
class PredictConfig(RawInput):
    """Apply a classifier to raw recordings (--input) or to prepared ones (--waveforms).

    A setting of the chosen source may be given without the source's name: `--source ptbxl --rate_hz 500`. What cannot
    be used is set aside and named with its reason in report.json.
    """

    checkpoint: str
    """Classifier M, the output of jobs.finetune or jobs.calibrate."""
    output: str
    """Directory to write the predictions to."""
    waveforms: str | None = None
    """Waveform table W, the output of jobs.prepare, in place of raw recordings."""
    split: Literal["train", "val", "test", "all"] = "all"
    """Recordings of W to take; all of a raw source are."""
    crops: CropConfig = field(default_factory=CropConfig)
    """Which crops of a recording the model sees."""
    measurements: bool = False
    """Also measure heart rate, PR, QRS, QT, QTc and axis: about 0.1 s of one core per recording."""
    embedding_layers: tuple[int, ...] = ()
    """Encoder layers, counted from 0, whose pooled outputs are written too; -1 is what the classifier's head reads."""
    single_file: bool = True
    """Also put all shards together into predictions.parquet."""
    workers: int = 0
    """Shards worked on at once; 0 takes one per CPU, or one per GPU where there are GPUs."""

    def __post_init__(self) -> None:
        if self.waveforms is None:
            self.check_raw_input()
            if self.split != ALL:
                raise ConfigError(f"--split {self.split}: is for --waveforms; a raw source is predicted as a whole")
        elif self.input:
            raise ConfigError(f"wanted --input or --waveforms, got both: {self.input} and {self.waveforms}")
        if self.workers < 0 or min(self.embedding_layers, default=FINAL) < FINAL:
            raise ConfigError(
                f"wanted --workers of at least 0 and --embedding_layers of at least {FINAL}, got {self.workers} and "
                f"{list(self.embedding_layers)}"
            )


def predict(config: PredictConfig) -> Manifest:
    """Run the stage. Raises InputError when not one recording could be used."""
    info = load_info(files.absolute(config.checkpoint))
    if info.kind != "classifier":
        raise CheckpointError(f"{config.checkpoint}: wanted a classifier, got a pre-trained model; run jobs.finetune")
    found = _raw(config, info) if config.waveforms is None else _prepared(config, info)
    described = found.described | {
        "crops": asdict(config.crops),
        "measurements": config.measurements,
        "embedding_layers": list(config.embedding_layers),
        # Not part of the fingerprint of the weights, and yet they decide what is written.
        "thresholds": info.thresholds,
        "calibration": info.calibration,
    }
    output = begin(
        config.output, verb="predict", config=described, inputs=found.inputs | {"checkpoint": info.fingerprint}
    )
    if isinstance(output, Manifest):
        return output
    arguments = {
        "directory": output.directory,
        "rows": found.rows(output.directory),
        "checkpoint": files.absolute(config.checkpoint),
        "crops": config.crops,
        "layers": config.embedding_layers,
        "measurements": config.measurements,
    }
    if found.raw is not None:
        found.raw.write_listing(output.directory)
    tasks = [{"part": part} for part in range(found.parts)]
    log.info("predict: %d recordings in %d shards", found.recordings, found.parts)
    run_shards(output, tasks, PredictionShard, work_arguments=arguments, holds_model=True, workers=config.workers)
    if found.raw is not None:
        delete_listing(output.directory)
    return _finish(config, info, found, output)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Found:
    """The recordings to predict."""

    described: dict[str, Any]
    inputs: dict[str, str]
    recordings: int
    """As many are listed."""
    parts: int
    raw: RawRecordings | None = None
    work: dict[str, Any] = field(default_factory=dict)
    """For raw recordings the settings of `ShardWork` but for its directory."""
    prepared: PreparedRecordings | None = None

    def rows(self, directory: str) -> Rows:
        """How workers come by the rows of a shard."""
        if self.prepared is not None:
            return self.prepared
        return RawShard(work=ShardWork(directory=directory, **self.work))


def _raw(config: PredictConfig, info: CheckpointInfo) -> _Found:
    """Raw recordings, prepared under the contract of the checkpoint."""
    raw = RawRecordings.of(config)
    work = {
        "source": raw.source,
        "preprocess": PreprocessConfig.from_dict(info.preprocessing),
        "quality": config.quality,
        "policy": "keep",
        "label_tasks": {},
        "salt": raw.salt,
    }
    return _Found(
        described=raw.described,
        inputs={"recordings": raw.fingerprint},
        recordings=raw.listing.table.num_rows,
        parts=raw.parts,
        raw=raw,
        work=work,
    )


def _prepared(config: PredictConfig, info: CheckpointInfo) -> _Found:
    """Prepared waveforms, which must have been made under the contract of the checkpoint."""
    assert config.waveforms is not None
    waveforms = open_artifact(config.waveforms, verb="prepare", role="--waveforms")
    check_contract(info.preprocessing, preprocess_of(waveforms), config.checkpoint)
    splits: dict[str, int] = waveforms.facts["splits"]
    recordings = sum(splits.values()) if config.split == ALL else splits.get(config.split, 0)
    if not recordings:
        raise ArtifactError(f"{config.waveforms}: no recording in split {config.split}; splits: {splits}")
    return _Found(
        described={"split": config.split},
        inputs={"waveforms": waveforms.fingerprint},
        recordings=recordings,
        parts=waveforms.parts,
        prepared=PreparedRecordings(waveforms=waveforms, split=config.split),
    )


def _finish(config: PredictConfig, info: CheckpointInfo, found: _Found, output: StageOutput) -> Manifest:
    """Put the shards together, and say what came of the recordings."""
    shards = Shards(directory=output.directory, parts=found.parts)
    receipts = shards.receipts()
    positive = sum((Counter(receipt["positive"]) for receipt in receipts), Counter[str]())
    withheld = sum((Counter(receipt["withheld"]) for receipt in receipts), Counter[str]())
    refused = found.raw.refused(receipts) if found.raw is not None else {"listed": found.recordings}
    report = {
        "predicted": sum(receipt["rows"] for receipt in receipts),
        "positive": dict(positive),
        "withheld_by_reason": dict(withheld),
        **refused,
    }
    place = files.join(output.directory, REPORT)
    files.write_json(place, report)
    if report["predicted"] == 0 and found.raw is not None:
        raise InputError(found.raw.nothing_usable(report, place))
    if config.single_file:
        parts = (files.read_table(shards.part(part)) for part in range(shards.parts))
        files.write_tables(files.join(output.directory, PREDICTIONS), _schema(shards), parts)
    _tell(report)
    facts = {
        "labels": list(info.label_names),
        "task": info.task,
        "thresholds": info.thresholds,
        "calibrated": "probabilities" in (info.calibration or {}),
        "set_aside": report.get("set_aside_by_reason", {}),
        "positive": report["positive"],
        "withheld": report["withheld_by_reason"],
    }
    return output.finish(parts=found.parts, facts=facts)


def _schema(shards: Shards) -> pa.Schema:
    return files.read_table(shards.part(0)).schema


def _tell(report: dict[str, Any]) -> None:
    log.info("predict: %d of %d recordings are in the table", report["predicted"], report["listed"])
    for what, name in (("set aside", "set_aside_by_reason"), ("withheld", "withheld_by_reason")):
        if report.get(name):
            described = ", ".join(f"{count} {reason}" for reason, count in sorted(report[name].items()))
            log.warning("predict: %s: %s; see %s", what, described, REPORT)
