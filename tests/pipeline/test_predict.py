"""predict against evaluate and the predictor: the same probabilities, from raw files and from prepared waveforms."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hubert_ecg.datasets.simulated import SimulatedSource
from hubert_ecg.datasets.splits import SplitConfig
from hubert_ecg.ecg.measure import measure
from hubert_ecg.ecg.preprocess import PreprocessConfig
from hubert_ecg.ecg.simulate import CONDITIONS, SimulatorConfig, simulate_condition
from hubert_ecg.errors import ArtifactError, CheckpointError, ConfigError, InputError
from hubert_ecg.evaluation.abstention import Abstention
from hubert_ecg.evaluation.calibration import Calibration
from hubert_ecg.pipeline.evaluate import EvaluateConfig, evaluate
from hubert_ecg.pipeline.predict import PREDICTIONS, REPORT, PredictConfig, predict
from hubert_ecg.pipeline.prepare import PrepareConfig, prepare
from hubert_ecg.predictor import CropConfig, Predictor
from hubert_ecg.storage import files
from hubert_ecg.storage.artifact import FORMAT_VERSION, Manifest, open_artifact
from hubert_ecg.storage.checkpoint import save_checkpoint
from tests.pipeline.waveform_tables import save_model
from tests.predictor.classifiers import classifier, info_of

SOURCE = SimulatedSource(
    simulator=SimulatorConfig(num_patients=24, sampling_rate_hz=100, recordings_per_patient_max=1),
    split=SplitConfig(val_fraction=0.2, test_fraction=0.4),
)
PROBABILITIES = [f"probability.{label}" for label in CONDITIONS]
CALIBRATION = Calibration(method="platt", exclusive=False, slopes=(2.0,) * 6, offsets=(0.5,) * 6, fitted=(True,) * 6)


def table(manifest: Manifest) -> pd.DataFrame:
    """All shards together."""
    return pd.concat([files.read_table(manifest.part(part)).to_pandas() for part in range(manifest.parts)])


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("checkpoint") / "m"
    info = replace(
        info_of(labels=CONDITIONS),
        thresholds=(0.5, 0.4, 0.6, 0.5, 0.3, 0.7),
        calibration={"probabilities": CALIBRATION.to_json(), "abstention": Abstention(severe_leads=2).to_json()},
    )
    save_checkpoint(folder, classifier(labels=CONDITIONS), info)
    return str(folder)


@pytest.fixture(scope="module")
def waveforms(ray_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = str(tmp_path_factory.mktemp("waveforms") / "w")
    prepare(PrepareConfig(output=folder, simulated=SOURCE, shard_size=8))
    return folder


@pytest.fixture(scope="module")
def raw(waveforms: str, checkpoint: str, tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Predictions from raw recordings, measured, with embeddings."""
    out = str(tmp_path_factory.mktemp("predictions") / "raw")
    settings = {"source": "simulated", "simulated": SOURCE, "shard_size": 8}
    return predict(
        PredictConfig(checkpoint=checkpoint, output=out, measurements=True, embedding_layers=(-1, 0), **settings)
    )


def test_predict_gives_the_probabilities_of_evaluate(
    waveforms: str, checkpoint: str, raw: Manifest, tmp_path: Path
) -> None:
    config = {"waveforms": waveforms, "checkpoint": checkpoint}
    judged = table(evaluate(EvaluateConfig(**config, bootstrap_draws=100, output=str(tmp_path / "e"))))
    tested = table(predict(PredictConfig(**config, split="test", output=str(tmp_path / "p"))))
    assert len(judged) > 5
    assert tested["record_id"].tolist() == judged["record_id"].tolist()
    np.testing.assert_array_equal(tested[PROBABILITIES], judged[PROBABILITIES])
    everything = pd.read_parquet(f"{raw.directory}/{PREDICTIONS}").set_index("record_id").loc[judged["record_id"]]
    np.testing.assert_allclose(everything[PROBABILITIES], judged[PROBABILITIES], atol=1e-5)


