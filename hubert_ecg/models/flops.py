"""Operations of a forward pass, counted from the sizes of a model."""

from hubert_ecg.ecg.leads import STANDARD_LEADS
from hubert_ecg.models.config import HubertECGConfig


def forward_flops(config: HubertECGConfig, num_samples: int) -> int:
    """Floating-point operations of one recording's forward pass, a multiplication and an addition counting as two.

    Convolutions of the stem, projection, positional convolution in its direct form, and per layer and token T the four
    projections 4 D^2, scores and mixing 2 T D, and the feed-forward block 2 D F. Norms, activations and softmax are
    left out. Masked tokens are computed like all others. State-space layers: see `_state_space_products`.
    """
    if config.encoder == "state_space":
        return 2 * _state_space_products(config, num_samples // len(STANDARD_LEADS))
    length, channels, products = num_samples, 1, 0
    for width, kernel, stride in zip(config.conv_dim, config.conv_kernel, config.conv_stride, strict=True):
        length = (length - kernel) // stride + 1
        products += length * width * channels * kernel
        channels = width
    hidden, tokens = config.hidden_size, length
    products += tokens * channels * hidden
    # The direct form of an even kernel computes one position more than it keeps.
    positions = tokens + 1 - config.num_conv_pos_embeddings % 2
    products += positions * hidden * hidden // config.num_conv_pos_embedding_groups * config.num_conv_pos_embeddings
    layer = 4 * hidden**2 + 2 * tokens * hidden + 2 * hidden * config.intermediate_size
    return 2 * (products + config.num_hidden_layers * tokens * layer)


def _state_space_products(config: HubertECGConfig, num_samples: int) -> int:
    """Multiplications for leads of `num_samples` samples: convolutions of the stem, and per layer the product with the
    Toeplitz matrices T^2 D and the mixing of channels 2 T D^2. Making the matrices, once per batch, is left out."""
    length, channels, products = num_samples, len(STANDARD_LEADS), 0
    for width, kernel, stride in zip(config.conv_dim, config.conv_kernel, config.conv_stride, strict=True):
        length = (length + 2 * (kernel // 2) - kernel) // stride + 1
        products += length * width * channels * kernel
        channels = width
    hidden = config.hidden_size
    return products + config.num_hidden_layers * (length**2 * hidden + 2 * length * hidden**2)
