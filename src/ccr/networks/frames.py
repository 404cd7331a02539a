"""The visual encoder g of the papers: frame features through an input layer and, for videos, one attention block.

A visual encoder is a module with a class `Encoder(feature_dim, settings)` and a line in the registry's VISUAL_ENCODERS.
`settings` are `networks.*.visual`, with its own options under `options`. It has `width` and maps frame features (N,
feature_dim) of a ragged batch to states (N, width), whose mean over an item's frames goes to the head.
"""

from collections.abc import Mapping
from typing import Any

from ccr.networks.sequence import SequenceEncoder


class Encoder(SequenceEncoder):
    """An image is one frame and needs no block."""

    def __init__(self, feature_dim: int, settings: Mapping[str, Any]):
        super().__init__(
            feature_dim, settings, settings["layer_norm"], settings["block"], longest=settings["max_frames"]
        )
