"""Whether two iterations of pre-training make few labels go further: PTB-XL superclasses with and without them.

    python -m benchmarks.label_efficiency --input FOLDER --save
    python -m benchmarks.label_efficiency --input FOLDER --labels 10 --steps 600 --save

The protocol, fixed before anything was judged on the test fold:

- Recordings: the subset of PTB-XL that benchmarks.subset lays out, official folds. Folds 1 to 7 train, fold 8 chooses,
  fold 9 judges. Features, codebooks and both iterations of pre-training see ECGs of folds 1 to 7 and no labels; which
  of its own checkpoints a pre-training keeps is decided by its loss on the ECGs of fold 8. The settings are those of
  jobs/configs/ptbxl_two_iterations.yaml; size `tiny`. Cluster purity is reported, and nothing is chosen by it.
- Arms: `pretrained` starts from iteration 2, `scratch` from random weights. All else is the same: every weight trains,
  linear head, batches of 32, random crops, AdamW with 8 % warm-up, no dropout in the encoder, the better of two
  validations (half way and at the end; macro AUROC on fold 8) kept.
- Labels: 10 % and 100 % of the labelled training recordings, drawn by patient with the run's seed, so that both arms of
  a seed see the same. 200 steps with 10 % (17 passes), 400 with 100 %.
- Tuning, the same for both arms: per arm and share the learning rate, 0.001 or 0.003, with the better macro AUROC on
  fold 8, with a seed that is none of the five.
- Runs: seeds 0 to 4. Each is judged on the recordings of fold 9 that carry a superclass label (all of them, and those
  drawn at random, tag `natural`), as jobs.evaluate does it: mean probability of three crops, macro AUROC.
- Statistic: the gain is the mean over seeds of the macro AUROC of `pretrained` minus that of `scratch`. Its 95 %
  interval is of a paired bootstrap over patients and seeds (hubert_ecg/evaluation/paired.py): a draw takes the same
  patients for all runs, stratified by rarest label, and the same seeds for both arms; 2,000 draws.
- Added when the first condition (10 %, 200 steps) had been judged and showed `scratch` far from settled, before its own
  runs were judged: 10 % with three times the steps, all else as above; the second command.
- Goal: with 10 % of the labels, on all labelled recordings of fold 9, the interval lies above zero.

The same command goes on where it was stopped. Every figure of every seed is saved beside the rows.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa

from benchmarks.names import ARMS
from benchmarks.pretraining import Pretraining
from benchmarks.report import Report, Row, reporting
from hubert_ecg.evaluation.metrics import auroc_per_label
from hubert_ecg.evaluation.paired import Arm, paired_bootstrap
from hubert_ecg.pipeline.commands import guarded, set_up_logging
from hubert_ecg.pipeline.evaluate import EvaluateConfig, evaluate
from hubert_ecg.pipeline.finetune import FinetuneConfig, finetune
from hubert_ecg.pipeline.training_run import WorkersConfig
from hubert_ecg.storage import files
from hubert_ecg.storage.artifact import Manifest, open_artifact
from hubert_ecg.training.examples import select_rows
from hubert_ecg.training.optimiser import OptimiserConfig


@dataclass(frozen=True, kw_only=True)
class Condition:
    """What both arms of a comparison have alike."""

    share: float
    """Of the labels."""
    steps: int
    """Of a fine-tuning."""

    def __str__(self) -> str:
        return f"{100 * self.share:g} %, {self.steps} steps"


CONDITIONS = (Condition(share=0.1, steps=200), Condition(share=1.0, steps=400))
LEARNING_RATES = (1e-3, 3e-3)
TUNING_SEED = 100
SEEDS = (0, 1, 2, 3, 4)
BATCH_SIZE = 32
LABEL_SET = "superclass"
DRAWS = 2000
SUBSETS = {"all": None, "natural": "natural"}
"""Recordings of the test fold that are judged together -> their tag."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictions:
    """Of one run on the labelled recordings of the test fold. Shapes: N recordings, L labels."""

    labels: tuple[str, ...]
    targets: np.ndarray
    """[N, L] bool."""
    probabilities: np.ndarray
    """[N, L] float64."""
    patient_ids: list[str | None]

    @classmethod
    def read(cls, evaluation: Manifest) -> Self:
        """What jobs.evaluate has stored."""
        table = pa.concat_tables([files.read_table(evaluation.part(part)) for part in range(evaluation.parts)])
        labels = tuple(name.removeprefix("target.") for name in table.column_names if name.startswith("target."))
        return cls(
            labels=labels,
            targets=np.stack([table[f"target.{label}"].to_numpy() for label in labels], axis=1),
            probabilities=np.stack([table[f"probability.{label}"].to_numpy() for label in labels], axis=1).astype(
                float
            ),
            patient_ids=table["patient_id"].to_pylist(),
        )


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """Where an experiment lies, and how much of the machine it may use."""

    root: Path
    threads: int

    @property
    def waveforms(self) -> str:
        return str(self.root / "waveforms")

    def tune(self, arm: str, condition: Condition) -> dict[float, float]:
        """Learning rate -> macro AUROC on the validation fold."""
        return {lr: self._finetuned(arm, condition, TUNING_SEED, lr).facts["best"]["score"] for lr in LEARNING_RATES}

    def predictions(self, arm: str, condition: Condition, seed: int, lr: float) -> Predictions:
        """Of one run, trained and applied to the test fold where that is not done yet."""
        config = EvaluateConfig(
            waveforms=self.waveforms,
            checkpoint=self._finetuned(arm, condition, seed, lr).directory,
            output=self._place("evaluation", arm, condition, seed, lr),
            label_set=LABEL_SET,
            bootstrap_draws=100,
            workers=self.threads,
        )
        return Predictions.read(evaluate(config))

    def tagged(self, tag: str | None) -> np.ndarray:
        """Which of the labelled recordings of the test fold carry a tag, [N] bool in the order of predictions."""
        table = open_artifact(self.waveforms, verb="prepare")
        every, chosen = (select_rows(table, split="test", label_set=LABEL_SET, tag=t) for t in (None, tag))
        return np.concatenate([np.isin(rows, some) for rows, some in zip(every, chosen, strict=True)])

    def _finetuned(self, arm: str, condition: Condition, seed: int, lr: float) -> Manifest:
        pretrained = arm == "pretrained"
        return finetune(
            FinetuneConfig(
                waveforms=self.waveforms,
                output=self._place("classifier", arm, condition, seed, lr),
                label_set=LABEL_SET,
                checkpoint=str(self.root / "pretrained2") if pretrained else None,
                train_conv_stem=pretrained,
                train_fraction=condition.share,
                steps=condition.steps,
                batch_size=BATCH_SIZE,
                validation_interval=condition.steps // 2,
                optimiser=OptimiserConfig(lr=lr),
                workers=WorkersConfig(threads_each=self.threads),
                seed=seed,
            )
        )

    def _place(self, what: str, arm: str, condition: Condition, seed: int, lr: float) -> str:
        folder = f"{condition.share:g}_{condition.steps}"
        return str(self.root / what / folder / f"{arm}_seed{seed}_lr{lr:g}")


