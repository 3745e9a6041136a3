"""Operations of a forward pass, counted from the sizes of a model."""

from collections.abc import Callable

from hubert_ecg.ecg.leads import STANDARD_LEADS
from hubert_ecg.models.config import Encoder, HubertECGConfig
from hubert_ecg.models.residual import KERNEL


def forward_flops(config: HubertECGConfig, num_samples: int) -> int:
    """Floating-point operations of one recording's forward pass, a multiplication and an addition counting as two.

    Convolutions of the stem, projection, positional convolution in its direct form, and per layer and token T the four
    projections 4 D^2, scores and mixing 2 T D, and the feed-forward block 2 D F. Norms, activations and softmax are
    left out. Masked tokens are computed like all others. The encoders of leads side by side: see the functions below.
    """
    return 2 * _PRODUCTS[config.encoder](config, num_samples)


def _hubert_products(config: HubertECGConfig, num_samples: int) -> int:
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
    return products + config.num_hidden_layers * tokens * layer


def _state_space_products(config: HubertECGConfig, num_samples: int) -> int:
    """Multiplications: convolutions of the stem, and per layer the product with the Toeplitz matrices T^2 D and the
    mixing of channels 2 T D^2. Making the matrices, once per batch, is left out."""
    length, products = _padded_stem(config, num_samples)
    hidden = config.hidden_size
    return products + config.num_hidden_layers * (length**2 * hidden + 2 * length * hidden**2)


def _residual_products(config: HubertECGConfig, num_samples: int) -> int:
    """Multiplications: convolutions of the stem, and per block two convolutions and that of the shortcut, if it has
    one."""
    length, products = _padded_stem(config, num_samples)
    channels = config.conv_dim[-1]
    for place, width in enumerate(config.block_dim):
        stride = 2 if place else 1
        length = -(-length // stride)
        shortcut = channels if stride > 1 or channels != width else 0
        products += length * width * (KERNEL * (channels + width) + shortcut)
        channels = width
    return products


def _padded_stem(config: HubertECGConfig, num_samples: int) -> tuple[int, int]:
    """(steps, multiplications) of convolutions over leads side by side, of odd width, that lose nothing at the ends."""
    length, channels, products = num_samples // len(STANDARD_LEADS), len(STANDARD_LEADS), 0
    for width, kernel, stride in zip(config.conv_dim, config.conv_kernel, config.conv_stride, strict=True):
        length = -(-length // stride)
        products += length * width * channels * kernel
        channels = width
    return length, products


_PRODUCTS: dict[Encoder, Callable[[HubertECGConfig, int], int]] = {
    "hubert": _hubert_products,
    "state_space": _state_space_products,
    "residual": _residual_products,
}
