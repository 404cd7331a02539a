"""The dual encoder: text and visual encoder, each with a head into a common space (docs/methods.md, "Networks")."""

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ccr.errors import CcrError
from ccr.networks.ragged import Padded, Ragged
from ccr.networks.sequence import Attended, SequenceEncoder
from ccr.registry import TEXT_ENCODERS, VISUAL_ENCODERS, text_kind

NORMS = {"layer": nn.LayerNorm, "batch": nn.BatchNorm1d, "batch_all_streams": nn.BatchNorm1d}
SHAPES = {"masked_mean": Ragged, "padded_mean": Padded}


def text_encoder(settings: Mapping[str, Any]) -> ModuleType:
    """The module of the text encoder that `networks.*.text` asks for."""
    return TEXT_ENCODERS[text_kind(settings)].load()


def _head(width: int, settings: Mapping[str, Any]) -> nn.Sequential:
    """Pooled states (B, width) -> common space (B, dim)."""
    dim = settings["dim"]
    norm, dropout = NORMS[settings["norm"]](dim), nn.Dropout(settings["dropout"])
    return nn.Sequential(OrderedDict(linear=nn.Linear(width, dim), norm=norm, dropout=dropout))


@dataclass(frozen=True)
class TextStates:
    """A batch of captions on the way to their embeddings.

    `layers`: states (N, width) of the transformer, the last layer's last; those before it only if asked for.
    `pooled` (B, h): what the head maps. `attended`: the block's states, None without a block. `shape`: of the batch.
    """

    layers: tuple[Tensor, ...]
    pooled: Tensor
    attended: Attended | None
    shape: Ragged

    @property
    def tokens(self) -> Tensor:
        """(N, width), the last layer's states."""
        return self.layers[-1]

    def at(self, layer: int | str) -> Tensor:
        """(N, h), the states of a layer, or of the block (`block`)."""
        return self.attended.after if layer == "block" else self.layers[layer]


