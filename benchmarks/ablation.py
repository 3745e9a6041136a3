"""What each choice in making the codes brings: pre-trainings beside one another, judged by a linear probe.

    python -m benchmarks.ablation --input FOLDER

The protocol, fixed before anything was run:

- Recordings: the subset of PTB-XL that benchmarks.subset lays out. Features, codebooks and pre-training see the ECGs of
  folds 1 to 7 and no labels (fold 8's ECGs tell how a pre-training goes; its last checkpoint is taken all the same).
  Nothing uses fold 9.
- Base: 39 MFCC aligned with their tokens, rows scaled to unit length, K = 100, one iteration, size `tiny`, batches of
  32. Every other arm differs from it in what its name says. `iteration 2` starts from `base`, on codes of its middle
  layer (K = 200), for as many steps again; `iteration 1 again` does so on the codes of `base`.
- Judged: the frozen encoder's layers, mean over tokens and three crops; logistic regression of the superclasses on
  folds 1 to 6, its penalty and the layer chosen on fold 7, macro AUROC on fold 8; all on recordings drawn at random
  (tag `natural`) with a superclass.
- Seeds: of the whole pre-training; codebooks have seed 0. The spread is their standard deviation.

Finished stages and probes are not run again.
"""

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from benchmarks.proof.recordings import Recordings
from benchmarks.report import Report, Row, reporting
from benchmarks.unaligned import unaligned_labels
from hubert_ecg.clustering.codebook import Normalisation
from hubert_ecg.errors import ConfigError
from hubert_ecg.evaluation.metrics import auroc_per_label
from hubert_ecg.evaluation.probe import Split, linear_probe
from hubert_ecg.models import HubertECG
from hubert_ecg.models.config import model_config
from hubert_ecg.pipeline.cluster import ClusterConfig, cluster
from hubert_ecg.pipeline.commands import guarded, set_up_logging
from hubert_ecg.pipeline.dump import DumpConfig, dump
from hubert_ecg.pipeline.label import LabelConfig, label
from hubert_ecg.pipeline.pretrain import PretrainConfig, pretrain
from hubert_ecg.pipeline.training_run import WorkersConfig
from hubert_ecg.storage.artifact import Manifest, open_artifact
from hubert_ecg.storage.checkpoint import load_checkpoint, load_info
from hubert_ecg.storage.codebooks import load_codebook
from hubert_ecg.training.optimiser import OptimiserConfig

LABEL_SET = "superclass"
FITTED, CHOSEN, JUDGED = (1, 2, 3, 4, 5, 6), (7,), (8,)
"""Folds of the probe."""
CROP_STARTS_S = (0.0, 2.5, 5.0)
CROP_S = 5.0
BATCH_SIZE = 32
LEARNING_RATE = 1e-3


@dataclass(frozen=True, kw_only=True)
class Arm:
    """How the codes are made that a pre-training predicts; the defaults are the base."""

    descriptor: Literal["time_frequency", "mfcc", "mixed"] = "mfcc"
    normalisation: Normalisation = "l2"
    clusters: int = 100
    aligned: bool = True


