"""The pre-training model and the classifier, in the Hugging Face form.

Importing this package makes `AutoConfig` and `AutoModel` know both, so that `AutoModel.from_pretrained` reads what
`save_pretrained` wrote.
"""

from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification

from hubert_ecg.models.classifier import HubertECGClassifier
from hubert_ecg.models.config import HubertECGClassifierConfig, HubertECGConfig, model_config
from hubert_ecg.models.ssl import HubertECG, HubertECGEncoder

__all__ = [
    "HubertECG",
    "HubertECGClassifier",
    "HubertECGClassifierConfig",
    "HubertECGConfig",
    "HubertECGEncoder",
    "model_config",
]

AutoConfig.register("hubert_ecg", HubertECGConfig, exist_ok=True)
AutoConfig.register("hubert_ecg_classification", HubertECGClassifierConfig, exist_ok=True)
AutoModel.register(HubertECGConfig, HubertECG, exist_ok=True)
AutoModel.register(HubertECGClassifierConfig, HubertECGClassifier, exist_ok=True)
AutoModelForSequenceClassification.register(HubertECGClassifierConfig, HubertECGClassifier, exist_ok=True)
