"""The losses against answers worked out by hand, and their sums over parts against the whole."""

import math

import pytest
import torch

from hubert_ecg.models.loss import classification_loss, masked_prediction_loss


def random_case(batch: int = 4) -> tuple[list[torch.Tensor], torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = [torch.randn(batch, 9, clusters, generator=generator) for clusters in (5, 3)]
    codes = torch.stack([torch.randint(clusters, (batch, 9), generator=generator) for clusters in (5, 3)], dim=1)
    return logits, codes, torch.rand(batch, 9, generator=generator) < 0.4


def test_one_recording_by_hand() -> None:
    # Tokens 0 and 1 are masked. Equal scores cost ln 2; scores ln 3 and 0 give probabilities 3/4 and 1/4.
    scores = torch.tensor([[[0.0, 0.0], [math.log(3), 0.0], [math.log(3), 0.0], [0.0, 5.0]]])
    codes = torch.tensor([[[0, 1, 0, -100]]])
    mask = torch.tensor([[True, True, False, True]])
    result = masked_prediction_loss([scores], codes, mask, alpha=0.75)
    assert result.masked_loss.tolist() == pytest.approx([math.log(2) + math.log(4)])
    assert result.unmasked_loss.tolist() == pytest.approx([math.log(4 / 3)])
    assert result.masked_count.tolist() == [2]
    assert result.unmasked_count.tolist() == [1]
    assert result.masked_correct.tolist() == [1]
    assert result.unmasked_correct.tolist() == [1]
    assert result.masked_accuracy.tolist() == [0.5]
    assert float(result.total) == pytest.approx(0.75 * math.log(8) + 0.25 * math.log(4 / 3))
    assert float(result.weight) == pytest.approx(0.75 * 2 + 0.25 * 1)


def test_several_codebooks_add_up_their_mean_losses() -> None:
    logits, codes, mask = random_case()
    result = masked_prediction_loss(logits, codes, mask)
    means = [
        torch.nn.functional.cross_entropy(scores[mask], codes[:, index][mask]) for index, scores in enumerate(logits)
    ]
    assert float(result.total / result.weight) == pytest.approx(float(sum(means)), rel=1e-5)


@pytest.mark.parametrize("alpha", [1.0, 0.3])
def test_sums_of_parts_are_the_whole(alpha: float) -> None:
    logits, codes, mask = random_case()
    whole = masked_prediction_loss(logits, codes, mask, alpha=alpha)
    parts = [
        masked_prediction_loss([scores[part] for scores in logits], codes[part], mask[part], alpha=alpha)
        for part in (slice(0, 1), slice(1, 4))
    ]
    torch.testing.assert_close(whole.total, sum(part.total for part in parts))
    torch.testing.assert_close(whole.weight, sum(part.weight for part in parts))


def test_tokens_without_a_code_get_no_gradient_and_alpha_1_none_to_visible_tokens() -> None:
    logits, codes, mask = random_case()
    codes[0, :, 2] = -100
    for scores in logits:
        scores.requires_grad_()
    masked_prediction_loss(logits, codes, mask, alpha=1.0).total.backward()
    for scores in logits:
        touched = scores.grad.abs().sum(dim=-1) > 0
        counts = mask.clone()
        counts[0, 2] = False
        assert torch.equal(touched, counts)


def test_codes_of_another_shape_are_refused() -> None:
    logits, codes, mask = random_case()
    with pytest.raises(ValueError, match="codebook"):
        masked_prediction_loss(logits, codes[:, :1], mask)


def test_classification_losses_by_hand() -> None:
    zero = torch.zeros(2, 2)
    total, weight = classification_loss(zero, torch.tensor([[1, 0], [0, 0]]), task="multi_label")
    assert float(total / weight) == pytest.approx(math.log(2))
    total, weight = classification_loss(
        zero, torch.tensor([[1, 0], [0, 0]]), task="multi_label", weights=torch.tensor([3.0, 1.0])
    )
    assert float(total) == pytest.approx(6 * math.log(2))
    assert float(weight) == 4
    total, weight = classification_loss(
        zero, torch.tensor([1, 0]), task="multi_class", weights=torch.tensor([1.0, 4.0])
    )
    assert float(weight) == 5
    assert float(total / weight) == pytest.approx(math.log(2))
    total, weight = classification_loss(zero, torch.tensor([[1.0, 2.0], [0.0, 0.0]]), task="regression")
    assert float(total / weight) == pytest.approx(5 / 4)
