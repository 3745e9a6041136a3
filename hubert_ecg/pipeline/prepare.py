"""prepare: raw recordings of any source -> the waveform table, with every recording that was set aside and why."""

import hashlib
import logging
import math
from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, cast

import pyarrow as pa

from hubert_ecg.datasets.cinc import CincSource
from hubert_ecg.datasets.deidentify import hash_id, hash_ids, load_salt
from hubert_ecg.datasets.files_folder import FilesSource
from hubert_ecg.datasets.ludb import LudbSource
from hubert_ecg.datasets.manifest import ManifestSource
from hubert_ecg.datasets.ptbxl import PtbxlSource
from hubert_ecg.datasets.simulated import SimulatedSource
from hubert_ecg.datasets.source import LabelSet, Listing, Source
from hubert_ecg.ecg.preprocess import PreprocessConfig
from hubert_ecg.ecg.quality import QualityConfig
from hubert_ecg.errors import ConfigError, InputError
from hubert_ecg.pipeline.prepare_leaks import LeakPolicy, settle_leaks
from hubert_ecg.pipeline.prepare_page import write_page
from hubert_ecg.pipeline.prepare_shard import LISTING, FindingPolicy, ShardWork
from hubert_ecg.pipeline.prepare_summary import merge
from hubert_ecg.pipeline.shards import run_shards
from hubert_ecg.storage import files
from hubert_ecg.storage.artifact import Manifest, Shards, StageOutput, begin

log = logging.getLogger(__name__)

REPORT = "report.json"
PAGE = "report.html"

SourceName = Literal["simulated", "manifest", "ptbxl", "cinc", "ludb", "files"]


@dataclass(frozen=True, kw_only=True)
class PrepareConfig:
    """Read raw 12-lead ECGs, filter and scale them, and write them as Parquet shards for every later job.

    A setting of the chosen source may be given without the source's name: `--source manifest --train A.csv`.
    """

    output: str
    """Directory to write the waveform table W to (new, or left unfinished by this same command)."""
    source: SourceName = "simulated"
    """Where recordings come from: the simulator, CSV manifests, a known data set, or any folder of recordings."""
    input: str = ""
    """Folder of the archive, local or s3://, or for `files` a list of paths; not needed for `simulated`."""
    contract: Literal["ours", "original"] = PreprocessConfig.contract
    """`ours`: each lead decimated to the model's rate, then cropped. `original`: as the published weights want it."""
    sampling_rate_hz: Literal[50, 100, 500] = 100
    """Rate that the model will see, Hz."""
    missing_leads: Literal["refuse", "zero"] = PreprocessConfig.missing_leads
    """Recordings that lack leads which cannot be derived: set aside, or given zeros that the model does not see."""
    attention_mask: Literal["padding", "beats"] = PreprocessConfig.attention_mask
    """What the model attends to: all that was recorded, or only beats (P to T, found by NeuroKit2; slow)."""
    min_duration_s: float = PreprocessConfig.min_duration_s
    """Shorter recordings are set aside, s; what is shorter than a crop of 5 s is padded, and the padding masked."""
    quality: QualityConfig = field(default_factory=QualityConfig)
    """When a signal counts as flat, clipped, noisy, ..."""
    findings: FindingPolicy = "warn"
    """Findings on signal quality: `keep` them in the table, also `warn` of them in log and report, or `set_aside`
    recordings with a severe one."""
    leaks: LeakPolicy = "error"
    """A patient, or a signal under two names, in two splits: an `error`, `drop` the copies outside of the test (then
    validation) split, or `keep` them."""
    salt: str = ""
    """File, or `env:NAME` of an environment variable, whose content record and patient ids are hashed with."""
    simulated: SimulatedSource = field(default_factory=SimulatedSource)
    """Settings of `--source simulated`."""
    manifest: ManifestSource = field(default_factory=ManifestSource)
    """Settings of `--source manifest`."""
    ptbxl: PtbxlSource = field(default_factory=PtbxlSource)
    """Settings of `--source ptbxl`."""
    cinc: CincSource = field(default_factory=CincSource)
    """Settings of `--source cinc`."""
    ludb: LudbSource = field(default_factory=LudbSource)
    """Settings of `--source ludb`."""
    files: FilesSource = field(default_factory=FilesSource)
    """Settings of `--source files`."""
    shard_size: int = 256
    """Recordings in one shard (one Parquet file, one unit of work)."""

    def __post_init__(self) -> None:
        if self.shard_size < 1:
            raise ConfigError(f"--shard_size: wanted at least 1 recording, got {self.shard_size}")
        if self.source != "simulated" and not self.input:
            raise ConfigError(f"--input: wanted the folder of the {self.source} archive, got nothing; name it")
        self.preprocess()

    def preprocess(self) -> PreprocessConfig:
        """The contract that the waveforms will be made under."""
        return PreprocessConfig(
            contract=self.contract,
            sampling_rate_hz=self.sampling_rate_hz,
            missing_leads=self.missing_leads,
            attention_mask=self.attention_mask,
            min_duration_s=self.min_duration_s,
        )

    def chosen_source(self) -> Source:
        """The source with its input filled in."""
        chosen = getattr(self, self.source)
        filled: Source = chosen if self.source == "simulated" else replace(chosen, input=files.absolute(self.input))
        return filled


