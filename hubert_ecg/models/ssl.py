"""The HuBERT-ECG encoder, and the pre-training model: the encoder with one prediction head per codebook.

Built on transformers' HubertModel, whose `forward` is left alone: it is what hands out the hidden states of every
layer. Weight names are those of the published checkpoints.

Shapes: B recordings, L leads, S samples, T tokens, D hidden size, P projection size, V clusters of a codebook.
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional
from transformers import HubertModel
from transformers.modeling_outputs import BaseModelOutput

from hubert_ecg.errors import ConfigError
from hubert_ecg.models.config import HubertECGConfig
from hubert_ecg.models.cpu import tune_for_cpu
from hubert_ecg.models.positional import SpectralPositionalConv

TEMPERATURE = 0.1
"""Divides the cosines between projected tokens and cluster embeddings."""


class HubertECGEncoder(HubertModel):
    """12-lead ECG in, one vector per token out, without heads."""

    config_class = HubertECGConfig

    def __init__(self, config: HubertECGConfig) -> None:
        super().__init__(config)
        self.encoder.pos_conv_embed = SpectralPositionalConv(self.encoder.pos_conv_embed)
        if not hasattr(self, "masked_spec_embed"):
            # HubertModel leaves the mask token out where masking is switched off; published classifiers hold it all
            # the same, and pre-training can then go on from any checkpoint.
            self.masked_spec_embed = nn.Parameter(torch.empty(config.hidden_size).uniform_())
        tune_for_cpu(self)

    def encode(
        self,
        input_values: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        mask_time_indices: torch.Tensor | None = None,
        output_hidden_states: bool = False,
    ) -> BaseModelOutput:
        """Token vectors of a batch of ECGs.

        `input_values` [B, L, S] or [B, L * S], leads one after the other; `attention_mask` likewise, 1 where a sample
        counts; `mask_time_indices` [B, T] bool, True where a token is replaced by the mask token.
        `last_hidden_state` is [B, T, D]. `hidden_states`, if asked for, is a tuple: [0] the input of the first layer,
        [i + 1] the output of layer i.
        """
        return self(
            flatten_leads(input_values),
            attention_mask=None if attention_mask is None else flatten_leads(attention_mask),
            mask_time_indices=mask_time_indices,
            output_hidden_states=output_hidden_states,
        )

    def token_mask(self, attention_mask: torch.Tensor, num_tokens: int) -> torch.Tensor:
        """Which tokens count under a mask over samples. [B, L * S] -> [B, T] bool; see `token_mask_rule`."""
        return self._get_feature_vector_attention_mask(num_tokens, flatten_leads(attention_mask))

    def _get_feature_vector_attention_mask(
        self, feature_vector_length: int, attention_mask: torch.Tensor
    ) -> torch.Tensor:
        if self.config.token_mask_rule == "prefix":
            return super()._get_feature_vector_attention_mask(feature_vector_length, attention_mask)
        grid = self.config.token_grid
        share_BT = functional.avg_pool1d(attention_mask[:, None].float(), grid.receptive_field, grid.stride)[:, 0]
        return share_BT[:, :feature_vector_length] >= 0.5

    def _mask_hidden_states(
        self,
        hidden_states: torch.Tensor,
        mask_time_indices: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Mask the tokens the caller chose, and no others.

        HubertModel draws a mask by itself, from numpy's global state, whenever it trains without one; here randomness
        is passed in. `where` also spares the device synchronisation that indexing with a mask costs.
        """
        if mask_time_indices is None:
            return hidden_states
        return torch.where(mask_time_indices[..., None], self.masked_spec_embed.to(hidden_states.dtype), hidden_states)


class HubertECG(HubertECGEncoder):
    """The pre-training model. Head i compares projected tokens with the embeddings of the clusters of codebook i."""

    def __init__(self, config: HubertECGConfig) -> None:
        super().__init__(config)
        self.final_proj = nn.ModuleList(
            nn.Linear(config.hidden_size, config.classifier_proj_size) for _ in config.vocab_sizes
        )
        self.label_embedding = nn.ModuleList(
            nn.Embedding(size, config.classifier_proj_size) for size in config.vocab_sizes
        )
        self.post_init()

    def logits(self, last_hidden_state: torch.Tensor) -> list[torch.Tensor]:
        """Scores of every cluster, one tensor [B, T, V] per codebook: cosine / 0.1."""
        return [
            cosine(projection(last_hidden_state), embedding.get_parameter("weight")) / TEMPERATURE
            for projection, embedding in zip(self.final_proj, self.label_embedding, strict=True)
        ]

    def new_codebooks(self, vocab_sizes: Sequence[int], *, keep_projections: bool = True) -> None:
        """Fit the heads to other codebooks, as the next iteration of pre-training needs: new cluster embeddings.

        Projections are kept where there was one at that place, unless `keep_projections` is False.
        """
        if not vocab_sizes or min(vocab_sizes) < 1:
            raise ConfigError(f"codebooks: wanted at least one, each with at least 1 cluster, got {list(vocab_sizes)}")
        config, device = self.config, self.masked_spec_embed.device
        kept = list(self.final_proj)[: len(vocab_sizes)] if keep_projections else []
        added = [
            nn.Linear(config.hidden_size, config.classifier_proj_size, device=device)
            for _ in range(len(vocab_sizes) - len(kept))
        ]
        embeddings = [nn.Embedding(size, config.classifier_proj_size, device=device) for size in vocab_sizes]
        for module in [*added, *embeddings]:
            self._init_weights(module)
        self.final_proj = nn.ModuleList([*kept, *added])
        self.label_embedding = nn.ModuleList(embeddings)
        config.vocab_sizes, config.ensemble_length = list(vocab_sizes), len(vocab_sizes)


def flatten_leads(values: torch.Tensor) -> torch.Tensor:
    """The leads one after the other, as the model reads them. [B, L, S] -> [B, L * S]; [B, L * S] as it is."""
    return values.flatten(1) if values.ndim == 3 else values


def cosine(vectors: torch.Tensor, references: torch.Tensor) -> torch.Tensor:
    """Cosine of every vector with every reference. [..., P], [V, P] -> [..., V]."""
    return functional.normalize(vectors, dim=-1) @ functional.normalize(references, dim=-1).T
