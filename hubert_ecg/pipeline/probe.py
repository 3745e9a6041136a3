"""probe: what each layer of a frozen model knows of labels, by a linear probe and neighbours, and how it looks."""

import csv
import io
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from hubert_ecg.errors import ArtifactError, ConfigError
from hubert_ecg.pipeline.extract import check_contract, preprocess_of
from hubert_ecg.pipeline.prepare import label_sets_of
from hubert_ecg.pipeline.probe_layer import LayerJudge, layer_file
from hubert_ecg.pipeline.probe_shard import EmbedShard
from hubert_ecg.pipeline.ray_cluster import remote, start_ray
from hubert_ecg.pipeline.shards import run_shards
from hubert_ecg.predictor import CropConfig
from hubert_ecg.predictor.embedding import check_layers
from hubert_ecg.storage import files
from hubert_ecg.storage.artifact import Manifest, StageOutput, begin, open_artifact
from hubert_ecg.storage.checkpoint import load_checkpoint
from hubert_ecg.training.examples import select_rows
from hubert_ecg.training.targets import LabelTargets

log = logging.getLogger(__name__)

RESULTS, TABLE, FIGURE = "probe.json", "probe.csv", "probe.png"
SPLITS = ("train", "val", "test")
Projection = Literal["pca", "tsne", "umap"]


@dataclass(frozen=True, kw_only=True)
class ProbeConfig:
    """Judge the embeddings of a model that is left as it is: AUROC of a linear probe and of nearest neighbours per
    layer, fitted on training recordings, chosen on validation and judged on test recordings; and a picture of each.
    """

    waveforms: str
    """Waveform table W, the output of jobs.prepare."""
    checkpoint: str
    """Any checkpoint: of jobs.pretrain, jobs.finetune, or published."""
    label_set: str
    """Label set of W, multi-label or multi-class."""
    output: str
    """Directory to write probe.json, probe.csv, probe.png and a picture per layer to; the features stay as Parquet."""
    layers: list[int] | Literal["all"] = "all"
    """Encoder layers whose outputs are judged, counted from 0, each the mean over tokens and crops."""
    crops: CropConfig = field(default_factory=CropConfig)
    """Crops that a recording's embedding is the mean over."""
    tag: str | None = None
    """Take only recordings that carry this tag (PTB-XL's `sample` column, say)."""
    projection: Projection = "pca"
    """Of the pictures: principal components, scikit-learn's t-SNE, or UMAP where umap-learn is installed."""
    bootstrap_draws: int = 1000
    """Resamplings of patients behind each confidence interval."""
    seed: int = 0
    """Seed of the resamplings and of t-SNE and UMAP."""
    workers: int = 0
    """Shards, and then layers, worked on at once; 0 takes one per CPU, or for shards one per GPU where there are."""

    def __post_init__(self) -> None:
        if self.layers != "all" and (not self.layers or min(self.layers) < 0):
            raise ConfigError(f"--layers: wanted all, or layers counted from 0 such as '[0, 2]', got {self.layers}")
        if self.bootstrap_draws < 100 or self.workers < 0:
            raise ConfigError(
                f"wanted --bootstrap_draws of at least 100 and --workers of at least 0, got {self.bootstrap_draws} "
                f"and {self.workers}"
            )
        if self.projection == "umap":
            _require_umap()


def probe(config: ProbeConfig) -> Manifest:
    """Run the stage. Raises ArtifactError when a split has no recording with an answer."""
    waveforms = open_artifact(config.waveforms, verb="prepare", role="--waveforms")
    targets, need_label = _targets(config, waveforms)
    model, info = load_checkpoint(files.absolute(config.checkpoint))
    check_contract(info.preprocessing, preprocess_of(waveforms), config.checkpoint)
    num_layers = model.config.num_hidden_layers
    layers = list(range(num_layers)) if config.layers == "all" else list(config.layers)
    check_layers(layers, num_layers)
    described = {
        "label_set": config.label_set,
        "layers": layers,
        "crops": asdict(config.crops),
        "tag": config.tag,
        "projection": config.projection,
        "bootstrap_draws": config.bootstrap_draws,
        "seed": config.seed,
    }
    inputs = {"waveforms": waveforms.fingerprint, "checkpoint": info.fingerprint}
    output = begin(config.output, verb="probe", config=described, inputs=inputs)
    if isinstance(output, Manifest):
        return output
    chosen = {split: select_rows(waveforms, split=split, label_set=need_label, tag=config.tag) for split in SPLITS}
    for split, rows in chosen.items():
        if not sum(map(len, rows)):
            raise ArtifactError(f"{config.waveforms}: wanted recordings with {config.label_set} in {split}, got none")
    tasks = [
        {"part": part, "rows": np.sort(np.concatenate([chosen[split][part] for split in SPLITS])).tolist()}
        for part in range(waveforms.parts)
    ]
    arguments = {
        "directory": output.directory,
        "waveforms": waveforms,
        "checkpoint": files.absolute(config.checkpoint),
        "targets": targets,
        "crops": config.crops,
        "layers": layers,
    }
    run_shards(output, tasks, EmbedShard, work_arguments=arguments, holds_model=True, workers=config.workers)
    return _judge(config, output, layers, targets, waveforms.parts)