def compare(of_arm: dict[str, list[Predictions]], kept: np.ndarray) -> dict[str, Any]:
    """Both arms' macro AUROC over seeds on some recordings [N] bool, and the gain with its interval."""
    first = of_arm["pretrained"][0]
    targets, patients = first.targets[kept], [p for p, k in zip(first.patient_ids, kept, strict=True) if k]
    scores = {arm: [run.probabilities[kept] for run in runs] for arm, runs in of_arm.items()}
    pretrained, scratch = (Arm(scores=scores[arm]) for arm in ARMS)
    found = paired_bootstrap(
        targets,
        pretrained,
        scratch,
        first.labels,
        rng=np.random.default_rng(0),
        patient_ids=patients,
        draws=DRAWS,
        paired_seeds=True,
    )["auroc"]
    per_seed = {arm: [float(auroc_per_label(targets, run).mean()) for run in runs] for arm, runs in scores.items()}
    return {
        "recordings": int(kept.sum()),
        "patients": found.groups,
        "macro_auroc": {
            arm: {"mean": float(np.mean(values)), "sd": float(np.std(values, ddof=1)), "per_seed": values}
            for arm, values in per_seed.items()
        },
        "gain": found.to_dict()["macro"],
        "gain_per_seed": (np.array(per_seed["pretrained"]) - per_seed["scratch"]).tolist(),
        "gain_per_label": {label: d["difference"] for label, d in found.to_dict()["per_label"].items()},
    }


