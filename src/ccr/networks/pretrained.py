"""The text encoder f of the papers: any `transformers` encoder, run on real tokens only (docs/methods.md, "Networks").

Importing `transformers` takes longer than importing torch: only what uses a named model imports this module.

A text encoder is a module with a function `encoder_config`, a class `Encoder` with the arguments, `width`, `layers` and
`forward` of those here, and a line in the registry's TEXT_ENCODERS. Options of its own stand under `options` of
`networks.*.text`. Weights that it freezes have `requires_grad` off.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, AutoConfig, AutoModel

from ccr.errors import CcrError
from ccr.networks.ragged import Ragged


def encoder_config(settings: Mapping[str, Any], vocabulary: int) -> dict[str, Any]:
    """The `transformers` config of the model that `settings` (`networks.*.text`) name.

    Raises `CcrError` when it is neither on disk nor to be had.
    """
    return _pretrained(AutoConfig, settings["encoder"]).to_dict()


def _pretrained(loader: Any, name: str) -> Any:
    try:
        return loader.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise CcrError(
            f"networks.*.text.encoder: {name!r} could not be loaded ({error}). Give a folder with config.json, "
            f"model.safetensors and tokenizer.json, a model name that this machine can download, or `scratch`."
        ) from error


class Encoder(nn.Module):
    """Token states of a ragged batch of captions.

    Args:
        settings: `networks.*.text` resolved.
        config: a `transformers` config as a dict (see `encoder_config`).
        pretrained: load the named model's weights; false when weights are loaded afterwards.
        padded: batches come as `Padded`, not as `Ragged`.
    """

    def __init__(self, settings: Mapping[str, Any], config: Mapping[str, Any], pretrained: bool, padded: bool = False):
        super().__init__()
        if pretrained:
            self.model = _pretrained(AutoModel, settings["encoder"])
        else:
            self.model = AutoModel.from_config(AutoConfig.for_model(**config))
        if getattr(self.model, "pooler", None) is not None:
            self.model.pooler = None  # token states are pooled here; an unused layer would only confuse optimisers
        self.width = self.model.config.hidden_size
        self._first_position = _first_position(self.model.config)
        self._freeze(settings["frozen_layers"])
        self._ragged = not padded and self._runs_ragged()

    def _freeze(self, layers: int) -> None:
        """Freeze the embeddings and the first `layers` layers (0: nothing)."""
        stack = next((m for m in self.model.modules() if isinstance(m, nn.ModuleList)), [])
        if layers > len(stack):
            raise CcrError(f"networks.*.text.frozen_layers: {layers} of {len(stack)} layers cannot be frozen.")
        if layers:
            for part in (self.model.embeddings, *stack[:layers]):
                part.requires_grad_(False)

    @torch.no_grad()
    def _runs_ragged(self) -> bool:
        """Whether the model, run without padding, gives what it gives with padding."""
        ragged = Ragged(torch.tensor([5, 3]))
        tokens = self.model.config.vocab_size - 1 - torch.arange(8)  # ordinary words stand at the end
        training = self.model.training
        self.model.eval()
        try:
            padded = self._padded(tokens, ragged)
            self.model.set_attn_implementation("ragged")
            agree = torch.allclose(self._flat(tokens, ragged)[-1], padded[-1], atol=1e-4, rtol=1e-3)
        except (ValueError, TypeError, RuntimeError, NotImplementedError):
            agree = False
        if not agree:
            self.model.set_attn_implementation("sdpa" if self.model._supports_sdpa else "eager")
        self.model.train(training)
        return agree

    def _flat(self, tokens: Tensor, ragged: Ragged, **options: bool) -> tuple[Tensor, ...]:
        positions = ragged.position[None] + self._first_position
        inputs = {"input_ids": tokens[None], "position_ids": positions, "ragged": ragged}
        if hasattr(self.model.config, "type_vocab_size"):
            inputs["token_type_ids"] = torch.zeros_like(tokens)[None]
        return tuple(states[0] for states in _states(self.model(**inputs, **options)))

    def _padded(self, tokens: Tensor, ragged: Ragged, **options: bool) -> tuple[Tensor, ...]:
        output = self.model(input_ids=ragged.pad(tokens), attention_mask=ragged.mask.long(), **options)
        return tuple(map(ragged.unpad, _states(output)))

    def forward(self, tokens: Tensor, ragged: Ragged, every_layer: bool = False) -> tuple[Tensor, ...]:
        """Token ids (N,) int64 -> token states (N, width) of the last layer, alone in a tuple.

        Args:
            every_layer: of the embeddings and of every layer instead, lowest first.
        """
        run = self._flat if self._ragged else self._padded
        return run(tokens, ragged, **({"output_hidden_states": True} if every_layer else {}))

    @property
    def layers(self) -> int:
        """Number of transformer layers."""
        return self.model.config.num_hidden_layers


def _states(output: Any) -> tuple[Tensor, ...]:
    """Of a model's output: the states of every layer, where it was asked for them, else of the last one."""
    return (*(output.hidden_states or ())[:-1], output.last_hidden_state)


def _first_position(config: Any) -> int:
    """RoBERTa and its relatives number positions from behind their padding id."""
    return config.pad_token_id + 1 if "roberta" in config.model_type else 0


def _ragged_attention(module, query, key, value, attention_mask, *, ragged, scaling=None, dropout=0.0, **_):
    """Attention function for `transformers` models whose batch is one row of N tokens: (1, heads, N, d)."""
    rows = (x[0].transpose(0, 1) for x in (query, key, value))
    return ragged.attend(*rows, dropout, scaling)[None], None


# Any `transformers` model that supports attention backends then runs on ragged batches.
AttentionInterface.register("ragged", _ragged_attention)
AttentionMaskInterface.register("ragged", lambda *_, **__: None)
