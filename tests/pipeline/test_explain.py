"""explain: the explainer's numbers in a table, one picture each, of prepared recordings and of a file."""

import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hubert_ecg.ecg.simulate import simulate_condition
from hubert_ecg.errors import ArtifactError, ConfigError, RecordingError
from hubert_ecg.pipeline.explain import ExplainConfig, explain
from hubert_ecg.predictor import Predictor
from hubert_ecg.predictor.explain import Explainer
from hubert_ecg.storage import files
from hubert_ecg.storage.artifact import Manifest
from tests.pipeline.waveform_tables import Row, noise, write_waveforms
from tests.predictor.classifiers import LABELS, save_classifier

SVG = "{http://www.w3.org/2000/svg}"
ROWS = [
    Row(record_id="one/first", counts=noise(0), split="test"),
    Row(record_id="r2", counts=noise(1)),
    Row(record_id="r3", counts=noise(2), split="test", valid_samples=(1000,) * 11 + (0,)),
]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("checkpoint") / "m"
    save_classifier(folder)
    return str(folder)


@pytest.fixture(scope="module")
def waveforms(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return write_waveforms(str(tmp_path_factory.mktemp("waveforms") / "w"), ROWS, shards=2)


def table(manifest: Manifest) -> pd.DataFrame:
    parts = [files.read_table(manifest.part(part)).to_pandas() for part in range(manifest.parts)]
    return pd.concat(parts, ignore_index=True)


def test_prepared_recordings_are_explained_and_drawn(
    ray_cluster: None, waveforms: Manifest, checkpoint: str, tmp_path: Path
) -> None:
    config = ExplainConfig(
        waveforms=waveforms.directory, checkpoint=checkpoint, labels=["NORM"], num_steps=4, output=str(tmp_path / "x")
    )
    found = table(explain(config))
    assert found["record_id"].tolist() == ["one/first", "r3"]
    explainer = Explainer(Predictor.load(checkpoint), num_steps=4)
    for number, row in ((0, ROWS[0]), (1, ROWS[2])):
        valid = None if row.valid_samples is None else np.array(row.valid_samples)
        expected = explainer.explain_waveform(row.counts, "NORM", valid)
        np.testing.assert_allclose(found["attributions"][number].reshape(12, -1), expected.attributions, atol=1e-4)
        assert found["score"][number] == pytest.approx(expected.score, abs=1e-4)
        assert found["crop_starts_s"][number].tolist() == [0.0, 2.5, 5.0]
    pictures = sorted((tmp_path / "x" / "figures").glob("*.svg"))
    assert [path.name.partition("-")[0] for path in pictures] == ["one_first", "r3.NORM.svg"]
    panels = ET.fromstring(pictures[1].read_text()).findall(f"{SVG}g")
    coloured = [any(rect.get("class") == "attribution" for rect in panel) for panel in panels]
    assert coloured[11] is False
    assert sum(coloured) > 6


@pytest.mark.slow
def test_a_file_is_explained_for_the_labels_that_apply(ray_cluster: None, checkpoint: str, tmp_path: Path) -> None:
    recording = simulate_condition(["AFIB"], seed=2)[0]
    np.save(tmp_path / "ecg.npy", recording.samples)
    config = ExplainConfig(
        input=str(tmp_path / "ecg.npy"),
        sampling_rate_hz=500,
        checkpoint=checkpoint,
        num_steps=4,
        output=str(tmp_path / "x"),
    )
    found = table(explain(config))
    prediction = Predictor.load(checkpoint).predict(recording)
    most = LABELS[int(np.argmax(prediction.probabilities))]
    assert found["label"].tolist() == list(prediction.positive or (most,))
    assert set(found["record_id"]) == {"ecg"}
    np.testing.assert_allclose(
        found["probability"], [dict(zip(LABELS, prediction.probabilities, strict=True))[n] for n in found["label"]]
    )


def test_what_cannot_be_explained_is_refused(waveforms: Manifest, checkpoint: str, tmp_path: Path) -> None:
    given = {"checkpoint": checkpoint, "output": str(tmp_path / "x")}
    with pytest.raises(ConfigError, match="--input FILE or --waveforms W"):
        ExplainConfig(**given)
    with pytest.raises(ConfigError, match="wanted some of AFIB, CRBBB, NORM, got LBBB"):
        explain(ExplainConfig(waveforms=waveforms.directory, labels=["LBBB"], **given))
    with pytest.raises(ArtifactError, match="wanted recordings nobody, got none of them"):
        explain(ExplainConfig(waveforms=waveforms.directory, record_ids=["r2", "nobody"], **given))
    (tmp_path / "ecg.npy").write_bytes(b"no array")
    with pytest.raises(RecordingError):
        explain(ExplainConfig(input=str(tmp_path / "ecg.npy"), **given))
    assert not (tmp_path / "x").exists()
