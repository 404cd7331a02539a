"""Words, their clean states, and pointers, for word-level terms (docs/methods.md, item 10)."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ccr.errors import CcrError
from ccr.networks.dual_encoder import TextStates
from ccr.networks.pointer import Pointer
from ccr.objectives.provider import Context, Encoded
from ccr.objectives.provider import Provider as Base
from ccr.objectives.step import Step
from ccr.objectives.transport import Words
from ccr.train.batch import TextGroup, hide_words
from ccr.train.processes import gather


class Provider(Base):
    """Fills a step's `words`, `clean` and `pointers`; terms with the option `masked` get pointers."""

    def __init__(self, terms: Mapping[str, Mapping[str, Any]], context: Context):
        super().__init__(terms, context)
        self.mask = context.mask
        for name, term in terms.items():
            if term.get("masked") and self.mask is None:
                raise CcrError(f"{name}: hides words, but this network's tokenizer has no mask token; set it to 0.")
        self.layers = list(dict.fromkeys(term["layer"] for term in terms.values()))
        widths = [self.network.width_at(layer) for layer in self.layers]
        self.pointing = [term for term in terms.values() if "masked" in term]
        heads = (Pointer(widths[self.layers.index(term["layer"])]) for term in self.pointing)
        self.pointers = nn.ModuleList(heads).to(self.network.device)

    def modules(self) -> list[nn.Module]:
        """See `Provider`."""
        return [self.pointers]

    def fill(self, step: Step, encoded: Encoded) -> dict[str, Tensor]:
        """See `Provider`. Returns the words' variance."""
        for group, found in zip(encoded.groups, encoded.passes, strict=True):
            step.words |= _gathered(self._words(group, found))
            step.clean |= _gathered(self._words(group, self._clean(group)))
        for term, pointer in zip(self.pointing, self.pointers, strict=True):
            layer, masked = term["layer"], {}
            for group in encoded.groups:
                tokens = hide_words(group.tokens, group.shape, term["masked"], self.mask)
                masked |= self._words(group, self.network.encode_text(tokens, group.shape, every_layer=True))
            (source, _), (target, _) = (masked[stream, layer] for stream in term["pair"])
            logits = pointer(source, target), pointer(target, source)
            logits = (gather(x.to(source.dtype)) for x in logits)  # autocast gives bf16
            step.pointers[(*term["pair"], layer)] = tuple(logits)
        return {"word_variance": variance(step.clean)}

    @torch.no_grad()
    def _clean(self, group: TextGroup) -> TextStates:
        self.network.eval()
        states = self.network.encode_text(group.tokens, group.shape, every_layer=True)
        self.network.train()
        return states

    def _words(self, group: TextGroup, states: TextStates) -> dict[tuple[str, int | str], Words]:
        words = {}
        for layer in self.layers:
            pooled, mask = group.words.pool(states.at(layer))
            words |= {
                (stream, layer): (pooled.index_select(0, rows), mask.index_select(0, rows))
                for stream, rows in group.rows.items()
            }
        return words


def _gathered(words: dict[tuple[str, int | str], Words]) -> dict[tuple[str, int | str], Words]:
    return {place: (gather(states), gather(mask)) for place, (states, mask) in words.items()}


def variance(words: Mapping[tuple[str, int | str], Words]) -> Tensor:
    """Variance of the words' unit states, the smallest over streams and layers: near 0 they have collapsed to one."""
    found = []
    for states, mask in words.values():
        units = functional.normalize(states.detach(), dim=-1) * mask[..., None]
        mean = units.sum((0, 1)) / mask.sum().clamp(min=1)
        found.append(1 - mean.square().sum())  # 1 where there are no words
    return torch.stack(found).min()
