"""A stage's output directory: complete or absent, resumable shard by shard, and able to say what it was made from.

    OUTPUT/plan.json                 written first: the settings and inputs this directory belongs to
    OUTPUT/parts/part-00000.parquet  one shard
    OUTPUT/parts/part-00000.json     its receipt, written after it: the shard is finished
    OUTPUT/manifest.json             written last: the directory is finished

Only `manifest.json` makes a directory an artifact. Work is repeated only for shards without a receipt.
"""

import hashlib
import json
import logging
import subprocess
from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

import pyarrow as pa

from hubert_ecg.errors import ArtifactError
from hubert_ecg.storage import files

log = logging.getLogger(__name__)

FORMAT_VERSION = 2
MANIFEST = "manifest.json"
PLAN = "plan.json"
PARTS = "parts"


@dataclass(frozen=True, kw_only=True)
class Shards:
    """The shards of a directory, all of them written; it need not have a manifest yet."""

    directory: str
    parts: int

    def part(self, index: int) -> str:
        return files.join(self.directory, PARTS, f"{part_name(index)}.parquet")

    def receipts(self) -> list[dict[str, Any]]:
        """What each shard says of itself, in order."""
        return files.read_jsons([_receipt(self.directory, i) for i in range(self.parts)])


@dataclass(frozen=True, kw_only=True)
class Manifest(Shards):
    """What a finished directory says of itself."""

    verb: str
    config: dict[str, Any]
    """Every setting that shapes the result, resolved; places and resources are left out."""
    inputs: dict[str, str]
    """Name of each input -> fingerprint of the artifact that was read."""
    fingerprint: str
    """16 hex digits over verb, settings, inputs and the content of the shards."""
    rows: int
    facts: dict[str, Any] = field(default_factory=dict)
    """What the stage found out and later stages or people need: label sets, counts, refusals."""
    code: dict[str, str] = field(default_factory=dict)
    finished_at: str = ""
    format_version: int = FORMAT_VERSION


