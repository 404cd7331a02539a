"""The text encoder f of the papers: any `transformers` encoder, run on real tokens only (docs/methods.md, "Networks").

Importing `transformers` takes longer than importing torch, so this module is imported only where a named model is used.

A text encoder is a module with a function `encoder_config` and a class `Encoder` with the arguments, `width`, `layers`
and `forward` of the one here, and a line in the registry's TEXT_ENCODERS. Its own options are under `options` of
`networks.*.text`. Weights that it freezes have `requires_grad` off.
"""

from collections.abc import Mapping
from copy import copy
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, AutoConfig, AutoModel
from transformers.utils import logging

from ccr.errors import CcrError
from ccr.networks.frozen import FrozenPrefix, is_states
from ccr.networks.ragged import Ragged


def encoder_config(settings: Mapping[str, Any], vocabulary: int) -> dict[str, Any]:
    """The `transformers` config of the model that `settings` (`networks.*.text`) name, with as many layers as they say.

    Raises `CcrError` when it is not on disk and cannot be downloaded, or has fewer layers.
    """
    config = _pretrained(AutoConfig, settings["encoder"])
    if (layers := settings.get("layers")) is not None:
        if layers > config.num_hidden_layers:
            raise CcrError(
                f"networks.*.text.layers: {layers}, but {settings['encoder']!r} has {config.num_hidden_layers}. Leave "
                "it out to use all."
            )
        config.num_hidden_layers = layers
    return config.to_dict()


def _pretrained(loader: Any, name: str, **options: Any) -> Any:
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()  # else it prints a table of the model's unused weights
    logging.disable_progress_bar()
    try:
        return loader.from_pretrained(name, **options)
    except Exception as error:  # no such model, a truncated file, a pickle that asks for more than weights
        raise CcrError(
            f"networks.*.text.encoder: {name!r} could not be loaded ({error}). Give a folder with config.json, "
            f"model.safetensors and tokenizer.json, a model name that this machine can download, or `scratch`."
        ) from error
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


