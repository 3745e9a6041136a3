"""The command line: help with units and defaults, one-line errors, exit codes 0, 2 and 1."""

import re
import subprocess
import sys
from dataclasses import fields
from importlib import import_module
from pathlib import Path

import pytest

from hubert_ecg.errors import ConfigError, HubertEcgError, InputError
from hubert_ecg.pipeline.cluster import ClusterConfig
from hubert_ecg.pipeline.commands import EXIT_DONE, EXIT_USER, guarded
from hubert_ecg.pipeline.prepare import PrepareConfig
from jobs.cli import parse

ROOT = Path(__file__).resolve().parents[2]
STAGES = ["prepare", "dump", "cluster", "label", "pretrain", "finetune", "evaluate"]


@pytest.mark.parametrize("verb", STAGES)
def test_every_stage_explains_its_settings(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    config_class = getattr(import_module(f"hubert_ecg.pipeline.{verb}"), f"{verb.capitalize()}Config")
    with pytest.raises(SystemExit) as left:
        parse(verb, config_class, ["--help"])
    assert left.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert f"usage: python -m jobs.{verb}" in shown
    for field in fields(config_class):
        # Each setting with its words, type and default; nested settings stand under a heading of their own.
        assert re.search(rf"--{field.name} \S+ \S.*?\((required, )?type: ", shown), field.name
    assert "default: " in shown


@pytest.mark.parametrize("verb", ["prepare", "inspect", "sample", "recipe"])
def test_every_job_runs_as_a_module(verb: str) -> None:
    command = [sys.executable, "-m", f"jobs.{verb}", "--help"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    assert f"usage: python -m jobs.{verb}" in result.stdout
    assert result.stderr == ""


def test_flags_and_yaml_give_the_same_settings(tmp_path: Path) -> None:
    flags = ["--features", "F", "--output", "K", "--num_clusters", "[100, 200]", "--kmeans.batch_size", "512"]
    (tmp_path / "k.yaml").write_text(
        "features: F\noutput: other\nnum_clusters: [100, 200]\nkmeans:\n  batch_size: 512\n"
    )
    from_yaml = parse("cluster", ClusterConfig, ["--config", str(tmp_path / "k.yaml"), "--output", "K"])
    assert parse("cluster", ClusterConfig, flags) == from_yaml
    assert from_yaml.ks == [100, 200]
    ranged = parse(
        "cluster", ClusterConfig, ["--features", "F", "--output", "K", "--start", "50", "--end", "300", "--step", "125"]
    )
    assert ranged.ks == [50, 175, 300]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--sorce", "ptbxl"], "did you mean --source?"),
        (["--source", "ptbxl"], "wanted the folder of the ptbxl archive"),
        (["--shard_size", "many"], "Got value: many"),
        (["--shard_size", "0"], "wanted at least 1 recording, got 0"),
        (["--simulated.simulator.num_patients", "-1"], "num_patients: wanted 1 or more, got -1"),
    ],
)
def test_wrong_flags_are_one_clear_line(arguments: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        parse("prepare", PrepareConfig, ["--output", "W", *arguments])
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_missing_input_is_said_before_ray_starts() -> None:
    command = [sys.executable, "-m", "jobs.dump", "--waveforms", "nowhere", "--output", "F"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert result.returncode == EXIT_USER
    assert result.stderr.count("\n") == 1
    assert "wanted the output of jobs.prepare as --waveforms" in result.stderr


def test_a_wrong_setting_ends_with_2_before_ray_starts() -> None:
    command = [sys.executable, "-m", "jobs.dump", "--waveforms", "nowhere", "--output", "F", "--descriptor", "latent"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert result.returncode == EXIT_USER
    assert result.stderr.count("\n") == 1
    assert "wanted --checkpoint and --layer too" in result.stderr


def test_errors_of_tasks_are_unwrapped_and_bugs_keep_their_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    def wrapped() -> None:
        try:
            raise InputError("ecg.npy: wanted\n12 leads")
        except HubertEcgError as error:
            raise RuntimeError("task failed") from error

    def bug() -> None:
        raise ZeroDivisionError

    assert guarded(lambda: None) == EXIT_DONE
    assert guarded(wrapped) == EXIT_USER
    assert capsys.readouterr().err == "error: ecg.npy: wanted 12 leads\n"
    with pytest.raises(ZeroDivisionError):
        guarded(bug)
