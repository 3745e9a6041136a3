"""Explanations: exact for linear models, complete, blind to what was not recorded, and gone with the weights."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from hubert_ecg.ecg.preprocess import model_input, prepare_waveform
from hubert_ecg.errors import ConfigError
from hubert_ecg.models import HubertECGClassifier
from hubert_ecg.predictor import CropConfig, Predictor
from hubert_ecg.predictor.explain import Explainer, Explanation, flattened, integrated_gradients
from tests.predictor.classifiers import classifier, info_of, waveforms
from tests.predictor.trained import BLOCKS, PREPROCESS, simulated, trained_classifier


@pytest.fixture(scope="module")
def trained() -> HubertECGClassifier:
    return trained_classifier()


def explainer(model: HubertECGClassifier, *, num_crops: int = 1, num_steps: int = 16) -> Explainer:
    predictor = Predictor(model, info_of(labels=model.label_names), crops=CropConfig(num_crops=num_crops))
    return Explainer(predictor, num_steps=num_steps)


def test_of_a_linear_model_attributions_are_weight_times_input() -> None:
    rng = torch.Generator().manual_seed(0)
    weight, inputs, baselines = (torch.randn(*shape, generator=rng) for shape in ((60,), (3, 60), (3, 60)))
    for steps in (1, 7):
        found = integrated_gradients(lambda x, _: x @ weight, inputs, baselines, None, num_steps=steps, at_once=4)
        torch.testing.assert_close(found, weight * (inputs - baselines))


def test_of_a_product_each_factor_has_half() -> None:
    """xy from 0 to (a, b): both gradients are linear along the path, and each integral is ab / 2."""
    inputs = torch.tensor([[3.0, 5.0]])
    found = integrated_gradients(lambda x, _: x[:, 0] * x[:, 1], inputs, inputs * 0, None, num_steps=2, at_once=1)
    torch.testing.assert_close(found, torch.tensor([[7.5, 7.5]]))


def test_the_baseline_is_flat_where_something_was_recorded() -> None:
    counts = np.array([[1, 5, 9, 100]] * 12, np.int16)
    valid = np.array([4] * 10 + [3, 0])
    flat = flattened(counts, valid)
    assert flat[0].tolist() == [7, 7, 7, 7]
    assert flat[10].tolist() == [5, 5, 5, 0]
    assert flat[11].tolist() == [0, 0, 0, 0]


def test_attributions_sum_to_the_difference_of_scores(trained: HubertECGClassifier) -> None:
    recordings, targets = simulated(3, 7000)
    for recording, target in zip(recordings[:2], targets, strict=False):
        found = explainer(trained, num_crops=2, num_steps=32).explain(recording, BLOCKS[int(target.argmax())])
        assert found.attributions.shape == (12, 1000)
        assert found.completeness_error < 0.1 * abs(found.score - found.baseline_score)
        counts = prepare_waveform(recording, PREPROCESS).counts
        inputs = torch.from_numpy(np.stack([model_input(counts, start, PREPROCESS) for start in (0.0, 5.0)]))
        with torch.inference_mode():
            expected = trained(inputs).logits[:, int(target.argmax())].mean()
        assert found.score == pytest.approx(float(expected), abs=1e-4)
    crude = explainer(trained, num_crops=2, num_steps=2).explain(recordings[0], "CLBBB")
    fine = explainer(trained, num_crops=2, num_steps=32).explain(recordings[0], "CLBBB")
    assert fine.completeness_error < crude.completeness_error


def explanations(model: HubertECGClassifier) -> list[np.ndarray]:
    """Of six recordings with a block, the attributions to it where the crop is."""
    recordings, targets = simulated(9, 8000)
    blocks = [(r, BLOCKS[int(t.argmax())]) for r, t in zip(recordings, targets, strict=True) if t.any()]
    return [explainer(model).explain(*pair).attributions[:, 250:750].ravel() for pair in blocks]


def mean_correlation(one: list[np.ndarray], other: list[np.ndarray]) -> float:
    return float(np.mean([spearmanr(a, b).statistic for a, b in zip(one, other, strict=True)]))


def test_randomised_weights_destroy_explanations(trained: HubertECGClassifier) -> None:
    """The model parameter randomisation test of Adebayo et al. (Sanity Checks for Saliency Maps, 2018)."""
    of_trained = explanations(trained)
    assert mean_correlation(of_trained, explanations(trained)) == 1
    random = classifier(labels=BLOCKS, hidden_size=64, intermediate_size=128, seed=1)
    # With their signs: the size of each is that of the deflection times something, so that sizes alone stay alike.
    assert abs(mean_correlation(of_trained, explanations(random))) < 0.1


def without_top(counts: np.ndarray, found: Explanation, *, turned: bool = False, blocks: int = 60) -> np.ndarray:
    """The waveform with the tenths of a second that speak most for a label (or against it) made straight lines."""
    sums = found.attributions.reshape(12, -1, 10).sum(axis=2)
    order = np.argsort(sums if turned else -sums, axis=None)[:blocks]
    changed = counts.reshape(12, -1, 10).copy()
    for lead, block in zip(*np.unravel_index(order, sums.shape), strict=True):
        changed[lead, block] = np.linspace(changed[lead, block, 0], changed[lead, block, -1], 10)
    return changed.reshape(12, -1)


def test_what_speaks_for_a_label_is_what_the_score_rests_on(trained: HubertECGClassifier) -> None:
    recordings, _ = simulated(2, 9000)
    for recording, label in zip(recordings, BLOCKS, strict=True):
        counts = prepare_waveform(recording, PREPROCESS).counts
        of = explainer(trained, num_crops=3)
        found = of.explain_waveform(counts, label)
        without, against = (
            of.explain_waveform(without_top(counts, found, turned=turned), label).score for turned in (False, True)
        )
        assert without < found.score < against


def test_what_was_not_recorded_has_no_part_in_it(trained: HubertECGClassifier) -> None:
    counts = prepare_waveform(simulated(2, 9000)[0][1], PREPROCESS).counts
    valid = np.array([1000] * 6 + [0] + [700] * 5)
    rubbish = counts.copy()
    rubbish[np.arange(1000) >= valid[:, None]] = 77
    one, other = (explainer(trained, num_steps=32).explain_waveform(row, "CRBBB", valid) for row in (counts, rubbish))
    np.testing.assert_array_equal(one.attributions, other.attributions)
    assert not one.attributions[np.arange(1000) >= valid[:, None]].any()
    assert one.attributions[:6, 250:750].any(axis=1).all()
    assert one.completeness_error < 0.2 * abs(one.score - one.baseline_score)


def test_a_recording_shorter_than_a_crop_and_the_original_contract_are_explained() -> None:
    recording = simulated(1, 3)[0][0]
    short = replace(recording, samples=recording.samples[:, :1500])
    for preprocess in (replace(PREPROCESS, min_duration_s=2.0), replace(PREPROCESS, contract="original")):
        predictor = Predictor(classifier(), info_of(preprocess=preprocess))
        given = short if preprocess.contract == "ours" else recording
        found = Explainer(predictor, num_steps=8).explain(given, "AFIB")
        assert found.attributions.shape == (12, 500 if preprocess.contract == "ours" else 1000)
        assert found.attributions[:, :300].any()
        assert found.attributions[:, 300:].any() == (preprocess.contract == "original")


def test_unknown_labels_and_steps_are_refused() -> None:
    predictor = Predictor(classifier(), info_of())
    with pytest.raises(ConfigError, match="wanted one of AFIB, CRBBB, NORM, got 'LBBB'"):
        Explainer(predictor).explain_waveform(waveforms(1)[0], "LBBB")
    with pytest.raises(ConfigError, match="num_steps"):
        Explainer(predictor, num_steps=0)
