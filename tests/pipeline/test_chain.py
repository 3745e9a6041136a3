"""The whole chain on a real Ray cluster with a small simulated cohort: every stage, every artifact, every refusal."""

from contextlib import chdir
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from sklearn.preprocessing import Normalizer

from hubert_ecg.datasets.simulated import SimulatedSource
from hubert_ecg.datasets.splits import SplitConfig
from hubert_ecg.ecg.features import DescriptorConfig
from hubert_ecg.ecg.preprocess import PreprocessConfig, model_input
from hubert_ecg.ecg.simulate import CONDITIONS, SimulatorConfig
from hubert_ecg.errors import ArtifactError, CheckpointError, ConfigError
from hubert_ecg.pipeline.cluster import ClusterConfig, cluster
from hubert_ecg.pipeline.dump import DumpConfig, dump
from hubert_ecg.pipeline.evaluate import FIGURE, METRICS, EvaluateConfig, evaluate, read_table_text
from hubert_ecg.pipeline.finetune import FinetuneConfig, finetune
from hubert_ecg.pipeline.inspect import inspect
from hubert_ecg.pipeline.label import LabelConfig, label
from hubert_ecg.pipeline.prepare import PrepareConfig, prepare
from hubert_ecg.pipeline.pretrain import PretrainConfig, pretrain
from hubert_ecg.predictor import Predictor
from hubert_ecg.storage import files, tables
from hubert_ecg.storage.artifact import FORMAT_VERSION, Manifest, open_artifact
from hubert_ecg.storage.checkpoint import load_checkpoint, load_info
from hubert_ecg.storage.codebooks import load_codebook

SIMULATOR = SimulatorConfig(num_patients=40, sampling_rate_hz=100)
SOURCE = SimulatedSource(simulator=SIMULATOR, split=SplitConfig(val_fraction=0.25, test_fraction=0.3))


@dataclass(frozen=True)
class Chain:
    """Where each stage of a run of the chain has written."""

    root: Path

    def __getattr__(self, name: str) -> str:
        return str(self.root / name)