@dataclass(frozen=True, kw_only=True)
class StageOutput:
    """A directory being filled by a stage. Make it with `begin`."""

    directory: str
    verb: str
    config: dict[str, Any]
    inputs: dict[str, str]

    def finished_parts(self) -> set[int]:
        """Indices of the shards that have a receipt."""
        names = files.list_names(files.join(self.directory, PARTS))
        return {int(name[5:-5]) for name in names if name.startswith("part-") and name.endswith(".json")}

    def receipts(self, parts: int) -> list[dict[str, Any]]:
        """The receipts of all shards, once they are finished, in order."""
        return Shards(directory=self.directory, parts=parts).receipts()

    def finish(self, *, parts: int, facts: dict[str, Any], content: Iterable[str] = ()) -> Manifest:
        """Write the manifest. `content` are digests of what the directory holds besides its shards."""
        receipts = self.receipts(parts)
        digests = [receipt["sha256"] for receipt in receipts] + sorted(content)
        manifest = Manifest(
            directory=self.directory,
            verb=self.verb,
            config=self.config,
            inputs=self.inputs,
            fingerprint=fingerprint({"verb": self.verb, "config": self.config, "inputs": self.inputs, "data": digests}),
            rows=sum(receipt["rows"] for receipt in receipts),
            parts=parts,
            facts=facts,
            code=code_version(),
            finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        content_json = {key: value for key, value in vars(manifest).items() if key != "directory"}
        files.write_json(files.join(self.directory, MANIFEST), content_json)
        files.delete(files.join(self.directory, PLAN))
        return manifest


def begin(directory: str, *, verb: str, config: dict[str, Any], inputs: dict[str, str]) -> StageOutput | Manifest:
    """Claim a directory for a run, and say where it stands.

    Returns the Manifest when this very run is already finished there, a StageOutput to fill (or go on filling)
    otherwise. Raises ArtifactError when the directory holds, or was begun with, anything else; it names the settings
    that differ.
    """
    directory = files.absolute(directory)
    config = json.loads(json.dumps(config))
    output = StageOutput(directory=directory, verb=verb, config=config, inputs=inputs)
    if files.exists(files.join(directory, MANIFEST)):
        found = open_artifact(directory)
        _refuse_other_run(output, vars(found), "holds the finished output of")
        return found
    plan = files.join(directory, PLAN)
    wanted = {"verb": verb, "config": config, "inputs": inputs, "format_version": FORMAT_VERSION}
    if files.exists(plan):
        _refuse_other_run(output, files.read_json(plan), "was begun by")
    elif _holds_anything(directory):
        raise ArtifactError(
            f"{directory}: wanted an empty or new directory, or one begun by jobs.{verb}; got a directory with other "
            f"files in it; choose another --output"
        )
    else:
        files.write_json(plan, wanted)
    return output


def open_artifact(directory: str, *, verb: str | None = None, role: str = "input") -> Manifest:
    """Read the manifest of a finished directory; ArtifactError when it is absent, unfinished or of another verb."""
    directory = files.absolute(directory)
    path = files.join(directory, MANIFEST)
    if not files.exists(path):
        if files.exists(files.join(directory, PLAN)):
            begun = files.read_json(files.join(directory, PLAN))["verb"]
            raise ArtifactError(f"{directory}: {role} is unfinished; run the same jobs.{begun} command again first")
        hint = f"the output of jobs.{verb}" if verb else "the output directory of a finished job"
        raise ArtifactError(f"{directory}: wanted {hint} as {role}, got no {MANIFEST} there; check the path")
    content = files.read_json(path)
    if content.get("format_version") != FORMAT_VERSION:
        raise ArtifactError(
            f"{directory}: wanted format version {FORMAT_VERSION}, got {content.get('format_version')}; "
            f"read it with the version of this package that wrote it ({content.get('code')})"
        )
    manifest = Manifest(directory=directory, **content)
    if verb is not None and manifest.verb != verb:
        raise ArtifactError(
            f"{directory}: wanted the output of jobs.{verb} as {role}, got that of jobs.{manifest.verb}; check the path"
        )
    return manifest


def write_part(directory: str, index: int, table: pa.Table, **facts: Any) -> dict[str, Any]:
    """Write shard `index` and then its receipt; returns the receipt. Called by Ray tasks; safe to repeat."""
    path = files.join(directory, PARTS, f"{part_name(index)}.parquet")
    receipt = {"part": index, "rows": table.num_rows, "sha256": files.write_table(path, table), **facts}
    files.write_json(_receipt(directory, index), receipt)
    return receipt


def part_name(index: int) -> str:
    return f"part-{index:05d}"


def fingerprint(value: Any) -> str:
    """16 hex digits that identify a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


@lru_cache
def code_version() -> dict[str, str]:
    """Package version, and the commit when it runs from a git checkout."""
    version = {"version": metadata.version("hubert-ecg")}
    try:
        root = Path(__file__).resolve().parents[2]
        command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
        version["commit"] = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        pass  # An installed package has no checkout; its version says enough.
    return version


def _refuse_other_run(wanted: StageOutput, found: dict[str, Any], relation: str) -> None:
    """Raise ArtifactError unless `found` was made by the same verb with the same settings and inputs."""
    place = f"{wanted.directory}: {relation}"
    advice = "choose another --output, or delete the directory"
    if found["verb"] != wanted.verb:
        raise ArtifactError(f"{place} jobs.{found['verb']}, this is jobs.{wanted.verb}; {advice}")
    told = other_run(found["config"], found["inputs"], wanted.config, wanted.inputs)
    if told:
        raise ArtifactError(f"{place} a run with other settings ({told}); {advice}")


def other_run(
    their_config: dict[str, Any],
    their_inputs: dict[str, str],
    config: dict[str, Any],
    inputs: dict[str, str],
    *,
    may_change: Container[str] = (),
) -> str:
    """In what settings and inputs two runs differ, in words for an error; empty where in none but `may_change`."""
    told = [
        f"{name}: there {_short(old)}, here {_short(new)}"
        for name, old, new in _differences(their_config, config)
        if name not in may_change
    ]
    told += [f"input {name}: there {old}, here {new}" for name, old, new in _differences(their_inputs, inputs)]
    return "; ".join(told[:8])


def _differences(old: Any, new: Any, name: str = "") -> list[tuple[str, Any, Any]]:
    """Dotted names of the leaves in which two nested dictionaries differ, with both values."""
    if isinstance(old, dict) and isinstance(new, dict):
        found = []
        for key in sorted(set(old) | set(new)):
            found += _differences(old.get(key), new.get(key), f"{name}.{key}" if name else key)
        return found
    return [] if old == new else [(name, old, new)]


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _holds_anything(directory: str) -> bool:
    return bool(files.list_names(directory)) or bool(files.list_names(files.join(directory, PARTS)))


def _receipt(directory: str, index: int) -> str:
    return files.join(directory, PARTS, f"{part_name(index)}.json")
