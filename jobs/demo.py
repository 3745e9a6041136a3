"""`python -m jobs.demo --output DIR`: the demo recipe, then its result, a control, and what to try next."""

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hubert_ecg.pipeline.commands import guarded, set_up_logging
from hubert_ecg.storage import files
from jobs.cli import parse_run
from jobs.recipe import print_estimates, read_recipe, run_stages

RECIPE = Path(__file__).with_name("configs") / "demo.yaml"


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """Simulate a cohort, pre-train in two iterations, fine-tune and evaluate; three to five minutes on two cores."""

    output: str = "runs/demo"
    """Directory for the output of every stage."""
    patients: int = 700
    """Patients in the cohort; each has one or two recordings."""
    steps: int = 120
    """Steps of each pre-training."""
    tuning_steps: int = 480
    """Steps of the fine-tuning."""


def run_demo(config: DemoConfig, dry_run: bool = False) -> None:
    """Run every stage that is not finished yet, then show the result and what to try next."""
    began = time.monotonic()
    variables = {"patients": config.patients, "steps": config.steps, "tuning_steps": config.tuning_steps}
    stages = read_recipe(RECIPE, {"out": config.output} | {name: str(value) for name, value in variables.items()})
    if dry_run:
        print_estimates(stages)
        return
    run_stages(stages)
    print(f"\nHeld-out patients of the simulated cohort; {time.monotonic() - began:.0f} s in all\n")
    print("\n".join(_result(f"{config.output}/evaluation")))
    print("\nNext, for example:")
    for line in _next(config.output):
        print(f"  {line}")


def _result(evaluation: str) -> list[str]:
    from hubert_ecg.pipeline.evaluate import FIGURE, METRICS, read_table_text

    metrics: dict[str, Any] = files.read_json(files.join(files.absolute(evaluation), METRICS))
    shuffled = metrics["shuffled_label_auroc"]
    return [
        read_table_text(evaluation),
        f"Control: with the test recordings' labels shuffled, the macro AUROC is {shuffled['mean']:.3f} "
        f"(95 % of shufflings between {shuffled['lower']:.3f} and {shuffled['upper']:.3f}).",
        f"Figure:  {evaluation}/{FIGURE}",
    ]


def _next(output: str) -> list[str]:
    python = sys.executable
    predict = (
        f"import hubert_ecg; ecg = hubert_ecg.read('runs/samples/clbbb_ecg.npy', sampling_rate_hz=500); "
        f"print(hubert_ecg.load('{output}/classifier').predict(ecg))"
    )
    return [
        f"{python} -m jobs.inspect {output}/classifier",
        f"{python} -m jobs.sample --output runs/samples",
        f'{python} -c "{predict}"',
        f"{python} -m jobs.recipe jobs/configs/ptbxl_superclass.yaml input=/data/ptb-xl "
        "val_fold=9 test_fold=10 tag=null",
    ]


if __name__ == "__main__":
    set_up_logging()
    sys.exit(guarded(lambda: run_demo(*parse_run("demo", DemoConfig))))
