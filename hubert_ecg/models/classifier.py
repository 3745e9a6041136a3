"""The classifier: an encoder, the mean over tokens, and a linear, MLP or label-embedding head.

Weight names are those of the published checkpoints: `hubert_ecg.` before the encoder's, then `classifier.*` or
`label_embedding.weight`.

Shapes: B recordings, L leads, S samples, T tokens, D hidden size, N labels.
"""

from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from hubert_ecg.errors import ConfigError
from hubert_ecg.models.config import Head, HubertECGClassifierConfig, Task, build_config, config_fields
from hubert_ecg.models.encoders import ENCODERS, AnyEncoder
from hubert_ecg.models.ssl import HubertECGEncoder, cosine

ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "relu": nn.ReLU, "gelu": nn.GELU}


class HubertECGClassifier(PreTrainedModel):
    """12-lead ECG in, one score per label out. What a score means is `config.task`; see `probabilities`."""

    config_class = HubertECGClassifierConfig
    base_model_prefix = "hubert_ecg"
    main_input_name = "input_values"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _no_split_modules = HubertECGEncoder._no_split_modules

    def __init__(self, config: HubertECGClassifierConfig) -> None:
        super().__init__(config)
        self.hubert_ecg: AnyEncoder = ENCODERS[config.encoder](config)
        self.dropout = nn.Dropout(config.final_dropout)
        if config.head == "label_embedding":
            self.label_embedding = nn.Embedding(config.num_labels, config.hidden_size)
        elif config.head == "mlp":
            width = config.head_hidden_size or config.hidden_size
            self.classifier: nn.Module = nn.Sequential(
                nn.Linear(config.hidden_size, width),
                ACTIVATIONS[config.head_activation](),
                nn.Linear(width, config.num_labels),
            )
        else:
            self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    @classmethod
    def from_encoder(
        cls,
        encoder: AnyEncoder,
        *,
        label_names: Sequence[str],
        task: Task = "multi_label",
        head: Head = "linear",
        **overrides: Any,
    ) -> Self:
        """A classifier with a fresh head over a copy of a pre-trained encoder; its codebook heads stay behind.

        `overrides` replace fields of the encoder's configuration that do not change its weights, dropouts say.
        """
        names = list(label_names)
        if not names or len(set(names)) < len(names):
            raise ConfigError(f"label names: wanted one or more, each once, got {names}")
        own = config_fields(HubertECGClassifierConfig)
        inherited = {name: value for name, value in encoder.config.to_dict().items() if name in own}
        labels = {
            "id2label": dict(enumerate(names)),
            "label2id": {name: index for index, name in enumerate(names)},
            # The classifier has no codebook heads, and is not trained on masked input unless it is asked to.
            "vocab_sizes": [],
            "architectures": None,
        }
        config = build_config(HubertECGClassifierConfig, inherited | labels | {"task": task, "head": head} | overrides)
        model = cls(config)
        wanted = model.hubert_ecg.state_dict()
        weights = {name: tensor for name, tensor in encoder.state_dict().items() if name in wanted}
        model.hubert_ecg.load_state_dict(weights)
        return model

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the outputs, in order."""
        return tuple(self.config.id2label[index] for index in range(self.config.num_labels))

    def forward(
        self,
        input_values: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        mask_time_indices: torch.Tensor | None = None,
        output_hidden_states: bool = False,
        **_: Any,
    ) -> SequenceClassifierOutput:
        """`logits` [B, N] of inputs [B, L, S] or [B, L * S]; the other arguments as in `HubertECGEncoder.encode`."""
        encoded = self.hubert_ecg.encode(input_values, attention_mask, mask_time_indices, output_hidden_states)
        pooled_BD = self.pool(encoded.last_hidden_state, attention_mask)
        return SequenceClassifierOutput(logits=self.scores(pooled_BD), hidden_states=encoded.hidden_states)

    def pool(self, hidden_BTD: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        """The mean over those tokens that count. [B, T, D], mask over samples -> [B, D]."""
        if attention_mask is None:
            return hidden_BTD.mean(dim=1)
        counts_BT1 = self.hubert_ecg.token_mask(attention_mask, hidden_BTD.shape[1])[..., None]
        return (hidden_BTD * counts_BT1).sum(dim=1) / counts_BT1.sum(dim=1).clamp(min=1)

    def scores(self, pooled_BD: torch.Tensor) -> torch.Tensor:
        """The head: [B, D] -> [B, N]."""
        pooled_BD = self.dropout(pooled_BD)
        if self.config.head == "label_embedding":
            return cosine(pooled_BD, self.label_embedding.weight)
        return self.classifier(pooled_BD)

    def probabilities(self, logits_BN: torch.Tensor) -> torch.Tensor:
        """Sigmoids for independent labels, softmax for one class out of several; a regression's numbers as they are."""
        if self.config.task == "multi_label":
            return logits_BN.sigmoid()
        return logits_BN.softmax(dim=-1) if self.config.task == "multi_class" else logits_BN

    def set_trainable(self, *, conv_stem: bool, last_blocks: int | None = None) -> None:
        """Choose what training changes; every call sets all of it anew, so the same call freezes and thaws.

        The head always trains. `conv_stem`: whether the convolutional stem does. `last_blocks`: None trains the rest
        of the encoder; n trains its last n layers only, and nothing before them (the conv stem included).
        """
        encoder = self.hubert_ecg
        layers = list(encoder.encoder.layers)
        if last_blocks is not None and not 0 <= last_blocks <= len(layers):
            raise ConfigError(f"last_blocks: wanted 0 to {len(layers)}, the model's layers, got {last_blocks}")
        self.requires_grad_(True)
        if last_blocks is not None:
            encoder.requires_grad_(False)
            for layer in layers[len(layers) - last_blocks :]:
                layer.requires_grad_(True)
        stem_trains = conv_stem and last_blocks is None
        encoder.feature_extractor.requires_grad_(stem_trains)
        # HuBERT's stem otherwise asks for the gradient of its input, which would run the frozen stem backwards.
        encoder.feature_extractor._requires_grad = stem_trains
