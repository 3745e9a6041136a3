"""The FLOP formula against torch's own counter over the plain HubertModel."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import HubertConfig, HubertModel

from hubert_ecg.models import model_config
from hubert_ecg.models.flops import forward_flops


@pytest.mark.parametrize(("size", "rate"), [("small", 100), ("base", 100), ("tiny", 500)])
def test_formula_counts_what_torch_counts(size: str, rate: int) -> None:
    config = model_config(size, rate)
    known = set(HubertConfig.__dataclass_fields__) - {"architectures", "dtype"}
    with torch.device("meta"):
        model = HubertModel(HubertConfig(**{k: v for k, v in config.to_dict().items() if k in known})).eval()
        model.set_attn_implementation("eager")
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(torch.empty(1, 12 * 5 * rate))
    assert forward_flops(config, 12 * 5 * rate) == counter.get_total_flops()
