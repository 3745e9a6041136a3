"""probe: embeddings of every layer, probes that see training recordings only, judged on test recordings, resumable."""

import csv
from pathlib import Path

import numpy as np
import pytest

from hubert_ecg.datasets.simulated import SimulatedSource
from hubert_ecg.datasets.splits import SplitConfig
from hubert_ecg.ecg.simulate import CONDITIONS, SimulatorConfig
from hubert_ecg.errors import ConfigError
from hubert_ecg.evaluation.probe import Split, linear_probe
from hubert_ecg.pipeline.prepare import PrepareConfig, prepare
from hubert_ecg.pipeline.probe import ProbeConfig, probe
from hubert_ecg.predictor.embedding import Embedder
from hubert_ecg.storage import files, tables
from hubert_ecg.storage.artifact import FORMAT_VERSION, Manifest, open_artifact
from tests.pipeline.waveform_tables import save_model

SOURCE = SimulatedSource(
    simulator=SimulatorConfig(num_patients=60, sampling_rate_hz=100, recordings_per_patient_max=1),
    split=SplitConfig(val_fraction=0.3, test_fraction=0.3),
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("checkpoint") / "c"
    save_model(folder, hidden_size=32)
    return str(folder)


@pytest.fixture(scope="module")
def probed(ray_cluster: None, checkpoint: str, tmp_path_factory: pytest.TempPathFactory) -> ProbeConfig:
    folder = tmp_path_factory.mktemp("probe")
    prepare(PrepareConfig(output=str(folder / "w"), simulated=SOURCE, shard_size=32))
    config = ProbeConfig(
        waveforms=str(folder / "w"),
        checkpoint=checkpoint,
        label_set="conditions",
        layers=[0, 2],
        bootstrap_draws=100,
        output=str(folder / "p"),
    )
    probe(config)
    return config


def rows(manifest: Manifest, column: str) -> np.ndarray:
    parts = [files.read_table(manifest.part(part), [column])[column] for part in range(manifest.parts)]
    return np.concatenate([tables.stack_rows(part) for part in parts])


def names(manifest: Manifest, column: str) -> np.ndarray:
    parts = [files.read_table(manifest.part(part), [column])[column].to_pylist() for part in range(manifest.parts)]
    return np.array([name for part in parts for name in part])


def test_features_are_the_embeddings_of_every_labelled_recording(probed: ProbeConfig) -> None:
    manifest, waveforms = open_artifact(probed.output), open_artifact(probed.waveforms)
    assert names(manifest, "record_id").tolist() == SOURCE.listing().table["record_id"].to_pylist()
    counts = tables.list_rows(files.read_table(waveforms.part(1), ["counts"])["counts"])[:2]
    embedder = Embedder.load(probed.checkpoint)
    expected = embedder.embed([row.reshape(12, -1) for row in counts], layers=[2])[2]
    np.testing.assert_allclose(rows(manifest, "embedding.layer_2")[32:34], expected, atol=1e-5)


def test_results_are_those_of_probes_fitted_on_training_recordings(probed: ProbeConfig) -> None:
    manifest = open_artifact(probed.output)
    split, features = names(manifest, "split"), rows(manifest, "embedding.layer_0")
    targets = rows(manifest, "target")
    train, val, test = (
        Split(features=features[split == name], targets=targets[split == name]) for name in ("train", "val", "test")
    )
    found = linear_probe(train, val, test.features)
    result = files.read_json(f"{probed.output}/probe.json")["layers"][0]
    assert result["recordings"] == {n: int((split == n).sum()) for n in ("train", "val", "test")}
    assert result["linear"]["chosen"] == found.chosen
    with open(f"{probed.output}/probe.csv") as file:
        table = list(csv.DictReader(file))
    assert len(table) == 2 * 2 * (len(CONDITIONS) + 1)
    positive = test.targets[:, 0]
    pairs = found.scores[positive, 0][:, None] - found.scores[~positive, 0]
    expected = ((pairs > 0) + 0.5 * (pairs == 0)).mean()
    row = next(r for r in table if (r["layer"], r["probe"], r["label"]) == ("0", "linear", CONDITIONS[0]))
    assert float(row["auroc"]) == pytest.approx(expected)
    for name in ("probe.png", "layers/pca_layer_00.png", "layers/pca_layer_02.png"):
        assert Path(probed.output, name).read_bytes().startswith(b"\x89PNG")


def test_a_run_that_was_killed_goes_on_with_its_shards_and_layers(probed: ProbeConfig, tmp_path: Path) -> None:
    whole = open_artifact(probed.output)
    out = Path(probed.output)
    plan = {"verb": "probe", "config": whole.config, "inputs": whole.inputs, "format_version": FORMAT_VERSION}
    before = files.read_json(str(out / "probe.json"))
    kept = [out / "parts" / "part-00000.parquet", out / "layers" / "layer_00.json"]
    times = [path.stat().st_mtime_ns for path in kept]
    files.write_json(str(out / "plan.json"), plan)
    for name in ("manifest.json", "parts/part-00001.json", "layers/layer_02.json", "probe.json"):
        (out / name).unlink()
    assert probe(probed).fingerprint == whole.fingerprint
    assert [path.stat().st_mtime_ns for path in kept] == times
    assert files.read_json(str(out / "probe.json")) == before


def test_what_cannot_be_probed_is_refused(probed: ProbeConfig, tmp_path: Path) -> None:
    given = {"waveforms": probed.waveforms, "checkpoint": probed.checkpoint, "output": str(tmp_path / "x")}
    with pytest.raises(ConfigError, match=r"wanted one of \['conditions'\]"):
        probe(ProbeConfig(label_set="superclass", **given))
    with pytest.raises(ConfigError, match="wanted some of 0 to 2"):
        probe(ProbeConfig(label_set="conditions", layers=[3], **given))
    with pytest.raises(ConfigError, match="--layers: wanted all"):
        ProbeConfig(label_set="conditions", layers=[], **given)
    assert not (tmp_path / "x").exists()