ARMS = {
    "base": Arm(),
    "descriptors drift from tokens": Arm(aligned=False),
    "rows as they are": Arm(normalisation="none"),
    "rows standardised": Arm(normalisation="standardise"),
    "16 time-frequency numbers": Arm(descriptor="time_frequency"),
    "29 numbers of both kinds": Arm(descriptor="mixed"),
    "K = 25": Arm(clusters=25),
    "K = 500": Arm(clusters=500),
}
BASE, AGAIN, SECOND, NONE = "base", "iteration 1 again", "iteration 2", "no pre-training"
SECOND_LAYER, SECOND_CLUSTERS = 1, 200


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """Where the outputs of all stages lie, and how much of the machine they may use."""

    root: Path
    waveforms: Manifest
    steps: int
    threads: int

    def score(self, name: str, seed: int, recordings: Recordings) -> float:
        """An arm's macro AUROC of one seed, from its file if it has been probed."""
        path = Path(self._place(f"probes/{name}_seed{seed}_steps{self.steps}.json"))
        checkpoint = None if name == NONE else self.pretrained(name, seed)
        made_of = {
            "recordings": recordings.fingerprint,
            "checkpoint": load_info(checkpoint).fingerprint if checkpoint else None,
        }
        if path.exists():
            found: dict[str, Any] = json.loads(path.read_text())
            if found["made_of"] != made_of:
                raise ConfigError(
                    f"{path}: wanted a probe of {made_of}, got one of {found['made_of']}; delete the file"
                )
            return float(found["macro_auroc"])
        reached = probed(load_checkpoint(checkpoint)[0] if checkpoint else fresh(seed), recordings)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"made_of": made_of, "macro_auroc": reached}))
        return reached

    def pretrained(self, name: str, seed: int) -> str:
        """The checkpoint of an arm, made where it is not there yet."""
        labels = self._second_labels(seed) if name == SECOND else self._labels(ARMS[BASE if name == AGAIN else name])
        output = self._place(f"pretrained/{name}_seed{seed}_steps{self.steps}")
        found = pretrain(
            PretrainConfig(
                waveforms=self.waveforms.directory,
                labels=labels.directory,
                checkpoint=self.pretrained(BASE, seed) if name in (AGAIN, SECOND) else None,
                steps=self.steps,
                batch_size=BATCH_SIZE,
                validation_interval=self.steps,
                optimiser=OptimiserConfig(lr=LEARNING_RATE),
                workers=WorkersConfig(threads_each=self.threads),
                seed=seed,
                output=output,
            )
        )
        return found.directory

    def _labels(self, arm: Arm) -> Manifest:
        features = dump(
            DumpConfig(
                waveforms=self.waveforms.directory,
                descriptor=arm.descriptor,
                output=self._place(f"features/{arm.descriptor}"),
                workers=self.threads,
            )
        )
        name = f"{arm.descriptor}_{arm.normalisation}"
        codebook = self._codebook(features, name, arm.clusters, arm.normalisation)
        aligned = self._labelled(f"{name}_k{arm.clusters}", codebook)
        if arm.aligned:
            return aligned
        drifting = self._place(f"labels/{name}_k{arm.clusters}_drifting")
        return unaligned_labels(self.waveforms, aligned, Path(codebook).name, load_codebook(codebook), drifting)

    def _second_labels(self, seed: int) -> Manifest:
        checkpoint, name = self.pretrained(BASE, seed), f"latent_seed{seed}_steps{self.steps}"
        features = dump(
            DumpConfig(
                waveforms=self.waveforms.directory,
                descriptor="latent",
                checkpoint=checkpoint,
                layer=SECOND_LAYER,
                output=self._place(f"features/{name}"),
                workers=self.threads,
            )
        )
        return self._labelled(name, self._codebook(features, name, SECOND_CLUSTERS, "l2"), checkpoint)

    def _codebook(self, features: Manifest, name: str, clusters: int, normalisation: Normalisation) -> str:
        found = cluster(
            ClusterConfig(
                features=features.directory,
                num_clusters=[clusters],
                normalisation=normalisation,
                output=self._place(f"codebooks/{name}_k{clusters}"),
            )
        )
        return f"{found.directory}/k{clusters}"

    def _labelled(self, name: str, codebook: str, checkpoint: str | None = None) -> Manifest:
        return label(
            LabelConfig(
                waveforms=self.waveforms.directory,
                codebooks=[codebook],
                checkpoint=checkpoint,
                output=self._place(f"labels/{name}"),
                workers=self.threads,
            )
        )

    def _place(self, name: str) -> str:
        return str(self.root / name.replace(" ", "_").replace("=", ""))


