"""Raw recordings as the input of a job: which source, where, how ids are hidden, and what became of those listed."""

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
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
from hubert_ecg.datasets.source import Listing, Source
from hubert_ecg.ecg.quality import QualityConfig
from hubert_ecg.errors import ConfigError
from hubert_ecg.pipeline.prepare_shard import LISTING
from hubert_ecg.storage import files

SourceName = Literal["simulated", "manifest", "ptbxl", "cinc", "ludb", "files"]


@dataclass(frozen=True, kw_only=True)
class RawInput:
    """The settings of a job that reads raw recordings."""

    source: SourceName = "files"
    """Where recordings come from: the simulator, CSV manifests, a known data set, or any folder of recordings."""
    input: str = ""
    """Folder of the archive, local or s3://, or for `files` a list of paths; not needed for `simulated`."""
    quality: QualityConfig = field(default_factory=QualityConfig)
    """When a signal counts as flat, clipped, noisy, ..."""
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

    def check_raw_input(self) -> None:
        """ConfigError unless there is something to read."""
        if self.shard_size < 1:
            raise ConfigError(f"--shard_size: wanted at least 1 recording, got {self.shard_size}")
        if self.source != "simulated" and not self.input:
            raise ConfigError(f"--input: wanted the folder of the {self.source} archive, got nothing; name it")

    def chosen_source(self) -> Source:
        """The source with its input filled in."""
        chosen = getattr(self, self.source)
        filled: Source = chosen if self.source == "simulated" else replace(chosen, input=files.absolute(self.input))
        return filled


@dataclass(frozen=True, kw_only=True, eq=False)
class RawRecordings:
    """Raw recordings, listed and with their ids as they may be written, but not read."""

    config: RawInput
    source: Source
    salt: bytes | None
    listing: Listing

    @classmethod
    def of(cls, config: RawInput) -> "RawRecordings":
        """Raises InputError when there is nothing to list."""
        source = config.chosen_source()
        salt = load_salt(config.salt) if config.salt else None
        listing = source.listing()
        return cls(
            config=config, source=source, salt=salt, listing=listing if salt is None else hash_ids(listing, salt)
        )

    @property
    def described(self) -> dict[str, Any]:
        """Every setting that decides what is read. Where the archive lies is no part of it, nor is the salt itself."""
        settings = {name: value for name, value in asdict(cast(Any, self.source)).items() if name != "input"}
        return {
            "source": {"name": self.config.source, **settings},
            "quality": asdict(self.config.quality),
            "salted": hash_id("salt", self.salt) if self.salt is not None else None,
            "shard_size": self.config.shard_size,
        }

    @property
    def fingerprint(self) -> str:
        """Over what was listed, without the folder it was found in."""
        described = self.listing.table.drop_columns(["path"]).combine_chunks()
        digest = hashlib.sha256(self.listing.source.encode())
        with pa.ipc.new_stream(pa.PythonFile(_HashSink(digest), mode="w"), described.schema) as stream:
            stream.write_table(described)
        return digest.hexdigest()[:16]

    @property
    def parts(self) -> int:
        """Shards that the recordings make."""
        return math.ceil(self.listing.table.num_rows / self.config.shard_size)

    def write_listing(self, directory: str) -> None:
        """Put the listing where workers read their own row group of it, so that the driver need not hold a Python
        object per file. Delete it afterwards: paths can hold names of people."""
        files.write_table(files.join(directory, LISTING), self.listing.table, row_group_size=self.config.shard_size)

    def refused(self, receipts: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """What a report says of the recordings that were not used, from the receipts of all shards."""
        set_aside = [entry for receipt in receipts for entry in receipt["set_aside"]]
        unlisted = [
            {"record_id": thing, "reason": "not listed", "detail": reason} for thing, reason in self.listing.dropped
        ]
        return {
            "source": self.listing.source,
            "listed": self.listing.table.num_rows,
            "set_aside_by_reason": dict(Counter(entry["reason"] for entry in set_aside + unlisted)),
            "set_aside": set_aside + unlisted,
            "left_out": self.listing.left_out,
        }

    def nothing_usable(self, report: dict[str, Any], place: str) -> str:
        """The message when every recording was set aside; `place` is where the report lies."""
        reasons = ", ".join(f"{count} {reason}" for reason, count in report["set_aside_by_reason"].items())
        return (
            f"{self.config.input or self.config.source}: not one of {report['listed']} recordings could be used "
            f"({reasons}); see {place}, mend them and choose another --output"
        )


def delete_listing(directory: str) -> None:
    """Delete the listing that `write_listing` wrote."""
    files.delete(files.join(directory, LISTING))


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
