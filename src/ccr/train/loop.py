"""The training loop: batches of triplets, weighted objectives, selection on validation recall."""

import logging
import math
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from ccr.errors import CcrError
from ccr.networks.bf16 import cpu_has_bf16
from ccr.networks.dual_encoder import DualEncoder
from ccr.networks.ragged import Padded
from ccr.networks.tokens import Tokens
from ccr.networks.transfer import to_device
from ccr.objectives.provider import Context, Encoded, Provider
from ccr.objectives.step import Step
from ccr.registry import OBJECTIVES, providers_of, reads_of
from ccr.retrieval.embed import embed_captions, embed_items, visual_batch
from ccr.retrieval.metrics import RECALLS, metrics
from ccr.retrieval.ranks import rank_both
from ccr.store import FeatureStore
from ccr.train import processes
from ccr.train.batch import Batch, TextGroup, hide_words
from ccr.train.checkpoint import random_state, set_random_state
from ccr.train.half import HalfWeights
from ccr.train.keeper import Keeper
from ccr.train.optimizers import AdamW
from ccr.train.schedule import Schedule
from ccr.train.triplets import Triplets, Validation

READ_EVERY = 10  # steps: reading their losses waits for the GPU
AHEAD = 2  # batches that are prepared while a GPU computes

log = logging.getLogger(__name__)


@dataclass
class Progress:
    """How far a training run has come.

    `epoch` and its next `step`; `values`: those of every step of the epoch so far; `history`: a row for each finished
    epoch; the `best` score and `best_epoch`, the epoch that reached it, 0 for none.
    """

    epoch: int = 1
    step: int = 0
    values: dict[str, list[float]] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)
    best: float = -math.inf
    best_epoch: int = 0

    def is_over(self, epochs: int, patience: int) -> bool:
        """Whether the epochs are done, or the last `patience` of them brought no improvement."""
        done = self.epoch - 1
        return done == epochs or done - self.best_epoch >= patience