def _targets(config: ProbeConfig, waveforms: Manifest) -> tuple[LabelTargets, str | None]:
    """What is probed for, and the label set that a recording needs an answer to."""
    label_sets = label_sets_of(waveforms)
    if config.label_set not in label_sets:
        raise ConfigError(
            f"--label_set: wanted one of {sorted(label_sets)} of {config.waveforms}, got {config.label_set}"
        )
    chosen = label_sets[config.label_set]
    if chosen.task == "regression":
        raise ConfigError(f"--label_set {config.label_set}: wanted labels or classes, got numbers")
    targets = LabelTargets(label_set=chosen.name, labels=chosen.labels, task=chosen.task)
    return targets, None if chosen.none_is_negative else chosen.name


def _judge(
    config: ProbeConfig, output: StageOutput, layers: Sequence[int], targets: LabelTargets, parts: int
) -> Manifest:
    """Judge the layers that have not been judged, side by side, and put the results together."""
    start_ray()
    import ray

    judge = LayerJudge(
        directory=output.directory,
        parts=parts,
        labels=targets.labels,
        draws=config.bootstrap_draws,
        seed=config.seed,
        projection=config.projection,
    )
    pending = [layer for layer in layers if not files.exists(layer_file(output.directory, layer))]
    if len(pending) < len(layers):
        log.info("probe: going on, %d of %d layers were judged before", len(layers) - len(pending), len(layers))
    work = remote(LayerJudge.run, max_retries=3)
    waiting = {work.remote(judge, layer): layer for layer in pending}
    while waiting:
        done, _ = ray.wait(list(waiting), num_returns=1)
        ray.get(done)
        layer = waiting.pop(done[0])
        log.info("probe: layer %d judged, %d of %d left", layer, len(waiting), len(layers))
    results = [files.read_json(layer_file(output.directory, layer)) for layer in layers]
    files.write_json(files.join(output.directory, RESULTS), {"label_set": config.label_set, "layers": results})
    files.write_bytes(files.join(output.directory, TABLE), _csv(results).encode())
    files.write_bytes(files.join(output.directory, FIGURE), _figure(results, config.label_set))
    for result in results:
        told = ", ".join(f"{kind} {_told(result[kind]['auroc']['macro'])}" for kind in ("linear", "neighbours"))
        log.info("probe: layer %d: macro AUROC %s", result["layer"], told)
    facts = {
        "label_set": config.label_set,
        "recordings": results[0]["recordings"],
        "macro_auroc": {
            kind: {str(result["layer"]): result[kind]["auroc"]["macro"] for result in results}
            for kind in ("linear", "neighbours")
        },
    }
    return output.finish(parts=parts, facts=facts)


def _told(interval: dict[str, Any]) -> str:
    if interval["estimate"] is None:
        return "cannot be judged"
    span = "" if interval["lower"] is None else f" ({interval['lower']:.3f} to {interval['upper']:.3f})"
    return f"{interval['estimate']:.3f}{span}"


def _csv(results: list[dict[str, Any]]) -> str:
    """One row per layer, probe and label, and one for the macro average."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["layer", "probe", "chosen", "label", "auroc", "lower", "upper"])
    for result in results:
        for kind in ("linear", "neighbours"):
            of_probe = result[kind]
            entries = of_probe["auroc"]["per_label"] | {"macro": of_probe["auroc"]["macro"]}
            for label, interval in entries.items():
                numbers = [interval[name] for name in ("estimate", "lower", "upper")]
                writer.writerow([result["layer"], kind, of_probe["chosen"], label, *numbers])
    return text.getvalue()


def _figure(results: list[dict[str, Any]], label_set: str) -> bytes:
    """Macro AUROC over layers, with intervals."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    for kind, colour, marker in (("linear", "#0072B2", "o"), ("neighbours", "#D55E00", "s")):
        macros = [result[kind]["auroc"]["macro"] for result in results]
        points = [(r["layer"], m) for r, m in zip(results, macros, strict=True) if m["estimate"] is not None]
        axes.plot(
            [layer for layer, _ in points],
            [macro["estimate"] for _, macro in points],
            color=colour,
            marker=marker,
            label=f"{kind} probe" if kind == "linear" else "nearest neighbours",
        )
        for layer, macro in points:
            if macro["lower"] is not None:
                axes.plot([layer, layer], [macro["lower"], macro["upper"]], color=colour, alpha=0.4, linewidth=2)
    axes.set(xlabel="encoder layer", ylabel="macro AUROC", title=f"frozen features, {label_set}, test recordings")
    axes.set_xticks([result["layer"] for result in results])
    axes.grid(color="#ECECEC")
    axes.set_axisbelow(True)
    axes.legend(frameon=False)
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=130)
    return image.getvalue()


def _require_umap() -> None:
    try:
        import umap  # type: ignore[import-not-found]  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            "--projection umap: wanted umap-learn, which is not installed; pip install umap-learn, or take pca or tsne"
        ) from error
