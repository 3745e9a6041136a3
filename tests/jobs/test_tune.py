"""Searches from end to end: misspelt settings, trials that fail, a kill, folds, shared features, populations."""

import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest
from safetensors.torch import load_file

from hubert_ecg.pipeline.commands import EXIT_USER
from hubert_ecg.pipeline.evaluate import METRICS
from hubert_ecg.pipeline.finetune import FinetuneConfig, finetune
from hubert_ecg.pipeline.inspect import inspect
from hubert_ecg.pipeline.search_records import load_records
from hubert_ecg.pipeline.tune import TuneConfig, tune
from hubert_ecg.storage.artifact import Manifest, open_artifact
from hubert_ecg.storage.checkpoint import load_checkpoint
from jobs.cli import parse
from tests.training.padded import write_waveforms

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 1800
SMALL = {"label_set": "classes", "steps": 4, "batch_size": 4, "validation_interval": 2, "workers.threads_each": 1}


def job(verb: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", f"jobs.{verb}", *arguments]


def write_space(folder: Path, search: dict[str, Any], stages: tuple[str, ...] = ("finetune",), **entries: Any) -> str:
    path = folder / "space.yaml"
    path.write_text(json.dumps({"stages": list(stages), "search": search} | entries))
    return str(path)


@pytest.fixture(scope="module")
def waveforms(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return write_waveforms(tmp_path_factory.mktemp("w") / "w", splits=("train", "val", "test"))


def test_a_misspelt_setting_ends_with_2_before_ray_starts(tmp_path: Path) -> None:
    space = write_space(tmp_path, {"optimizer.lr": {"choice": [1e-3]}})
    command = job("tune", "--space", space, "--waveforms", "nowhere", "--output", str(tmp_path / "t"))
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert result.returncode == EXIT_USER
    assert result.stderr.count("\n") == 1
    assert "finetune has no setting optimizer.lr (did you mean optimiser.lr?)" in result.stderr
    assert not (tmp_path / "t").exists()


@pytest.mark.slow
def test_a_search_leaves_a_table_plots_and_its_best(ray_cluster: None, waveforms: Manifest, tmp_path: Path) -> None:
    space = write_space(tmp_path, {"optimiser.lr": {"loguniform": [1e-4, 1e-2]}, "head": {"choice": ["linear"]}})
    settings = SMALL | {"workers.cpus_each": 0.5}
    config = TuneConfig(
        space=space,
        waveforms=waveforms.directory,
        settings=settings,
        searcher="optuna",
        num_samples=2,
        scheduler="none",
        output=str(tmp_path / "t"),
    )
    manifest = tune(config)
    frame = pd.read_parquet(tmp_path / "t" / "trials.parquet")
    assert frame["state"].tolist() == ["finished", "finished"]
    assert frame["metric"].is_monotonic_decreasing
    best = open_artifact(str(tmp_path / "t" / "best"), verb="finetune")
    assert best.facts["best"]["score"] == manifest.facts["best_metric"] == frame["metric"][0]
    assert load_checkpoint(best.directory, expect="classifier")[1].fingerprint == best.facts["checkpoint"]
    again: FinetuneConfig = parse("finetune", FinetuneConfig, ["--config", str(tmp_path / "t" / "best.yaml")])
    assert again.optimiser.lr == frame["optimiser.lr"][0] == best.config["optimiser"]["lr"]
    assert (again.waveforms, again.label_set, again.steps) == (waveforms.directory, "classes", 4)
    assert [report["progress"] for report in load_records(str(tmp_path / "t"))[0].reports] == [2, 4, 4]
    assert (tmp_path / "t" / "plots.html").stat().st_size > 1_000_000
    assert not list((tmp_path / "t").rglob("*.pkl"))
    assert tune(config) == manifest
    assert "search over settings" in inspect(str(tmp_path / "t"))


@pytest.mark.slow
def test_every_trial_of_a_cross_validation_trains_once_per_fold(
    ray_cluster: None, waveforms: Manifest, tmp_path: Path
) -> None:
    other = write_waveforms(tmp_path / "w", splits=("val", "train", "test"), rubbish=1)
    space = write_space(tmp_path, {"train_blocks": {"choice": [1, 2]}})
    config = TuneConfig(
        space=space,
        folds=[waveforms.directory, other.directory],
        settings=SMALL,
        searcher="grid",
        scheduler="none",
        output=str(tmp_path / "t"),
    )
    manifest = tune(config)
    for row in json.loads((tmp_path / "t" / "trials.json").read_text()):
        place = tmp_path / "t" / "trials" / f"{row['trial']:05d}"
        folds = [open_artifact(str(place / f"fold-{n}" / "finetune")).facts["best"]["score"] for n in (0, 1)]
        assert [row["fold_0"], row["fold_1"]] == pytest.approx(folds)
        assert row["metric"] == pytest.approx(np.mean(folds))
        assert row["std"] == pytest.approx(np.std(folds, ddof=1))
    assert len(manifest.facts["best_folds"]) == 2
    assert set(manifest.inputs) == {"waveforms 0", "waveforms 1"}


@pytest.mark.slow
def test_features_are_made_once_for_all_codebooks(ray_cluster: None, waveforms: Manifest, tmp_path: Path) -> None:
    search = {
        "dump.descriptor": {"choice": ["mfcc", "time_frequency"]},
        "num_clusters": {"choice": [[3], [5]]},
    }
    space = write_space(tmp_path, search, stages=("dump", "cluster"), metric="pnmi")
    settings = {"label_set": "classes", "silhouette_rows": 50}
    config = TuneConfig(
        space=space, waveforms=waveforms.directory, settings=settings, searcher="grid", output=str(tmp_path / "t")
    )
    tune(config)
    assert len(list((tmp_path / "t" / "shared").glob("dump-*"))) == 2
    frame = pd.read_csv(tmp_path / "t" / "trials.csv", float_precision="round_trip")
    assert frame["state"].tolist() == ["finished"] * 4
    for row in frame.to_dict("records"):
        made = open_artifact(str(tmp_path / "t" / "trials" / f"{row['trial']:05d}" / "cluster"))
        (quality,) = made.facts["quality"]
        assert (quality["pnmi"], quality["descriptor"]) == (row["metric"], row["dump.descriptor"])
    best = open_artifact(str(tmp_path / "t" / "best"), verb="cluster")
    assert best.facts["quality"][0]["pnmi"] == frame["metric"].max()


@pytest.mark.slow
def test_a_population_takes_over_the_model_of_a_better_trial(
    ray_cluster: None, waveforms: Manifest, tmp_path: Path
) -> None:
    space = write_space(tmp_path, {"optimiser.lr": {"choice": [1e-9, 3e-3]}})
    # All checkpoints are kept, so that the one that was taken over is there to compare with.
    settings = SMALL | {"steps": 24, "workers.cpus_each": 0.1, "workers.max_failures": 0, "keep_checkpoints": 100}
    config = TuneConfig(
        space=space,
        waveforms=waveforms.directory,
        settings=settings,
        scheduler="pbt",
        first_steps=6,
        num_samples=3,
        seed=3,
        metric="train_loss",
        mode="min",
        output=str(tmp_path / "t"),
    )
    tune(config)
    records = load_records(str(tmp_path / "t"))
    assert [record.state for record in records] == ["finished"] * 3
    lives = sorted((tmp_path / "t" / "trials").glob("*/life-[1-9]*"))
    taken_over = 0
    for life in lives:
        begun = json.loads((life / "begin" / "trainer_state.json").read_text())["state"]["step"]
        weights = load_file(life / "begin" / "model" / "model.safetensors")
        own = list(life.parent.glob("life-0/finetune/trainer/run/step-*/model/model.safetensors"))
        others = [
            path
            for path in (tmp_path / "t" / "trials").glob("*/life-*/finetune/trainer/run/step-*/model/model.safetensors")
            if path.parents[6] != life.parent
        ]
        same = lambda path, weights=weights: all((load_file(path)[n] == w).all() for n, w in weights.items())  # noqa: E731
        # It goes on where the other trial was, in the middle of the schedule; its turn may end before that does.
        steps = pd.read_csv(life / "finetune" / "history.csv")["step"].tolist()
        assert steps == (list(range(begun + 2, 25, 2)) or [begun])[: len(steps)]
        if life == max(life.parent.glob("life-*"), key=lambda path: int(path.name.split("-")[1])):
            open_artifact(str(life / "finetune"))
        taken_over += any(map(same, others)) and not any(map(same, own))
    print(f"\n{len(lives)} new lives, {taken_over} of them with the model of another trial")
    assert taken_over >= 1


def bounded() -> None:
    """Processes of this job may map 14 GiB each: less than the greedy trial asks for beside what Ray maps."""
    resource.setrlimit(resource.RLIMIT_AS, (14 * 2**30, 14 * 2**30))


@pytest.mark.slow
@pytest.mark.timeout(2 * SECONDS)
def test_trials_that_crash_or_run_out_of_memory_are_named_and_the_others_finish(
    waveforms: Manifest, tmp_path: Path
) -> None:
    what = {
        "diverges": {"batch_size": 4, "optimiser.lr": 1e30, "optimiser.clip_norm": 0.0},
        "greedy": {"batch_size": 2048, "size": "small"},
        "killed": {"batch_size": 4, "train_blocks": 1},
        "good": {"batch_size": 4, "train_blocks": 2},
        "good too": {"batch_size": 4, "train_blocks": 3},
    }
    space = write_space(tmp_path, {"what": {"options": what}})
    settings = {name: value for name, value in SMALL.items() if name != "batch_size"}
    settings |= {"workers.max_failures": 0, "steps": 6}
    command = job("tune", "--space", space, "--waveforms", waveforms.directory, "--settings", json.dumps(settings))
    command += ["--searcher", "grid", "--scheduler", "none", "--max_concurrent", "1", "--output", str(tmp_path / "t")]
    driver = subprocess.Popen(command, cwd=ROOT, preexec_fn=bounded)
    pid = await_worker_of(tmp_path / "t" / "trials" / "00002", driver)
    os.kill(pid, signal.SIGKILL)
    assert driver.wait(SECONDS) == 0
    rows = {row["what"]: row for row in json.loads((tmp_path / "t" / "trials.json").read_text())}
    print("\n" + (tmp_path / "t" / "trials.txt").read_text())
    assert {name: row["state"] for name, row in rows.items()} == {
        "diverges": "failed",
        "greedy": "failed",
        "killed": "failed",
        "good": "finished",
        "good too": "finished",
    }
    assert "loss is" in rows["diverges"]["error"] or "norm is" in rows["diverges"]["error"]
    assert "memory" in rows["greedy"]["error"].lower()
    # Where the worker dies before its group is complete, Ray says that instead.
    assert re.search("died|worker actors failed to initialize", rows["killed"]["error"])


def await_worker_of(trial: Path, driver: subprocess.Popen) -> int:
    """The training worker's process once that trial, alone, has begun to train."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        assert driver.poll() is None, "the search ended before the trial could be disturbed"
        if (trial / "held.json").exists():  # Written when its workers are there; that of the trial before may be too.
            workers = [pid for pid, title in descendants(driver.pid) if title.startswith("ray::RayTrainWorker")]
            if workers:
                return max(workers, key=lambda pid: psutil.Process(pid).create_time())
        time.sleep(0.05)
    raise AssertionError(f"{trial} did not begin")


def descendants(root: int) -> list[tuple[int, str]]:
    from tests.pipeline.processes import descendants as found

    return list(found(root))


@pytest.fixture(scope="module")
def ptbxl(ptbxl_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    output = str(tmp_path_factory.mktemp("ptbxl") / "w")
    settings = ["--ptbxl.rate_hz", "100", "--ptbxl.val_fold", "8", "--ptbxl.test_fold", "9"]
    command = job("prepare", "--source", "ptbxl", "--input", str(ptbxl_dir), *settings, "--output", output)
    subprocess.run(command, cwd=ROOT, check=True)
    return output


@pytest.mark.slow
@pytest.mark.timeout(4 * SECONDS)
def test_a_sweep_that_is_killed_goes_on_to_the_same_trials_and_its_best_holds(
    ptbxl: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    output = tmp_path / "t"
    settings = {"label_set": "superclass", "train_tag": "enriched", "steps": 60, "validation_interval": 15}
    settings |= {"batch_size": 16, "workers.cpus_each": 0.5, "workers.threads_each": 1}
    command = job("tune", "--space", "scratch", "--waveforms", ptbxl, "--settings", json.dumps(settings))
    command += ["--num_samples", "12", "--output", str(output)]
    driver = subprocess.Popen(command, cwd=ROOT)
    while sum(record.state in ("finished", "stopped") for record in load_records(str(output))) < 4:
        assert driver.poll() is None, "the search ended before it could be killed"
        time.sleep(0.5)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    before = {record.number: record for record in load_records(str(output))}
    over = {number for number, record in before.items() if record.state in ("finished", "stopped")}
    print(f"\nkilled with {len(over)} of {len(before)} trials over")
    assert len(before) == 12
    assert len(over) < 12
    assert not (output / "manifest.json").exists()

    subprocess.run(command, cwd=ROOT, check=True)
    after = {record.number: record for record in load_records(str(output))}
    assert {n: record.params for n, record in after.items()} == {n: record.params for n, record in before.items()}
    assert {record.state for record in after.values()} <= {"finished", "stopped"}
    for number in over:  # what was over is not run again
        assert after[number] == before[number]
    print((output / "trials.txt").read_text())

    evaluation = str(tmp_path / "e")
    checked = ["--waveforms", ptbxl, "--checkpoint", str(output / "best"), "--split", "test", "--tag", "enriched"]
    subprocess.run(job("evaluate", *checked, "--bootstrap_draws", "100", "--output", evaluation), cwd=ROOT, check=True)
    assert 0 < json.loads(Path(evaluation, METRICS).read_text())["macro"]["auroc"] < 1

    request.getfixturevalue("ray_cluster")  # Not before: two clusters would share these cores.
    scores = []
    for seed in range(1, 6):
        arguments = ["--config", str(output / "best.yaml"), "--seed", str(seed), "--output", str(tmp_path / f"m{seed}")]
        manifest = finetune(parse("finetune", FinetuneConfig, arguments))
        scores.append(manifest.facts["best"]["score"])
    reported = open_artifact(str(output)).facts["best_metric"]
    mean, std = float(np.mean(scores)), float(np.std(scores, ddof=1))
    print(f"reported {reported:.4f}; retrained with 5 seeds {mean:.4f} +- {std:.4f}: {[f'{s:.4f}' for s in scores]}")
    assert abs(reported - mean) <= 3 * std
