"""Every option of pretrain and finetune that says what is learned, by its effect on a job, without Ray."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import metrics as sk

from hubert_ecg.clustering.quality import perplexity
from hubert_ecg.errors import ArtifactError, ConfigError
from hubert_ecg.models import HubertECG, model_config
from hubert_ecg.models.adapt import LoraConfig
from hubert_ecg.models.dropouts import ClassifierDropoutConfig, DropoutConfig, read_dropouts
from hubert_ecg.pipeline.finetune import FinetuneConfig, finetune
from hubert_ecg.pipeline.fit_facts import judge_validation
from hubert_ecg.pipeline.pretrain import VALIDATION_STEP, PretrainConfig, pretrain
from hubert_ecg.pipeline.training_run import WorkersConfig
from hubert_ecg.storage.artifact import Manifest
from hubert_ecg.storage.checkpoint import CheckpointInfo, load_checkpoint, save_checkpoint
from hubert_ecg.training.augment import AugmentConfig, LabelledAugmentConfig
from hubert_ecg.training.compute import ComputeConfig
from hubert_ecg.training.objectives import MaskingConfig
from hubert_ecg.training.optimiser import OptimiserConfig
from hubert_ecg.training.regulariser import RegulariserConfig
from hubert_ecg.training.state import TrainerState
from tests.pipeline.training_jobs import batch_of, finetune_job, learner_of, pretrain_job
from tests.training.padded import PREPROCESS, ROWS, TOKENS, write_codes, write_waveforms

SHAPE = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 48, "num_hidden_layers": 2}
STEM, HEAD = "model.hubert_ecg.feature_extractor.", "model.classifier"
FIVE = [(0, row, row) for row in range(ROWS)]


@pytest.fixture(scope="module")
def waveforms(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return write_waveforms(tmp_path_factory.mktemp("w") / "w", splits=("train", "val", "test"))


@pytest.fixture(scope="module")
def codes(waveforms: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return write_codes(tmp_path_factory.mktemp("l") / "l", waveforms)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    model = HubertECG(model_config("tiny", vocab_sizes=(5,), hidden_dropout=0.1, attention_dropout=0.2, **SHAPE))
    place = tmp_path_factory.mktemp("c")
    save_checkpoint(place, model, CheckpointInfo(kind="ssl", preprocessing=PREPROCESS.to_dict()))
    return str(place)


def changed(before: dict[str, torch.Tensor], module: torch.nn.Module) -> set[str]:
    return {name for name, tensor in module.state_dict().items() if not torch.equal(tensor, before[name])}


# How long


def test_epochs_become_steps(waveforms: Manifest, codes: Manifest) -> None:
    # Five training recordings three times over, four at a time: 15 / 4, rounded up.
    for job in (
        pretrain_job(waveforms, codes, epochs=3, batch_size=4),
        finetune_job(waveforms, epochs=3, batch_size=4),
    ):
        assert job.loop.steps == 4
    assert pretrain_job(waveforms, codes, epochs=0.5, batch_size=1).loop.steps == 3
    assert finetune_job(waveforms, steps=7).loop.steps == 7
    assert [pretrain_job(waveforms, codes).loop.steps, finetune_job(waveforms).loop.steps] == [2000, 1000]


def test_recordings_with_rare_labels_come_up_more_often(waveforms: Manifest) -> None:
    job = finetune_job(waveforms, epochs=1, batch_size=4, balance=0.8)
    # CRBBB, which one of five carries, asks for 2 visits, AFIB and NORM, which two carry, for sqrt(2): once or twice.
    visits = np.bincount(job.plan.selected[0], minlength=ROWS)
    assert visits[3] == 2
    assert set(visits.tolist()) == {1, 2}
    assert job.loop.steps == -(-int(visits.sum()) // 4)
    assert job.provenance["counts"] == {"train": 5, "val": 5}
    assert job.validation_plan.num_rows == 5
    assert finetune_job(waveforms).plan.selected[0].tolist() == list(range(ROWS))


def test_tags_shares_and_shuffled_labels_choose_what_is_trained_on(waveforms: Manifest) -> None:
    part = finetune_job(waveforms, train_fraction=0.4)
    assert (part.plan.num_rows, part.validation_plan.num_rows) == (2, 5)
    with pytest.raises(ArtifactError, match="wanted recordings with labels of classes"):
        finetune_job(waveforms, train_tag="natural")  # which none of them carries
    shuffled = finetune_job(waveforms, shuffle_labels=True, seed=1)
    answers = [batch_of(job, FIVE).targets[:, 0].tolist() for job in (finetune_job(waveforms), shuffled)]
    assert answers[0] == [2, 0, 2, 1, 0]
    assert answers[1] != answers[0]
    assert sorted(answers[1]) == sorted(answers[0])


def test_accumulation_and_schedule_reach_the_learner(waveforms: Manifest) -> None:
    job = finetune_job(waveforms, steps=10, accumulation_steps=2, optimiser=OptimiserConfig(warmup_share=0.4, lr=1.0))
    learner = learner_of(job, job.make_module(None))
    assert (learner.accumulation_steps, learner.steps) == (2, 10)
    learner.step(batch_of(job, FIVE), 1)
    assert {group["lr"] for group in learner.optimiser.param_groups} == {0.5}  # the second of 4 steps of warm-up
    assert learner.parts == {}


# Crops and augmentation


def test_without_random_crops_training_sees_the_middle(waveforms: Manifest, codes: Manifest) -> None:
    positions = [(0, 0, position) for position in range(8)]
    makers: list[Any] = [lambda **s: pretrain_job(waveforms, codes, **s), lambda **s: finetune_job(waveforms, **s)]
    for make in makers:
        fixed, free = (batch_of(make(random_crop=value), positions).inputs for value in (False, True))
        middle = batch_of(replace(make(), reader=make().validation_reader), positions[:1]).inputs
        assert torch.equal(fixed, middle.expand(8, -1))
        assert len({tuple(row[:50].tolist()) for row in free}) > 1


def test_training_examples_are_augmented_and_validation_is_not(waveforms: Manifest, codes: Manifest) -> None:
    plain = pretrain_job(waveforms, codes)
    job = pretrain_job(waveforms, codes, augment=AugmentConfig(lead_dropout=0.3))
    assert plain.reader.augment is None
    assert job.validation_reader.augment is None
    before, after = batch_of(plain, FIVE), batch_of(job, FIVE)
    assert before.attention_mask is not None
    assert after.attention_mask is not None
    assert torch.equal(before.targets, after.targets)
    assert after.attention_mask.sum() < before.attention_mask.sum()
    # The codes of leads that were taken away are not learned.
    module = job.make_module(None)
    masks = job._masks(module, 0, after)
    result = module(after.inputs, job._codes(after), masks, after.attention_mask)
    attended = module.model.token_mask(after.attention_mask, TOKENS)
    assert int(result.masked_count[0] + result.unmasked_count[0]) == int(attended.sum())
    mixing = finetune_job(waveforms, augment=LabelledAugmentConfig(mixup=1.0))
    assert batch_of(mixing, FIVE).targets.shape == (5, 3)
    loss = mixing.step_loss(mixing.make_module(None), batch_of(mixing, FIVE), 0)
    assert float(loss.weight) == 5


# Models


def test_the_head_is_as_wide_as_asked_and_has_the_activation_asked_for(waveforms: Manifest, tmp_path: Path) -> None:
    job = finetune_job(waveforms, head="mlp", head_hidden_size=24, head_activation="gelu")
    module = job.make_module(None).eval()
    job.save(module, tmp_path, TrainerState())
    pooled = torch.randn(2, 128, generator=torch.Generator().manual_seed(0))
    for model in (module.model, load_checkpoint(tmp_path)[0]):
        first, second = model.classifier[0], model.classifier[2]
        assert first.weight.shape == (24, 128)
        hidden = torch.nn.functional.gelu(first(pooled))
        torch.testing.assert_close(model.scores(pooled), second(hidden))
    by_default = finetune_job(waveforms, head="mlp").make_module(None).model.classifier
    assert by_default[0].weight.shape == (128, 128)
    assert isinstance(by_default[1], torch.nn.Tanh)


def test_dropouts_of_a_fine_tuning_are_those_asked_for(waveforms: Manifest, checkpoint: str, tmp_path: Path) -> None:
    dropouts = ClassifierDropoutConfig(hidden=0.3, classifier=0.4, layerdrop=0.25, feature_projection=0.05)
    job = finetune_job(waveforms, checkpoint=checkpoint, dropouts=dropouts)
    module = job.make_module(None)
    wanted = {"hidden": 0.3, "attention": 0.2, "activation": 0.0, "classifier": 0.4, "feature_projection": 0.05}
    assert read_dropouts(module.model) == wanted
    assert module.model.config.layerdrop == 0.25
    job.save(module, tmp_path, TrainerState())
    assert read_dropouts(job.make_module(tmp_path).model) == wanted


@pytest.mark.parametrize("keep", [True, False])
def test_the_next_iteration_has_new_heads_and_the_configured_dropouts(
    waveforms: Manifest, codes: Manifest, checkpoint: str, tmp_path: Path, keep: bool
) -> None:
    first = pretrain_job(waveforms, codes, patience=4, regulariser=RegulariserConfig(dynamic=True))
    module = first.make_module(None)
    learner = learner_of(first, module)
    learner.validated(False, 1)
    assert read_dropouts(module.model)["hidden"] == pytest.approx(0.05)
    first.save(module, tmp_path, TrainerState())
    second = pretrain_job(waveforms, codes, checkpoint=str(tmp_path), keep_projections=keep)
    model = second.make_module(None).model
    assert set(read_dropouts(model).values()) == {0.0}
    assert [len(embedding.weight) for embedding in model.label_embedding] == [7, 7]
    for old, new in zip(module.model.label_embedding, model.label_embedding, strict=True):
        assert not torch.equal(old.weight, new.weight)
    for old, new in zip(module.model.final_proj, model.final_proj, strict=True):
        assert torch.equal(old.weight, new.weight) == keep
    assert torch.equal(module.model.encoder.layer_norm.weight, model.encoder.layer_norm.weight)
    raised = pretrain_job(waveforms, codes, checkpoint=checkpoint, dropouts=DropoutConfig(hidden=0.15))
    assert read_dropouts(raised.make_module(None).model)["hidden"] == 0.15


def test_the_stem_thaws_at_its_step(waveforms: Manifest, checkpoint: str) -> None:
    settings = {"train_conv_stem": True, "conv_freeze_steps": 3, "freeze_steps": 2}
    optimiser = OptimiserConfig(lr=1e-2, warmup_share=0.0)
    job = finetune_job(waveforms, checkpoint=checkpoint, optimiser=optimiser, **settings)
    module = job.make_module(None)
    learner = learner_of(job, module)
    moved = []
    for step in range(4):
        before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
        learner.step(batch_of(job, FIVE), step)
        moved.append(changed(before, module))
    assert all(name.startswith(HEAD) for names in moved[:2] for name in names)
    stem = [any(name.startswith(STEM) for name in names) for names in moved]
    others = [any(not name.startswith((STEM, HEAD)) for name in names) for names in moved]
    assert (stem, others) == ([False, False, False, True], [False, False, True, True])
    # A run that goes on in the middle of the freezing still waits for it to end.
    again = job.make_module(None)
    before = {name: tensor.clone() for name, tensor in again.state_dict().items()}
    learner_of(job, again).step(batch_of(job, FIVE), 1)
    assert all(name.startswith(HEAD) for name in changed(before, again))


def test_a_fine_tuning_starts_from_the_checkpoint_or_from_random_weights(waveforms: Manifest, checkpoint: str) -> None:
    source, _ = load_checkpoint(checkpoint)
    name = "encoder.layers.0.attention.q_proj.weight"
    given = finetune_job(waveforms, checkpoint=checkpoint, head="label_embedding").make_module(None).model
    assert torch.equal(given.hubert_ecg.get_parameter(name), source.get_parameter(name))
    assert given.label_embedding.weight.shape == (3, 32)
    fresh = [finetune_job(waveforms, size="tiny").make_module(None).model.hubert_ecg for _ in range(2)]
    assert fresh[0].get_parameter(name).shape == (128, 128)
    assert not torch.equal(fresh[0].get_parameter(name), fresh[1].get_parameter(name))


def test_masks_are_as_many_and_as_long_as_asked_and_depend_on_the_seed(waveforms: Manifest, codes: Manifest) -> None:
    masking = MaskingConfig(probability=0.5, length=4, min_masks=9)
    jobs = [pretrain_job(waveforms, codes, masking=masking, batch_size=4, seed=seed) for seed in (0, 1)]
    full = batch_of(jobs[0], [(0, 0, place) for place in range(4)])
    masks = [job._masks(job.make_module(None), 7, full) for job in jobs]
    # 0.5 x 93 / 4 = 11.6 spans of 4 tokens each, which may overlap.
    assert all(12 <= int(row.sum()) <= 48 for row in masks[0])
    assert masks[0].float().mean() > 0.33
    runs = [len(run) for run in "".join("x" if hidden else " " for hidden in masks[0][0].tolist()).split()]
    assert min(runs) >= 4
    assert not torch.equal(*masks)
    few = pretrain_job(waveforms, codes, masking=MaskingConfig(probability=0.01, min_masks=9), batch_size=4)
    assert few._masks(few.make_module(None), 7, full).sum(dim=1).tolist() == [9] * 4


def test_the_optimiser_is_as_asked(waveforms: Manifest) -> None:
    optimiser = OptimiserConfig(lr=0.3, beta1=0.8, beta2=0.95, eps=1e-5, weight_decay=0.2, layer_decay=0.5)
    job = finetune_job(waveforms, optimiser=optimiser, size="tiny")
    learner = learner_of(job, job.make_module(None))
    groups = learner.optimiser.param_groups
    assert all((group["betas"], group["eps"]) == ((0.8, 0.95), 1e-5) for group in groups)
    assert {group["weight_decay"] for group in groups} == {0.0, 0.2}
    # The head and the last of three layers, the two below it, and what is before the layers; matrices and vectors.
    assert [group["lr_scale"] for group in groups] == [1.0, 1.0, 0.5, 0.5, 0.25, 0.25, 0.125, 0.125]


def test_the_seed_draws_order_and_crops(waveforms: Manifest) -> None:
    jobs = [finetune_job(waveforms, seed=seed) for seed in (0, 0, 1)]
    orders = []
    for job in jobs:
        [window, *_] = job.plan.windows(0, 1)
        orders.append(job.plan.rank_rows(window, 0, 0, 1)[:, :2].tolist())
    assert orders[0] == orders[1] != orders[2]
    crops = [batch_of(job, [(0, 0, 3)]).inputs for job in jobs]
    assert torch.equal(crops[0], crops[1])
    assert not torch.equal(crops[0], crops[2])
    assert jobs[2].loop.seed == 1


# Validation and what it decides


def test_averaged_weights_are_validated_and_saved(waveforms: Manifest, codes: Manifest, tmp_path: Path) -> None:
    job = pretrain_job(waveforms, codes, optimiser=OptimiserConfig(lr=0.01, ema_decay=0.5))
    module = job.make_module(None)
    learner = learner_of(job, module)
    for step in range(2):
        learner.step(batch_of(job, FIVE), step)
    batches = [batch_of(job, FIVE)]
    module.eval()
    with torch.inference_mode():
        own = job.validate(module, batches)
    assert learner.average is not None
    means = {name: tensor.clone() for name, tensor in learner.average.means.items()}
    with learner.averaged():
        with torch.inference_mode():
            found = job.validate(module, batches)
        job.save(module, tmp_path, TrainerState())
    assert found["val_loss"] != own["val_loss"]
    saved = job.make_module(tmp_path).eval()
    assert all(torch.equal(saved.get_parameter(name), mean) for name, mean in means.items())
    with torch.inference_mode():
        assert job.validate(saved, batches)["val_loss"] == pytest.approx(found["val_loss"], rel=1e-6)


@pytest.mark.parametrize("metric", ["loss", "accuracy"])
def test_a_validation_measures_the_objective_of_the_training(waveforms: Manifest, codes: Manifest, metric: str) -> None:
    job = pretrain_job(waveforms, codes, masking=MaskingConfig(alpha=0.8), target_metric=metric, batch_size=5)
    module = job.make_module(None).eval()
    batches = [batch_of(job, FIVE), batch_of(job, FIVE[1:3])]
    total, weight, correct, hidden = 0.0, 0.0, np.zeros(2), np.zeros(2)
    predicted: list[list[int]] = [[], []]
    with torch.inference_mode():
        found = job.validate(module, batches)
        for place, batch in enumerate(batches):
            masks = job._masks(module, VALIDATION_STEP + place, batch)
            scores = module.scores(batch.inputs, masks, batch.attention_mask)
            for book, of_book in enumerate(scores):
                codes_BT = job._codes(batch)[:, book]
                losses = torch.nn.functional.cross_entropy(of_book.transpose(1, 2), codes_BT, reduction="none")
                for at, share in ((masks, 0.8), (~masks, 0.2)):
                    counts = at & (codes_BT >= 0)
                    total += share * float(losses[counts].sum())
                    weight += share * int(counts.sum()) / 2
                correct[book] += int((of_book.argmax(-1) == codes_BT)[masks].sum())
                hidden[book] += int(masks.sum())
                predicted[book] += of_book.argmax(-1)[masks].tolist()
        assert job.validate(module, batches) == found  # the masks are always the same
    assert found["val_loss"] == pytest.approx(total / weight, rel=1e-5)
    accuracies = correct / hidden
    assert [found["masked_accuracy_a"], found["masked_accuracy_b"]] == pytest.approx(accuracies)
    assert found["score"] == pytest.approx(accuracies.mean() if metric == "accuracy" else -found["val_loss"])
    for name, ids in zip("ab", predicted, strict=True):
        assert found[f"predicted_share_{name}"] == pytest.approx(len(set(ids)) / 7)
        assert found[f"predicted_perplexity_{name}"] == pytest.approx(perplexity(np.bincount(ids, minlength=7)))


def test_the_loss_of_a_fine_tuning_is_validated_with_its_weights(waveforms: Manifest) -> None:
    for weighing in (False, True):
        job = finetune_job(waveforms, positive_weights=weighing)
        module = job.make_module(None).eval()
        batches = [batch_of(job, FIVE[:2]), batch_of(job, FIVE[2:])]
        with torch.inference_mode():
            found = job.validate(module, batches)["val_loss"]
            logits = torch.cat([module.logits(b.inputs, b.attention_mask) for b in batches])
        # AFIB, NORM twice each, CRBBB once among five: weights N / (classes * count).
        weights = torch.tensor([5 / 6, 5 / 3, 5 / 6]) if weighing else None
        classes = torch.tensor([2, 0, 2, 1, 0])
        assert found == pytest.approx(float(torch.nn.functional.cross_entropy(logits, classes, weights)), rel=1e-5)


LABEL_METRICS = {
    "auroc": lambda truth, scores, predicted: sk.roc_auc_score(truth, scores, average="macro"),
    "auprc": lambda truth, scores, predicted: sk.average_precision_score(truth, scores, average="macro"),
    "f1": lambda truth, scores, predicted: sk.f1_score(truth, predicted, average="macro"),
    "recall": lambda truth, scores, predicted: sk.recall_score(truth, predicted, average="macro"),
    "precision": lambda truth, scores, predicted: sk.precision_score(truth, predicted, average="macro"),
    "specificity": lambda truth, scores, predicted: sk.recall_score(1 - truth, 1 - predicted, average="macro"),
    "accuracy": lambda truth, scores, predicted: (truth == predicted).mean(),
}


@pytest.mark.parametrize("metric", LABEL_METRICS)
def test_the_score_of_labels_is_the_metric_asked_for(metric: Any) -> None:
    rng = np.random.default_rng(4)
    truth = (rng.random((60, 3)) < [0.5, 0.3, 0.2]).astype(np.float32)
    scores = np.clip(0.3 * truth + 0.7 * rng.random((60, 3)), 0, 1)
    found = judge_validation(truth, scores, ("A", "B", "C"), "multi_label", loss=0.7, metric=metric)
    assert found["score"] == pytest.approx(LABEL_METRICS[metric](truth, scores, (scores >= 0.5).astype(int)))
    assert found["score"] == found[f"val_macro_{metric}"]
    assert found["val_loss"] == 0.7
    assert len(found["thresholds"]) == 3


@pytest.mark.parametrize("metric", LABEL_METRICS)
def test_the_score_of_classes_takes_the_most_probable_one(metric: Any) -> None:
    rng = np.random.default_rng(5)
    classes = rng.integers(3, size=80)
    truth = np.eye(3, dtype=int)[classes]
    scores = truth * 0.25 + rng.dirichlet([1, 1, 1], size=80) * 0.75
    predicted = np.eye(3, dtype=int)[scores.argmax(axis=1)]
    found = judge_validation(classes[:, None], scores, ("A", "B", "C"), "multi_class", loss=1.0, metric=metric)
    wanted = LABEL_METRICS[metric](truth, scores, predicted)
    if metric == "accuracy":
        wanted = sk.accuracy_score(classes, scores.argmax(axis=1))
    assert found["score"] == pytest.approx(wanted)


def test_the_score_of_numbers_and_of_a_loss() -> None:
    truth, numbers = np.array([[1.0, 5], [2, np.nan], [4, 8]]), np.array([[1.5, 5], [2, 0], [3, 10]])
    known = ~np.isnan(truth)
    scores = {
        name: judge_validation(truth, numbers, ("a", "b"), "regression", loss=0.4, metric=name)["score"]
        for name in ("mae", "r2", "loss", None)
    }
    columns = [(truth[known[:, c], c], numbers[known[:, c], c]) for c in range(2)]
    assert scores["mae"] == pytest.approx(-np.mean([sk.mean_absolute_error(*column) for column in columns]))
    assert scores["r2"] == scores[None] == pytest.approx(np.mean([sk.r2_score(*column) for column in columns]))
    assert scores["loss"] == -0.4
    # One class only: there is nothing that an AUROC could be of.
    alone = judge_validation(np.ones((3, 1)), np.full((3, 1), 0.5), ("A",), "multi_label", loss=0.69)
    assert (alone["val_macro_auroc"], alone["score"]) == (None, -0.69)


# Arithmetic


@pytest.fixture
def arithmetic() -> Iterator[None]:
    """Puts back what deterministic mode changes for the whole process."""
    threads = torch.get_num_threads()
    yield
    ComputeConfig().set_up(threads=threads, workers=1)


def test_deterministic_mode_repeats_every_bit(
    arithmetic: None, waveforms: Manifest, codes: Manifest, checkpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    compute = ComputeConfig(deterministic=True)
    ComputeConfig().set_up(threads=2, workers=1)
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == (2, False)
    compute.set_up(threads=0, workers=1)
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.backends.cudnn.deterministic
    with pytest.raises(RuntimeError, match="does not have a deterministic implementation"):
        torch.zeros(3).put_(torch.tensor([1]), torch.tensor([1.0]))
    assert torch.get_num_threads() == 1
    settings: dict[str, Any] = {"compute": compute, "batch_size": 5, "dropouts": DropoutConfig(hidden=0.1)}
    for make in (
        lambda: pretrain_job(waveforms, codes, **settings),
        lambda: finetune_job(
            waveforms, checkpoint=checkpoint, **settings | {"dropouts": ClassifierDropoutConfig(hidden=0.1)}
        ),
    ):
        runs = []
        for _ in range(2):
            job = make()
            torch.manual_seed(job.loop.seed)
            module = job.make_module(None)
            learner = learner_of(job, module)
            losses = [learner.step(batch_of(job, FIVE), step).loss for step in range(2)]
            runs.append((losses, module.state_dict()))
        assert runs[0][0] == runs[1][0]
        assert all(torch.equal(tensor, runs[1][1][name]) for name, tensor in runs[0][1].items())


def test_float16_trains_with_a_scaled_loss(waveforms: Manifest) -> None:
    losses = {}
    for precision in ("float32", "float16"):
        job = finetune_job(waveforms, compute=ComputeConfig(precision=precision))  # type: ignore[arg-type]
        torch.manual_seed(0)
        learner = learner_of(job, job.make_module(None))
        assert ("loss_scale" in learner.parts) == (precision == "float16")
        losses[precision] = learner.step(batch_of(job, FIVE), 0).loss
    assert losses["float16"] == pytest.approx(losses["float32"], rel=0.02)
    assert losses["float16"] != losses["float32"]


# What cannot be


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 5, "epochs": 2}, "wanted --steps or --epochs, got both: 5 and 2"),
        ({"epochs": 0}, "--epochs.* above 0"),
        ({"steps": 0}, "--steps.* above 0"),
        ({"accumulation_steps": 0}, "--accumulation_steps: wanted 1 to 64"),
        (
            {"accumulation_steps": 5, "batch_size": 8, "workers": WorkersConfig(num=2)},
            "--accumulation_steps: wanted 1 to 4.*--batch_size 8.*--workers.num 2, got 5",
        ),
        ({"regulariser": RegulariserConfig(dynamic=True)}, "--regulariser.dynamic: wanted a --patience of at least"),
    ],
)
def test_lengths_that_make_no_training(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PretrainConfig(waveforms="W", labels="L", output="C", **settings)
    with pytest.raises(ConfigError, match=message):
        FinetuneConfig(waveforms="W", output="M", label_set="x", **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"head_hidden_size": 8}, "--head_hidden_size and --head_activation: wanted --head mlp"),
        ({"head": "label_embedding", "head_activation": "relu"}, "wanted --head mlp.*got label_embedding"),
        ({"head": "mlp", "head_hidden_size": -1}, "--head_hidden_size"),
        ({"balance": -1.0}, "--balance"),
        ({"balance": 0.1, "positive_weights": True}, "--balance: wanted neither --positive_weights"),
        ({"balance": 0.1, "shuffle_labels": True}, "--balance: wanted neither .*--shuffle_labels"),
        (
            {"train_conv_stem": True, "train_blocks": 2, "checkpoint": "C"},
            "--train_conv_stem: wanted no --train_blocks",
        ),
        ({"conv_freeze_steps": 5, "checkpoint": "C"}, "--conv_freeze_steps: wanted --train_conv_stem true"),
        ({"conv_freeze_steps": 5, "train_conv_stem": True}, "--conv_freeze_steps: wanted .* a --checkpoint"),
        ({"conv_freeze_steps": -1}, "--conv_freeze_steps"),
        ({"lora": LoraConfig(rank=2), "checkpoint": "C", "train_conv_stem": True}, "--lora.rank"),
    ],
)
def test_ways_of_fine_tuning_that_contradict_each_other(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        FinetuneConfig(waveforms="W", output="M", label_set="x", **settings)


@pytest.mark.slow
def test_all_options_at_once_train_alike_on_one_worker_and_two(
    ray_cluster: None, waveforms: Manifest, codes: Manifest, tmp_path: Path
) -> None:
    everything: dict[str, Any] = {
        "epochs": 4,
        "batch_size": 4,
        "accumulation_steps": 2,
        "validation_interval": 1,
        "patience": 4,
        "optimiser": OptimiserConfig(lr=1e-3, ema_decay=0.8),
        "compute": ComputeConfig(deterministic=True),
    }
    found = []
    for num in (1, 2):
        workers = WorkersConfig(num=num, cpus_each=1 / num)
        first = pretrain(
            PretrainConfig(
                waveforms=waveforms.directory,
                labels=codes.directory,
                output=str(tmp_path / f"c{num}"),
                workers=workers,
                # Ranks drop at random each for itself, so that dropouts would tell one worker from two.
                regulariser=RegulariserConfig(dynamic=True, dropout_step=0.0),
                augment=AugmentConfig(gain=0.1, noise=0.01, lead_dropout=0.2),
                **everything,
            )
        )
        second = finetune(
            FinetuneConfig(
                waveforms=waveforms.directory,
                label_set="classes",
                checkpoint=first.directory,
                output=str(tmp_path / f"m{num}"),
                workers=workers,
                target_metric="accuracy",
                balance=0.5,
                dropouts=ClassifierDropoutConfig(classifier=0.0),
                augment=LabelledAugmentConfig(mixup=0.3, lead_dropout=0.2),
                regulariser=RegulariserConfig(dynamic=True, intervals=3, dropout_step=0.0),
                **everything,
            )
        )
        assert first.facts["steps_done"] <= 5  # 5 recordings, 4 times, 4 at a time
        found.append([manifest.facts["best"]["val_loss"] for manifest in (first, second)])
    assert found[1] == pytest.approx(found[0], rel=1e-3)
