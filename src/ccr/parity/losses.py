"""The objectives: values and autograd gradients on the stored embeddings."""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ccr.errors import CcrError
from ccr.objectives import feature_regression, soft_similarity, triplet
from ccr.objectives.step import Step
from ccr.parity.reference import Group, Line, Part, compare, double, smooth_l1

INPUTS = r"[^/]+/raw_\w+|.*/l2norm/w"
STREAMS = {"cap": "source", "vid": "visual", "trans": "target", "cross": "cross"}


def group(folder: Path) -> Group:
    """The files of the losses."""
    return Group(folder, "losses", "losses")


def lines(files: Group) -> list[Line]:
    """A line for every array of `losses_index.json`: names `<case>/<precision>/<loss>/<what>`."""
    return compare(files, INPUTS, _parts(files), _tolerance)


def _tolerance(name: str, reference: np.ndarray) -> float:
    """Tolerance, in float32 relative to the largest entry because mean losses have small gradients."""
    if "/f32/" in name:
        return 5e-5 * float(np.abs(reference).max(initial=0.0))
    return smooth_l1(reference) if "/dtl_feat/" in name else double(reference)


def _parts(files: Group) -> Iterator[Part]:
    for name in files.index:
        if "/emb_" in name:
            yield name, partial(_normalised, files, name)
    prefixes = dict.fromkeys(name.rpartition("/")[0] for name in files.index if name.count("/") == 3)
    for prefix in prefixes:
        yield f"{prefix}/", partial(_l2norm if prefix.endswith("/l2norm") else _loss, files, prefix)


def _raw(files: Group, case: str, precision: str, name: str) -> Tensor:
    return files.tensor(f"{case}/raw_{name}").to({"f64": torch.float64, "f32": torch.float32}[precision])


def _normalised(files: Group, name: str) -> Mapping[str, Tensor]:
    case, precision, embedding = name.split("/")
    return {"": functional.normalize(_raw(files, case, precision, embedding.removeprefix("emb_")), dim=-1)}


def _l2norm(files: Group, prefix: str) -> Mapping[str, Tensor]:
    case, precision, _ = prefix.split("/")
    raw = _raw(files, case, precision, "cap").requires_grad_()
    out = functional.normalize(raw, dim=-1)
    (grad,) = torch.autograd.grad((files.tensor(f"{prefix}/w") * out).sum(), raw)
    return {"out": out, "grad": grad}


def _loss(files: Group, prefix: str) -> Mapping[str, Tensor]:
    setting, _, name = prefix.rpartition("/")
    names, loss = _objective(files, f"{prefix}/loss", name)
    leaves = {short: files.tensor(f"{setting}/emb_{short}").requires_grad_() for short in names}

    def graded(**options) -> tuple[Tensor, dict[str, Tensor]]:
        embeddings = {STREAMS[short]: leaf for short, leaf in leaves.items()}
        items = torch.arange(len(next(iter(leaves.values()))))
        value = loss(Step(embeddings, items, torch.tensor(1.0)), **options)
        return value, dict(zip(leaves, torch.autograd.grad(value, list(leaves.values())), strict=True))

    value, gradients = graded()
    values = {"loss": value} | {f"grad_{short}": gradient for short, gradient in gradients.items()}
    if name == "dtl":
        values["grad_vid_targets_detached"] = graded(cut_visual=True)[1]["vid"]
    return values


def _objective(files: Group, described: str, name: str) -> tuple[list[str], partial]:
    """The streams and our objective for a published loss; the entry of the array `described` gives its options."""

    def number(word: str, default: float) -> float:
        return files.number(described, rf"{word}\s*(\d*\.?\d+)", default)

    if name.startswith("triplet_mv"):
        _, violation, scale = name.split("_")
        negatives = "hardest" if violation == "mv1" else "all"
        options = {"margin": number("margin", 0.2), "negatives": negatives, "scale": scale, "mask_same_item": False}
        return ["cap", "vid"], partial(triplet.loss, pair=("visual", "source"), **options)
    if name == "dtl":
        options = {"tau": number("temperature", 0.07), "cut_visual": False, "cut_teacher": False}
        return ["cross", "trans", "vid"], partial(soft_similarity.loss, pair=("visual", "target"), **options)
    if name == "dtl_feat":
        options = {"beta": number("beta", 4.0), "reduction": "mean", "cut_teacher": False}
        return ["cross", "trans"], partial(feature_regression.loss, pair=("source", "target"), **options)
    raise CcrError(f"no objective here is called {name}")
