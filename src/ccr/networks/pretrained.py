"""The text encoder f of the papers: any `transformers` encoder, run on real tokens only (docs/methods.md, "Networks").

Importing `transformers` takes longer than importing torch: only what uses a named model imports this module.

A text encoder is a module with a function `encoder_config`, a class `Encoder` with the arguments, `width`, `layers` and
`forward` of those here, and a line in the registry's TEXT_ENCODERS. Options of its own stand under `options` of
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
    """The `transformers` config of the model that `settings` (`networks.*.text`) name.

    Raises `CcrError` when it is neither on disk nor to be had.
    """
    return _pretrained(AutoConfig, settings["encoder"]).to_dict()


def _pretrained(loader: Any, name: str) -> Any:
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()  # else a table of what the model brings and does not use
    logging.disable_progress_bar()
    try:
        return loader.from_pretrained(name)
    except Exception as error:  # no such model, bytes that are cut off, a pickle that asks for more than weights
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
            self.model = _pretrained(AutoModel, settings["encoder"])
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
        """Whether the model, run without padding, gives what it gives with padding."""
        ragged = Ragged(torch.tensor([5, 3]))
        tokens = self.model.config.vocab_size - 1 - torch.arange(8)  # ordinary words stand at the end
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
        """`CcrError` unless the prefix and the layers above it, run one after the other, are the model."""
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
        """What a model, or a part of one, makes of token ids or states: of the last layer, or what each layer gets too.

        `transformers` records states by hooks that stay in the layers, which parts of a model share.
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

        Of the last layer, alone in a tuple.

        Args:
            every_layer: of the embeddings and of every layer instead, lowest first; from states, of those above the
                prefix (the others are None).
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
        """Token ids (N,) int64 -> states (N, width) behind the frozen layers."""
        if self.frozen == self.layers:
            return self(tokens, ragged)[-1]
        below = _part(self.model, slice(self.frozen + 1), self.model.embeddings)
        return self._run(below, tokens, ragged, every_layer=True)[self.frozen]

    @property
    def brought(self) -> list[str]:
        """Names of the weights that are the named model's, and stay so: a run does not keep them."""
        return list(self.frozen_weights)

    @property
    def layers(self) -> int:
        """Number of transformer layers."""
        return self.model.config.num_hidden_layers


class _Given(nn.Module):
    """In the place of a model's embeddings: the states that it is given for them."""

    def forward(self, *inputs: Any, **named: Any) -> Tensor:
        found = (x for x in (*inputs, *named.values()) if isinstance(x, Tensor) and is_states(x))
        return next(found)


def _stack(model: nn.Module) -> tuple[str, nn.ModuleList]:
    """A model's layers, and where they are in it."""
    lists = ((name, module) for name, module in model.named_modules() if isinstance(module, nn.ModuleList))
    return next(lists, ("", nn.ModuleList()))


def _part(model: nn.Module, layers: slice, embeddings: nn.Module) -> nn.Module:
    """The model with some of its layers and with these embeddings; its weights are the model's own."""
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
    """RoBERTa and its relatives number positions from behind their padding id."""
    return config.pad_token_id + 1 if "roberta" in config.model_type else 0


def _ragged_attention(module, query, key, value, attention_mask, *, ragged, scaling=None, dropout=0.0, **_):
    """Attention function for `transformers` models whose batch is one row of N tokens: (1, heads, N, d)."""
    rows = (x.squeeze(0).transpose(0, 1) for x in (query, key, value))
    return ragged.attend(*rows, dropout, scaling)[None], None


# Any `transformers` model that supports attention backends then runs on ragged batches.
AttentionInterface.register("ragged", _ragged_attention)
AttentionMaskInterface.register("ragged", lambda *_, **__: None)
