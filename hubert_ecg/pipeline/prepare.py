"""prepare: raw recordings of any source -> the waveform table, with every recording that was set aside and why."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from hubert_ecg.datasets.source import LabelSet, Listing
from hubert_ecg.ecg.preprocess import PreprocessConfig
from hubert_ecg.errors import InputError
from hubert_ecg.pipeline.prepare_leaks import LeakPolicy, settle_leaks
from hubert_ecg.pipeline.prepare_page import write_page
from hubert_ecg.pipeline.prepare_shard import FindingPolicy, ShardWork
from hubert_ecg.pipeline.prepare_summary import merge
from hubert_ecg.pipeline.raw_input import RawInput, RawRecordings, SourceName, delete_listing
from hubert_ecg.pipeline.shards import run_shards
from hubert_ecg.storage import files
from hubert_ecg.storage.artifact import Manifest, Shards, StageOutput, begin

log = logging.getLogger(__name__)

REPORT = "report.json"
PAGE = "report.html"


@dataclass(frozen=True, kw_only=True)
class PrepareConfig(RawInput):
    """Read raw 12-lead ECGs, filter and scale them, and write them as Parquet shards for every later job.

    A setting of the chosen source may be given without the source's name: `--source manifest --train A.csv`.
    """

    output: str
    """Directory to write the waveform table W to (new, or left unfinished by this same command)."""
    source: SourceName = "simulated"
    """Where recordings come from: the simulator, CSV manifests, a known data set, or any folder of recordings."""
    contract: Literal["ours", "original"] = PreprocessConfig.contract
    """`ours`: each lead decimated to the model's rate, then cropped. `original`: as the published weights want it."""
    sampling_rate_hz: Literal[50, 100, 500] = 100
    """Rate that the model will see, Hz."""
    range_mv: float = PreprocessConfig.range_mv
    """Voltage that is scaled to 1, mV, 5 say, the same for all leads and recordings; what lies beyond is cut off.
    0: each lead is scaled by its own extremes, as the published weights want it."""
    crop_s: float = PreprocessConfig.crop_s
    """Length of the model's input, s; 5 is that of the published weights."""
    missing_leads: Literal["refuse", "zero"] = PreprocessConfig.missing_leads
    """Recordings that lack leads which cannot be derived: set aside, or given zeros that the model does not see."""
    attention_mask: Literal["padding", "beats"] = PreprocessConfig.attention_mask
    """What the model attends to: all that was recorded, or only beats (P to T, found by NeuroKit2; slow)."""
    min_duration_s: float = PreprocessConfig.min_duration_s
    """Shorter recordings are set aside, s; what is shorter than a crop is padded, and the padding masked."""
    findings: FindingPolicy = "warn"
    """Findings on signal quality: `keep` them in the table, also `warn` of them in log and report, or `set_aside`
    recordings with a severe one."""
    leaks: LeakPolicy = "error"
    """A patient, or a signal under two names, in two splits: an `error`, `drop` the copies outside of the test (then
    validation) split, or `keep` them."""

    def __post_init__(self) -> None:
        self.check_raw_input()
        self.preprocess()

    def preprocess(self) -> PreprocessConfig:
        """The contract that the waveforms will be made under."""
        return PreprocessConfig(
            contract=self.contract,
            sampling_rate_hz=self.sampling_rate_hz,
            range_mv=self.range_mv,
            crop_s=self.crop_s,
            missing_leads=self.missing_leads,
            attention_mask=self.attention_mask,
            min_duration_s=self.min_duration_s,
        )


def prepare(config: PrepareConfig) -> Manifest:
    """Run the stage. Raises InputError when not one recording could be used, or splits leak into one another."""
    raw = RawRecordings.of(config)
    listing = raw.listing
    described = raw.described | {
        "preprocess": config.preprocess().to_dict(),
        "findings": config.findings,
        "leaks": config.leaks,
    }
    output = begin(config.output, verb="prepare", config=described, inputs={"recordings": raw.fingerprint})
    if isinstance(output, Manifest):
        return output
    shards = _read_all(config, raw, output)
    report = _report(shards, raw)
    files.write_json(files.join(output.directory, REPORT), report)
    if report["prepared"] == 0:
        raise InputError(raw.nothing_usable(report, files.join(output.directory, REPORT)))
    leaks = settle_leaks(shards, config.leaks, label_tasks(listing), config.preprocess())
    if leaks:
        report = _report(shards, raw) | {"leaks": leaks}
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


def _read_all(config: PrepareConfig, raw: RawRecordings, output: StageOutput) -> Shards:
    """Prepare every shard that has no receipt yet."""
    log.info("prepare: %d recordings of %s in %d shards", raw.listing.table.num_rows, config.source, raw.parts)
    raw.write_listing(output.directory)
    work = {
        "directory": output.directory,
        "source": raw.source,
        "preprocess": config.preprocess(),
        "quality": config.quality,
        "policy": config.findings,
        "label_tasks": label_tasks(raw.listing),
        "salt": raw.salt,
    }
    run_shards(output, [{"part": part} for part in range(raw.parts)], ShardWork, work_arguments=work)
    # Nothing after this needs the paths.
    delete_listing(output.directory)
    return Shards(directory=output.directory, parts=raw.parts)


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


def _report(shards: Shards, raw: RawRecordings) -> dict[str, Any]:
    """What was read and what was not, summed over the receipts of all shards."""
    receipts = shards.receipts()
    refused = raw.refused(receipts)
    return {
        "source": refused.pop("source"),
        "listed": refused.pop("listed"),
        "prepared": sum(receipt["rows"] for receipt in receipts),
        **refused,
        "splits": _summed(receipts, "splits"),
        "tags": _summed(receipts, "tags"),
        "core_seconds": round(sum(receipt["seconds"] for receipt in receipts), 1),
        "summary": merge(receipt["summary"] for receipt in receipts),
    }


def _summed(receipts: Sequence[dict[str, Any]], name: str) -> dict[str, int]:
    return dict(sum((Counter(receipt[name]) for receipt in receipts), Counter[str]()))


def label_sets_of(waveforms: Manifest) -> dict[str, LabelSet]:
    """The label sets of a waveform table, by name."""
    return {
        name: LabelSet(**{**described, "labels": tuple(described["labels"])})
        for name, described in waveforms.facts["label_sets"].items()
    }