def test_every_recording_is_there_once_with_all_that_is_said_of_it(raw: Manifest, checkpoint: str) -> None:
    found = pd.read_parquet(f"{raw.directory}/{PREDICTIONS}")
    listing = SOURCE.listing().table
    assert found["record_id"].tolist() == listing["record_id"].to_pylist()
    assert found["patient_id"].tolist() == listing["patient_id"].to_pylist()
    predictor = Predictor.load(checkpoint)
    for place in (0, 13):
        recording = SOURCE.read(listing.slice(place, 1).to_pylist()[0])
        expected, row = predictor.predict(recording), found.iloc[place]
        np.testing.assert_allclose(row[PROBABILITIES].astype(float), expected.probabilities, atol=1e-5)
        np.testing.assert_allclose(row[[f"raw.{n}" for n in CONDITIONS]].astype(float), expected.raw, atol=1e-5)
        np.testing.assert_allclose(row[[f"spread.{n}" for n in CONDITIONS]].astype(float), expected.spread, atol=1e-5)
        assert tuple(row["positive"]) == expected.positive
        assert [finding["kind"] for finding in row["findings"]] == [finding.kind for finding in expected.findings]
        rate = measure(recording).heart_rate.value
        assert rate is not None
        assert row["heart_rate_bpm"] == pytest.approx(rate)
        assert row["embedding"].shape == row["embedding.layer_0"].shape == (32,)
    facts = open_artifact(raw.directory).facts
    assert facts["thresholds"] == [0.5, 0.4, 0.6, 0.5, 0.3, 0.7]
    assert facts["positive"] == {n: c for n in CONDITIONS if (c := sum(n in row for row in found["positive"]))}


