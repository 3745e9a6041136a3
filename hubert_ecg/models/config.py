"""Model configurations that transformers can read and write, and the four sizes at three sampling rates.

Keys that a published `config.json` does not hold take the defaults below, which describe the published models.
"""

from typing import Any, Literal

from huggingface_hub.dataclasses import strict
from huggingface_hub.errors import StrictDataclassError
from transformers import HubertConfig

from hubert_ecg.ecg.tokens import CONV_STEMS, TokenGrid
from hubert_ecg.errors import ConfigError
from hubert_ecg.models.registration import register_models

Size = Literal["tiny", "small", "base", "large", "state_space", "residual"]
Encoder = Literal["hubert", "state_space", "residual"]
Head = Literal["linear", "mlp", "label_embedding"]
HeadActivation = Literal["tanh", "relu", "gelu"]
Task = Literal["multi_label", "multi_class", "regression"]

SIZES: dict[str, dict[str, Any]] = {
    # For a laptop, where elementwise work and random numbers cost as much as matrix products. So the first
    # convolutions, which run over 1500 positions, are narrow, and the encoder has none of the dropouts that take a
    # third of a step. The positional convolution keeps a reach of 48 tokens to each side: every one of 93 tokens has
    # an end of the sequence in sight and can know its lead, and leads are what tells the bundle branch blocks apart.
    # Layer norms stand before the attention and feed-forward blocks, not after them: a few hundred steps are then
    # enough to learn from.
    "tiny": {
        "hidden_size": 128,
        "do_stable_layer_norm": True,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 256,
        "classifier_proj_size": 64,
        "num_conv_pos_embeddings": 96,
        "num_conv_pos_embedding_groups": 16,
        "layerdrop": 0.0,
        "hidden_dropout": 0.0,
        "attention_dropout": 0.0,
        "activation_dropout": 0.0,
    },
    "small": {
        "hidden_size": 512,
        "num_hidden_layers": 8,
        "num_attention_heads": 8,
        "intermediate_size": 2048,
        "classifier_proj_size": 256,
        "layerdrop": 0.1,
    },
    "base": {
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "classifier_proj_size": 256,
        "layerdrop": 0.1,
    },
    "large": {
        "hidden_size": 960,
        "num_hidden_layers": 16,
        "num_attention_heads": 12,
        "intermediate_size": 3840,
        "classifier_proj_size": 512,
        "layerdrop": 0.0,
    },
    # Not a HuBERT at all; see models/state_space.py.
    "state_space": {
        "encoder": "state_space",
        "hidden_size": 128,
        "num_hidden_layers": 4,
        "num_attention_heads": 1,
        "layerdrop": 0.0,
        "final_dropout": 0.1,
    },
    # Nor is this one; see models/residual.py.
    "residual": {
        "encoder": "residual",
        "hidden_size": 160,
        "block_dim": [64, 128, 128, 160],
        "num_hidden_layers": 4,
        "num_attention_heads": 1,
        "layerdrop": 0.0,
        "final_dropout": 0.1,
    },
}
"""Size -> what sets it apart from HubertConfig's defaults."""

STEMS: dict[Encoder, dict[int, tuple[tuple[int, ...], tuple[int, ...]]]] = {
    "hubert": CONV_STEMS,
    # To a step of 40 ms.
    "state_space": {50: ((5, 5, 5), (1, 1, 2)), 100: ((7, 5, 5), (2, 1, 2)), 500: ((35, 5, 5), (10, 1, 2))},
    # To a step of 20 ms, which the blocks make one of 160 ms.
    "residual": {50: ((5,), (1,)), 100: ((7,), (2,)), 500: ((35,), (10,))},
}
"""Encoder -> sampling rate in Hz -> (kernel widths, strides) of the convolutions that it begins with."""

STEM_CHANNELS = {"tiny": (32, 32, 32, 32, 64, 128, 128), "state_space": (64, 64, 128), "residual": (64,)}
"""Channels of the stem's convolutions, where they are not 512. A stem of n convolutions takes the last n."""


