"""--dry_run of every job: rows, bytes, resources and hours from manifests; Ray is not started, nothing written."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from benchmarks.saved import RESULTS, saved_runs
from hubert_ecg.clustering.codebook import Codebook
from hubert_ecg.datasets.labels import LabelSet
from hubert_ecg.errors import ArtifactError, ConfigError, ResourceError
from hubert_ecg.models import HubertECG, HubertECGClassifier, model_config
from hubert_ecg.models.config import Size
from hubert_ecg.models.flops import forward_flops
from hubert_ecg.pipeline.dry_run import Estimate, described
from hubert_ecg.pipeline.estimates import estimate
from hubert_ecg.pipeline.extract import describe_descriptor
from hubert_ecg.pipeline.finetune import FinetuneConfig
from hubert_ecg.pipeline.prepare import PrepareConfig
from hubert_ecg.pipeline.rates import Rates
from hubert_ecg.pipeline.ray_cluster import LIMITS
from hubert_ecg.pipeline.room import Room, room_of_job
from hubert_ecg.storage.artifact import StageOutput, begin, write_part
from hubert_ecg.storage.checkpoint import CheckpointInfo, save_checkpoint
from hubert_ecg.storage.codebooks import save_codebook
from jobs.cli import parse
from tests.job_commands import ROOT, STAGES, config_class

RATES = Rates()
CPUS, GPUS = Room(cpus=4), Room(cpus=64, gpus=8, place="the Ray cluster at head:6379")


def artifact(place: Path, verb: str, config: dict[str, Any], facts: dict[str, Any], rows: tuple[int, ...]) -> str:
    """A finished directory with shards of so many rows, as `verb` would leave it; estimates read no more of it."""
    output = begin(str(place), verb=verb, config=config, inputs={})
    assert isinstance(output, StageOutput)
    for part, count in enumerate(rows):
        table = pa.table({"x": np.arange(count * 100) % 7}) if count else pa.table({"x": pa.array([], pa.int64())})
        receipt = {"splits": {"train": count}}
        write_part(str(place), part, table, **receipt)
    manifest = output.finish(parts=len(rows), facts=facts)
    content = json.loads((place / "manifest.json").read_text()) | {"rows": sum(rows)}
    (place / "manifest.json").write_text(json.dumps(content))
    return manifest.directory


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """W, F, K, L, a pre-trained and a fine-tuned checkpoint: what every verb's inputs are."""
    place = tmp_path_factory.mktemp("inputs")
    preprocess = PrepareConfig(output="W", source="simulated").preprocess()
    conditions = LabelSet(name="conditions", labels=("AFIB", "NORM"), task="multi_label", title="")
    facts = {"label_sets": {"conditions": vars(conditions)}, "splits": {"train": 600, "val": 300, "test": 100}}
    artifact(place / "W", "prepare", {"preprocess": preprocess.to_dict()}, facts, (256, 256, 256, 232))
    features = {"descriptor": {"name": "mfcc"}, "dim": 39, "tokens_per_crop": 93}
    artifact(place / "F", "dump", {}, features, (300, 300))
    books = {"k20": {"num_clusters": 20, "fingerprint": "f", "descriptor": {}, "usage": {}}}
    labelled = begin(
        str(place / "L"), verb="label", config={}, inputs={"waveforms": manifest(place / "W")["fingerprint"]}
    )
    assert isinstance(labelled, StageOutput)
    labelled.finish(parts=0, facts={"codebooks": books, "tokens_per_crop": 93})
    descriptor = describe_descriptor("mfcc", preprocess)
    book = Codebook(
        centroids=np.eye(20, 39, dtype=np.float32),
        normalisation="l2",
        mean=None,
        std=None,
        descriptor=descriptor.descriptor,
        checkpoint_fingerprint="",
    )
    save_codebook(str(place / "k20"), book)
    info = {"preprocessing": preprocess.to_dict()}
    save_checkpoint(
        place / "C", HubertECG(model_config("tiny", 100, vocab_sizes=(20,))), CheckpointInfo(kind="ssl", **info)
    )
    labels = {"task": "multi_label", "label_names": ("AFIB", "NORM")}
    encoder = HubertECG(model_config("tiny", 100, vocab_sizes=(20,)))
    classifier = HubertECGClassifier.from_encoder(encoder, label_names=labels["label_names"], task="multi_label")
    save_checkpoint(place / "M", classifier, CheckpointInfo(kind="classifier", **labels, **info))
    for name in ("E1", "E2"):
        artifact(place / name, "evaluate", {}, {}, (100,))
    return place


