"""The stages that a trial of a search may run, and which of their inputs come from the stages before them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hubert_ecg.errors import ConfigError
from hubert_ecg.pipeline.cluster import ClusterConfig, cluster
from hubert_ecg.pipeline.dump import DumpConfig, dump
from hubert_ecg.pipeline.extract import LATENT
from hubert_ecg.pipeline.finetune import FinetuneConfig, finetune
from hubert_ecg.pipeline.label import LabelConfig, label
from hubert_ecg.pipeline.pretrain import PretrainConfig, pretrain
from hubert_ecg.pipeline.search_settings import make_settings
from hubert_ecg.storage import files
from hubert_ecg.storage.artifact import Manifest, fingerprint

STAGES: dict[str, tuple[type, Callable[..., Manifest]]] = {
    "dump": (DumpConfig, dump),
    "cluster": (ClusterConfig, cluster),
    "label": (LabelConfig, label),
    "pretrain": (PretrainConfig, pretrain),
    "finetune": (FinetuneConfig, finetune),
}
ORDER = tuple(STAGES)
LAST_STAGES = ("cluster", "pretrain", "finetune")
TRAININGS = ("pretrain", "finetune")

MADE_BY = {"features": "dump", "codebooks": "cluster", "labels": "label", "checkpoint": "pretrain"}
"""Input of a stage -> the stage that makes it, when it is one of the same trial."""
READS = {"cluster": ("features",), "label": ("codebooks",), "pretrain": ("labels",), "finetune": ("checkpoint",)}


def config_class(verb: str) -> type:
    return STAGES[verb][0]


def given_inputs(verb: str, stages: tuple[str, ...]) -> set[str]:
    """Settings of a stage that the search fills in: waveforms, and what the stages before it make."""
    return {"waveforms"} | {name for name in READS.get(verb, ()) if MADE_BY[name] in stages}


@dataclass(frozen=True, kw_only=True)
class StageRun:
    """One stage of a trial, ready to run."""

    verb: str
    config: Any
    shared: bool
    """Its output serves every trial that wants the same."""


def stage_runs(
    stages: tuple[str, ...], settings: dict[str, dict[str, Any]], *, waveforms: str, shared: str, own: str
) -> list[StageRun]:
    """The stages of a trial on one waveform table, wired together. Raises ConfigError for impossible settings.

    What dump, cluster and label write before another stage lies in `shared` under a name that follows from their
    settings, so that trials that want the same find it there; all else lies in `own`.
    """
    runs: list[StageRun] = []
    made: dict[str, Any] = {}
    before: list[Any] = [waveforms]
    for verb in stages:
        inputs = {name: made[name] for name in READS.get(verb, ()) if name in made}
        if verb != "cluster" or "label_set" in settings[verb]:
            inputs["waveforms"] = waveforms
        if verb == "label" and settings.get("dump", {}).get("descriptor") == LATENT:
            inputs["checkpoint"] = settings["dump"].get("checkpoint")
        values = dict(settings[verb])
        if verb == "dump" and values.get("descriptor") != LATENT:
            values.pop("checkpoint", None)  # It is for those trials that take its layers.
        before = [*before, verb, values]
        is_shared = verb not in TRAININGS and verb != stages[-1]
        output = files.join(shared, f"{verb}-{fingerprint(before)}") if is_shared else files.join(own, verb)
        config = make_settings(config_class(verb), values | inputs | {"output": output}, verb=verb)
        runs.append(StageRun(verb=verb, config=config, shared=is_shared))
        made |= _products(verb, config)
    if stages[-1] == "cluster" and len(runs[-1].config.ks) != 1:
        raise ConfigError(f"cluster.num_clusters: wanted one number per trial, such as [100], got {runs[-1].config.ks}")
    return runs


def _products(verb: str, config: Any) -> dict[str, Any]:
    """Inputs of later stages that a stage makes."""
    if verb == "cluster":
        return {"codebooks": [files.join(config.output, f"k{k}") for k in config.ks]}
    return {name: config.output for name, maker in MADE_BY.items() if maker == verb}
