"""One layer of probe: its probes judged on test recordings, and its picture."""

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from hubert_ecg.evaluation.bootstrap import bootstrap_auroc
from hubert_ecg.evaluation.probe import Probe, Split, linear_probe, neighbour_probe, principal_components
from hubert_ecg.pipeline.probe_shard import TARGET, layer_column
from hubert_ecg.storage import files, tables
from hubert_ecg.storage.artifact import Shards

LAYERS = "layers"
MOST_POINTS = 2000
"""In a picture; of more recordings the first ones are drawn."""
_NAMED = 8
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#7F6A00")
_MARKERS = "osD^vPX*"


def layer_file(directory: str, layer: int) -> str:
    """Where the result of a layer lies; it is written last."""
    return files.join(directory, LAYERS, f"layer_{layer:02d}.json")


@dataclass(frozen=True, kw_only=True)
class LayerJudge:
    """What a worker needs to judge any layer."""

    directory: str
    parts: int
    labels: tuple[str, ...]
    draws: int
    seed: int
    projection: str

    def run(self, layer: int) -> None:
        """Fit, judge, draw, and write the picture and then the result."""
        splits, patient_ids = self._read(layer)
        train, val, test = (splits[name] for name in ("train", "val", "test"))
        result: dict[str, Any] = {
            "layer": layer,
            "dim": train.features.shape[1],
            "recordings": {name: len(split.features) for name, split in splits.items()},
        }
        for kind, probe in (("linear", linear_probe), ("neighbours", neighbour_probe)):
            result[kind] = self._judged(probe(train, val, test.features), test, patient_ids)
        picture = files.join(self.directory, LAYERS, f"{self.projection}_layer_{layer:02d}.png")
        files.write_bytes(picture, self._picture(layer, train, test))
        files.write_json(layer_file(self.directory, layer), result)

    def _read(self, layer: int) -> tuple[dict[str, Split], list[str | None]]:
        """The splits, and the patients of the test recordings."""
        shards = Shards(directory=self.directory, parts=self.parts)
        columns = ["patient_id", "split", TARGET, layer_column(layer)]
        table = pa.concat_tables(files.read_table(shards.part(part), columns) for part in range(self.parts))
        names = np.array(table["split"].to_pylist(), object)
        features, targets = tables.stack_rows(table[layer_column(layer)]), tables.stack_rows(table[TARGET])
        splits = {
            name: Split(features=features[names == name], targets=targets[names == name])
            for name in ("train", "val", "test")
        }
        patients = [
            patient for patient, name in zip(table["patient_id"].to_pylist(), names, strict=True) if name == "test"
        ]
        return splits, patients

    def _judged(self, probe: Probe, test: Split, patient_ids: list[str | None]) -> dict[str, Any]:
        intervals = bootstrap_auroc(
            test.targets,
            probe.scores,
            self.labels,
            rng=np.random.default_rng(self.seed),
            patient_ids=patient_ids,
            draws=self.draws,
        )
        return {
            "chosen": probe.chosen,
            "val_macro_auroc": probe.val_macro_auroc,
            "converged": probe.converged,
            "auroc": intervals.to_dict(),
        }

    def _picture(self, layer: int, train: Split, test: Split) -> bytes:
        """Test recordings in two dimensions, by their rarest label among the most frequent ones."""
        from matplotlib.figure import Figure

        features, targets = test.features[:MOST_POINTS], test.targets[:MOST_POINTS]
        places = self._projected(train.features, features)
        counts = targets.sum(axis=0)
        named = [column for column in np.argsort(-counts)[:_NAMED].tolist() if counts[column]]
        figure = Figure(figsize=(7, 5.4), layout="constrained")
        axes = figure.subplots()
        bare = ~targets[:, named].any(axis=1)
        axes.scatter(
            places[bare, 0], places[bare, 1], s=8, color="#C8C8C8", label="none of these" if bare.any() else None
        )
        left = ~bare
        for colour, marker, column in zip(_COLOURS, _MARKERS, reversed(named), strict=False):
            chosen = left & targets[:, column]
            x, y = places[chosen].T
            axes.scatter(x, y, s=12, color=colour, marker=marker, label=self.labels[column], alpha=0.8)
            left &= ~chosen
        axes.set_title(f"layer {layer}, {len(places)} test recordings, {self.projection}", fontsize=11)
        axes.set(xticks=[], yticks=[])
        axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
        image = io.BytesIO()
        figure.savefig(image, format="png", dpi=130)
        return image.getvalue()

    def _projected(self, train: np.ndarray, features: np.ndarray) -> np.ndarray:
        """[N, 2]. Principal components are those of the training recordings; the others know of no second set."""
        if self.projection == "pca" or len(features) < 4:
            return principal_components(train, features)
        scaled = (features - train.mean(axis=0)) / np.maximum(train.std(axis=0), 1e-12)
        if self.projection == "umap":
            from umap import UMAP  # type: ignore[import-not-found]

            projected: np.ndarray = UMAP(random_state=self.seed).fit_transform(scaled)
            return projected
        from sklearn.manifold import TSNE

        perplexity = min(30.0, (len(features) - 1) / 3)
        placed: np.ndarray = TSNE(random_state=self.seed, perplexity=perplexity, init="pca").fit_transform(scaled)
        return placed