@strict
class HubertECGConfig(HubertConfig):
    """Configuration of the pre-training model: a HuBERT encoder with one prediction head per codebook."""

    model_type = "hubert_ecg"

    encoder: Encoder = "hubert"
    """`hubert`: the transformer of the published models, over the leads one after the other. `state_space` and
    `residual`: over the leads side by side, for classifiers only."""
    state_size: int = 8
    """States per channel and direction of a state-space layer."""
    block_dim: list[int] | tuple[int, ...] = ()
    """Channels of the blocks of a residual encoder, the last of them `hidden_size`; each but the first halves the
    rate."""
    mask_time_prob: float | int = 0.33
    """Share of tokens that pre-training masks."""
    mask_time_length: int = 1
    """Tokens per masked span."""
    mask_time_min_masks: int = 2
    """Least number of masked spans per recording."""
    vocab_sizes: list[int] | tuple[int, ...] = ()
    """Clusters in each codebook; one prediction head each. Empty: an encoder without heads."""
    ensemble_length: int = 0
    """Number of codebooks; kept equal to the length of `vocab_sizes`."""
    sampling_rate_hz: int = 100
    """Rate of the model's input in samples per second of each lead."""
    token_mask_rule: Literal["prefix", "majority"] = "prefix"
    """What an attention mask over samples means for tokens. `prefix`: as many tokens as the number of unmasked samples
    would make, counted from the start (the published models). `majority`: those tokens of whose samples at least half
    are unmasked, wherever they lie, which is what leads padded one by one need (ours)."""
    preprocessing: dict[str, Any] | None = None
    """The preprocessing contract of the model's input, as a checkpoint carries it. None: that of the published ones."""
    licence: str | None = None
    """Terms of use of the weights; it travels with what is made from them. None: not stated."""

    def __post_init__(self, **kwargs: Any) -> None:
        self.vocab_sizes = list(self.vocab_sizes)
        self.ensemble_length = len(self.vocab_sizes)
        super().__post_init__(**kwargs)
        # Whoever makes a configuration may hand it to AutoModel next.
        register_models()

    @property
    def token_grid(self) -> TokenGrid:
        """The map from samples to tokens of this configuration's convolutional stem."""
        return TokenGrid(kernels=tuple(self.conv_kernel), strides=tuple(self.conv_stride))

    def layer_size(self, layer: int) -> int:
        """Numbers per token of what encoder layer `layer` gives; -1: the last."""
        return self.block_dim[layer] if self.block_dim else self.hidden_size


@strict
class HubertECGClassifierConfig(HubertECGConfig):
    """Configuration of a classifier. Number and names of its outputs are transformers' `num_labels` and `id2label`."""

    model_type = "hubert_ecg_classification"

    head: Head = "linear"
    """`linear`; `mlp`: Linear, activation, Linear; `label_embedding`: cosine to one learned vector per label."""
    head_hidden_size: int = 0
    """Width between the two layers of the `mlp` head; 0 means `hidden_size`."""
    head_activation: HeadActivation = "tanh"
    """Between the two layers of the `mlp` head; tanh is that of the published models."""
    task: Task = "multi_label"
    """What the outputs mean: independent labels, one class out of several, or numbers."""


def model_config(
    size: Size, sampling_rate_hz: int = 100, *, vocab_sizes: tuple[int, ...] = (), **overrides: Any
) -> HubertECGConfig:
    """The configuration of a size for inputs of 50, 100 or 500 Hz, any field of it replaced by `overrides`.

    Raises ConfigError for a size or rate that does not exist, or an override that is no field or does not fit.
    """
    if size not in SIZES:
        raise ConfigError(f"model size: wanted one of {', '.join(SIZES)}, got {size!r}")
    if sampling_rate_hz not in CONV_STEMS:
        raise ConfigError(f"model sampling rate: wanted one of {sorted(CONV_STEMS)} Hz, got {sampling_rate_hz}")
    kernels, strides = STEMS[encoder_of(size)][sampling_rate_hz]
    fields = SIZES[size] | {
        "conv_dim": list(STEM_CHANNELS.get(size, (512,) * 7)[-len(kernels) :]),
        "conv_kernel": list(kernels),
        "conv_stride": list(strides),
        "vocab_sizes": list(vocab_sizes),
        "sampling_rate_hz": sampling_rate_hz,
        "token_mask_rule": "majority",
    }
    return build_config(HubertECGConfig, fields | overrides)


def encoder_of(size: Size) -> Encoder:
    """The kind of encoder that a size is one of."""
    found: Encoder = SIZES[size].get("encoder", "hubert")
    return found


def build_config(kind: type[HubertECGConfig], fields: dict[str, Any]) -> HubertECGConfig:
    """`kind(**fields)`, with ConfigError for unknown fields and impossible values."""
    unknown = sorted(set(fields) - config_fields(kind) - {"num_labels"})
    if unknown:
        raise ConfigError(f"model configuration: wanted fields of {kind.__name__}, got {', '.join(unknown)}")
    try:
        config = kind(**fields)
    except (TypeError, ValueError, StrictDataclassError) as error:
        raise ConfigError(f"model configuration: {' '.join(str(error).split())}") from error
    for name in ("num_attention_heads", "num_conv_pos_embedding_groups"):
        if config.hidden_size % getattr(config, name):
            raise ConfigError(
                f"model configuration: wanted a hidden_size divisible by {name}, "
                f"got {config.hidden_size} and {getattr(config, name)}"
            )
    return config


def config_fields(kind: type[HubertECGConfig]) -> set[str]:
    """Names of the fields of a configuration class."""
    return set(kind.__dataclass_fields__)