class Encoder(FrozenPrefix):
    """Token states of a ragged batch of captions.

    Args:
        settings: `networks.*.text` resolved.
        config: a `transformers` config as a dict (see `encoder_config`).
        pretrained: load the named model's weights; false when weights are loaded afterwards.
        padded: batches come as `Padded`, not as `Ragged`.
    """

    any_type = True

    def __init__(self, settings: Mapping[str, Any], config: Mapping[str, Any], pretrained: bool, padded: bool = False):
        super().__init__()
        if pretrained:
            layers = settings.get("layers")
            fewer = {} if layers is None else {"num_hidden_layers": layers}
            self.model = _pretrained(AutoModel, settings["encoder"], **fewer)
        else:
            self.model = AutoModel.from_config(AutoConfig.for_model(**config))
        if getattr(self.model, "pooler", None) is not None:
            self.model.pooler = None  # token states are pooled here; an unused layer would only confuse optimisers
        self.width = self.model.config.hidden_size
        self._first_position = _first_position(self.model.config)
        self.freeze(self.model.embeddings, _stack(self.model)[1], settings["frozen_layers"])
        self._ragged = not padded and self._runs_ragged()
        if settings["frozen_prefix"] == "cached":
            self._check_split()

    @torch.no_grad()
    def _runs_ragged(self) -> bool:
        """Whether the model gives the same without padding as with padding."""
        ragged = Ragged(torch.tensor([5, 3]))
        tokens = self.model.config.vocab_size - 1 - torch.arange(8)  # ordinary words are at the end
        training = self.model.training
        self.model.eval()
        try:
            padded = self._padded(self.model, tokens, ragged)
            self.model.set_attn_implementation("ragged")
            agree = torch.allclose(self._flat(self.model, tokens, ragged), padded, atol=1e-4, rtol=1e-3)
        except (ValueError, TypeError, RuntimeError, NotImplementedError):
            agree = False
        if not agree:
            self.run_padded()
        self.model.train(training)
        return agree

    def run_padded(self) -> None:
        """Run the model on padded batches from now on, which is what exporters can trace."""
        self.model.set_attn_implementation("sdpa" if self.model._supports_sdpa else "eager")
        self._ragged = False

    @torch.no_grad()
    def _check_split(self) -> None:
        """Raise `CcrError` unless the prefix and the layers above it, run one after the other, equal the model."""
        ragged = Ragged(torch.tensor([5, 3]))
        tokens = self.model.config.vocab_size - 1 - torch.arange(8)
        training = self.training
        self.eval()
        try:
            split = self(self.prefix(tokens, ragged), ragged)[-1]
            agree = torch.allclose(self(tokens, ragged)[-1], split, atol=1e-4, rtol=1e-3)
        except (ValueError, TypeError, RuntimeError, AttributeError):
            agree = False
        self.train(training)
        if not agree:
            raise CcrError(
                f"networks.*.text.frozen_prefix: a {self.model.config.model_type} cannot be run from layer "
                f"{self.frozen} on. Set frozen_prefix: computed."
            )

    def _run(self, model: nn.Module, tokens: Tensor, ragged: Ragged, every_layer: bool = False) -> tuple[Tensor, ...]:
        """The last states that a model, or a part of one, computes from token ids or states.

        `every_layer`: preceded by the input of each layer. The hooks for it are our own, because those of
        `transformers` stay in the layers, which parts of a model share.
        """
        run, found = self._flat if self._ragged else self._padded, []

        def record(_: nn.Module, inputs: tuple, named: dict) -> None:
            states = inputs[0] if inputs else named["hidden_states"]
            found.append(states.squeeze(0) if self._ragged else ragged.unpad(states))

        hooks = [x.register_forward_pre_hook(record, with_kwargs=True) for x in _stack(model)[1] if every_layer]
        try:
            last = run(model, tokens, ragged)
        finally:
            for hook in hooks:
                hook.remove()
        return (*found, last)

    def _flat(self, model: nn.Module, tokens: Tensor, ragged: Ragged) -> Tensor:
        given = "inputs_embeds" if is_states(tokens) else "input_ids"
        inputs = {given: tokens[None], "position_ids": ragged.position[None] + self._first_position, "ragged": ragged}
        if hasattr(model.config, "type_vocab_size"):
            inputs["token_type_ids"] = torch.zeros_like(ragged.position)[None]
        return model(**inputs).last_hidden_state.squeeze(0)

    def _padded(self, model: nn.Module, tokens: Tensor, ragged: Ragged) -> Tensor:
        given = "inputs_embeds" if is_states(tokens) else "input_ids"
        output = model(**{given: ragged.pad(tokens)}, attention_mask=ragged.mask.long())
        return ragged.unpad(output.last_hidden_state)

    def forward(self, tokens: Tensor, ragged: Ragged, every_layer: bool = False) -> tuple[Tensor, ...]:
        """Token ids (N,) int64, or states of the frozen prefix (N, width) -> token states (N, width).

        A tuple with those of the last layer only.

        Args:
            every_layer: those of the embeddings and of every layer instead, lowest first; from states, those below
                the last frozen layer's are None.
        """
        if not is_states(tokens):
            return self._run(self.model, tokens, ragged, every_layer)
        if self.frozen == self.layers:
            above = (tokens,)
        else:
            above = self._run(_part(self.model, slice(self.frozen, None), _Given()), tokens, ragged, every_layer)
        return (None,) * self.frozen + above if every_layer else above

    @torch.no_grad()
    def prefix(self, tokens: Tensor, ragged: Ragged) -> Tensor:
        """Token ids (N,) int64 -> states (N, width) after the frozen layers."""
        if self.frozen == self.layers:
            return self(tokens, ragged)[-1]
        below = _part(self.model, slice(self.frozen + 1), self.model.embeddings)
        return self._run(below, tokens, ragged, every_layer=True)[self.frozen]

    @property
    def brought(self) -> list[str]:
        """Names of the weights that stay those of the named model: a run does not store them."""
        return list(self.frozen_weights)

    @property
    def layers(self) -> int:
        """Number of transformer layers."""
        return self.model.config.num_hidden_layers


class _Given(nn.Module):
    """Stands in for a model's embeddings: returns the states that it is given instead."""

    def forward(self, *inputs: Any, **named: Any) -> Tensor:
        found = (x for x in (*inputs, *named.values()) if isinstance(x, Tensor) and is_states(x))
        return next(found)


def _stack(model: nn.Module) -> tuple[str, nn.ModuleList]:
    """The path of a model's layers, and the layers."""
    lists = ((name, module) for name, module in model.named_modules() if isinstance(module, nn.ModuleList))
    return next(lists, ("", nn.ModuleList()))


def _part(model: nn.Module, layers: slice, embeddings: nn.Module) -> nn.Module:
    """The model with some of its layers and with these embeddings; it shares the model's weights."""
    path, stack = _stack(model)
    part: nn.Module = nn.ModuleList(stack[layers])
    *parents, name = path.split(".")
    for depth in range(len(parents), -1, -1):
        parent = copy(model.get_submodule(".".join(parents[:depth])))
        parent._modules = {**parent._modules, name: part}
        part, name = parent, parents[depth - 1] if depth else ""
    part._modules["embeddings"] = embeddings
    return part


def _first_position(config: Any) -> int:
    """Id of the first position: RoBERTa and its relatives count from after their padding id."""
    return config.pad_token_id + 1 if "roberta" in config.model_type else 0


def _ragged_attention(module, query, key, value, attention_mask, *, ragged, scaling=None, dropout=0.0, **_):
    """Attention function for `transformers` models whose batch is one row of N tokens: (1, heads, N, d)."""
    rows = (x.squeeze(0).transpose(0, 1) for x in (query, key, value))
    return ragged.attend(*rows, dropout, scaling)[None], None


# Any `transformers` model that supports attention backends then runs on ragged batches.
AttentionInterface.register("ragged", _ragged_attention)
AttentionMaskInterface.register("ragged", lambda *_, **__: None)