class Trainer:
    """Trains a network and keeps the weights of its best epoch.

    Args:
        network: on the device to train on.
        settings: the job's settings (objectives, lr, batch, epochs, ...).
        tokens: every text of the job. store: features of its items, None for a teacher.

    Attributes:
        best: the network's own state (see `DualEncoder.own_state`) at the best epoch, on the CPU.
        providers: need, or term with its own weights -> its provider.
        precision: the one used in training, with `auto` resolved.
    """

    def __init__(self, network: DualEncoder, settings: Mapping[str, Any], tokens: Tokens, store: FeatureStore | None):
        if processes.count() > 1 and network.shape is Padded:
            raise CcrError("pooling: padded_mean depends on the whole batch; train with one process, or masked_mean.")
        self.network = network
        self.settings = settings
        self.tokens = tokens
        self.store = store
        self.best: dict[str, Tensor] = {}
        self.terms = settings["objectives"]
        self._mask = tokens.mask if tokens else None
        if settings["word_dropout"] and self._mask is None:
            raise CcrError("word_dropout: hides words, but this network's tokenizer has no mask token; set it to 0.")
        self._losses = {name: OBJECTIVES[term["objective"]].load().loss for name, term in self.terms.items()}
        self._reads = reads_of(self.terms)
        providers, context = providers_of(self.terms), Context(network, self._mask)
        self.providers: dict[str, Provider] = {n: provider(t, context) for n, (provider, t) in providers.items()}
        weights = [p for p in network.parameters() if p.requires_grad]
        own = (module for provider in self.providers.values() for module in provider.modules())
        weights += [parameter for module in own for parameter in module.parameters()]
        scale = (settings["encoder_lr"] or settings["lr"]) / settings["lr"]
        scales = dict.fromkeys(network.text.parameters(), scale)
        self._optimizer = AdamW(weights, settings["lr"], settings["weight_decay"], scales)
        self._weights = weights
        self.precision = settings["precision"]
        if self.precision == "auto":
            has_bf16 = network.device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
            self.precision = "bf16" if has_bf16 else "fp32"
        elif self.precision == "bf16" and network.device.type == "cpu" and not cpu_has_bf16() and processes.rank() == 0:
            log.warning("precision: bf16 is slow on this CPU, which has no instructions for it; fp32 is faster here.")
        tf32 = self.precision == "tf32" and network.device.type == "cuda"
        torch.set_float32_matmul_precision("high" if tf32 else "highest")
        self._half = HalfWeights(network) if self.precision == "bf16" else None
        network.slices = settings["slices"]
        self._unread: list[dict[str, Tensor]] = []  # values of the last steps, on the device
        text = [network.text, *([network.text_layers] if network.text_layers else [])]
        self._text_weights = [p for part in text for p in part.parameters() if p.requires_grad]

    def fit(
        self,
        triplets: Triplets,
        validation: Validation,
        keeper: Keeper | None = None,
        tell: Callable[[list[dict[str, float]]], None] = lambda history: None,
    ) -> list[dict[str, float]]:
        """Train until the epochs are done or `patience` epochs brought no improvement; returns one row per epoch.

        Rows: epoch, lr, tau, loss, per term its value (unweighted) and `{term}_share`, its weighted share of the
        gradient norm on the text encoder (mean of the measured steps), the providers' values (discriminators' losses,
        word_variance), val_t2v and val_sumr. Afterwards the network holds the best epoch's weights. Raises `CcrError`
        when a loss is not finite.

        Args:
            keeper: provides the state of an interrupted training run, which then continues as if there had been no
                interruption, and is called wherever this one may be interrupted.
            tell: receives the history so far, at the start and after each epoch.
        """
        settings = self.settings
        steps = math.ceil(len(triplets) / settings["batch"])
        fewest = min(len(triplets) // steps, *(len(part) for group in validation.groups for part in group[:2]))
        if fewest < processes.count():
            raise CcrError(f"train.processes: {processes.count()} cannot share batches or val sets of {fewest} rows.")
        total = steps * settings["epochs"]
        schedule = Schedule(settings["schedule"], self._optimizer, settings["lr"], settings["warmup"] * total, total)
        progress = Progress()
        if keeper and (state := keeper.load()):
            progress = self._set_state(state, schedule)
            log.info("Going on after step %d of %d of epoch %d.", progress.step, steps, progress.epoch)
        tell(progress.history)

        def may_stop() -> None:
            if keeper:
                keeper.between_steps(lambda: self._state(progress, schedule))

        done = (progress.epoch - 1) * steps + progress.step
        interval = 0.1 if sys.stderr.isatty() else 10.0
        shown = {"mininterval": interval, "dynamic_ncols": True, "disable": processes.rank() > 0}
        with tqdm(total=total, initial=done, unit="step", **shown) as bar:
            while not progress.is_over(settings["epochs"], settings["patience"]):
                self.network.train()
                order = np.array_split(self._order(triplets, progress.epoch), steps)[progress.step :]
                for batch in ahead((partial(self.batch, triplets, rows) for rows in order), self.network.device):
                    self._step(batch, progress)
                    schedule.after_step()
                    may_stop()
                    bar.update()
                self._end_epoch(validation, progress, schedule)
                tell(progress.history)
                may_stop()
                last = progress.history[-1]
                bar.set_postfix_str(
                    f"epoch {last['epoch']}, loss {last['loss']:.3f}, val {last['val_' + settings['select_by']]:.1f}, "
                    f"best {progress.best:.1f}"
                )
        self.network.load_state_dict(self.best, strict=False)
        return progress.history

    def _order(self, triplets: Triplets, epoch: int) -> np.ndarray:
        """The order in which an epoch sees the triplets; it depends only on the seed and the epoch."""
        return np.random.default_rng([self.settings["seed"], epoch]).permutation(len(triplets))

    def _step(self, batch: Batch, progress: Progress) -> None:
        """One step of an epoch."""
        every = self.settings["gradient_every"]
        self._unread.append(self.update(batch, measure=every > 0 and progress.step % every == 0))
        progress.step += 1
        if len(self._unread) == READ_EVERY:
            self._read(progress)

    def _read(self, progress: Progress) -> None:
        """Collect the values of the steps since the last reading. Raises `CcrError` if a loss was not finite."""
        steps, self._unread = numbers(self._unread), []
        for step, values in enumerate(steps, progress.step - len(steps) + 1):
            if not math.isfinite(values["loss"]):
                raise CcrError(
                    f"Training diverged at epoch {progress.epoch}, step {step}: {values}. Lower lr, or raise warmup; "
                    "nothing was written."
                )
            for name, value in values.items():
                progress.values.setdefault(name, []).append(value)

    def _end_epoch(self, validation: Validation, progress: Progress, schedule: Schedule) -> None:
        """Validate, add a history row with the means of what `update` returned, and keep track of the best epoch."""
        self._read(progress)
        scores = self.validate(validation)
        score = scores[self.settings["select_by"]]
        group = self._optimizer.param_groups[0]
        progress.history.append(
            {
                "epoch": progress.epoch,
                "lr": group["lr"] / group["scale"],
                "tau": self.network.tau.item(),
                **{name: float(np.mean(values)) for name, values in progress.values.items()},
                **{f"val_{name}": value for name, value in scores.items()},
            }
        )
        schedule.after_epoch(improved=score > progress.best)
        if score > progress.best:
            progress.best, progress.best_epoch = score, progress.epoch
            self.best = self._own_state()
        progress.epoch, progress.step, progress.values = progress.epoch + 1, 0, {}

    def _state(self, progress: Progress, schedule: Schedule) -> dict[str, Any]:
        """All that the rest of training depends on, without the frozen weights (half of mBERT), which do not change."""
        self._read(progress)
        return {
            "network": self._unfrozen(self.network.state_dict()),
            "best": self._unfrozen(self.best),
            "optimizer": self._optimizer.state_dict(),
            "providers": {name: provider.state_dict() for name, provider in self.providers.items()},
            "schedule": schedule.state_dict(),
            "progress": asdict(progress),
            "random": random_state(),
        }

    def _own_state(self) -> dict[str, Tensor]:
        return {name: tensor.detach().cpu().clone() for name, tensor in self.network.own_state().items()}

    def _unfrozen(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        frozen = {name for name, parameter in self.network.named_parameters() if not parameter.requires_grad}
        return {name: tensor for name, tensor in weights.items() if name not in frozen}

    def _set_state(self, state: Mapping[str, Any], schedule: Schedule) -> Progress:
        self.network.load_state_dict(state["network"], strict=False)
        if state["best"]:
            self.best = self._own_state() | state["best"]
        self._optimizer.load_state_dict(state["optimizer"])
        for name, provider in self.providers.items():
            provider.load_state_dict(state["providers"][name])
        schedule.load_state_dict(state["schedule"])
        set_random_state(state["random"])
        return Progress(**state["progress"])

    def batch(self, triplets: Triplets, rows: np.ndarray) -> Batch:
        """These rows of the triplets, with each item's features only once."""
        network, device = self.network, self.network.device
        items, mine = triplets.items[rows], processes.mine(rows)
        features = item_rows = None
        if "visual" in triplets.streams:
            unique, inverse = np.unique(triplets.items[mine], return_inverse=True)
            features = visual_batch(network, self.store, triplets.features[unique])
            item_rows = to_device(inverse, device)
        streams = [stream for stream in triplets.streams if stream != "visual"]
        # padded captions depend on their batch: there each stream has a separate one, as published
        groups = [[stream] for stream in streams] if network.shape is Padded else [streams]
        return Batch(
            [self._text_group({stream: triplets.rows[stream][mine] for stream in group}) for group in groups],
            to_device(items, device),
            features,
            item_rows,
            {stream: to_device(found[rows], device) for stream, found in triplets.teacher.items()},
            None if triplets.weights is None else to_device(triplets.weights[rows], device),
        )

    def _text_group(self, rows: dict[str, np.ndarray]) -> TextGroup:
        every = np.concatenate(list(rows.values()))
        order = np.argsort(-self.tokens.length[every], kind="stable")  # neighbours of similar length: less padding
        tokens, shape = self.tokens.batch(every[order], self.network.device, self.network.shape)
        places = to_device(np.argsort(order), self.network.device).chunk(len(rows))
        words = self.tokens.words(every[order], shape) if "words" in self._reads else None
        return TextGroup(tokens, shape, dict(zip(rows, places, strict=True)), words)

    def update(self, batch: Batch, measure: bool = False) -> dict[str, Tensor]:
        """One step: first the terms' needs, then the networks, all on the same forward pass.

        Returns the loss, the providers' values, every term's value (unweighted), and with `measure` the terms' shares
        of the gradient: scalars on the device, without waiting for it. A non-finite loss changes no weight of the
        network.
        """
        values = {}
        with self._precision():
            step, encoded = self.forward(batch)
            for provider in self.providers.values():
                values |= provider.fill(step, encoded)
        weighted = {}
        for name, term in self.terms.items():
            options = {k: v for k, v in term.items() if k not in ("objective", "weight")}
            options |= {"own": step.own[name]} if name in step.own else {}
            value = self._losses[name](step, **options)
            weighted[name] = term["weight"] * value
            values[name] = value.detach()
        loss = sum(weighted.values())
        values = {"loss": loss.detach(), **values}
        self._optimizer.zero_grad()
        again = self._half and self.network.slices > 1  # slices are recomputed
        with self._half.used(again=True) if again else nullcontext():
            if measure and self._text_weights:
                values |= {f"{name}_share": share for name, share in self._shares(weighted).items()}
            loss.backward()
        if self._half:
            self._half.gradients()
        processes.average(weight.grad for weight in self._weights)
        torch.nn.utils.clip_grad_norm_(self._weights, self.settings["clip_norm"])
        self._optimizer.step_unless(loss - loss != 0)  # not finite: inf - inf is NaN
        return values

    def forward(self, batch: Batch) -> tuple[Step, Encoded]:
        """One pass of each encoder. Returns what objectives see, without their needs, and what these are made from."""
        network = self.network
        texts = {}
        rate = self.settings["word_dropout"]
        hidden = [hide_words(group.tokens, group.shape, rate, self._mask) for group in batch.texts]
        passes = [
            network.encode_text(tokens, group.shape, every_layer="layers" in self._reads)
            for tokens, group in zip(hidden, batch.texts, strict=True)
        ]
        for group, states in zip(batch.texts, passes, strict=True):
            texts |= {stream: (states, rows) for stream, rows in group.rows.items()}
        encoded = Encoded(batch.texts, passes, texts, batch.teacher)
        pooled = {stream: states.pooled.index_select(0, rows) for stream, (states, rows) in texts.items()}
        back = {stream: pooled.pop(stream) for stream in ("back",) if stream in pooled}
        for provider in self.providers.values():
            pooled |= provider.prepare(encoded)
        pooled |= back  # `norm: batch_all_streams`: the head sees back-translations last, as published
        pooled = {stream: processes.gather(rows) for stream, rows in pooled.items()}
        projected = {s: network.project_text(rows, s in ("source", "target")) for s, rows in pooled.items()}
        if batch.features is not None:
            seen = network.pool_visual(*batch.features).index_select(0, batch.item_rows)
            projected["visual"] = network.visual_head(processes.gather(seen))
        unit = processes.full(functional.normalize(torch.cat(list(projected.values())), dim=-1))
        embeddings = dict(zip(projected, unit.chunk(len(projected)), strict=True))
        return Step(embeddings, batch.items, network.tau, weights=batch.weights), encoded

    def _shares(self, weighted: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Norm of each weighted term's gradient on the text encoder, as a share of their sum."""
        norms = {}
        for name, value in weighted.items():
            gradients = [None]
            weights = self._half.of(self._text_weights) if self._half else self._text_weights
            if value.requires_grad and weights:
                gradients = torch.autograd.grad(value, weights, retain_graph=True, allow_unused=True)
                processes.average(gradients)
            squares = [g.double().square().sum() for g in gradients if g is not None]
            norms[name] = torch.stack(squares).sum().sqrt() if squares else value.new_zeros((), dtype=torch.float64)
        total = sum(norms.values())
        return {name: norm / total.where(total > 0, 1.0) for name, norm in norms.items()}

    @contextmanager
    def _precision(self) -> Iterator[None]:
        """The networks' precision; objectives are computed in float32."""
        if self._half is None:
            yield
            return
        with self._half.used(), torch.autocast(self.network.device.type, torch.bfloat16):
            yield

    def validate(self, validation: Validation) -> dict[str, float]:
        """Validation `sumr` and `t2v` (the sum of the text-to-visual recalls), means over the languages.

        Uses the same code as testing.
        """
        found = []
        for rows, gallery, relevant in validation.groups:
            captions = self.embed_captions(rows)
            if self.store is None:
                partners = self.embed_captions(gallery)
            else:
                partners = embed_items(self.network, self.store, processes.mine(gallery), self.settings["batch"])
                partners = processes.gather(partners)
            values = metrics(*rank_both(captions, partners, relevant))
            found.append((sum(values[f"t2v_r{k}"] for k in RECALLS), values["sumr"]))
        return dict(zip(("t2v", "sumr"), np.mean(found, axis=0).tolist(), strict=True))

    def embed_captions(self, rows: np.ndarray) -> Tensor:
        """(len(rows), dim) unit embeddings of these texts, on the CPU. Leaves the network in eval mode."""
        mine = processes.mine(rows)
        return processes.gather(embed_captions(self.network.eval(), self.tokens, mine, self.settings["batch"]))


def numbers(steps: Sequence[Mapping[str, Tensor]]) -> list[dict[str, float]]:
    """What `Trainer.update` returned in some steps, averaged over all processes; the only wait for a GPU."""
    scalars = [value for values in steps for value in values.values()]
    found = iter(processes.averaged(torch.stack(scalars).double()).tolist() if scalars else ())
    return [{name: next(found) for name in values} for values in steps]


def ahead(batches: Iterable[Callable[[], Batch]], device: torch.device) -> Iterator[Batch]:
    """The batches, in order. For a GPU, a thread prepares the next ones in the meantime; a CPU has no time to spare."""
    if device.type == "cpu":
        yield from (batch() for batch in batches)
        return
    with ThreadPoolExecutor(1) as pool:
        waiting: deque[Future[Batch]] = deque()
        for batch in batches:
            waiting.append(pool.submit(batch))
            if len(waiting) > AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
