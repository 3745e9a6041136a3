"""`python -m jobs.demo --output DIR`: the whole pipeline on simulated ECGs, each stage as its own command would run it."""

import logging
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from hubert_ecg.storage import files
from jobs.cli import guarded, parse, set_up_logging

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """Simulate a cohort, pre-train in two iterations, fine-tune and evaluate; a few minutes on two cores."""

    output: str = "runs/demo"
    """Directory for the output of every stage."""
    patients: int = 700
    """Patients in the cohort; each has one or two recordings."""
    steps: int = 150
    """Steps of each pre-training; fine-tuning takes twice as many."""


def commands(config: DemoConfig) -> list[list[str]]:
    """The stages in order, as the arguments after `python -m jobs.`."""
    at = {name: files.join(config.output, name) for name in STAGES}
    pretraining = ["--steps", str(config.steps), "--batch_size", "32", "--validation_interval", str(config.steps // 3)]
    tuning = ["--steps", str(2 * config.steps), "--batch_size", "32", "--validation_interval", str(config.steps // 2)]
    waveforms = ["--waveforms", at["waveforms"]]
    classifier = ["--label_set", "conditions", "--train_conv_stem", "true", "--optimiser.lr", "1e-3"]
    return [
        ["prepare", "--source", "simulated", "--simulated.simulator.num_patients", str(config.patients)]
        + ["--shard_size", "64", "--output", at["waveforms"]],
        ["dump", *waveforms, "--descriptor", "mfcc", "--output", at["features1"]],
        ["cluster", "--features", at["features1"], "--num_clusters", "[50]", "--output", at["codebooks1"]],
        ["label", *waveforms, "--codebooks", f"[{at['codebooks1']}/k50]", "--output", at["labels1"]],
        ["pretrain", *waveforms, "--labels", at["labels1"], *pretraining, "--output", at["pretrained1"]],
        ["dump", *waveforms, "--descriptor", "latent", "--checkpoint", at["pretrained1"], "--layer", "2"]
        + ["--sample_fraction", "0.5", "--output", at["features2"]],
        ["cluster", "--features", at["features2"], "--num_clusters", "[100]", "--output", at["codebooks2"]],
        ["label", *waveforms, "--codebooks", f"[{at['codebooks2']}/k100]", "--checkpoint", at["pretrained1"]]
        + ["--output", at["labels2"]],
        ["pretrain", *waveforms, "--labels", at["labels2"], "--checkpoint", at["pretrained1"], *pretraining]
        + ["--output", at["pretrained2"]],
        ["finetune", *waveforms, "--checkpoint", at["pretrained2"], *classifier, *tuning, "--output", at["classifier"]],
        ["evaluate", *waveforms, "--checkpoint", at["classifier"], "--output", at["evaluation"]],
    ]


STAGES = [
    "waveforms",
    "features1",
    "codebooks1",
    "labels1",
    "pretrained1",
    "features2",
    "codebooks2",
    "labels2",
    "pretrained2",
    "classifier",
    "evaluation",
]


def run_demo(config: DemoConfig) -> None:
    """Run every stage that is not finished yet, then show the result and what to try next."""
    from hubert_ecg.pipeline.evaluate import FIGURE, METRICS, read_table_text
    from hubert_ecg.pipeline.ray_cluster import start_ray

    began = time.monotonic()
    start_ray()
    todo = commands(config)
    for number, (verb, *arguments) in enumerate(todo, start=1):
        print(f"\n[{number}/{len(todo)}] python -m jobs.{verb} {shlex.join(arguments)}", flush=True)
        stage, config_class = _stage(verb)
        since = time.monotonic()
        stage(parse(verb, config_class, arguments))
        print(f"      {time.monotonic() - since:.0f} s", flush=True)
    evaluation = files.join(config.output, "evaluation")
    shuffled = files.read_json(files.join(files.absolute(evaluation), METRICS))["shuffled_label_auroc"]
    print(f"\nHeld-out patients of the simulated cohort, {time.monotonic() - began:.0f} s in all:\n")
    print(read_table_text(evaluation))
    print(
        f"With the labels of the test recordings shuffled the macro AUROC is {shuffled['mean']:.3f} "
        f"({shuffled['lower']:.3f} to {shuffled['upper']:.3f}): the scores above are not an artefact of the measure."
    )
    print(f"Figure: {evaluation}/{FIGURE}")
    print("\nNext, for example:")
    for line in _next(config):
        print(f"  {line}")


def _stage(verb: str) -> tuple[Callable[[Any], Any], type]:
    module = import_module(f"hubert_ecg.pipeline.{verb}")
    return getattr(module, verb), getattr(module, f"{verb.capitalize()}Config")


def _next(config: DemoConfig) -> list[str]:
    out = config.output
    return [
        f"python -m jobs.inspect {out}/classifier",
        "python -m jobs.sample --output runs/samples",
        f"python -c \"import hubert_ecg; print(hubert_ecg.load('{out}/classifier')"
        f".predict(hubert_ecg.read('runs/samples/afib_ecg.npy', sampling_rate_hz=500)))\"",
        "python -m jobs.prepare --source ptbxl --input /data/ptb-xl --output runs/ptbxl/waveforms",
    ]


if __name__ == "__main__":
    set_up_logging()
    sys.exit(guarded(lambda: run_demo(parse("demo", DemoConfig))))
