"""Auxiliary targets: what they say of a recording, what is not known, and a loss of which that is no part."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch.nn import functional

from hubert_ecg.errors import ConfigError
from hubert_ecg.training.augment import mix
from hubert_ecg.training.auxiliary import AuxiliaryConfig, AuxiliaryTargets
from hubert_ecg.training.auxiliary_head import AuxiliaryHead, AuxiliaryLoss
from hubert_ecg.training.targets import LabelTargets

NAN = float("nan")
TARGETS = AuxiliaryTargets(
    main=LabelTargets(label_set="classes", labels=("AFIB", "CRBBB", "NORM"), task="multi_class"),
    others=(
        LabelTargets(label_set="findings", labels=("LVH", "STTC")),
        LabelTargets(label_set="conditions", labels=("FLUTTER",), none_is_negative=True),
    ),
    demographics=True,
)
ANSWERS = {
    "sex": ["female", "male", None],
    "age_years": [61.0, 25.0, None],
    "labels.classes": [["NORM"], None, ["AFIB"]],
    "labels.findings": [["STTC"], ["LVH", "STTC"], None],
    "labels.conditions": [[], ["FLUTTER"], None],
}


def test_targets_are_labels_and_then_the_rest_and_unknown_where_nobody_knows() -> None:
    answers = TARGETS.answers(pa.table({name: ANSWERS[name] for name in TARGETS.columns}))
    found = [TARGETS.target(answer, "r").tolist() for answer in answers]
    older = [1, 1, 1, 1, 0, 0, 0]  # 61 years: older than 25, 35, 45 and 55.
    wanted = [
        [0, 0, 1, 0, 1, 0, 1, *older],
        [NAN, NAN, NAN, 1, 1, 1, 0, *[0] * 7],
        [1, 0, 0, NAN, NAN, 0, NAN, *[NAN] * 7],
    ]
    np.testing.assert_array_equal(found, wanted)
    assert TARGETS.sizes.tolist() == [3, 2, 1, 1, 7]
    for answer, target in zip(answers, found, strict=True):
        firsts = np.cumsum([0, *TARGETS.sizes[:-1]])
        assert TARGETS.known(answer) == [not np.isnan(target[first]) for first in firsts]


def test_what_is_unknown_in_either_recording_is_unknown_in_their_mixture() -> None:
    first, second, _ = (np.array(row, np.float32) for row in ([0, 1, NAN], [NAN, 0, 1], [0, 0, 0]))
    np.testing.assert_allclose(mix(TARGETS.mixable(first), TARGETS.mixable(second), 0.75), [NAN, 0.75, NAN])


def head(**changes: float) -> AuxiliaryHead:
    torch.manual_seed(0)
    counted = {"num_targets": 2, "weight": 0.5, "labels_known": 3.0, "targets_known": 1.6}
    return AuxiliaryHead(4, AuxiliaryLoss(**counted | changes))


@pytest.mark.parametrize("task", ["multi_label", "multi_class"])
def test_the_loss_counts_what_is_known_only(task: str) -> None:
    logits = torch.randn(3, 3, generator=torch.Generator().manual_seed(1)).requires_grad_()
    scores = torch.randn(3, 2, generator=torch.Generator().manual_seed(2)).requires_grad_()
    targets = torch.tensor([[0, 0, 1, 1, NAN], [NAN, NAN, NAN, 0, 1], [0.25, 0, 0.75, NAN, NAN]])
    weights = torch.tensor([1.0, 2.0, 3.0])
    loss = head().loss(logits, scores, targets, task=task, weights=weights)
    rows = [0, 2]
    if task == "multi_class":
        labels = -(targets[rows, :3] * weights * logits[rows].log_softmax(dim=1)).sum()
    else:
        labels = functional.binary_cross_entropy_with_logits(
            logits[rows], targets[rows, :3], pos_weight=weights, reduction="sum"
        )
    known = torch.stack([scores[0, 0], scores[1, 0], scores[1, 1]])
    others = functional.binary_cross_entropy_with_logits(known, torch.tensor([1.0, 0.0, 1.0]), reduction="sum")
    torch.testing.assert_close(loss.total, labels / 3 + 0.5 / 1.6 * others)
    assert float(loss.weight) == 3
    loss.total.backward()
    assert torch.isfinite(logits.grad).all()
    assert not logits.grad[1].any()
    assert not scores.grad[2].any()


def test_a_head_goes_on_with_its_weights() -> None:
    first, second = head(), AuxiliaryHead(4, head().counted)
    assert not torch.equal(first.linear.weight, second.linear.weight)
    second.restore(first.tensors(), first.described())
    assert torch.equal(first(torch.ones(1, 4)), second(torch.ones(1, 4)))


def test_settings_that_cannot_be() -> None:
    with pytest.raises(ConfigError, match="--auxiliary.weight: wanted a weight above 0, got 0"):
        AuxiliaryConfig(weight=0)
    with pytest.raises(ConfigError, match="--auxiliary.label_sets: wanted each once, got a, b, a"):
        AuxiliaryConfig(label_sets=("a", "b", "a"))
    assert not AuxiliaryConfig().is_wanted
