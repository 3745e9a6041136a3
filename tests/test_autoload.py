"""`import hubert_ecg` makes plain transformers know the models, in either order of import, and loads neither."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from hubert_ecg.models import HubertECG, HubertECGClassifier, model_config
from hubert_ecg.storage.checkpoint import CheckpointInfo, load_checkpoint, save_checkpoint

REPOSITORY = Path(__file__).resolve().parents[1]

FIRST = """
import sys, hubert_ecg, transformers
assert "torch" not in sys.modules and "hubert_ecg.models" not in sys.modules
assert type(transformers.AutoConfig.from_pretrained(sys.argv[1])).__name__ == "HubertECGClassifierConfig"
"""
LAST = """
import sys, transformers
from transformers import AutoModel, HubertModel
import hubert_ecg
"""
HALF_LOADED = """
import sys, hubert_ecg
import transformers.models.hubert.modeling_hubert, transformers
"""
THEN = """
import torch
model = transformers.AutoModel.from_pretrained(sys.argv[1]).eval()
ecgs = torch.randn(2, 12, 500, generator=torch.Generator().manual_seed(1))
print(model(ecgs).logits.tolist())
"""


@pytest.mark.parametrize(
    "imports",
    [
        pytest.param(FIRST, id="ours-first"),
        pytest.param(LAST, id="ours-last", marks=pytest.mark.slow),
        pytest.param(HALF_LOADED, id="in-the-midst", marks=pytest.mark.slow),
    ],
)
def test_a_saved_classifier_loads_in_a_process_of_its_own(tmp_path: Path, imports: str) -> None:
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 32, "num_hidden_layers": 2}
    encoder = HubertECG(model_config("tiny", vocab_sizes=(5,), **shape))
    model = HubertECGClassifier.from_encoder(encoder, label_names=("A", "B", "C"))
    info = CheckpointInfo(kind="classifier", task="multi_label", label_names=("A", "B", "C"), preprocessing={})
    save_checkpoint(tmp_path, model, info)
    result = subprocess.run(
        [sys.executable, "-c", imports + THEN, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        cwd=REPOSITORY,
    )
    ecgs = torch.randn(2, 12, 500, generator=torch.Generator().manual_seed(1))
    expected = load_checkpoint(tmp_path)[0](ecgs).logits.detach()
    torch.testing.assert_close(torch.tensor(json.loads(result.stdout)), expected)
