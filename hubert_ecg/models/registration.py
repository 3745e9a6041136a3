"""Makes transformers' `AutoModel` know the models; called when the first configuration of one is made."""

from functools import cache


@cache
def register_models() -> None:
    """Register both models once. Not at import: transformers' own modules may then be half loaded."""
    from transformers import AutoModel, AutoModelForSequenceClassification

    from hubert_ecg.models.classifier import HubertECGClassifier
    from hubert_ecg.models.config import HubertECGClassifierConfig, HubertECGConfig
    from hubert_ecg.models.ssl import HubertECG

    AutoModel.register(HubertECGConfig, HubertECG, exist_ok=True)
    AutoModel.register(HubertECGClassifierConfig, HubertECGClassifier, exist_ok=True)
    AutoModelForSequenceClassification.register(HubertECGClassifierConfig, HubertECGClassifier, exist_ok=True)
