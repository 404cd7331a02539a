"""The training loop: batches of triplets, weighted objectives, selection on validation recall."""

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
from ccr.networks.dual_encoder import CrossSide, DualEncoder, TextStates
from ccr.networks.ragged import Padded
from ccr.networks.tokens import Tokens
from ccr.objectives.step import Step
from ccr.registry import OBJECTIVES
from ccr.retrieval.embed import embed_captions, embed_items, visual_batch
from ccr.retrieval.metrics import RECALLS, metrics
from ccr.retrieval.ranks import rank_both
from ccr.store import FeatureStore
from ccr.train.adversary import Adversary, Captions
from ccr.train.batch import Batch, TextGroup, hide_words
from ccr.train.schedule import Schedule
from ccr.train.triplets import Triplets, Validation
from ccr.train.words import WordLevel, variance

HEAD_ORDER = ("source", "target", "cross", "back")  # in which a BatchNorm head sees the streams, as published


class Trainer:
    """Trains a network and keeps the weights of its best epoch.

    Args:
        network: on the device to train on.
        settings: the job's settings (objectives, lr, batch, epochs, ...).
        tokens: every text of the job. store: features of its items, None for a teacher.

    Attributes:
        best: state dict of the best epoch, on the CPU.
        adversaries: term -> discriminator with its optimiser.
    """

    def __init__(self, network: DualEncoder, settings: Mapping[str, Any], tokens: Tokens, store: FeatureStore | None):
        self.network = network
        self.settings = settings
        self.tokens = tokens
        self.store = store
        self.best: dict[str, Tensor] = {}
        self.terms = settings["objectives"]
        hides = {"word_dropout": settings["word_dropout"]} | {n: t.get("masked", 0.0) for n, t in self.terms.items()}
        for name, rate in hides.items():
            if rate and tokens.mask is None:
                raise CcrError(f"{name}: hides words, but this network's tokenizer has no mask token; set it to 0.")
        self._losses = {name: OBJECTIVES[term["objective"]].load().loss for name, term in self.terms.items()}
        self._needs = {need for term in self.terms.values() for need in OBJECTIVES[term["objective"]].needs}
        self._cross_is_cut = all(term.get("cut_teacher", True) for term in self.terms.values())
        self.adversaries = {
            name: Adversary(term, network.text.width, network.device)
            for name, term in self.terms.items()
            if "discriminator" in OBJECTIVES[term["objective"]].needs
        }
        words = {name: t for name, t in self.terms.items() if "words" in OBJECTIVES[t["objective"]].needs}
        self.words = WordLevel(network, words, tokens.mask) if words else None
        weights = [p for p in network.parameters() if p.requires_grad]
        weights += list(self.words.pointers.parameters()) if self.words else []
        decay = [p for p in weights if p.ndim > 1]
        self._optimizer = torch.optim.AdamW(
            [{"params": decay}, {"params": [p for p in weights if p.ndim <= 1], "weight_decay": 0.0}],
            lr=settings["lr"],
            weight_decay=settings["weight_decay"],
            fused=True,
        )
        self._weights = weights
        text = [network.text, *([network.text_layers] if network.text_layers else [])]
        self._text_weights = [p for part in text for p in part.parameters() if p.requires_grad]

    def fit(self, triplets: Triplets, validation: Validation) -> list[dict[str, float]]:
        """Train until the epochs are done or `patience` epochs brought nothing; returns one row per epoch.

        Rows: epoch, seconds, lr, tau, loss, per term its value (unweighted) and `{term}_share`, its weighted share
        of the gradient norm on the text encoder (mean of the measured steps), the discriminators' losses, with
        word-level terms word_variance (see `words.variance`), val_t2v and val_sumr. Afterwards the network holds the
        best epoch's weights. Raises `CcrError` when a loss is not finite.
        """
        settings = self.settings
        steps = math.ceil(len(triplets) / settings["batch"])
        total = steps * settings["epochs"]
        schedule = Schedule(settings["schedule"], self._optimizer, settings["lr"], settings["warmup"] * total, total)
        history: list[dict[str, float]] = []
        best, best_epoch = -math.inf, 0
        interval = 0.1 if sys.stderr.isatty() else 10.0
        with tqdm(total=total, unit="step", mininterval=interval, dynamic_ncols=True) as bar:
            for epoch in range(1, settings["epochs"] + 1):
                start = time.perf_counter()
                means = self._epoch(triplets, epoch, steps, schedule, bar)
                scores = self.validate(validation)
                score = scores[settings["select_by"]]
                history.append(
                    {
                        "epoch": epoch,
                        "seconds": round(time.perf_counter() - start, 2),
                        "lr": self._optimizer.param_groups[0]["lr"],
                        "tau": self.network.tau.item(),
                        **means,
                        **{f"val_{name}": value for name, value in scores.items()},
                    }
                )
                schedule.after_epoch(improved=score > best)
                if score > best:
                    best, best_epoch = score, epoch
                    self.best = {k: v.detach().cpu().clone() for k, v in self.network.state_dict().items()}
                bar.set_postfix_str(f"epoch {epoch}, loss {means['loss']:.3f}, val {score:.1f}, best {best:.1f}")
                if epoch - best_epoch >= settings["patience"]:
                    break
        self.network.load_state_dict(self.best)
        return history

    def _epoch(self, triplets: Triplets, epoch: int, steps: int, schedule: Schedule, bar: tqdm) -> dict[str, float]:
        """One pass over the triplets; the means of what `update` returns."""
        order = np.random.default_rng([self.settings["seed"], epoch]).permutation(len(triplets))
        every = self.settings["gradient_every"]
        collected: dict[str, list[float]] = {}
        self.network.train()
        for number, rows in enumerate(np.array_split(order, steps)):
            values = self.update(self.batch(triplets, rows), measure=every > 0 and number % every == 0)
            if not math.isfinite(values["loss"]):
                raise CcrError(
                    f"Training diverged at epoch {epoch}, step {number + 1}: {values}. Lower lr, or raise warmup; "
                    "nothing was written."
                )
            for name, value in values.items():
                collected.setdefault(name, []).append(value)
            schedule.after_step()
            bar.update()
        return {name: float(np.mean(values)) for name, values in collected.items()}

    def batch(self, triplets: Triplets, rows: np.ndarray) -> Batch:
        """These rows of the triplets; each item's features once."""
        network, device = self.network, self.network.device
        items = triplets.items[rows]
        features = item_rows = None
        if "visual" in triplets.streams:
            unique, inverse = np.unique(items, return_inverse=True)
            features = visual_batch(network, self.store, triplets.features[unique])
            item_rows = torch.from_numpy(inverse).to(device)
        streams = [stream for stream in triplets.streams if stream != "visual"]
        # padded captions depend on their batch: there each stream is its own, as published
        groups = [[stream] for stream in streams] if network.shape is Padded else [streams]
        return Batch(
            [self._text_group({stream: triplets.rows[stream][rows] for stream in group}) for group in groups],
            torch.from_numpy(items).to(device),
            features,
            item_rows,
            {stream: torch.from_numpy(found[rows]).to(device) for stream, found in triplets.teacher.items()},
            None if triplets.weights is None else torch.from_numpy(triplets.weights[rows]).to(device),
        )

    def _text_group(self, rows: dict[str, np.ndarray]) -> TextGroup:
        every = np.concatenate(list(rows.values()))
        order = np.argsort(-self.tokens.length[every], kind="stable")  # neighbours of like length: less padding
        tokens, shape = self.tokens.batch(every[order], self.network.device, self.network.shape)
        places = torch.from_numpy(np.argsort(order)).to(self.network.device).chunk(len(rows))
        hidden = hide_words(tokens, shape, self.settings["word_dropout"], self.tokens.mask)
        words = (tokens, self.tokens.words(every[order], shape)) if self.words else ()
        return TextGroup(hidden, shape, dict(zip(rows, places, strict=True)), *words)

    def update(self, batch: Batch, measure: bool = False) -> dict[str, float]:
        """One step: the discriminators first, then the networks, all on the same forward pass.

        Returns the loss, every term's value (unweighted), each discriminator's loss before its step, and with
        `measure` the terms' shares of the gradient. A loss that is not finite changes no weight.
        """
        step, texts = self.forward(batch)
        values = {"word_variance": variance(step.clean)} if self.words else {}
        for name, adversary in self.adversaries.items():
            pair = self.terms[name]["pair"]
            originals, translations = (self.captions(texts[stream]) for stream in pair)
            values[f"{name}_discriminator"] = adversary.update(originals, translations)
            step.logits[tuple(pair)] = adversary.logits(translations)
        weighted = {}
        for name, term in self.terms.items():
            options = {k: v for k, v in term.items() if k not in ("objective", "weight")}
            value = self._losses[name](step, **options)
            weighted[name] = term["weight"] * value
            values[name] = value.item()
        loss = sum(weighted.values())
        values = {"loss": loss.item(), **values}
        if not math.isfinite(values["loss"]):
            return values
        if measure:
            values |= {f"{name}_share": share for name, share in self._shares(weighted).items()}
        self._optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._weights, self.settings["clip_norm"])
        self._optimizer.step()
        return values

    def forward(self, batch: Batch) -> tuple[Step, dict[str, tuple[TextStates, Tensor]]]:
        """One pass of each encoder. Returns what objectives see, and stream -> (states, its sequences in them)."""
        network = self.network
        with self._precision():
            texts = {}
            passes = [network.encode_text(g.tokens, g.shape, every_layer=self.words is not None) for g in batch.texts]
            for group, states in zip(batch.texts, passes, strict=True):
                texts |= {stream: (states, rows) for stream, rows in group.rows.items()}
            pooled = {stream: states.pooled[rows] for stream, (states, rows) in texts.items()}
            if "cross" in self._needs:
                with torch.set_grad_enabled(not self._cross_is_cut):
                    source, target = (CrossSide.of(*texts[stream]) for stream in ("source", "target"))
                    pooled["cross"] = network.pool_cross(source, target)
            embeddings = {s: network.embed_pooled(pooled[s]) for s in HEAD_ORDER if s in pooled}
            if batch.features is not None:
                seen = network.pool_visual(*batch.features)[batch.item_rows]
                embeddings["visual"] = network.embed_visual_pooled(seen)
            step = Step({}, batch.items, network.tau, teacher=batch.teacher, weights=batch.weights)
            if self.words:
                self.words.fill(step, batch.texts, passes)
        step.embeddings |= {stream: _full(embedded) for stream, embedded in embeddings.items()}
        return step, texts

    @staticmethod
    def captions(text: tuple[TextStates, Tensor]) -> Captions:
        """What a discriminator judges."""
        states, rows = text
        return _full(states.shape.pad(states.tokens)[rows]), states.shape.counted[rows]

    def _shares(self, weighted: Mapping[str, Tensor]) -> dict[str, float]:
        """Norm of each weighted term's gradient on the text encoder, as shares of their sum."""
        norms = {}
        for name, value in weighted.items():
            gradients = [None]
            if value.requires_grad and self._text_weights:
                gradients = torch.autograd.grad(value, self._text_weights, retain_graph=True, allow_unused=True)
            norms[name] = math.sqrt(sum(g.double().square().sum().item() for g in gradients if g is not None))
        return {name: norm / (sum(norms.values()) or 1.0) for name, norm in norms.items()}

    def _precision(self) -> torch.autocast:
        """The networks' precision; objectives are computed in float32."""
        bf16 = self.settings["precision"] == "bf16"
        return torch.autocast(self.network.device.type, torch.bfloat16, enabled=bf16)

    def validate(self, validation: Validation) -> dict[str, float]:
        """Validation `sumr` and `t2v` (the sum of the text-to-visual recalls), means over the languages.

        The same code path as the test's.
        """
        self.network.eval()
        batch = self.settings["batch"]
        found = []
        for rows, gallery, relevant in validation.groups:
            captions = embed_captions(self.network, self.tokens, rows, batch)
            if self.store is None:
                partners = embed_captions(self.network, self.tokens, gallery, batch)
            else:
                partners = embed_items(self.network, self.store, gallery, batch)
            values = metrics(*rank_both(captions, partners, relevant))
            found.append((sum(values[f"t2v_r{k}"] for k in RECALLS), values["sumr"]))
        return dict(zip(("t2v", "sumr"), np.mean(found, axis=0).tolist(), strict=True))


def _full(states: Tensor) -> Tensor:
    """float32, but float64 stays."""
    return states if states.dtype == torch.float64 else states.float()