@dataclass(frozen=True)
class CrossSide:
    """One side of the cross-attention, B captions padded to (B, L, ...).

    `query`, `key`, `value`, `before`: see `Attended`. `real` (B, L) bool: not padding; `counted` (B, L) bool: part of
    the mean.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    before: Tensor
    real: Tensor
    counted: Tensor

    @classmethod
    def of(cls, text: TextStates, rows: Tensor) -> "CrossSide":
        """The captions `rows` (B,) of a batch, in that order."""
        parts = (text.attended.query, text.attended.key, text.attended.value, text.attended.before)
        mask, counted = (x.index_select(0, rows) for x in (text.shape.mask, text.shape.counted))
        return cls(*text.shape.pad_some(rows, *parts), mask, counted)


class DualEncoder(nn.Module):
    """f and g: captions and items become unit vectors; their similarity is the dot product.

    Args:
        settings: a `networks.*` entry resolved.
        text_config: the text encoder's `transformers` config as a dict.
        feature_dim: dimensions of a frame's feature; None for a text-only network (a CL teacher).
        pretrained: load the weights of a named text encoder.

    Attributes:
        shape: class of the batches that this network takes, `Ragged` or (`pooling: padded_mean`) `Padded`.
        cached: texts come as states of the frozen prefix (`frozen_prefix: cached`), not as token ids.
        in_bf16: parts whose weights are all in bf16 at the moment (`HalfWeights`).
        slices: in how many slices the text encoder processes a batch when there is a gradient.
    """

    in_bf16: Sequence[nn.Module] = ()
    slices: int = 1

    def __init__(
        self, settings: Mapping[str, Any], text_config: Mapping[str, Any], feature_dim: int | None, pretrained: bool
    ):
        super().__init__()
        text, visual = settings["text"], settings["visual"]
        self.shape = SHAPES[settings["pooling"]]
        self.text = text_encoder(text).Encoder(text, text_config, pretrained, padded=self.shape is Padded)
        self.cached = text["frozen_prefix"] == "cached"
        self.text_layers = None
        if text["block"] is not None:
            self.text_layers = SequenceEncoder(self.text.width, text["block"], True, text["block"], text["max_tokens"])
        self.text_head = _head(self.text_layers.width if self.text_layers else self.text.width, settings)
        self.visual = None
        if feature_dim is not None:
            self.visual = VISUAL_ENCODERS[visual.get("kind", "frames")].load().Encoder(feature_dim, visual)
            self.visual_head = _head(self.visual.width, settings)
        self.max_frames = visual["max_frames"]
        self.all_streams = settings["norm"] == "batch_all_streams"
        self.log_tau = nn.Parameter(torch.tensor(math.log(0.07)))

    @property
    def device(self) -> torch.device:
        """Where the network's weights are."""
        return self.log_tau.device

    @property
    def tau(self) -> Tensor:
        """Learnable temperature of the contrastive objectives, kept within [.01, 1]."""
        return self.log_tau.clamp(math.log(0.01), 0.0).exp()

    @property
    def encoders(self) -> list[nn.Module]:
        """The parts before the heads that compute in whatever type their weights have."""
        parts = (self.text, self.text_layers, self.visual)
        return [part for part in parts if getattr(part, "any_type", False)]

    def own_state(self) -> dict[str, Tensor]:
        """The state dict, without the frozen weights that come from the named text encoder."""
        brought = {f"text.{name}" for name in getattr(self.text, "brought", ())}
        return {name: weight for name, weight in self.state_dict().items() if name not in brought}

    def encode_text(self, tokens: Tensor, shape: Ragged, every_layer: bool = False) -> TextStates:
        """Token ids (N,), or states of the frozen prefix (N, width) -> everything before the head."""
        layers = self._run(self.text, self._text_states, tokens, shape, every_layer)
        if self.text_layers is None:
            return TextStates(layers, shape.mean(layers[-1]), None, shape)
        attended = self._run(self.text_layers, self.text_layers.attend, layers[-1], shape)
        return TextStates(layers, shape.mean(attended.after), attended, shape)

    def _text_states(self, tokens: Tensor, shape: Ragged, every_layer: bool) -> tuple[Tensor, ...]:
        """The text encoder's states, slice by slice: a gradient needs the activations of only one at a time.

        So the batch of a contrastive loss may be larger than the encoder's memory allows, as with GradCache (Gao et
        al., 2021).
        """
        if self.slices == 1 or not torch.is_grad_enabled():
            return self.text(tokens, shape, every_layer)
        from torch.utils.checkpoint import checkpoint  # takes seconds to import

        parts = shape.split(self.slices)
        rows = tokens.split([len(part.sequence) for part in parts])
        states = [
            checkpoint(self.text, some, part, every_layer, use_reentrant=False)
            for some, part in zip(rows, parts, strict=True)
        ]
        return tuple(None if layer[0] is None else torch.cat(layer) for layer in zip(*states, strict=True))

    def _run(self, part: nn.Module, function: Callable[..., Any], rows: Tensor, *others: Any) -> Any:
        """What a part computes from rows: in bf16 if all its weights are, else in autocast's types."""
        if part not in self.in_bf16:
            return function(rows, *others)
        with torch.autocast(self.device.type, enabled=False):
            return function(rows.bfloat16() if rows.is_floating_point() else rows, *others)

    def width_at(self, layer: int | str) -> int:
        """Width of the states of a layer, or of the block. Raises `CcrError` if the network has no such layer."""
        if layer == "block" and self.text_layers is not None:
            return self.text_layers.width
        if layer == "block" or not -1 <= layer <= self.text.layers:
            has = f"layers 0 to {self.text.layers}" + ("" if self.text_layers is None else " and `block`")
            raise CcrError(f"layer: the text encoder has no {layer!r}; it has {has}, and -1 is the last layer.")
        return self.text.width

    def pool_cross(self, source: CrossSide, target: CrossSide) -> Tensor:
        """NRCCR's teacher before the head (docs/methods.md, item 5): (B, h).

        Source positions attend to the target's, and the result is averaged together with the target's states from
        before attention. Padding attends to everything, which matters only where it is counted.
        """
        visible = target.real[:, None, None, :] | ~source.real[:, None, :, None]
        across = self.text_layers.block.across
        crossed = self._run(self.text_layers, across, source.query, target.key, target.value, visible)
        counted = torch.cat([source.counted, target.counted], 1)[..., None]
        return (torch.cat([crossed, target.before], 1) * counted).sum(1) / counted.sum(1)

    def project_text(self, pooled: Tensor, searched: bool = True) -> Tensor:
        """Pooled text states (B, h) -> (B, dim), embeddings before they are scaled to unit length.

        `searched`: evaluation embeds texts like these. Others (back-translations, the cross-attention teacher's) are
        normalised by their own batch and left out of the running statistics used in evaluation, except with
        `norm: batch_all_streams`.
        """
        if isinstance(self.text_head.norm, nn.BatchNorm1d):
            self.text_head.norm.track_running_stats = searched or self.all_streams
        return self.text_head(pooled)

    def embed_text(self, tokens: Tensor, shape: Ragged) -> Tensor:
        """Token ids (N,), or states of the frozen prefix (N, width) -> unit embeddings (B, dim)."""
        return functional.normalize(self.project_text(self.encode_text(tokens, shape).pooled), dim=-1)

    def pool_visual(self, features: Tensor, shape: Ragged) -> Tensor:
        """Frame features (N, feature_dim) -> (B, h), before the head."""
        return shape.mean(self._run(self.visual, self.visual, features, shape))

    def embed_visual(self, features: Tensor, shape: Ragged) -> Tensor:
        """Frame features (N, feature_dim) -> unit embeddings (B, dim)."""
        return functional.normalize(self.visual_head(self.pool_visual(features, shape)), dim=-1)