def test_a_run_that_was_killed_loses_and_doubles_nothing(raw: Manifest, checkpoint: str, tmp_path: Path) -> None:
    settings = {"source": "simulated", "simulated": SOURCE, "shard_size": 8, "checkpoint": checkpoint}
    config = PredictConfig(output=str(tmp_path / "p"), measurements=True, embedding_layers=(-1, 0), **settings)
    out = Path(config.output)
    # As a kill leaves it: a plan, one finished shard, one without its receipt, the listing.
    plan = {"verb": "predict", "config": raw.config, "inputs": raw.inputs, "format_version": FORMAT_VERSION}
    files.write_json(str(out / "plan.json"), plan)
    for name in ("part-00001.parquet", "part-00001.json", "part-00002.parquet"):
        files.write_bytes(str(out / "parts" / name), Path(raw.directory, "parts", name).read_bytes())
    kept = (out / "parts" / "part-00001.parquet").stat().st_mtime_ns
    again = predict(config)
    assert again.fingerprint == raw.fingerprint
    assert (out / "parts" / "part-00001.parquet").stat().st_mtime_ns == kept
    pd.testing.assert_frame_equal(pd.read_parquet(out / PREDICTIONS), table(raw).reset_index(drop=True))
    assert not (out / "listing.parquet").exists()


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good recording, one with two flat leads, and three that cannot be used."""
    folder = tmp_path_factory.mktemp("archive")
    ecg = simulate_condition(["NORM"], seed=1)[0].samples
    flat = ecg.copy()
    flat[[6, 7]] = 0.2
    np.save(folder / "good.npy", ecg)
    np.save(folder / "flat.npy", flat)
    np.save(folder / "short.npy", ecg[:, :1500])
    np.save(folder / "three_leads.npy", ecg[:3])
    (folder / "broken.npy").write_bytes(b"no array at all")
    return folder


def test_bad_recordings_are_set_aside_and_doubtful_ones_withheld(
    ray_cluster: None, archive: Path, checkpoint: str, tmp_path: Path
) -> None:
    out = tmp_path / "p"
    manifest = predict(PredictConfig(input=str(archive), checkpoint=checkpoint, output=str(out)))
    report = json.loads((out / REPORT).read_text())
    assert {entry["record_id"]: entry["reason"] for entry in report["set_aside"]} == {
        "broken": "unreadable",
        "short": "too short",
        "three_leads": "missing leads",
    }
    assert (report["listed"], report["predicted"], manifest.rows) == (5, 2, 2)
    assert report["withheld_by_reason"] == {"quality": 1}
    found = pd.read_parquet(out / PREDICTIONS).set_index("record_id")
    assert found["abstained"].to_dict() == {"flat": True, "good": False}
    assert found.loc["flat", "abstained_because"] == "quality: flat V1, flat V2"
    # What is withheld is there all the same, for those who want to judge the rule.
    assert found[PROBABILITIES].notna().all(axis=None)


def test_with_no_usable_recording_the_job_says_so(
    ray_cluster: None, archive: Path, checkpoint: str, tmp_path: Path
) -> None:
    settings = PredictConfig(input=str(archive), checkpoint=checkpoint, output=str(tmp_path / "p")).files
    only_bad = replace(settings, pattern="[bst]*.npy")
    with pytest.raises(InputError, match="not one of 3 recordings could be used"):
        predict(PredictConfig(input=str(archive), checkpoint=checkpoint, output=str(tmp_path / "p"), files=only_bad))
    assert not (tmp_path / "p" / "manifest.json").exists()


def test_what_does_not_belong_together_is_refused(waveforms: str, checkpoint: str, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    other = tmp_path / "other"
    contract = PreprocessConfig(sampling_rate_hz=50)
    save_checkpoint(other, classifier(labels=CONDITIONS), info_of(labels=CONDITIONS, preprocess=contract))
    with pytest.raises(ArtifactError, match=r"sampling_rate_hz 50 \(waveforms: 100\)"):
        predict(PredictConfig(waveforms=waveforms, checkpoint=str(other), output=out))
    save_model(tmp_path / "ssl")
    with pytest.raises(CheckpointError, match="wanted a classifier, got a pre-trained model"):
        predict(PredictConfig(waveforms=waveforms, checkpoint=str(tmp_path / "ssl"), output=out))
    with pytest.raises(ConfigError, match="got both"):
        PredictConfig(waveforms=waveforms, input="archive", checkpoint=checkpoint, output=out)
    with pytest.raises(ConfigError, match="--input: wanted the folder of the files archive"):
        PredictConfig(checkpoint=checkpoint, output=out)
    with pytest.raises(ConfigError, match="is for --waveforms"):
        PredictConfig(input="archive", split="test", checkpoint=checkpoint, output=out)


def test_another_threshold_is_another_run(raw: Manifest, checkpoint: str, tmp_path: Path) -> None:
    """It is no part of the fingerprint of the weights, but what is written depends on it."""
    other = tmp_path / "other"
    save_checkpoint(other, classifier(labels=CONDITIONS), info_of(labels=CONDITIONS))
    assert open_artifact(raw.directory).inputs["checkpoint"] == Predictor.load(other).info.fingerprint
    settings = {"source": "simulated", "simulated": SOURCE, "shard_size": 8}
    with pytest.raises(ArtifactError, match="thresholds: there"):
        predict(
            PredictConfig(
                checkpoint=str(other), output=raw.directory, measurements=True, embedding_layers=(-1, 0), **settings
            )
        )


def test_crops_are_chosen_by_settings(waveforms: str, checkpoint: str, tmp_path: Path) -> None:
    crops = CropConfig(num_crops=2, placement="random", reduce="max", seed=5)
    config = PredictConfig(
        waveforms=waveforms, split="val", crops=crops, checkpoint=checkpoint, output=str(tmp_path), single_file=False
    )
    found = table(predict(config))
    assert not (tmp_path / PREDICTIONS).exists()
    by_id = {row["record_id"]: row for row in SOURCE.listing().table.to_pylist() if row["split"] == "val"}
    assert sorted(found["record_id"]) == sorted(by_id)
    predictor = Predictor.load(checkpoint, crops=crops)
    prediction = predictor.predict(SOURCE.read(by_id[found.iloc[0]["record_id"]]))
    np.testing.assert_allclose(found.iloc[0][PROBABILITIES].astype(float), prediction.probabilities, atol=1e-5)
