"""A training's checkpoints: complete or not there, the best and the latest kept, here and on an object store."""

from pathlib import Path

import pytest

from hubert_ecg.storage import files
from hubert_ecg.storage.run_checkpoints import RunCheckpoints, Saved, worth_keeping


def saved(step: int, score: float | None = None) -> Saved:
    return Saved(name=f"step-{step}", step=step, score=score, files={})


def steps_kept(keep: int, *those: Saved) -> list[int]:
    return sorted(one.step for one in worth_keeping(list(those), keep))


def test_the_best_and_the_latest_are_kept() -> None:
    run = (saved(10, 0.5), saved(20, 0.9), saved(25), saved(30, 0.7), saved(35))
    assert [steps_kept(keep, *run) for keep in (1, 2, 3, 4, 9)] == [
        [20, 35],
        [20, 35],
        [20, 30, 35],
        [20, 25, 30, 35],
        [10, 20, 25, 30, 35],
    ]
    assert steps_kept(1, saved(10, 0.5), saved(20, 0.9)) == [20]
    assert steps_kept(2, saved(10), saved(20), saved(30)) == [20, 30]  # none has been validated yet
    assert steps_kept(1, saved(10, 0.5), saved(20, 0.5)) == [10, 20]  # of equals the first is the best
    assert steps_kept(3) == []


@pytest.fixture(params=["local", "s3"])
def checkpoints(request: pytest.FixtureRequest, tmp_path: Path) -> RunCheckpoints:
    place = str(tmp_path) if request.param == "local" else request.getfixturevalue("s3_bucket")
    return RunCheckpoints(directory=f"{place}/trainer/run", keep=2)


def add(checkpoints: RunCheckpoints, folder: Path, step: int, score: float | None) -> Saved:
    local = folder / f"made-{step}"
    (local / "model").mkdir(parents=True)
    (local / "model" / "weights").write_bytes(b"w" * step)
    (local / "state.json").write_text(str(step))
    return checkpoints.add(local, name=checkpoints.new_name(step), step=step, score=score)


def test_what_is_added_is_there_with_all_its_files(checkpoints: RunCheckpoints, tmp_path: Path) -> None:
    assert checkpoints.latest() is None
    assert checkpoints.best() is None
    made = {step: add(checkpoints, tmp_path, step, score) for step, score in ((3, 0.5), (5, 0.9), (7, None), (9, 0.7))}
    assert checkpoints.saved() == [made[5], made[9]]
    assert (checkpoints.latest(), checkpoints.best()) == (made[9], made[5])
    assert files.list_directories(checkpoints.directory) == sorted(made[step].name for step in (5, 9))
    found = checkpoints.fetch(made[5], tmp_path / "fetched")
    assert (found / "model" / "weights").read_bytes() == b"w" * 5
    assert (found / "state.json").read_text() == "5"


def test_a_record_of_others_is_no_checkpoint(checkpoints: RunCheckpoints, tmp_path: Path) -> None:
    files.write_json(files.join(checkpoints.directory, "checkpoint_manager_snapshot.json"), {"ray_version": "2"})
    made = [add(checkpoints, tmp_path, step, 0.1 * step) for step in (3, 5)]
    assert checkpoints.saved() == made


def test_an_unfinished_checkpoint_counts_for_nothing(checkpoints: RunCheckpoints, tmp_path: Path) -> None:
    whole, broken = add(checkpoints, tmp_path, 3, 0.5), add(checkpoints, tmp_path, 5, 0.9)
    # Killed while it was written, before the receipt; and while it was deleted, after some of its files.
    files.write_bytes(files.join(checkpoints.path("step-000000007-abcdef"), "model", "weights"), b"ww")
    files.delete(files.join(checkpoints.path(broken.name), "state.json"))
    assert checkpoints.latest() == checkpoints.best() == whole
    checkpoints.clear_unfinished()
    assert files.list_directories(checkpoints.directory) == [whole.name]
    assert files.list_names(checkpoints.directory) == [f"{whole.name}.json"]