@pytest.fixture(scope="module")
def chain(ray_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Chain:
    c = Chain(tmp_path_factory.mktemp("chain"))
    train = {"steps": 4, "batch_size": 8, "validation_interval": 2}
    prepare(PrepareConfig(output=c.waveforms, simulated=SOURCE, shard_size=16))
    dump(DumpConfig(waveforms=c.waveforms, descriptor="mfcc", output=c.features))
    cluster(ClusterConfig(features=c.features, num_clusters=[10], output=c.codebooks))
    label(LabelConfig(waveforms=c.waveforms, codebooks=[f"{c.codebooks}/k10"], output=c.labels))
    pretrain(PretrainConfig(waveforms=c.waveforms, labels=c.labels, output=c.first, **train))
    latent = {"checkpoint": c.first, "layer": 1}
    dump(DumpConfig(waveforms=c.waveforms, descriptor="latent", **latent, sample_fraction=0.5, output=c.features2))
    cluster(ClusterConfig(features=c.features2, start=4, end=8, step=4, output=c.codebooks2))
    books = [f"{c.codebooks2}/k4", f"{c.codebooks2}/k8", f"{c.codebooks}/k10"]
    label(LabelConfig(waveforms=c.waveforms, codebooks=books, checkpoint=c.first, output=c.labels2))
    tune = {"label_set": "conditions", "positive_weights": True, **train}
    # Relative paths, as people type them: training workers run in another directory.
    with chdir(c.root):
        iteration = {"labels": "labels2", "checkpoint": "first", "output": "second"}
        pretrain(PretrainConfig(waveforms="waveforms", **iteration, **train))
        finetune(FinetuneConfig(waveforms="waveforms", checkpoint="second", output="classifier", **tune))
    evaluate(EvaluateConfig(waveforms=c.waveforms, checkpoint=c.classifier, bootstrap_draws=100, output=c.evaluation))
    return c


def counts_of(waveforms: Manifest, part: int) -> list[np.ndarray]:
    column = files.read_table(waveforms.part(part), ["counts"])["counts"]
    return [row.reshape(12, -1) for row in tables.list_rows(column)]


def test_every_recording_is_prepared_once_with_its_labels(chain: Chain) -> None:
    waveforms = open_artifact(chain.waveforms, verb="prepare")
    listing = SOURCE.listing().table
    got = [files.read_table(waveforms.part(part)) for part in range(waveforms.parts)]
    for column in ("record_id", "labels.conditions"):
        assert pa.concat_tables(got)[column].to_pylist() == listing[column].to_pylist()
    assert waveforms.facts["label_sets"]["conditions"]["labels"] == list(CONDITIONS)
    assert counts_of(waveforms, 0)[0].shape == (12, 1000)
    assert "listing.parquet" not in files.list_names(chain.waveforms)


def test_codes_equal_the_nearest_centroid_of_normalised_descriptors(chain: Chain) -> None:
    """The original fitted on normalised rows and assigned raw ones."""
    waveforms, labels = open_artifact(chain.waveforms), open_artifact(chain.labels)
    book = load_codebook(f"{chain.codebooks}/k10")
    preprocess = PreprocessConfig()
    describe = DescriptorConfig(name="mfcc", sampling_rate_hz=100)
    table = files.read_table(labels.part(1))
    for row, counts in enumerate(counts_of(waveforms, 1)):
        starts = table["crop_starts_s"][row].as_py()
        assert starts == [0.0, 2.5, 5.0]
        codes = table["codes.k10"][row].values.to_numpy().reshape(len(starts), 93)
        for start, of_crop in zip(starts, codes, strict=True):
            rows = describe.compute(model_input(counts, start, preprocess)[None])[0]
            unit = Normalizer().transform(rows.astype(np.float64))
            distances = ((unit[:, None] - book.centroids[None].astype(np.float64)) ** 2).sum(-1)
            np.testing.assert_array_equal(of_crop, distances.argmin(1))


def test_latent_codes_come_from_the_chosen_layer(chain: Chain) -> None:
    waveforms, labels = open_artifact(chain.waveforms), open_artifact(chain.labels2)
    model, _ = load_checkpoint(chain.first, expect="ssl")
    book = load_codebook(f"{chain.codebooks2}/k8")
    inputs = model_input(counts_of(waveforms, 0)[3], 2.5, PreprocessConfig())
    with torch.inference_mode():
        hidden = model.encode(torch.from_numpy(inputs)[None], output_hidden_states=True).hidden_states[1 + 1]
    codes = files.read_table(labels.part(0))["codes.k8"][3].values.to_numpy().reshape(3, 93)[1]
    agreement = (book.assign(hidden[0].numpy()) == codes).mean()
    assert agreement >= 0.99  # batches of other sizes may round a tie the other way
    assert book.layer == 1
    assert book.checkpoint_fingerprint == load_info(chain.first).fingerprint


def test_features_of_the_fit_are_training_recordings_only(chain: Chain) -> None:
    features = open_artifact(chain.features)
    listing = SOURCE.listing().table.to_pylist()
    training = {row["record_id"] for row in listing if row["split"] == "train"}
    got = [i for part in range(features.parts) for i in files.read_table(features.part(part))["record_id"].to_pylist()]
    assert sorted(got) == sorted(training)


def test_iteration_two_has_new_heads_over_the_weights_of_iteration_one(chain: Chain) -> None:
    second, info = load_checkpoint(chain.second, expect="ssl")
    assert [len(head.weight) for head in second.label_embedding] == [4, 8, 10]
    assert info.provenance["inputs"]["checkpoint"] == load_info(chain.first).fingerprint
    history = (Path(chain.second) / "history.csv").read_text().splitlines()
    assert len(history) == 1 + 2
    assert "masked_accuracy_k8" in history[0]
    assert (Path(chain.second) / "curves.png").stat().st_size > 5000


def test_the_evaluation_judges_held_out_patients_by_the_one_inference_path(chain: Chain) -> None:
    metrics = files.read_json(f"{chain.evaluation}/{METRICS}")
    listing = [row for row in SOURCE.listing().table.to_pylist() if row["split"] == "test"]
    assert metrics["recordings"] == len(listing) > 5
    assert Path(chain.evaluation, FIGURE).read_bytes().startswith(b"\x89PNG")
    assert "macro average" in read_table_text(chain.evaluation)
    evaluation = open_artifact(chain.evaluation)
    predictor = Predictor.load(chain.classifier)
    by_id = {row["record_id"]: row for row in listing}
    table = files.read_table(evaluation.part(0)).to_pylist()
    for row in table[:3]:
        prediction = predictor.predict(SOURCE.read(by_id[row["record_id"]]))
        stored = [row[f"probability.{name}"] for name in CONDITIONS]
        np.testing.assert_allclose(prediction.probabilities, stored, atol=1e-5)
        assert [row[f"target.{name}"] for name in CONDITIONS] == [
            name in by_id[row["record_id"]]["labels.conditions"] for name in CONDITIONS
        ]


def test_the_classifier_carries_all_that_applying_it_needs(chain: Chain) -> None:
    info = load_info(chain.classifier)
    assert info.label_names == CONDITIONS
    assert info.thresholds is not None
    assert all(0 <= threshold <= 1 for threshold in info.thresholds)
    assert PreprocessConfig.from_dict(info.preprocessing) == PreprocessConfig()
    with pytest.raises(CheckpointError, match=r"no classification head.*jobs\.finetune"):
        Predictor.load(chain.first)


def test_the_same_command_again_changes_nothing(chain: Chain) -> None:
    before = {path: path.stat().st_mtime_ns for path in chain.root.rglob("*") if path.is_file()}
    manifest = dump(DumpConfig(waveforms=chain.waveforms, descriptor="mfcc", output=chain.features))
    assert manifest.fingerprint == open_artifact(chain.features).fingerprint
    assert before == {path: path.stat().st_mtime_ns for path in chain.root.rglob("*") if path.is_file()}


def test_inspect_explains_every_output(chain: Chain) -> None:
    for path in sorted(chain.root.iterdir()):
        text = inspect(str(path))
        assert "finished by jobs." in text
        assert "settings" in text


def test_a_run_continued_from_some_shards_equals_an_undisturbed_one(chain: Chain, tmp_path: Path) -> None:
    config = DumpConfig(waveforms=chain.waveforms, descriptor="mfcc", output=str(tmp_path / "f"))
    whole = dump(config)
    kept = (Path(whole.part(0)).stat().st_mtime_ns, Path(whole.part(2)).stat().st_mtime_ns)
    # As a kill leaves it: a plan, some finished shards, one shard without its receipt.
    plan = {"verb": "dump", "config": whole.config, "inputs": whole.inputs, "format_version": FORMAT_VERSION}
    files.write_json(str(tmp_path / "f" / "plan.json"), plan)
    (tmp_path / "f" / "manifest.json").unlink()
    for name in ("part-00001.parquet", "part-00001.json", "part-00003.json"):
        (tmp_path / "f" / "parts" / name).unlink()
    continued = dump(config)
    assert continued.fingerprint == whole.fingerprint == open_artifact(chain.features).fingerprint
    assert kept == (Path(whole.part(0)).stat().st_mtime_ns, Path(whole.part(2)).stat().st_mtime_ns)


@pytest.mark.parametrize("shards", [2, 7])
def test_codebooks_do_not_depend_on_the_number_of_shards(chain: Chain, tmp_path: Path, shards: int) -> None:
    size = -(-open_artifact(chain.waveforms).rows // shards)
    prepare(PrepareConfig(output=str(tmp_path / "w"), simulated=SOURCE, shard_size=size))
    dump(DumpConfig(waveforms=str(tmp_path / "w"), descriptor="mfcc", output=str(tmp_path / "f")))
    cluster(ClusterConfig(features=str(tmp_path / "f"), num_clusters=[10], output=str(tmp_path / "k")))
    one = load_codebook(f"{chain.codebooks}/k10")
    other = load_codebook(str(tmp_path / "k" / "k10"))
    # Descriptors of a recording differ in the last bit with the recordings that are computed beside it.
    np.testing.assert_allclose(one.centroids, other.centroids, atol=1e-7)
    np.testing.assert_array_equal(one.counts, other.counts)


def test_what_does_not_belong_together_is_refused(chain: Chain, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    with pytest.raises(ArtifactError, match="as --waveforms, got that of jobs.dump"):
        dump(DumpConfig(waveforms=chain.features, output=out))
    with pytest.raises(ConfigError, match="has 3 layers, got 3"):
        dump(DumpConfig(waveforms=chain.waveforms, descriptor="latent", checkpoint=chain.first, layer=3, output=out))
    latent_book = [f"{chain.codebooks2}/k4"]
    with pytest.raises(ConfigError, match="made from layer 1 of a checkpoint"):
        label(LabelConfig(waveforms=chain.waveforms, codebooks=latent_book, output=out))
    with pytest.raises(ArtifactError, match="name the checkpoint that the codebook was made from"):
        label(LabelConfig(waveforms=chain.waveforms, codebooks=latent_book, checkpoint=chain.second, output=out))
    with pytest.raises(ConfigError, match=r"wanted one of \['conditions'\]"):
        finetune(FinetuneConfig(waveforms=chain.waveforms, label_set="superclass", output=out))
    other = replace(SOURCE, simulator=replace(SIMULATOR, num_patients=6))
    prepare(PrepareConfig(output=str(tmp_path / "w"), simulated=other, sampling_rate_hz=50))
    with pytest.raises(ArtifactError, match="run jobs.label on these waveforms"):
        pretrain(PretrainConfig(waveforms=str(tmp_path / "w"), labels=chain.labels, output=out))
    with pytest.raises(ArtifactError, match=r"sampling_rate_hz 100 \(waveforms: 50\)"):
        finetune(
            FinetuneConfig(waveforms=str(tmp_path / "w"), checkpoint=chain.second, label_set="conditions", output=out)
        )
    assert not Path(out).exists()