def run(
    input_folder: str, experiment: Experiment, conditions: Sequence[Condition]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """All stages that are not done yet; every condition and its figures."""
    Pretraining(input=input_folder, root=experiment.root, threads=experiment.threads).checkpoint()
    for condition in conditions:
        tuning = {arm: experiment.tune(arm, condition) for arm in ARMS}
        chosen = {arm: max(scores, key=scores.__getitem__) for arm, scores in tuning.items()}
        of_arm = {arm: [experiment.predictions(arm, condition, seed, chosen[arm]) for seed in SEEDS] for arm in ARMS}
        figures = {
            "tuning_val_macro_auroc": {
                arm: {f"{lr:g}": v for lr, v in scores.items()} for arm, scores in tuning.items()
            },
            "lr": chosen,
            "test": {name: compare(of_arm, experiment.tagged(tag)) for name, tag in SUBSETS.items()},
        }
        yield str(condition), figures


def pretraining_facts(root: Path) -> dict[str, Any]:
    """What the two iterations learnt, and how much their clusters say of the labels that they have not seen."""
    facts = {}
    for iteration in (1, 2):
        best = open_artifact(str(root / f"pretrained{iteration}"), verb="pretrain").facts["best"]
        quality = open_artifact(str(root / f"codebooks{iteration}"), verb="cluster").facts["quality"][0]
        facts[f"iteration {iteration}"] = {
            "steps": best["step"],
            "val_loss": best["val_loss"],
            "masked_accuracy": next(v for name, v in best.items() if name.startswith("masked_accuracy")),
            **{name: quality[name] for name in ("num_clusters", "purity", "nmi", "pnmi")},
        }
    return facts


def rows(condition: str, figures: dict[str, Any]) -> Iterator[Row]:
    """Both arms and the gain, on all labelled recordings of the test fold and on those drawn at random."""
    for subset, test in figures["test"].items():
        name = f"{condition}, {subset} recordings"
        counts = {"recordings": test["recordings"], "patients": test["patients"]}
        for arm, title in ARMS.items():
            found = test["macro_auroc"][arm]
            yield Row(
                name=f"{name}, {title}",
                ours=(found["mean"],),
                unit="macro AUROC",
                more_is_better=True,
                facts={"standard deviation over seeds": found["sd"], "seeds": len(found["per_seed"]), **counts},
            )
        gain = test["gain"]
        yield Row(
            name=f"{name}, gain",
            ours=(gain["difference"],),
            unit="macro AUROC",
            against="random weights, the same fine-tuning",
            more_is_better=True,
            interval=(gain["lower"], gain["upper"]),
            facts=counts,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", metavar="FOLDER", required=True, help="what benchmarks.subset has laid out")
    parser.add_argument("--output", default="runs/label_efficiency", help="folder for the output of every stage")
    parser.add_argument("--threads", type=int, default=0, help="threads and processes at work at once; 0: all cores")
    parser.add_argument("--labels", type=float, metavar="PERCENT", help="one condition of your own: so many labels,")
    parser.add_argument("--steps", type=int, help="and so many steps of fine-tuning (default: the two of the protocol)")
    with reporting("label_efficiency", parser) as (options, report):
        if (options.labels is None) != (options.steps is None):
            parser.error("wanted --labels and --steps together, or neither")
        if options.labels is not None and not 0 < options.labels <= 100:
            parser.error(f"--labels: wanted more than 0 and at most 100 %, got {options.labels:g}")
        report.head()
        measure(options, report)


def measure(options: argparse.Namespace, report: Report) -> None:
    """All conditions; what stands behind the rows goes into the details."""
    experiment = Experiment(root=Path(options.output), threads=options.threads)
    asked: Sequence[Condition] = CONDITIONS
    if options.labels is not None:
        asked = (Condition(share=options.labels / 100, steps=options.steps),)
    conditions: dict[str, Any] = {}
    for condition, figures in run(options.input, experiment, asked):
        conditions[condition] = figures
        for row in rows(condition, figures):
            report.add(row)
    report.details = {
        "seeds": SEEDS,
        "tuning_seed": TUNING_SEED,
        "pretraining": pretraining_facts(experiment.root),
        "conditions": conditions,
    }


if __name__ == "__main__":
    set_up_logging()
    sys.exit(guarded(main))
