"""A BERT (Devlin et al. 2019) that is trained from scratch, run on real tokens only.

Its weight names, its config keys and the weights drawn from a seed are those of `transformers`' own BERT, so the two
are interchangeable; without that library, training starts in a third of the time.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ccr.networks.frozen import FrozenPrefix
from ccr.networks.ragged import Ragged

STD = 0.02  # of initial weights


def encoder_config(settings: Mapping[str, Any], vocabulary: int) -> dict[str, Any]:
    """The config of a BERT of the size that `settings` (`networks.*.text`) ask for, over `vocabulary` pieces."""
    return {
        "model_type": "bert",
        "vocab_size": vocabulary,
        "hidden_size": settings["hidden"],
        "num_hidden_layers": settings["layers"],
        "num_attention_heads": settings["heads"],
        "intermediate_size": settings["feedforward"],
        "max_position_embeddings": settings["max_tokens"],
        "type_vocab_size": 2,
        "hidden_dropout_prob": settings["dropout"],
        "attention_probs_dropout_prob": 0.0,  # keeps the fused attention kernels
        "layer_norm_eps": 1e-12,
        "pad_token_id": 0,
    }


class Embeddings(nn.Module):
    """Token ids (N,) -> (N, width)."""

    def __init__(self, config: Mapping[str, Any]):
        super().__init__()
        width = config["hidden_size"]
        self.word_embeddings = nn.Embedding(config["vocab_size"], width, padding_idx=config["pad_token_id"])
        self.position_embeddings = nn.Embedding(config["max_position_embeddings"], width)
        self.token_type_embeddings = nn.Embedding(config["type_vocab_size"], width)
        self.LayerNorm = nn.LayerNorm(width, eps=config["layer_norm_eps"])
        self.dropout = nn.Dropout(config["hidden_dropout_prob"])

    def forward(self, tokens: Tensor, shape: Ragged) -> Tensor:
        states = self.word_embeddings(tokens) + self.token_type_embeddings(torch.zeros_like(tokens))
        return self.dropout(self.LayerNorm(states + self.position_embeddings(shape.position)))


class Residual(nn.Module):
    """Linear layer, dropout, sum with the states before, LayerNorm."""

    def __init__(self, dim: int, config: Mapping[str, Any]):
        super().__init__()
        self.dense = nn.Linear(dim, config["hidden_size"])
        self.LayerNorm = nn.LayerNorm(config["hidden_size"], eps=config["layer_norm_eps"])
        self.dropout = nn.Dropout(config["hidden_dropout_prob"])

    def forward(self, states: Tensor, before: Tensor) -> Tensor:
        return self.LayerNorm(self.dropout(self.dense(states)) + before)


class Attention(nn.Module):
    """Multi-head self-attention and its residual."""

    def __init__(self, config: Mapping[str, Any]):
        super().__init__()
        width = config["hidden_size"]
        self.heads = config["num_attention_heads"]
        self.self = nn.ModuleDict({name: nn.Linear(width, width) for name in ("query", "key", "value")})
        self.output = Residual(width, config)

    def forward(self, states: Tensor, shape: Ragged) -> Tensor:
        parts = (project(states).unflatten(1, (self.heads, -1)) for project in self.self.values())
        return self.output(shape.attend(*parts, 0.0, None, padding_sees_all=False).flatten(1), states)


class Layer(nn.Module):
    """Self-attention and a feed-forward part, (N, width) -> (N, width)."""

    def __init__(self, config: Mapping[str, Any]):
        super().__init__()
        self.attention = Attention(config)
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(config["hidden_size"], config["intermediate_size"])})
        self.output = Residual(config["intermediate_size"], config)

    def forward(self, states: Tensor, shape: Ragged) -> Tensor:
        states = self.attention(states, shape)
        return self.output(functional.gelu(self.intermediate["dense"](states)), states)


class Bert(nn.Module):
    """The transformer without its pooler."""

    def __init__(self, config: Mapping[str, Any]):
        super().__init__()
        self.embeddings = Embeddings(config)
        layers = [Layer(config) for _ in range(config["num_hidden_layers"])]
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(layers)})
        pooler = nn.Linear(config["hidden_size"], config["hidden_size"])  # draws its share of the random numbers
        for module in (*self.modules(), pooler):
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=STD)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)
        with torch.no_grad():
            self.embeddings.word_embeddings.weight[config["pad_token_id"]] = 0


class Encoder(FrozenPrefix):
    """Token states of a ragged batch of captions; see `ccr.networks.pretrained.Encoder` for the arguments."""

    any_type = True

    def __init__(self, settings: Mapping[str, Any], config: Mapping[str, Any], pretrained: bool, padded: bool = False):
        super().__init__()
        self.model = Bert(config)
        self.width = config["hidden_size"]
        self.freeze(self.model.embeddings, self.model.encoder["layer"], settings["frozen_layers"])

    def forward(self, tokens: Tensor, ragged: Ragged, every_layer: bool = False) -> tuple[Tensor, ...]:
        """Token ids (N,) int64 -> a tuple with the last layer's token states (N, width) only.

        Args:
            every_layer: those of the embeddings and of every layer instead, lowest first.
        """
        states = [self.model.embeddings(tokens, ragged)]
        for layer in self.model.encoder["layer"]:
            states.append(layer(states[-1], ragged))
        return tuple(states) if every_layer else (states[-1],)

    @property
    def layers(self) -> int:
        """Number of transformer layers."""
        return len(self.model.encoder["layer"])
