"""The training loop: batches of triplets, weighted objectives, selection on validation SumR."""

import math
import sys
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ccr.errors import CcrError
from ccr.networks.dual_encoder import DualEncoder
from ccr.networks.ragged import Ragged
from ccr.networks.tokens import Tokens
from ccr.objectives.step import Step
from ccr.registry import OBJECTIVES
from ccr.retrieval.embed import embed_captions, embed_items, visual_batch
from ccr.retrieval.metrics import metrics
from ccr.retrieval.ranks import rank_both
from ccr.store import FeatureStore
from ccr.train.triplets import Triplets, Validation


class Trainer:
    """Trains a network and keeps the weights of its best epoch.

    Args:
        network: on the device to train on.
        settings: the job's settings (objectives, lr, batch, epochs, ...).
        tokens: every text of the job. store: features of its items, None for a teacher.

    Attributes:
        best: state dict of the best epoch, on the CPU.
    """

    def __init__(self, network: DualEncoder, settings: Mapping[str, Any], tokens: Tokens, store: FeatureStore | None):
        self.network = network
        self.settings = settings
        self.tokens = tokens
        self.store = store
        self.best: dict[str, Tensor] = {}
        if settings["word_dropout"] and tokens.mask is None:
            raise CcrError("word_dropout: this network's tokenizer has no mask token; set word_dropout to 0.")
        self.terms = settings["objectives"]
        self._losses = {name: OBJECTIVES[term["objective"]].load().loss for name, term in self.terms.items()}
        self._words = any("words" in OBJECTIVES[term["objective"]].needs for term in self.terms.values())
        weights = [p for p in network.parameters() if p.requires_grad]
        decay = [p for p in weights if p.ndim > 1]
        self._optimizer = torch.optim.AdamW(
            [{"params": decay}, {"params": [p for p in weights if p.ndim <= 1], "weight_decay": 0.0}],
            lr=settings["lr"],
            weight_decay=settings["weight_decay"],
            fused=True,
        )
        self._weights = weights

    def fit(self, triplets: Triplets, validation: Validation) -> list[dict[str, float]]:
        """Train until the epochs are done or `patience` epochs brought nothing; returns one row per epoch.

        Rows: epoch, seconds, lr, tau, loss, one column per term (unweighted), val_sumr. Afterwards the network holds
        the best epoch's weights. Raises `CcrError` when a loss is not finite.
        """
        settings = self.settings
        steps = math.ceil(len(triplets) / settings["batch"])
        schedule = torch.optim.lr_scheduler.LambdaLR(
            self._optimizer, _warmup_cosine(settings["warmup"] * steps * settings["epochs"], steps * settings["epochs"])
        )
        history: list[dict[str, float]] = []
        best, best_epoch = -math.inf, 0
        interval = 0.1 if sys.stderr.isatty() else 10.0
        with tqdm(total=steps * settings["epochs"], unit="step", mininterval=interval, dynamic_ncols=True) as bar:
            for epoch in range(1, settings["epochs"] + 1):
                start = time.perf_counter()
                order = np.random.default_rng([settings["seed"], epoch]).permutation(len(triplets))
                sums: dict[str, float] = dict.fromkeys(("loss", *self.terms), 0.0)
                self.network.train()
                for number, batch in enumerate(np.array_split(order, steps), 1):
                    for name, value in self._step(triplets, batch, f"epoch {epoch}, step {number}").items():
                        sums[name] += value / steps
                    schedule.step()
                    bar.update()
                score = self.validate(validation)
                history.append(
                    {
                        "epoch": epoch,
                        "seconds": round(time.perf_counter() - start, 2),
                        "lr": schedule.get_last_lr()[0],
                        "tau": self.network.tau.item(),
                        **sums,
                        "val_sumr": score,
                    }
                )
                if score > best:
                    best, best_epoch = score, epoch
                    self.best = {k: v.detach().cpu().clone() for k, v in self.network.state_dict().items()}
                bar.set_postfix_str(f"epoch {epoch}, loss {sums['loss']:.3f}, val SumR {score:.1f}, best {best:.1f}")
                if epoch - best_epoch >= settings["patience"]:
                    break
        self.network.load_state_dict(self.best)
        return history

    def _step(self, triplets: Triplets, batch: np.ndarray, where: str) -> dict[str, float]:
        step = self._forward(triplets, batch)
        values, loss = {}, torch.zeros((), device=self.network.device)
        for name, term in self.terms.items():
            options = {k: v for k, v in term.items() if k not in ("objective", "weight")}
            values[name] = self._losses[name](step, **options)
            loss = loss + term["weight"] * values[name]
        values = {"loss": loss.item(), **{name: value.item() for name, value in values.items()}}
        if not math.isfinite(values["loss"]):
            raise CcrError(f"Training diverged at {where}: {values}. Lower lr, or raise warmup; nothing was written.")
        self._optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._weights, self.settings["clip_norm"])
        self._optimizer.step()
        return values

    def _forward(self, triplets: Triplets, batch: np.ndarray) -> Step:
        """One pass of each encoder: all captions of the step together, each item once."""
        network, device = self.network, self.network.device
        streams = [stream for stream in triplets.streams if stream != "visual"]
        rows = np.concatenate([triplets.rows[stream][batch] for stream in streams])
        order = np.argsort(-self.tokens.length[rows], kind="stable")  # neighbours of like length: less padding
        tokens, ragged = self.tokens.batch(rows[order], device)
        tokens = self._hide_words(tokens, ragged)
        with self._precision():
            embedded, states = (x.float() for x in network.embed_text(tokens, ragged))
        back = torch.from_numpy(np.argsort(order)).to(device)
        embeddings = dict(zip(streams, embedded[back].chunk(len(streams)), strict=True))
        items = triplets.items[batch]
        if "visual" in triplets.streams:
            unique, inverse = np.unique(items, return_inverse=True)
            with self._precision():
                seen = network.embed_visual(*visual_batch(network, self.store, triplets.features[unique])).float()
            embeddings["visual"] = seen[torch.from_numpy(inverse).to(device)]
        words = {}
        if self._words:
            padded, mask = (ragged.pad(x)[back].chunk(len(streams)) for x in (states, ragged.inside))
            words = dict(zip(streams, zip(padded, mask, strict=True), strict=True))
        teacher = {s: torch.from_numpy(rows[batch]).to(device) for s, rows in triplets.teacher.items()}
        return Step(embeddings, torch.from_numpy(items).to(device), network.tau, words, teacher)

    def _hide_words(self, tokens: Tensor, ragged: Ragged) -> Tensor:
        """Word dropout: each word becomes the mask token at the given rate."""
        rate = self.settings["word_dropout"]
        if not rate:
            return tokens
        hidden = (torch.rand(len(tokens), device=tokens.device) < rate) & ragged.inside
        return tokens.masked_fill(hidden, self.tokens.mask)

    def _precision(self) -> torch.autocast:
        """The networks' precision; objectives are computed in float32."""
        bf16 = self.settings["precision"] == "bf16"
        return torch.autocast(self.network.device.type, torch.bfloat16, enabled=bf16)

    def validate(self, validation: Validation) -> float:
        """Validation SumR, mean over the languages; the same code path as the test's."""
        self.network.eval()
        batch = self.settings["batch"]
        scores = []
        for rows, gallery, relevant in validation.groups:
            captions = embed_captions(self.network, self.tokens, rows, batch)
            if self.store is None:
                partners = embed_captions(self.network, self.tokens, gallery, batch)
            else:
                partners = embed_items(self.network, self.store, gallery, batch)
            scores.append(metrics(*rank_both(captions, partners, relevant))["sumr"])
        return float(np.mean(scores))


def _warmup_cosine(warmup: float, total: int):
    """Factor of the learning rate at a step: linear up to 1, then half a cosine down to 0."""

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))

    return factor
