"""The pre-training model and the classifier, in the Hugging Face form; each name is imported when it is first used."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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

_MODULES = {
    "HubertECG": "ssl",
    "HubertECGEncoder": "ssl",
    "HubertECGClassifier": "classifier",
    "HubertECGClassifierConfig": "config",
    "HubertECGConfig": "config",
    "model_config": "config",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'hubert_ecg.models' has no attribute {name!r}")
    return getattr(import_module(f"hubert_ecg.models.{_MODULES[name]}"), name)
