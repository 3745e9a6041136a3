"""What was not recorded, or is not attended to, changes neither inputs nor masks, losses, gradients or outputs."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch

from hubert_ecg.ecg.preprocess import PreprocessConfig
from hubert_ecg.ecg.simulate import simulate_condition
from hubert_ecg.errors import RecordingError
from hubert_ecg.models import HubertECG, HubertECGClassifier, model_config
from hubert_ecg.predictor import CropConfig, Prediction, Predictor
from hubert_ecg.storage import files, tables
from hubert_ecg.storage.artifact import Manifest
from hubert_ecg.storage.checkpoint import CheckpointInfo
from hubert_ecg.training.batches import to_batch
from hubert_ecg.training.examples import ExampleReader, spans_of
from hubert_ecg.training.objectives import Classification, MaskedPrediction, MaskingConfig
from hubert_ecg.training.step import Batch
from hubert_ecg.training.targets import CodeTargets, LabelTargets
from tests.training.padded import AGES, CLASSES, PREPROCESS, ROWS, TOKENS, VALID, write_codes, write_waveforms

POSITIONS = np.array([[part, row, part * ROWS + row] for part in range(2) for row in range(ROWS)])
SIZES = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 32, "num_hidden_layers": 2}


@pytest.fixture(scope="module")
def waveforms(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return write_waveforms(tmp_path_factory.mktemp("w") / "w")


@pytest.fixture(scope="module")
def rubbish(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return write_waveforms(tmp_path_factory.mktemp("w") / "rubbish", rubbish=5)


@pytest.fixture(scope="module")
def codes(waveforms: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return write_codes(tmp_path_factory.mktemp("l") / "l", waveforms)


def batch_of(waveforms: Manifest, targets: CodeTargets | LabelTargets, rows: np.ndarray = POSITIONS) -> Batch:
    reader = ExampleReader(waveforms=waveforms, preprocess=PREPROCESS, targets=targets, seed=0)
    return to_batch(pa.concat_tables(reader.read(rows)), torch.device("cpu"))


def masked_prediction(length: int = 1) -> MaskedPrediction:
    torch.manual_seed(0)
    model = HubertECG(model_config("tiny", vocab_sizes=(7, 7), **SIZES)).eval()
    return MaskedPrediction(model, MaskingConfig(alpha=0.7, length=length))


def classification(task: str, labels: tuple[str, ...]) -> Classification:
    torch.manual_seed(0)
    encoder = HubertECG(model_config("tiny", vocab_sizes=(7,), **SIZES)).eval()
    model = HubertECGClassifier.from_encoder(encoder, label_names=labels, task=task).eval()  # type: ignore[arg-type]
    return Classification(model)


def test_tables_differ_where_nothing_was_recorded_and_batches_do_not(
    waveforms: Manifest, rubbish: Manifest, codes: Manifest
) -> None:
    a, b = (tables.list_rows(files.read_table(w.part(0))["counts"])[1] for w in (waveforms, rubbish))
    assert (a != b).any()
    targets = CodeTargets(codes=codes, codebooks=("a", "b"), num_tokens=TOKENS)
    clean, other = (batch_of(w, targets) for w in (waveforms, rubbish))
    assert torch.equal(clean.inputs, other.inputs)
    assert clean.attention_mask is not None
    assert torch.equal(clean.attention_mask, other.attention_mask)
    assert clean.attention_mask[0].all()
    assert clean.attention_mask[1].view(12, 500)[:, :320].all()
    assert clean.attention_mask[1].sum() == 12 * 320
    assert clean.attention_mask[2].view(12, 500).any(dim=1).tolist() == [True] * 6 + [False] * 6


def test_a_batch_that_was_recorded_throughout_has_no_mask(waveforms: Manifest, codes: Manifest) -> None:
    targets = CodeTargets(codes=codes, codebooks=("a",), num_tokens=TOKENS)
    assert batch_of(waveforms, targets, POSITIONS[[0, 5]]).attention_mask is None


def test_hidden_tokens_are_drawn_among_those_that_count(waveforms: Manifest, codes: Manifest) -> None:
    targets = CodeTargets(codes=codes, codebooks=("a", "b"), num_tokens=TOKENS)
    batch = batch_of(waveforms, targets)
    module = masked_prediction()
    attended = module.model.token_mask(batch.attention_mask, TOKENS)
    drawn = module.draw_masks(len(POSITIONS), TOKENS, seed=4)
    masks = module.redraw_masks(drawn, batch.attention_mask, seed=4, first=0)
    assert not (masks & ~attended).any()
    complete = attended.all(dim=1)
    assert complete[[0, 5]].all()
    assert not complete[[1, 2, 3, 6, 7, 8]].any()
    assert torch.equal(masks[complete], drawn[complete])
    for row in range(len(POSITIONS)):
        share = 0.33 * int(attended[row].sum())
        assert int(share) <= int(masks[row].sum()) <= int(share) + 1
    # Two ranks draw what one does.
    halves = [module.redraw_masks(drawn[i : i + 5], batch.attention_mask[i : i + 5], seed=4, first=i) for i in (0, 5)]
    assert torch.equal(torch.cat(halves), masks)
    spans = masked_prediction(length=4)
    long = spans.redraw_masks(spans.draw_masks(10, TOKENS, 4), batch.attention_mask, seed=4, first=0)
    assert not (long & ~attended).any()
    assert long.any(dim=1).all()


def test_codes_of_tokens_that_do_not_count_are_never_learned(waveforms: Manifest, codes: Manifest) -> None:
    targets = CodeTargets(codes=codes, codebooks=("a", "b"), num_tokens=TOKENS)
    batch = batch_of(waveforms, targets)
    assert batch.targets.max() == 6
    assert batch.targets.min() == -100
    module = masked_prediction()
    codes_BCT = batch.targets.view(-1, 2, TOKENS)
    attended = module.model.token_mask(batch.attention_mask, TOKENS)
    assert torch.equal((codes_BCT == -100), (~attended)[:, None].expand_as(codes_BCT))
    masks = module.draw_masks(len(POSITIONS), TOKENS, seed=4)  # hides padding, too
    wrong = torch.where(codes_BCT < 0, 3, codes_BCT)
    for given in (codes_BCT, wrong):
        result = module(batch.inputs, given, masks, batch.attention_mask)
        assert result.masked_count.tolist() == [(masks & attended).sum()] * 2
        assert result.unmasked_count.tolist() == [(~masks & attended).sum()] * 2
        result.total.backward()
        found = [result.total.detach(), *(p.grad.clone() for p in module.parameters() if p.grad is not None)]
        module.zero_grad()
        if given is codes_BCT:
            first = found
    assert len(first) > 10
    for one, other in zip(first, found, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


@torch.no_grad()
def test_attention_and_pooling_leave_padding_out(waveforms: Manifest) -> None:
    """The logits are the head of the mean over attended tokens alone, and these do not look at the others."""
    targets = LabelTargets(label_set="classes", labels=("AFIB", "CRBBB", "NORM"), task="multi_class")
    batch = batch_of(waveforms, targets)
    model = classification("multi_class", targets.labels).model
    logits = model(batch.inputs, attention_mask=batch.attention_mask).logits
    attended = model.hubert_ecg.token_mask(batch.attention_mask, TOKENS)
    # A mask token in place of an unattended one would show in every other token that attended to it.
    hidden = model.hubert_ecg.encode(batch.inputs, batch.attention_mask, mask_time_indices=~attended).last_hidden_state
    means = torch.stack([row[own].mean(dim=0) for row, own in zip(hidden, attended, strict=True)])
    torch.testing.assert_close(logits, model.scores(means), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(logits[1], model(batch.inputs).logits[1], atol=1e-5)


def test_classes_are_learned_by_their_number(waveforms: Manifest) -> None:
    targets = LabelTargets(label_set="classes", labels=("AFIB", "CRBBB", "NORM"), task="multi_class")
    batch = batch_of(waveforms, targets)
    numbers = [targets.labels.index(name) for [name] in CLASSES] * 2
    assert batch.targets[:, 0].tolist() == numbers
    module = classification("multi_class", targets.labels)
    loss = module(batch.inputs, batch.targets, batch.attention_mask)
    probabilities = module.outputs(batch.inputs, batch.attention_mask)
    expected = -probabilities[range(10), numbers].log().mean()
    torch.testing.assert_close(loss.total / loss.weight, expected)


def test_numbers_are_learned_in_standard_units_and_unknown_ones_are_not(waveforms: Manifest) -> None:
    targets = LabelTargets(label_set="age", labels=("age",), task="regression")
    batch = batch_of(waveforms, targets)
    module = classification("regression", targets.labels)
    module = Classification(module.model, standard=(torch.tensor([60.0]), torch.tensor([20.0])))
    loss = module(batch.inputs, batch.targets, batch.attention_mask)
    outputs = module.outputs(batch.inputs, batch.attention_mask)[:, 0]
    known = [row for row in range(10) if (AGES[row % 5] or [np.nan])[0] == (AGES[row % 5] or [0])[0]]
    ages = torch.tensor([AGES[row % 5][0] for row in known])
    assert loss.weight == len(known) == 6
    torch.testing.assert_close(loss.total, (((outputs[known] - ages) / 20) ** 2).sum())
    loss.total.backward()
    assert all(torch.isfinite(p.grad).all() for p in module.parameters() if p.grad is not None)


def test_predictions_do_not_depend_on_what_is_in_the_padding(waveforms: Manifest, rubbish: Manifest) -> None:
    labels = ("AFIB", "CRBBB", "NORM")
    info = CheckpointInfo(kind="classifier", preprocessing=PREPROCESS.to_dict(), task="multi_class", label_names=labels)
    predictor = Predictor(classification("multi_class", labels).model, info, crops=CropConfig(num_crops=2))
    found = []
    for table in (files.read_table(w.part(0)) for w in (waveforms, rubbish)):
        counts = [row.reshape(12, -1) for row in tables.list_rows(table["counts"])]
        found.append(predictor.probabilities(counts, list(VALID), spans_of(table["attended_s"])))
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_allclose(found[0].sum(axis=1), 1, atol=1e-6)
    # One at a time, where the complete recording needs no mask, as in a batch that needs one.
    for row, together in enumerate(found[0]):
        spans = [spans_of(table["attended_s"])[row]]
        alone = predictor.probabilities([counts[row]], [VALID[row]], spans)[0]
        np.testing.assert_allclose(alone, together, atol=1e-5)


def test_a_short_recording_without_a_lead_is_predicted_where_the_contract_admits_it() -> None:
    ecg = simulate_condition(["AFIB"], seed=1)[0]
    names = ecg.lead_names[:8] + ecg.lead_names[9:]
    short = replace(ecg, samples=np.delete(ecg.samples, 8, axis=0)[:, :1600], lead_names=names)
    labels = ("AFIB", "CRBBB", "NORM")
    model = classification("multi_label", labels).model
    info = CheckpointInfo(kind="classifier", preprocessing=PREPROCESS.to_dict(), task="multi_label", label_names=labels)
    prediction = Predictor(model, info).predict(short)
    assert [(f.kind, f.lead) for f in prediction.findings] == [("missing lead", "V3"), ("padded", None)]
    assert all(0 < probability < 1 for probability in prediction.probabilities)
    strict = replace(info, preprocessing=PreprocessConfig().to_dict())
    with pytest.raises(RecordingError, match="missing V3"):
        Predictor(model, strict).predict(short)


def test_the_label_that_applies_depends_on_the_task() -> None:
    values = {"record_id": "r", "labels": ("A", "B"), "thresholds": (0.2, 0.7), "fingerprint": "f"}
    assert Prediction(probabilities=(0.4, 0.6), **values).positive == ("A",)
    assert Prediction(probabilities=(0.4, 0.6), task="multi_class", **values).positive == ("B",)
    assert Prediction(probabilities=(61.0, 0.9), task="regression", **values).positive == ()