def prepare(config: PrepareConfig) -> Manifest:
    """Run the stage. Raises InputError when not one recording could be used, or splits leak into one another."""
    source = config.chosen_source()
    salt = load_salt(config.salt) if config.salt else None
    listing = source.listing()
    if salt is not None:
        listing = hash_ids(listing, salt)
    output = begin(
        config.output,
        verb="prepare",
        config=_described(config, source, salt),
        inputs={"recordings": _listing_fingerprint(listing)},
    )
    if isinstance(output, Manifest):
        return output
    shards = _read_all(config, source, salt, listing, output)
    report = _report(shards, listing)
    files.write_json(files.join(output.directory, REPORT), report)
    if report["prepared"] == 0:
        reasons = ", ".join(f"{count} {reason}" for reason, count in report["set_aside_by_reason"].items())
        raise InputError(
            f"{config.input or config.source}: not one of {report['listed']} recordings could be used ({reasons}); "
            f"see {files.join(output.directory, REPORT)}, mend them and choose another --output"
        )
    leaks = settle_leaks(shards, config.leaks, label_tasks(listing), config.preprocess())
    if leaks:
        report = _report(shards, listing) | {"leaks": leaks}
        files.write_json(files.join(output.directory, REPORT), report)
    write_page(files.join(output.directory, PAGE), shards, report, config.preprocess())
    _tell(report)
    if config.findings == "warn":
        _warn(report)
    facts = {
        "label_sets": {name: asdict(label_set) for name, label_set in listing.label_sets.items()},
        "splits": report["splits"],
        "tags": report["tags"],
        "set_aside": report["set_aside_by_reason"],
        "findings": report["summary"]["findings"],
    }
    return output.finish(parts=shards.parts, facts=facts)


def label_tasks(listing: Listing) -> dict[str, str]:
    """Name of each label set -> its task."""
    return {name: label_set.task for name, label_set in sorted(listing.label_sets.items())}


def _described(config: PrepareConfig, source: Source, salt: bytes | None) -> dict[str, Any]:
    """Every setting that shapes the table. Where the archive lies is no part of it, nor is the salt itself."""
    settings = {name: value for name, value in asdict(cast(Any, source)).items() if name != "input"}
    return {
        "source": {"name": config.source, **settings},
        "preprocess": config.preprocess().to_dict(),
        "quality": asdict(config.quality),
        "findings": config.findings,
        "leaks": config.leaks,
        "salted": hash_id("salt", salt) if salt is not None else None,
        "shard_size": config.shard_size,
    }


def _read_all(
    config: PrepareConfig, source: Source, salt: bytes | None, listing: Listing, output: StageOutput
) -> Shards:
    """Prepare every shard that has no receipt yet."""
    parts = math.ceil(listing.table.num_rows / config.shard_size)
    log.info("prepare: %d recordings of %s in %d shards", listing.table.num_rows, config.source, parts)
    # Workers read their own row group of the listing, so that the driver does not hold a Python object per file.
    listing_path = files.join(output.directory, LISTING)
    files.write_table(listing_path, listing.table, row_group_size=config.shard_size)
    work = {
        "directory": output.directory,
        "source": source,
        "preprocess": config.preprocess(),
        "quality": config.quality,
        "policy": config.findings,
        "label_tasks": label_tasks(listing),
        "salt": salt,
    }
    run_shards(output, [{"part": part} for part in range(parts)], ShardWork, work_arguments=work)
    # Paths can hold names of people; nothing after this needs them.
    files.delete(listing_path)
    return Shards(directory=output.directory, parts=parts)


def _tell(report: dict[str, Any]) -> None:
    """What came of the recordings, so that nobody has to open the report to learn that half of them are gone."""
    log.info("prepare: %d of %d recordings are in the table", report["prepared"], report["listed"])
    for what, counts in (("set aside", report["set_aside_by_reason"]), ("left out", report["left_out"])):
        if counts:
            described = ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items()))
            log.warning("prepare: %s: %s; see %s", what, described, PAGE)


def _warn(report: dict[str, Any]) -> None:
    """One line per kind of finding that is more than a note."""
    for kind, counts in sorted(report["summary"]["findings"].items()):
        warned = {severity: counts[severity] for severity in ("severe", "warning") if counts.get(severity)}
        if warned:
            described = ", ".join(f"{count} {severity}" for severity, count in warned.items())
            log.warning("prepare: %s: %s of %d recordings", kind, described, report["prepared"])


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


def _report(shards: Shards, listing: Listing) -> dict[str, Any]:
    """What was read and what was not, summed over the receipts of all shards."""
    receipts = shards.receipts()
    set_aside = [entry for receipt in receipts for entry in receipt["set_aside"]]
    unlisted = [{"record_id": thing, "reason": "not listed", "detail": reason} for thing, reason in listing.dropped]
    splits: Counter[str] = sum((Counter(receipt["splits"]) for receipt in receipts), Counter())
    tags: Counter[str] = sum((Counter(receipt["tags"]) for receipt in receipts), Counter())
    return {
        "source": listing.source,
        "listed": listing.table.num_rows,
        "prepared": sum(receipt["rows"] for receipt in receipts),
        "set_aside_by_reason": dict(Counter(entry["reason"] for entry in set_aside + unlisted)),
        "set_aside": set_aside + unlisted,
        "left_out": listing.left_out,
        "splits": dict(splits),
        "tags": dict(tags),
        "core_seconds": round(sum(receipt["seconds"] for receipt in receipts), 1),
        "summary": merge(receipt["summary"] for receipt in receipts),
    }


def label_sets_of(waveforms: Manifest) -> dict[str, LabelSet]:
    """The label sets of a waveform table, by name."""
    return {
        name: LabelSet(**{**described, "labels": tuple(described["labels"])})
        for name, described in waveforms.facts["label_sets"].items()
    }
