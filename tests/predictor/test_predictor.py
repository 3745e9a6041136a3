"""The predictor: crops, their mean, maximum and spread, embeddings, and answers that depend on nothing else."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from hubert_ecg.ecg.preprocess import PreprocessConfig, model_input, prepare_waveform
from hubert_ecg.ecg.simulate import simulate_condition
from hubert_ecg.errors import ConfigError
from hubert_ecg.evaluation.abstention import Abstention
from hubert_ecg.evaluation.calibration import Calibration
from hubert_ecg.models import HubertECGClassifier, model_config
from hubert_ecg.models.config import Size
from hubert_ecg.models.encoders import new_encoder
from hubert_ecg.predictor import CropConfig, Predictor
from hubert_ecg.predictor.embedding import FINAL, Embedder
from tests.predictor.classifiers import LABELS, classifier, info_of, waveforms

PREPROCESS = PreprocessConfig()
ECGS = waveforms(5)


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor(classifier(), info_of())


def by_crop(predictor: Predictor, counts: np.ndarray, starts_s: list[float]) -> np.ndarray:
    """[crop, label], each crop through the model by itself."""
    inputs = [torch.from_numpy(model_input(counts, start, PREPROCESS))[None] for start in starts_s]
    with torch.inference_mode():
        return np.concatenate([predictor.model(one).logits.sigmoid().numpy() for one in inputs])


@pytest.mark.parametrize(
    ("num_crops", "starts_s"), [(1, [2.5]), (3, [0.0, 2.5, 5.0]), (6, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0])]
)
@pytest.mark.parametrize(("reduce", "expected"), [("mean", np.mean), ("max", np.max)])
def test_crops_are_spread_and_reduced(
    num_crops: int, starts_s: list[float], reduce: str, expected: Callable[..., np.ndarray]
) -> None:
    crops = CropConfig(num_crops=num_crops, reduce=reduce)  # type: ignore[arg-type]
    predictor = Predictor(classifier(), info_of(), crops=crops)
    outputs = predictor.apply(ECGS)
    for row, counts in enumerate(ECGS):
        alone = by_crop(predictor, counts, starts_s)
        np.testing.assert_allclose(outputs.probabilities[row], expected(alone, axis=0), atol=1e-5)
        if num_crops == 1:
            assert np.isnan(outputs.spread[row]).all()
        else:
            np.testing.assert_allclose(outputs.spread[row], alone.std(axis=0), atol=1e-5)
            assert outputs.spread[row].min() > 1e-4


def test_random_crops_depend_on_seed_and_recording_alone() -> None:
    def predict(seed: int, ecgs: list[np.ndarray]) -> np.ndarray:
        crops = CropConfig(num_crops=4, placement="random", seed=seed)
        return Predictor(classifier(), info_of(), crops=crops).apply(ecgs).probabilities

    first, again, other = predict(1, ECGS), predict(1, ECGS), predict(2, ECGS)
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3
    np.testing.assert_allclose(predict(1, ECGS[::-1])[::-1], first, atol=1e-5)
    starts = CropConfig(num_crops=500, placement="random", seed=1).starts_s(1000, PREPROCESS)
    assert 0 <= starts.min() < 0.05 < 4.95 < starts.max() <= 5
    assert abs(starts.mean() - 2.5) < 0.25
    # What was recorded decides; padding behind it has no say.
    assert CropConfig(placement="random").starts_s(800, PREPROCESS).max() <= 3


def test_equal_batches_give_equal_answers_and_other_batches_near_ones(predictor: Predictor) -> None:
    together = predictor.apply(ECGS).probabilities
    np.testing.assert_array_equal(predictor.apply(ECGS).probabilities, together)
    for row, counts in enumerate(ECGS):
        np.testing.assert_allclose(predictor.apply([counts]).probabilities[0], together[row], atol=1e-5)


def test_many_crops_are_computed_in_pieces() -> None:
    """More crops than the model is given at once, with a piece that ends within a recording."""
    predictor = Predictor(classifier(), info_of(), crops=CropConfig(num_crops=45))
    starts_s = np.linspace(0, 5, 45).tolist()
    outputs = predictor.apply(ECGS, layers=[1])
    for row, counts in enumerate(ECGS):
        expected = by_crop(predictor, counts, starts_s).mean(axis=0)
        np.testing.assert_allclose(outputs.probabilities[row], expected, atol=1e-5)
    assert outputs.embeddings[1].shape == (5, 32)


def test_several_threads_may_use_one_predictor(predictor: Predictor) -> None:
    alone = [predictor.apply([counts]).probabilities for counts in ECGS]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda row: predictor.apply([ECGS[row % 5]]).probabilities, range(40)))
    for row, probabilities in enumerate(found):
        np.testing.assert_array_equal(probabilities, alone[row % 5])


@pytest.mark.parametrize("stable", [False, True])
def test_embeddings_are_means_over_tokens_of_each_layer_and_of_what_the_head_reads(stable: bool) -> None:
    def model() -> HubertECGClassifier:
        return classifier(do_stable_layer_norm=stable)

    predictor = Predictor(model(), info_of(), crops=CropConfig(num_crops=1))
    outputs = predictor.apply(ECGS, layers=[0, 1, FINAL])
    with torch.inference_mode():
        head = predictor.model.classifier(torch.from_numpy(outputs.embeddings[FINAL])).sigmoid().numpy()
        inputs = torch.from_numpy(np.stack([model_input(counts, 2.5, PREPROCESS) for counts in ECGS]))
        hidden = predictor.model.hubert_ecg.encode(inputs, output_hidden_states=True).hidden_states
    np.testing.assert_allclose(outputs.probabilities, head, atol=1e-5)
    found = Embedder(model(), info_of(), crops=CropConfig(num_crops=1)).embed(ECGS, layers=[FINAL, 1, 0])
    for layer in (0, 1, FINAL):
        np.testing.assert_array_equal(found[layer], outputs.embeddings[layer])
        if layer != FINAL:
            np.testing.assert_allclose(found[layer], hidden[layer + 1].mean(dim=1).numpy(), atol=1e-5)


def test_embeddings_do_not_see_what_was_not_recorded(predictor: Predictor) -> None:
    valid = [np.array([1000] * 6 + [0] * 3 + [400] * 3) for _ in ECGS]
    rubbish = [counts.copy() for counts in ECGS]
    for counts in rubbish:
        counts[6:9] = 7
        counts[9:, 400:] = -7
    clean = predictor.apply(ECGS, valid, layers=[0])
    other = predictor.apply(rubbish, valid, layers=[0])
    np.testing.assert_array_equal(clean.embeddings[0], other.embeddings[0])
    assert np.abs(clean.embeddings[0] - predictor.apply(ECGS, layers=[0]).embeddings[0]).max() > 1e-3


def test_a_recording_is_predicted_as_its_prepared_waveform_is(predictor: Predictor) -> None:
    recording = simulate_condition(["AFIB"], seed=3)[0]
    prediction = predictor.predict(recording)
    waveform = prepare_waveform(recording, PREPROCESS)
    outputs = predictor.apply([waveform.counts], [waveform.valid_samples])
    assert prediction.probabilities == tuple(outputs.probabilities[0].tolist())
    assert prediction.raw == tuple(outputs.raw[0].tolist())
    assert prediction.spread == tuple(outputs.spread[0].tolist())


@pytest.mark.parametrize(
    ("size", "shape"),
    [
        ("state_space", {"hidden_size": 16, "conv_dim": [8, 8, 16], "num_hidden_layers": 1}),
        ("residual", {"hidden_size": 16, "conv_dim": [8], "block_dim": [8, 16], "num_hidden_layers": 2}),
    ],
)
def test_a_classifier_of_leads_side_by_side_reads_crops_of_any_length_in_millivolts(
    size: Size, shape: dict[str, Any]
) -> None:
    torch.manual_seed(0)
    encoder = new_encoder(model_config(size, **shape))
    model = HubertECGClassifier.from_encoder(encoder, label_names=LABELS)
    contract = PreprocessConfig(range_mv=5.0, crop_s=2.5, min_duration_s=2.5)
    found = Predictor(model, info_of(preprocess=contract), crops=CropConfig(num_crops=7))
    recording = simulate_condition(["AFIB"], seed=3)[0]
    prediction = found.predict(recording)
    counts = prepare_waveform(recording, contract).counts
    crops = torch.tensor(counts / 16384, dtype=torch.float32).unfold(1, 250, 125).permute(1, 0, 2)
    wanted = model(crops).logits.sigmoid().mean(dim=0)
    np.testing.assert_allclose(prediction.probabilities, wanted.numpy(), atol=1e-5)


def test_the_quality_of_a_recording_is_looked_at(predictor: Predictor) -> None:
    recording = simulate_condition(["AFIB"], seed=3)[0]
    assert not [finding for finding in predictor.predict(recording).findings if finding.severity == "severe"]
    recording.samples[7] = 0.2
    findings = predictor.predict(recording).findings
    assert ("flat", "V2", "severe") in [(finding.kind, finding.lead, finding.severity) for finding in findings]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_crops": 0}, "num_crops: wanted at least 1, got 0"),
        ({"placement": "everywhere"}, "placement: wanted spread or random, got 'everywhere'"),
        ({"reduce": "median"}, "reduce: wanted mean or max, got 'median'"),
        ({"seed": -1}, "seed: wanted 0 or more"),
    ],
)
def test_impossible_crops_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        CropConfig(**settings)  # type: ignore[arg-type]


def test_what_a_model_cannot_do_is_refused(predictor: Predictor) -> None:
    with pytest.raises(ConfigError, match="multi_class model"):
        Predictor(classifier("multi_class"), info_of("multi_class"), crops=CropConfig(reduce="max"))
    with pytest.raises(ConfigError, match="wanted some of 0 to 1"):
        predictor.apply(ECGS, layers=[2])


def test_calibration_is_applied_after_the_crops_are_averaged() -> None:
    calibration = Calibration(
        method="platt", exclusive=False, slopes=(0.5, 2.0, 1.0), offsets=(1.0, 0.0, 0.0), fitted=(True, True, False)
    )
    info = replace(info_of(), calibration={"probabilities": calibration.to_json()})
    outputs = Predictor(classifier(), info).apply(ECGS)
    np.testing.assert_array_equal(outputs.raw, Predictor(classifier(), info_of()).apply(ECGS).probabilities)
    logits = np.log(outputs.raw / (1 - outputs.raw)).astype(np.float64)
    expected = 1 / (1 + np.exp(-(logits * [0.5, 2, 1] + [1, 0, 0])))
    np.testing.assert_allclose(outputs.probabilities, expected, atol=1e-6)
    assert outputs.probabilities.dtype == np.float32


def test_predictions_are_withheld_by_the_rule_of_the_checkpoint(predictor: Predictor) -> None:
    good, bad = (simulate_condition(["AFIB"], seed=3)[0] for _ in range(2))
    bad.samples[7] = 0.2
    assert predictor.predict(bad).abstained is None
    info = replace(info_of(), calibration={"abstention": Abstention(severe_leads=1).to_json()})
    careful = Predictor(classifier(), info)
    assert careful.predict(good).abstained is None
    prediction = careful.predict(bad)
    assert prediction.abstained == "quality: flat V2"
    assert str(prediction).splitlines()[-1] == "not to be relied on: quality: flat V2"
    doubtful = replace(info, calibration={"abstention": Abstention(max_spread=(1.0, 1.0, 0.0)).to_json()})
    said = Predictor(classifier(), doubtful).predict(good).abstained
    assert said is not None
    assert said.startswith("uncertain: NORM spreads by ")