def manifest(directory: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((directory / "manifest.json").read_text())
    return content


FLAGS = {
    "prepare": "--source simulated --simulated.simulator.num_patients 10 --shard_size 4",
    "dump": "--waveforms {W} --descriptor mfcc",
    "cluster": "--features {F} --num_clusters [20]",
    "label": "--waveforms {W} --codebooks [{k20}]",
    "pretrain": "--waveforms {W} --labels {L} --size base --steps 100 --batch_size 10 --validation_interval 50",
    "finetune": "--waveforms {W} --checkpoint {C} --label_set conditions --epochs 2 --batch_size 100",
    "tune": "--space scratch --waveforms {W} --settings {{label_set:conditions}} --num_samples 3",
    "evaluate": "--waveforms {W} --checkpoint {M}",
    "calibrate": "--waveforms {W} --checkpoint {M}",
    "compare": "--evaluations [{E1},{E2}]",
    "predict": "--waveforms {W} --checkpoint {M} --split test",
    "explain": "--waveforms {W} --checkpoint {M} --limit 5",
    "probe": "--waveforms {W} --checkpoint {C} --label_set conditions",
    "convert": "--input {C}",
    "export": "--checkpoint {M}",
    "sample": "",
}
ROWS = {
    **{"dump": 600, "cluster": 600, "label": 1000, "pretrain": 600, "finetune": 600, "tune": 600, "evaluate": 100},
    **{"calibrate": 300, "compare": 200, "predict": 100, "explain": 5, "probe": 1000, "convert": 0, "export": 0},
    **{"sample": 12},
}


def of(verb: str, place: Path, more: str = "", room: Room = CPUS) -> Estimate:
    names = {entry.name: str(entry) for entry in place.iterdir()}
    arguments = FLAGS[verb].format(**names).replace("label_set:", "label_set: ").split(" --")
    flags = [word for flag in " --".join(arguments).split(" --") if flag for word in _words(flag)]
    config = parse(verb, config_class(verb), [*flags, "--output", str(place / "new"), *more.split()])
    return estimate(verb, config, room)


def _words(flag: str) -> list[str]:
    name, _, value = flag.removeprefix("--").partition(" ")
    return [f"--{name}", value]


@pytest.mark.parametrize("verb", sorted(STAGES | {"sample"}))
def test_every_job_says_what_it_would_take(verb: str, place: Path) -> None:
    made = of(verb, place)
    if verb in ROWS:
        assert made.rows == ROWS[verb]
    assert made.output_bytes > 0
    assert made.core_s > 0
    assert made.pieces >= 1
    lines = list(described(verb, made, str(place / "new"), CPUS))
    shown = "\n".join(lines)
    for word in ("rows", "bytes", "resources", "hours", "output"):
        assert f"{verb}: {word}" in shown
    assert made.basis in shown
    assert not (place / "new").exists()


def test_figures_by_hand(place: Path) -> None:
    dumped = of("dump", place, "--crop_starts_s [0,5] --sample_fraction 0.5")
    assert dumped.rows == 300
    assert dumped.output_bytes == 300 * 2 * 93 * 39 * 4
    assert dumped.core_s == pytest.approx(300 * 2 / (3 * 1570))
    assert of("label", place).output_bytes == 1000 * 3 * 93 * 2
    # 100 steps of 10, three passes each, and three validations of 300 recordings, at 19.1 GFLOP forward.
    flops = 19.147988992e9
    assert of("pretrain", place).core_s == pytest.approx(flops * (3 * 1000 + 3 * 300) / RATES.core_flops)
    on_gpus = of("pretrain", place, "--workers.num 2 --workers.use_gpu true --compute.precision bfloat16")
    assert on_gpus.gpu_s == pytest.approx(flops * 3900 / RATES.gpu_flops)
    assert on_gpus.hours(GPUS) == pytest.approx(on_gpus.gpu_s / 2 / 3600)
    slower = of("pretrain", place, "--workers.num 2 --workers.use_gpu true")
    assert slower.gpu_s == pytest.approx(flops * 3900 / RATES.gpu_float32_flops)
    # 2 passes over 600 recordings in batches of 100.
    assert "12 steps of 100" in of("finetune", place).basis


MODEL_WORK = {
    **{verb: "" for verb in ("predict", "evaluate", "calibrate", "probe", "explain")},
    "dump": "--descriptor latent --checkpoint {C} --layer 1",
}


@pytest.mark.parametrize("verb", sorted(MODEL_WORK))
def test_models_run_on_gpus_where_there_are_any(verb: str, place: Path) -> None:
    more = MODEL_WORK[verb].format(C=place / "C")
    on_cores, on_gpus = of(verb, place, more), of(verb, place, more, GPUS)
    assert on_cores.gpus_each == 0
    assert on_gpus.core_s == 0
    operations = on_cores.core_s * RATES.core_flops
    assert on_gpus.gpu_s == pytest.approx(operations / RATES.gpu_float32_flops)
    # Four shards, or as many explained recordings, on as many of the eight GPUs.
    assert on_gpus.hours(GPUS) == pytest.approx(on_gpus.gpu_s / 4 / 3600)
    if verb == "dump":
        half = of(verb, place, f"{more} --precision bfloat16", GPUS)
        assert half.gpu_s == pytest.approx(operations / RATES.gpu_flops)
    shown = "\n".join(described(verb, on_gpus, str(place / "new"), GPUS))
    assert "4 at once on 64 CPUs and 8 GPUs of the Ray cluster at head:6379" in shown


@pytest.mark.parametrize("verb", ["prepare", "cluster", "compare", "label"])
def test_other_work_stays_on_cores(verb: str, place: Path) -> None:
    assert of(verb, place, "", GPUS) == of(verb, place)


def test_hours_follow_the_pieces_that_fit() -> None:
    work = Estimate(rows=1, input_bytes=0, output_bytes=0, basis="", core_s=7200, pieces=10)
    assert work.hours(Room(cpus=1)) == 2
    assert work.hours(Room(cpus=4)) == 0.5
    assert work.hours(Room(cpus=100)) == pytest.approx(0.2)
    both = Estimate(rows=1, input_bytes=0, output_bytes=0, basis="", core_s=7200, gpu_s=3600, pieces=10, gpus_each=0.5)
    assert both.hours(Room(cpus=9, gpus=2)) == pytest.approx((2 + 2) / 4)
    assert both.hours(Room(cpus=3, gpus=2)) == pytest.approx((2 + 2) / 3)


def test_a_training_that_does_not_fit_is_said_to_be_refused(place: Path) -> None:
    wanted = of("pretrain", place, "--workers.num 2 --workers.use_gpu true")
    shown = "\n".join(described("pretrain", wanted, str(place / "new"), CPUS))
    assert "2 at once on 4 CPUs of this machine; wanted at least 2 GPUs, so it would be refused there" in shown
    assert "refused" not in "\n".join(described("pretrain", wanted, str(place / "new"), GPUS))
    one = of("pretrain", place)
    assert "wanted at least 1.5 CPUs" in "\n".join(described("pretrain", one, str(place / "new"), Room(cpus=1)))


def test_the_room_is_this_machines_or_what_the_cluster_may_grow_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "local")
    monkeypatch.delenv(LIMITS, raising=False)
    here = room_of_job()
    assert (here.cpus, here.place) == (len(os.sched_getaffinity(0)), "this machine")
    monkeypatch.setenv(LIMITS, "CPU=12800,GPU=800")
    assert room_of_job() == Room(cpus=12800, gpus=800, place="a cluster that may grow so far")


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_a_cluster_that_is_not_there_is_said_at_once(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # Bound, but nobody listens.
        monkeypatch.setenv("RAY_ADDRESS", f"{scheme}127.0.0.1:{taken.getsockname()[1]}")
        began = time.monotonic()
        with pytest.raises(
            ResourceError, match=rf"the Ray cluster at {scheme}127\.0\.0\.1:\d+ to say.*refused.*is it up"
        ):
            room_of_job()
    assert time.monotonic() - began < 10


JOINS = """
import os, subprocess, sys
import ray
context = ray.init(num_cpus=7, num_gpus=3, include_dashboard=False)
for limits in ("", "CPU=70"):
    environment = os.environ | {"RAY_ADDRESS": context.address_info["address"], "HUBERT_ECG_CLUSTER_LIMITS": limits}
    words = "-m jobs.prepare --source simulated --shard_size 1 --output W --dry_run".split()
    subprocess.run([sys.executable, *words], env=environment, check=True)
"""


@pytest.mark.slow
def test_a_cluster_is_asked_for_its_cpus(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", JOINS], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "7 at once on 7 CPUs and 3 GPUs of the Ray cluster at " in done.stdout
    assert "70 at once on 70 CPUs and 3 GPUs of the Ray cluster at " in done.stdout
    assert "as far as it may grow" in done.stdout
    assert not list(tmp_path.iterdir())


def test_a_run_that_was_begun_counts_what_is_left(place: Path, tmp_path: Path) -> None:
    output = begin(str(tmp_path / "F"), verb="dump", config={}, inputs={})
    assert isinstance(output, StageOutput)
    work = Estimate(rows=8, input_bytes=0, output_bytes=0, basis="b", core_s=4 * 3600, pieces=4)
    for part in range(3):
        write_part(output.directory, part, pa.table({"x": [1]}))
    shown = "\n".join(described("dump", work, output.directory, Room(cpus=1)))
    assert "begun, 3 of 4 shards are finished" in shown
    assert "1.0 h on 1 CPU of this machine" in shown
    output.finish(parts=3, facts={})
    assert "nothing to do" in "\n".join(described("dump", work, output.directory, Room(cpus=1)))


def test_what_the_stage_would_refuse_is_refused(place: Path) -> None:
    with pytest.raises(ArtifactError, match="wanted the output of jobs.prepare"):
        estimate("dump", parse("dump", config_class("dump"), ["--waveforms", str(place / "F"), "--output", "F"]), CPUS)
    flags = ["--waveforms", str(place / "W"), "--label_set", "absent", "--output", "M"]
    with pytest.raises(ConfigError, match="wanted one of the waveforms' sets"):
        estimate("finetune", parse("finetune", config_class("finetune"), flags), CPUS)


def test_raw_files_are_weighed_by_some_of_them(tmp_path: Path) -> None:
    for place in range(130):
        np.save(tmp_path / f"e{place:03d}.npy", np.zeros((12, 50), np.float32))
    flags = ["--source", "files", "--input", str(tmp_path), "--output", str(tmp_path / "W")]
    made = estimate("prepare", parse("prepare", config_class("prepare"), flags), CPUS)
    size = (tmp_path / "e000.npy").stat().st_size
    assert (made.rows, made.input_bytes) == (130, 130 * size)
    assert made.core_s == pytest.approx(130 * RATES.prepare_core_s)


@pytest.mark.parametrize(
    "command",
    [
        "prepare --source simulated --output W",
        pytest.param("recipe jobs/configs/demo.yaml", marks=pytest.mark.slow),
        pytest.param("demo", marks=pytest.mark.slow),
    ],
)
def test_the_command_starts_nothing(command: str, tmp_path: Path) -> None:
    """Ray would leave its process and its folder behind; numpy and Arrow are all that is imported of weight."""
    script = (
        "import runpy, sys\n"
        "sys.argv[0] = sys.argv[1]; verb = sys.argv.pop(1)\n"
        "try: runpy.run_module('jobs.' + verb, run_name='__main__')\n"
        "except SystemExit as ended: assert not ended.code, ended.code\n"
        "assert 'ray' not in sys.modules or not sys.modules['ray'].is_initialized()\n"
    )
    words = [sys.executable, "-c", script, *command.split(), "--dry_run"]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    recipes = tmp_path / "jobs"
    recipes.symlink_to(ROOT / "jobs")
    result = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "dry run, nothing is started and nothing written" in result.stdout
    assert [entry.name for entry in tmp_path.iterdir()] == ["jobs"]
    if command.startswith(("recipe", "demo")):
        assert "not known before the stages above have run" in result.stdout


@pytest.mark.parametrize("size", ["tiny", "state_space", "residual"])
def test_a_training_costs_what_its_encoder_does(place: Path, size: Size) -> None:
    config = FinetuneConfig(
        waveforms=str(place / "W"), label_set="conditions", output="M", size=size, steps=10, validation_interval=10
    )
    rates = Rates()
    passes = 10 * config.batch_size * rates.training_passes + 2 * 300
    wanted = forward_flops(model_config(size), 12 * 500) * passes / rates.core_flops
    assert estimate("finetune", config, rates).core_s == pytest.approx(wanted)


def test_speeds_are_those_of_the_saved_benchmarks() -> None:
    """Rounded: a benchmark that is saved anew and finds other speeds wants new rates."""
    found = {row["name"]: float(np.median(row["ours"])) for run in saved_runs(ROOT / RESULTS) for row in run["rows"]}
    prepared_ms = found["all of jobs.prepare, 500 Hz, 50,000 ECGs"]
    described = found["all of jobs.label, MFCC, K = 100, 3 crops, 50,176 ECGs"]
    through_tiny = found["all of jobs.label, latents of tiny, K = 100, 3 crops, 4,096 ECGs"]
    assert RATES.prepare_core_s * 1e3 == pytest.approx(prepared_ms, rel=0.02)
    assert 1 / RATES.descriptor_core_s == pytest.approx(3 * described, rel=0.02)
    flops = forward_flops(model_config("tiny"), 12 * 500)
    assert RATES.core_flops == pytest.approx(3 * through_tiny * flops, rel=0.1)
