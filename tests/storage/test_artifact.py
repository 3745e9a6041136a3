"""Artifacts: complete or absent, resumable by shard, and clear about whose output a directory is."""

from pathlib import Path

import pyarrow as pa
import pytest

from hubert_ecg.errors import ArtifactError
from hubert_ecg.storage import artifact, files
from hubert_ecg.storage.artifact import Manifest, StageOutput, begin, open_artifact, write_part

RUN = {"verb": "dump", "config": {"descriptor": {"name": "mfcc"}, "seed": 0}, "inputs": {"waveforms": "abc"}}


def started(directory: Path, **changes: object) -> StageOutput:
    output = begin(str(directory), **(RUN | changes))  # type: ignore[arg-type]
    assert isinstance(output, StageOutput)
    return output


def finished(directory: Path, rows: int = 2) -> Manifest:
    output = started(directory)
    write_part(output.directory, 0, pa.table({"x": list(range(rows))}))
    return output.finish(parts=1, facts={"dim": 39})


def test_a_directory_is_no_artifact_until_its_manifest_is_there(tmp_path: Path) -> None:
    output = started(tmp_path / "f")
    write_part(output.directory, 0, pa.table({"x": [1, 2]}))
    with pytest.raises(ArtifactError, match="unfinished; run the same jobs.dump command again"):
        open_artifact(output.directory)
    output.finish(parts=1, facts={})
    manifest = open_artifact(output.directory, verb="dump")
    assert (manifest.rows, manifest.parts) == (2, 1)
    assert files.read_table(manifest.part(0))["x"].to_pylist() == [1, 2]


def test_the_same_run_again_is_finished_already(tmp_path: Path) -> None:
    manifest = finished(tmp_path / "f")
    again = begin(str(tmp_path / "f"), **RUN)
    assert isinstance(again, Manifest)
    assert again.fingerprint == manifest.fingerprint


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"config": {"descriptor": {"name": "mixed"}, "seed": 0}}, 'descriptor.name: there "mfcc", here "mixed"'),
        ({"inputs": {"waveforms": "xyz"}}, "input waveforms: there abc, here xyz"),
        ({"verb": "label"}, "jobs.dump, this is jobs.label"),
    ],
)
def test_another_run_is_refused_by_name(tmp_path: Path, change: dict, named: str) -> None:
    started(tmp_path / "begun")
    finished(tmp_path / "finished")
    for directory in ("begun", "finished"):
        with pytest.raises(ArtifactError) as raised:
            begin(str(tmp_path / directory), **(RUN | change))
        assert named in str(raised.value)


def test_a_directory_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.docx").write_text("mine")
    with pytest.raises(ArtifactError, match="other files in it"):
        begin(str(tmp_path), **RUN)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["thesis.docx"]


def test_only_shards_with_a_receipt_count_as_finished(tmp_path: Path) -> None:
    output = started(tmp_path / "f")
    write_part(output.directory, 3, pa.table({"x": [1]}))
    # Killed between the shard and its receipt: the shard is made again.
    files.write_table(files.join(output.directory, artifact.PARTS, "part-00004.parquet"), pa.table({"x": [1]}))
    assert started(tmp_path / "f").finished_parts() == {3}


def test_shards_beyond_five_digits_count_under_their_own_number(tmp_path: Path) -> None:
    output = started(tmp_path / "f")
    write_part(output.directory, 123_456, pa.table({"x": [1]}))
    assert started(tmp_path / "f").finished_parts() == {123_456}


def test_the_fingerprint_follows_the_content(tmp_path: Path) -> None:
    one, same, other = (finished(tmp_path / name, rows) for name, rows in (("a", 2), ("b", 2), ("c", 3)))
    assert one.fingerprint == same.fingerprint != other.fingerprint


def test_the_wrong_kind_of_input_is_named(tmp_path: Path) -> None:
    finished(tmp_path / "f")
    with pytest.raises(ArtifactError, match=r"wanted the output of jobs.prepare as --waveforms, got that of jobs.dump"):
        open_artifact(str(tmp_path / "f"), verb="prepare", role="--waveforms")
    with pytest.raises(ArtifactError, match="check the path"):
        open_artifact(str(tmp_path / "nowhere"), verb="prepare")
