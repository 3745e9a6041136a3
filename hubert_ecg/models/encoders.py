"""The encoders that a classifier may have, by the name that its configuration gives."""

from hubert_ecg.models.config import Encoder, HubertECGConfig
from hubert_ecg.models.residual import ResidualEncoder
from hubert_ecg.models.ssl import HubertECG, HubertECGEncoder
from hubert_ecg.models.state_space import StateSpaceEncoder

AnyEncoder = HubertECGEncoder | StateSpaceEncoder | ResidualEncoder
"""They share `encode`, `token_mask`, `feature_extractor`, `encoder.layers` and `masked_spec_embed`."""

ENCODERS: dict[Encoder, type[AnyEncoder]] = {
    "hubert": HubertECGEncoder,
    "state_space": StateSpaceEncoder,
    "residual": ResidualEncoder,
}


def new_encoder(config: HubertECGConfig) -> AnyEncoder:
    """An encoder with random weights; HuBERT's with the heads that pre-training needs."""
    return HubertECG(config) if config.encoder == "hubert" else ENCODERS[config.encoder](config)
