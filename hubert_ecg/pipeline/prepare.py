"""prepare: raw recordings of any source -> the waveform table, with every recording that was set aside and why."""

import hashlib
import logging
import math
import time
from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, cast

import numpy as np
import pyarrow as pa

from hubert_ecg.datasets.manifest import ManifestSource
from hubert_ecg.datasets.ptbxl import PtbxlSource
from hubert_ecg.datasets.simulated import SimulatedSource
from hubert_ecg.datasets.source import LabelSet, Listing, Source
from hubert_ecg.ecg.preprocess import PreprocessConfig, prepare_waveform
from hubert_ecg.ecg.recording import standard_12_lead
from hubert_ecg.errors import ConfigError, InputError, RecordingError
from hubert_ecg.pipeline.shards import run_shards
from hubert_ecg.storage import files, tables
from hubert_ecg.storage.artifact import Manifest, begin, write_part

log = logging.getLogger(__name__)

REPORT = "report.json"
LISTING = "listing.parquet"


@dataclass(frozen=True, kw_only=True)
class PrepareConfig:
    """Read raw 12-lead ECGs, filter and scale them, and write them as Parquet shards for every later job."""

    output: str
    """Directory to write the waveform table W to (new, or left unfinished by this same command)."""
    source: Literal["simulated", "manifest", "ptbxl"] = "simulated"
    """Where recordings come from: the built-in simulator, a manifest CSV with .npy files, or a PTB-XL folder."""
    input: str = ""
    """Folder of the archive; not needed for `simulated`."""
    contract: Literal["ours", "original"] = PreprocessConfig.contract
    """`ours`: each lead decimated to the model's rate, then cropped. `original`: as the published weights want it."""
    sampling_rate_hz: Literal[50, 100, 500] = 100
    """Rate that the model will see, Hz."""
    simulated: SimulatedSource = field(default_factory=SimulatedSource)
    """Settings of `--source simulated`."""
    manifest: ManifestSource = field(default_factory=ManifestSource)
    """Settings of `--source manifest`."""
    ptbxl: PtbxlSource = field(default_factory=PtbxlSource)
    """Settings of `--source ptbxl`."""
    shard_size: int = 256
    """Recordings in one shard (one Parquet file, one unit of work)."""

    def __post_init__(self) -> None:
        if self.shard_size < 1:
            raise ConfigError(f"--shard_size: wanted at least 1 recording, got {self.shard_size}")
        if self.source != "simulated" and not self.input:
            raise ConfigError(f"--input: wanted the folder of the {self.source} archive, got nothing; name it")

    def preprocess(self) -> PreprocessConfig:
        return PreprocessConfig(contract=self.contract, sampling_rate_hz=self.sampling_rate_hz)

    def chosen_source(self) -> Source:
        if self.source == "simulated":
            return self.simulated
        chosen = self.manifest if self.source == "manifest" else self.ptbxl
        return replace(chosen, input=files.absolute(self.input))


def prepare(config: PrepareConfig) -> Manifest:
    """Run the stage. Raises InputError when not one recording could be used."""
    source = config.chosen_source()
    listing = source.listing()
    if listing.table.num_rows == 0:
        raise InputError(f"{config.input or config.source}: wanted at least one recording, the listing has none")
    preprocess = config.preprocess()
    # The archive may sit elsewhere next time; what is listed in it is what counts.
    settings = {name: value for name, value in asdict(cast(Any, source)).items() if name != "input"}
    described = {
        "source": {"name": config.source, **settings},
        "preprocess": preprocess.to_dict(),
        "shard_size": config.shard_size,
    }
    inputs = {"recordings": _listing_fingerprint(listing)}
    output = begin(config.output, verb="prepare", config=described, inputs=inputs)
    if isinstance(output, Manifest):
        return output
    parts = math.ceil(listing.table.num_rows / config.shard_size)
    log.info("prepare: %d recordings of %s in %d shards", listing.table.num_rows, config.source, parts)
    # Workers read their own row group of the listing, so that the driver does not hold a Python object per file.
    listing_path = files.join(output.directory, LISTING)
    files.write_table(listing_path, listing.table, row_group_size=config.shard_size)
    arguments = {
        "directory": output.directory,
        "source": source,
        "preprocess": preprocess,
        "label_tasks": {name: label_set.task for name, label_set in sorted(listing.label_sets.items())},
    }
    run_shards(output, [{"part": part} for part in range(parts)], prepare_shard, work_arguments=arguments)
    report = _report(output.directory, parts, listing)
    files.write_json(files.join(output.directory, REPORT), report)
    if report["prepared"] == 0:
        reasons = ", ".join(f"{count} {reason}" for reason, count in report["set_aside_by_reason"].items())
        raise InputError(
            f"{config.input or config.source}: not one of {report['listed']} recordings could be used ({reasons}); "
            f"see {files.join(output.directory, REPORT)}"
        )
    facts = {
        "label_sets": {name: asdict(label_set) for name, label_set in listing.label_sets.items()},
        "splits": report["splits"],
        "tags": report["tags"],
        "set_aside": report["set_aside_by_reason"],
    }
    manifest = output.finish(parts=parts, facts=facts)
    # Paths can hold names of people; nothing after this stage needs them.
    files.delete(listing_path)
    return manifest


