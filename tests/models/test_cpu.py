"""The CPU forms of linear and dropout layers against torch's own, and against what probability theory says."""

import pytest
import torch
from torch import nn

from hubert_ecg.models.cpu import OneDnnLinear, QuickDropout, tune_for_cpu, wide_vectors


@pytest.mark.parametrize("shape", [(5,), (3, 7, 5), (2, 3, 4, 5), (0, 5)])
@pytest.mark.parametrize("bias", [True, False])
def test_linear_equals_torchs_with_its_gradients(shape: tuple[int, ...], bias: bool) -> None:
    torch.manual_seed(0)
    theirs = nn.Linear(5, 4, bias=bias)
    ours = OneDnnLinear(5, 4, bias=bias)
    ours.load_state_dict(theirs.state_dict())
    results = []
    for layer in (ours, theirs):
        values = torch.randn(shape, generator=torch.Generator().manual_seed(1)).requires_grad_()
        output = layer(values)
        output.square().sum().backward()
        results.append([output, values.grad, *(p.grad for p in layer.parameters())])
    for own, expected in zip(*results, strict=True):
        torch.testing.assert_close(own, expected)


def test_linear_takes_views_and_other_types() -> None:
    layer = OneDnnLinear(6, 3)
    values = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)).T
    torch.testing.assert_close(layer(values), nn.functional.linear(values, layer.weight, layer.bias))
    assert layer.double()(values.double()).dtype == torch.float64
    with torch.autocast("cpu", torch.bfloat16):
        assert layer.float()(values).dtype == torch.bfloat16


def test_dropout_drops_its_share_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    values = torch.ones(1000, 1001, requires_grad=True)
    result = QuickDropout(0.1)(values)
    share = float((result == 0).double().mean())
    # Standard error of a share of 0.1 among a million: 0.0003.
    assert share == pytest.approx(0.1, abs=0.0015)
    assert result.unique().tolist() == pytest.approx([0, 1 / 0.9], abs=1e-4)
    result.sum().backward()
    assert torch.equal(values.grad, result.detach())
    # Neighbours come out of the same 64 bits and must not hang together: expected product 0.9 * 0.9.
    kept = (result.detach() != 0).double().flatten()
    for step in (1, 2, 3, 4):
        assert float((kept[:-step] * kept[step:]).mean()) == pytest.approx(0.81, abs=0.003)


def test_dropout_follows_the_seed_and_rests_in_evaluation() -> None:
    layer, values = QuickDropout(0.5), torch.ones(64)
    torch.manual_seed(1)
    first = layer(values)
    torch.manual_seed(1)
    assert torch.equal(layer(values), first)
    assert not torch.equal(layer(values), first)
    assert torch.equal(layer.eval()(values), values)
    assert torch.equal(QuickDropout(0.0)(values), values)
    assert QuickDropout(1.0)(values).sum() == 0
    assert layer.train()(values.bfloat16()).dtype == torch.bfloat16


def test_tuning_keeps_weights_and_names() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.2), nn.LayerNorm(3))
    before = {name: id(p) for name, p in model.named_parameters()}
    tune_for_cpu(model)
    linear = OneDnnLinear if wide_vectors() else nn.Linear
    assert [type(layer) for layer in model] == [linear, QuickDropout, nn.LayerNorm]
    assert {name: id(p) for name, p in model.named_parameters()} == before
    assert model[1].p == 0.2