def probed(encoder: HubertECG, recordings: Recordings) -> float:
    """Macro AUROC of the best layer on the judged fold; the layer and the penalty are chosen on another one."""
    targets = recordings.label_sets[LABEL_SET]
    kept = targets.answered & recordings.natural
    rows = {folds: np.flatnonzero(kept & np.isin(recordings.folds, folds)) for folds in (FITTED, CHOSEN, JUDGED)}
    signals = recordings.scaled
    layers = {folds: embedded(encoder, signals[some], recordings.rate_hz) for folds, some in rows.items()}
    probes = []
    for layer in range(len(layers[FITTED])):
        train, val = (Split(features=layers[f][layer], targets=targets.targets[rows[f]]) for f in (FITTED, CHOSEN))
        probes.append(linear_probe(train, val, layers[JUDGED][layer]))
    best = max(probes, key=lambda probe: probe.val_macro_auroc)
    return float(np.mean(auroc_per_label(targets.targets[rows[JUDGED]], best.scores)))


def embedded(encoder: HubertECG, signals: np.ndarray, rate_hz: int) -> list[np.ndarray]:
    """[N, 12, T] -> per layer [N, D]: the mean over tokens and crops."""
    encoder.eval()
    samples, found = round(CROP_S * rate_hz), []
    with torch.inference_mode():
        for at in range(0, len(signals), BATCH_SIZE):
            some = signals[at : at + BATCH_SIZE]
            crops = np.stack([some[:, :, s : s + samples] for s in (round(t * rate_hz) for t in CROP_STARTS_S)], axis=1)
            inputs = torch.from_numpy(crops.reshape(-1, 12 * samples))
            hidden = encoder.encode(inputs, output_hidden_states=True).hidden_states[1:]
            found.append([layer.mean(dim=1).view(len(some), len(CROP_STARTS_S), -1).mean(dim=1) for layer in hidden])
    return [torch.cat(layer).numpy() for layer in zip(*found, strict=True)]


def fresh(seed: int) -> HubertECG:
    """The encoder as it is before any training."""
    torch.manual_seed(seed)
    return HubertECG(model_config("tiny", vocab_sizes=(1,)))


def row(name: str, found: list[float], base: list[float] | None) -> Row:
    spread = {"standard deviation over seeds": float(np.std(found, ddof=1))} if len(found) > 1 else {}
    gain = {} if base is None or name == BASE else {"difference to base": float(np.mean(found) - np.mean(base))}
    return Row(
        name=f"{LABEL_SET}, fold 8, linear probe, {name}",
        ours=(float(np.mean(found)),),
        unit="macro AUROC",
        more_is_better=True,
        facts=spread | {"seeds": len(found)} | gain,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", metavar="FOLDER", required=True, help="what benchmarks.subset has laid out")
    parser.add_argument("--output", default="runs/ablation", help="folder for the output of every stage")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--steps", type=int, default=400, help="of every pre-training")
    parser.add_argument("--threads", type=int, default=1, help="threads and processes at work at once")
    with reporting("ablation", parser) as (options, report):
        report.head()
        measure(options, report)


def measure(options: argparse.Namespace, report: Report) -> None:
    """All arms; every seed's figure goes into the details."""
    torch.set_num_threads(options.threads)
    root = Path(options.output).absolute()
    recordings = Recordings.prepared(options.input, str(root / "waveforms"))
    waveforms = open_artifact(str(root / "waveforms"), verb="prepare")
    experiment = Experiment(root=root, waveforms=waveforms, steps=options.steps, threads=options.threads)
    found: dict[str, list[float]] = {}
    for name in (*ARMS, AGAIN, SECOND, NONE):
        found[name] = [experiment.score(name, seed, recordings) for seed in options.seeds]
        report.add(row(name, found[name], found.get(BASE)))
    report.details = {"waveforms": waveforms.fingerprint, "per_seed": found}


if __name__ == "__main__":
    set_up_logging()
    sys.exit(guarded(main))