def prepare_shard(
    task: dict[str, Any], *, directory: str, source: Source, preprocess: PreprocessConfig, label_tasks: dict[str, str]
) -> dict[str, Any]:
    """Read and preprocess the recordings of one shard; what cannot be used goes into the receipt with its reason."""
    start = time.monotonic()
    rows: dict[str, list[Any]] = {name: [] for name in tables.waveform_schema(label_tasks).names}
    set_aside: list[dict[str, str]] = []
    recordings = files.read_row_group(files.join(directory, LISTING), task["part"]).to_pylist()
    for row in recordings:
        try:
            recording = source.read(row)
            waveform = prepare_waveform(standard_12_lead(recording), preprocess)
        except RecordingError as error:
            set_aside.append({"record_id": row["record_id"], "reason": error.reason, "detail": str(error)})
            continue
        made = {
            "source_rate_hz": recording.sampling_rate_hz,
            "counts": waveform.counts.reshape(-1),
            "offset_mv": waveform.offset_mv,
            "gain_mv": waveform.gain_mv,
            "valid_samples": np.full(12, waveform.counts.shape[1], np.int32),
            "attended_s": None,
            "findings": [finding.to_dict() for finding in recording.findings],
        }
        for name, values in rows.items():
            values.append(made[name] if name in made else row[name])
    receipt_facts = {
        "listed": len(recordings),
        "set_aside": set_aside,
        "splits": dict(Counter(rows["split"])),
        "tags": dict(Counter(tag for tags in rows["tags"] for tag in tags or ())),
        "seconds": round(time.monotonic() - start, 3),
    }
    return write_part(directory, task["part"], _to_table(rows, label_tasks), **receipt_facts)


def _to_table(rows: dict[str, list[Any]], label_tasks: dict[str, str]) -> pa.Table:
    schema = tables.waveform_schema(label_tasks)
    columns = []
    for column in schema:
        values = rows[column.name]
        if column.name == "counts":
            columns.append(tables.to_list_array(values, pa.int16()))
        elif pa.types.is_fixed_size_list(column.type):
            kind = column.type.value_type
            columns.append(tables.to_fixed_list_array(np.array(values, kind.to_pandas_dtype()).reshape(-1, 12), kind))
        else:
            columns.append(pa.array(values, column.type))
    return pa.table(columns, schema=schema)


def _listing_fingerprint(listing: Listing) -> str:
    """Over what was listed, without the folder it was found in."""
    described = listing.table.drop_columns(["path"]).combine_chunks()
    digest = hashlib.sha256(listing.source.encode())
    with pa.ipc.new_stream(pa.PythonFile(_HashSink(digest), mode="w"), described.schema) as stream:
        stream.write_table(described)
    return digest.hexdigest()[:16]


class _HashSink:
    """A file that only feeds a hash."""

    def __init__(self, digest: Any) -> None:
        self.digest = digest
        self.closed = False

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        return len(data)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True


def _report(directory: str, parts: int, listing: Listing) -> dict[str, Any]:
    """What was read and what was not, summed over the receipts of all shards."""
    manifest = Manifest(directory=directory, verb="prepare", config={}, inputs={}, fingerprint="", rows=0, parts=parts)
    receipts = manifest.receipts()
    set_aside = [entry for receipt in receipts for entry in receipt["set_aside"]]
    unlisted = [{"record_id": thing, "reason": "not listed", "detail": reason} for thing, reason in listing.dropped]
    splits: Counter[str] = sum((Counter(receipt["splits"]) for receipt in receipts), Counter())
    tags: Counter[str] = sum((Counter(receipt["tags"]) for receipt in receipts), Counter())
    return {
        "listed": listing.table.num_rows,
        "prepared": sum(receipt["rows"] for receipt in receipts),
        "set_aside_by_reason": dict(Counter(entry["reason"] for entry in set_aside + unlisted)),
        "set_aside": set_aside + unlisted,
        "splits": dict(splits),
        "tags": dict(tags),
        "core_seconds": round(sum(receipt["seconds"] for receipt in receipts), 1),
    }


def label_sets_of(waveforms: Manifest) -> dict[str, LabelSet]:
    """The label sets of a waveform table, by name."""
    return {
        name: LabelSet(**{**described, "labels": tuple(described["labels"])})
        for name, described in waveforms.facts["label_sets"].items()
    }
