"""One training step by the project's trainer: the discriminator, the terms, clipping, Adam."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ccr.networks.published import rename
from ccr.parity.networks import Model, settled
from ccr.parity.reference import Line, Part, double, gradient, largest, single, smooth_l1
from ccr.train.loop import numbers


@dataclass(frozen=True)
class _Update:
    """Results of one step: values as logged, gradients before clipping (if any), weights before and after."""

    values: dict[str, float]
    gradients: dict[str, Tensor]
    before: dict[str, Tensor]
    after: dict[str, Tensor]

    @property
    def norm(self) -> float:
        return float(torch.stack([g.norm() for g in self.gradients.values()]).norm())


def tolerance(model: Model, name: str, reference: np.ndarray) -> float:
    """Tolerance for `<precision>/step_*/*`, and for the norms of gradients and changes."""
    precision, step, what = name.split("/", 2)
    run = f"{precision}/{step}"
    if precision == "f32":
        return gradient(largest(model, f"{run}/grad/")) if what.startswith("grad/") else single(reference)
    # the term computed in float32 is part of the loss and all gradients, and its errors add up in the norms
    share = (10 if what.startswith(("grad_norm", "grad_l2/")) else 2) * smooth_l1(
        largest(model, f"{run}/term/loss_feat")
    )
    # Adam divides by the gradient's size, so small changes may have large errors
    own = 1e-9 if what.startswith(("after/", "change_l2/")) else double(reference, smallest=1e-2)
    return max(own, min(1e-6, share))


def parts(model: Model) -> Iterator[Part]:
    """Our values of `<precision>/{step_frozen,step_full}/*`."""
    for run in dict.fromkeys("/".join(name.split("/")[:2]) for name in model.index):
        if "/step_" in run:
            yield f"{run}/", partial(_stepped, model, run)


def _update(model: Model, run: str) -> _Update:
    precision, _, kind = run.partition("/")
    network = model.network(precision, frozen=kind == "step_frozen").train()
    trainer = model.trainer(network)
    before = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
    gradients: dict[str, Tensor] = {}

    def keep(name: str, parameter: Tensor) -> None:
        gradients[name] = parameter.grad.clone()  # the trainer clips in place

    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            parameter.register_post_accumulate_grad_hook(partial(keep, name))
    [values] = numbers([trainer.update(model.batch())])
    return _Update(values, gradients, before, network.state_dict())


def _stepped(model: Model, run: str) -> dict[str, Any]:
    update, terms = _update(model, run), model.terms
    values: dict[str, Any] = {"loss": update.values["loss"], "grad_norm": update.norm}
    values |= {f"term/{name}": term["weight"] * update.values[name] for name, term in terms.items()}
    # a gradient within its tolerance of zero has no reliable sign
    noise = gradient(np.array([float(g.abs().max()) for g in update.gradients.values()]))
    for published in model.weights:
        if published.startswith("AdvAgent") or (name := rename(published)) is None:
            continue
        found = update.gradients.get(name)
        if found is not None:
            values[f"grad/{published}"] = found
        values[f"after/{published}"] = settled(update.after[name], found, run.partition("/")[0], noise)
    return values


def norms(model: Model) -> list[Line]:
    """A line for the gradient and the change of every parameter in the float64 runs of `*_config.json`."""
    lines = []
    for run, recorded in model.config["runs"].items():
        if run.startswith("f64/"):
            lines += _norms(model, run, recorded)
    return lines


def _norms(model: Model, run: str, recorded: dict[str, Any]) -> list[Line]:
    labels = {
        (kind, published): f"{run}/{kind}/{published}"
        for kind in ("grad_l2", "change_l2")
        for published in recorded[kind]
    }
    try:
        update = _update(model, run)
    except Exception as error:  # as in `compare`
        return [Line.missing(f"{model.name}/{label}", error) for label in labels.values()]

    def ours(kind: str, published: str) -> float:
        name = rename(published)
        if kind == "grad_l2":
            return float(update.gradients[name].norm()) if name in update.gradients else 0.0
        return 0.0 if name is None else float((update.after[name] - update.before[name]).norm())

    lines = []
    for (kind, published), label in labels.items():
        reference = recorded[kind][published] or 0.0  # null: no gradient
        difference = abs(ours(kind, published) - reference)
        lines.append(Line.of(f"{model.name}/{label}", difference, tolerance(model, label, np.array(reference))))
    if "num_batches_tracked" in recorded:  # of the caption head, which sees every stream
        difference = abs(int(update.after["text_head.norm.num_batches_tracked"]) - recorded["num_batches_tracked"])
        lines.append(Line.of(f"{model.name}/{run}/num_batches_tracked", difference, 0.0))
    return lines
