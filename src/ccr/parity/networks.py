"""The forward pass and the discriminators, with the published weights."""

from collections.abc import Iterator, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from ccr.errors import CcrError
from ccr.networks.dual_encoder import CrossSide, DualEncoder
from ccr.networks.published import rename
from ccr.networks.ragged import Padded
from ccr.objectives import adversarial
from ccr.objectives.provider import Encoded
from ccr.objectives.step import Step
from ccr.parity.reference import Entries, Group, Part, double, gradient, largest, read_object, single, smooth_l1
from ccr.registry import OBJECTIVES
from ccr.train.batch import Batch, TextGroup
from ccr.train.loop import Trainer
from ccr.train.needs.discriminator import Adversary, captions

INPUTS = r"in/.*"
DTYPES = {"f64": torch.float64, "f32": torch.float32}
KINDS = {"weak": "linear", "not-so-weak": "mlp", "strong": "conv"}
STREAMS = {"src": "source", "tgt": "target", "back": "back"}  # in `in/*`
EMBEDDINGS = {
    "vid_emb": "visual",
    "cap_emb": "source",
    "cap_emb_trans": "target",
    "cap_emb_cross": "cross",
    "cap_emb_back": "back",
}
LOSSES = {
    "tri": "Le_tri",
    "tri_trans": "Le_tri_trans",
    "dtl": "loss_dtl",
    "feat": "loss_feat",
    "back": "loss_contrastive",
}  # names of `loss/*` -> the published names of the terms


class Model(Group):
    """The published model of a directory, `video` or `image`, built from this project's parts."""

    def __init__(self, folder: Path, mode: str):
        super().__init__(folder, mode, f"{mode}_forward", f"{mode}_weights.safetensors", f"{mode}_config.json")
        self.weights_path, self.config_path = self.files[2:]

    @cached_property
    def config(self) -> dict[str, Any]:
        """Options, and the norms of every parameter's gradient and change."""
        return read_object(self.config_path)

    @cached_property
    def weights(self) -> dict[str, Tensor]:
        """The weights under their published names."""
        if not self.weights_path.is_file():
            raise CcrError(f"{self.weights_path.name}: no such file.")
        try:
            return load_file(self.weights_path)
        except Exception as error:  # safetensors and struct raise different errors for a damaged file
            raise CcrError(f"{self.weights_path.name}: unreadable ({error}).") from error

    @property
    def terms(self) -> dict[str, dict[str, Any]]:
        """The terms of the published total, by their published names."""
        opt = self.config["opt"]
        triplet = {
            "margin": opt["margin"],
            "negatives": "hardest" if opt["max_violation"] else "all",
            "scale": opt["cost_style"],
            "mask_same_item": False,
        }
        seen, captions = ["visual", "target"], ["source", "target"]
        return {
            "Le_tri": {"objective": "triplet", "weight": 1.0, "pair": ["visual", "source"], **triplet},
            "Le_tri_trans": {"objective": "triplet", "weight": opt["tri_alpha"], "pair": seen, **triplet},
            "loss_dtl": {
                "objective": "soft_similarity", "weight": opt["dtl_beta"], "pair": seen, "tau": 0.07,
                "cut_visual": False,
                "cut_teacher": True,
            },
            "loss_feat": {
                "objective": "feature_regression", "weight": opt["l1_gama"], "pair": captions, "beta": 4.0,
                "reduction": "mean",
                "cut_teacher": False,
            },
            "loss_contrastive": {
                "objective": "back_translation", "weight": opt["back_w"], "pair": ["source", "back"], **triplet
            },
            "others_loss": {
                "objective": "adversarial", "weight": opt["scale"], "pair": captions,
                "discriminator": KINDS[opt["disc_type"]], "lr": opt["glr"],
            },
        }  # fmt: skip

    def network(self, precision: str, frozen: bool) -> DualEncoder:
        """The dual encoder with the stored weights; `frozen`: only layers in `layer_list` of its transformer train."""
        text_config = {**self.config["bert"], "model_type": "bert"}

        def trains(name: str) -> bool:
            return not frozen or any(layer in name for layer in self.config["opt"]["layer_list"])

        layers = range(text_config["num_hidden_layers"])
        lowest = next((n for n in layers if trains(f"encoder.layer.{n}.")), len(layers)) if frozen else 0
        settings, feature_dim = self._settings(lowest)
        network = DualEncoder(settings, text_config, feature_dim, pretrained=False)
        for name, parameter in network.text.model.named_parameters():
            parameter.requires_grad_(parameter.requires_grad and trains(name))
        weights = {rename(name): tensor for name, tensor in self.weights.items() if not name.startswith("AdvAgent")}
        weights.pop(None, None)
        network.load_state_dict(weights | {"log_tau": network.log_tau.detach()})
        return network.to(DTYPES[precision])

    def _settings(self, frozen_layers: int) -> tuple[dict[str, Any], int]:
        """Settings of the network (`networks.*` resolved) and the dimension of its features, from the weights."""

        def shape(name: str) -> tuple[int, ...]:
            return tuple(self.weights[name].shape)

        def block(side: str, encoder: str) -> dict[str, int]:
            keys, _ = shape(f"{encoder}.encoder_layer.self.query.weight")
            return {"heads": self.config["opt"][f"{side}_num_attention"], "keys": keys}

        image = self.name == "image"
        undropped = {"input_dropout": 0.0, "dropout": 0.0}
        positions = "pos_embed_layer.position_embeddings.weight"
        hidden, _ = shape("text_encoding.input_proj_layer.net.1.weight")
        visual_hidden, feature_dim = shape(f"vid_encoding.{'proj' if image else 'input_proj_layer.net.1'}.weight")
        text = {
            "kind": "pretrained",
            "encoder": "bert",
            "max_tokens": shape(f"text_encoding.{positions}")[0],
            "frozen_layers": frozen_layers,
            "frozen_prefix": "computed",
            "prompt": "",
            "block": {"hidden": hidden, **block("text", "text_encoding"), **undropped},
        }
        visual = {
            "hidden": visual_hidden,
            "layer_norm": not image,
            **undropped,
            "max_frames": 1 if image else shape(f"vid_encoding.{positions}")[0],
            "block": None if image else block("video", "vid_encoding"),
        }
        dim, _ = shape("text_mapping.mapping.fc1.weight")
        compat = {"norm": "batch_all_streams", "pooling": "padded_mean", "dropout": 0.0}
        return {"text": text, "visual": visual, "dim": dim, **compat}, feature_dim

    def trainer(self, network: DualEncoder) -> Trainer:
        """The project's trainer, set up for the published step."""
        opt = self.config["opt"]
        settings = {
            "objectives": self.terms,
            "lr": opt["learning_rate"],
            "clip_norm": opt["grad_clip"],
            "weight_decay": 0.0,
            "word_dropout": 0.0,
            "encoder_lr": None,
            "precision": "fp32",
            "slices": 1,
        }
        trainer = Trainer(network, settings, tokens=None, store=None)
        for adversary in trainer.providers["discriminator"].adversaries.values():
            self.load_discriminator(adversary, opt["disc_type"], network.log_tau.dtype)
        return trainer

    def load_discriminator(self, adversary: Adversary, kind: str, dtype: torch.dtype) -> None:
        """Load the stored weights of the published `kind` into a discriminator."""
        prefix = f"AdvAgent[{kind}]."
        weights = {rename(name): tensor for name, tensor in self.weights.items() if name.startswith(prefix)}
        adversary.discriminator.load_state_dict(weights)
        adversary.discriminator.to(dtype)

    def batch(self) -> Batch:
        """`in/*` in the trainer's format."""
        rows = torch.arange(len(self.array("in/src_ids")))
        texts = [
            TextGroup(*self._sequences(f"in/{name}_ids", f"in/{name}_len"), {stream: rows})
            for name, stream in STREAMS.items()
        ]
        if self.name == "image":
            features = self.tensor("in/image"), Padded(torch.ones_like(rows))
        else:
            features = self._sequences("in/video", "in/video_len")
        return Batch(texts, items=rows, features=features, item_rows=rows)

    def _sequences(self, name: str, lengths: str) -> tuple[Tensor, Padded]:
        padded, shape = self.tensor(name), Padded(self.tensor(lengths).long())
        if padded.shape[:2] != shape.mask.shape:
            raise CcrError(f"{name} has shape {list(padded.shape)}, {lengths} expected {list(shape.mask.shape)}.")
        return padded.flatten(0, 1), shape


def tolerance(model: Model, name: str, reference: np.ndarray) -> float:
    """Tolerance for arrays of the forward pass and the discriminators."""
    precision, _, what = name.partition("/")
    if precision == "in":
        return 0.0
    if precision == "f64":
        if what == "loss/feat":
            return smooth_l1(reference)
        # the total includes the term computed in float32
        share = model.config["opt"]["l1_gama"] * smooth_l1(largest(model, "f64/loss/feat"))
        return double(reference) + (share if what == "loss/total" else 0.0)
    if what.endswith("/gen_grad_tgt"):
        scale = model.config["opt"]["scale"] or 1.0  # the weight of the loss
        return scale * gradient(reference / scale)
    if "/pooled_" in what or what.endswith("/vid_pooled"):
        return 4 * single(reference)  # `single` is meant for embeddings, smoothed by the head and the normalisation
    return gradient(reference) if "/grad/" in what else single(reference)


def parts(model: Model) -> Iterator[Part]:
    """Our values of `in/*_mask` and `<precision>/{eval,loss,adv[kind]}/*`."""
    for name in model.index:
        if name.startswith("in/") and name.endswith("_mask"):
            yield name, partial(_mask, model, name)
    for prefix in dict.fromkeys("/".join(name.split("/")[:2]) for name in model.index):
        precision, _, what = prefix.partition("/")
        if what == "eval":
            yield f"{prefix}/", partial(_evaluated, model, precision)
        elif what == "loss":
            yield f"{prefix}/", partial(_losses, model, precision)
            yield f"{prefix}/total", partial(_total, model, precision)
        elif what.startswith("adv["):
            yield f"{prefix}/", partial(_discriminated, model, precision, what[4:-1])


def _mask(model: Model, name: str) -> Mapping[str, Tensor]:
    return {"": Padded(model.tensor(f"{name.removesuffix('_mask')}_len").long()).mask.float()}


def _forward(model: Model, precision: str) -> tuple[Trainer, Batch, Step, Encoded]:
    trainer, batch = model.trainer(model.network(precision, frozen=False).eval()), model.batch()
    with torch.no_grad():
        return trainer, batch, *trainer.forward(batch)


@torch.no_grad()
def _evaluated(model: Model, precision: str) -> Mapping[str, Tensor]:
    trainer, batch, step, encoded = _forward(model, precision)
    network, texts = trainer.network, encoded.texts
    values = {name: step.embeddings[stream] for name, stream in EMBEDDINGS.items()}
    for name, stream in STREAMS.items():
        states, rows = texts[stream]
        values |= {f"bert_{name}": states.shape.pad(states.tokens)[rows], f"pooled_{name}": states.pooled[rows]}
    values["pooled_cross"] = network.pool_cross(*(CrossSide.of(*texts[stream]) for stream in ("source", "target")))
    values["vid_pooled"] = network.pool_visual(*batch.features)
    source, target, _ = batch.texts
    values["embed_txt_first"] = network.embed_text(source.tokens, source.shape)
    values["embed_txt_second"] = network.embed_text(target.tokens, target.shape)
    values["embed_vis"] = network.embed_visual(*batch.features)
    return values


def _losses(model: Model, precision: str) -> dict[str, Tensor]:
    _, _, step, _ = _forward(model, precision)
    return {name: _term(model, term, step) for name, term in LOSSES.items()}


def _term(model: Model, name: str, step: Step) -> Tensor:
    term = dict(model.terms[name])
    loss, _ = OBJECTIVES[term.pop("objective")].load().loss, term.pop("weight")
    return loss(step, **term)


def _total(model: Model, precision: str) -> Mapping[str, Tensor]:
    values = _losses(model, precision)
    generator = _discriminated(model, precision, model.config["opt"]["disc_type"])["gen_loss"]
    return {"": sum(model.terms[term]["weight"] * values[name] for name, term in LOSSES.items()) + generator}


def _generator(term: Mapping[str, Any], logits: Tensor) -> Tensor:
    """The adversarial objective on these logits."""
    pair = tuple(term["pair"])
    step = Step({}, torch.arange(len(logits)), torch.tensor(1.0), logits={pair: logits})
    return adversarial.loss(step, pair=pair, discriminator=term["discriminator"], lr=term["lr"])


def _discriminated(model: Model, precision: str, kind: str) -> dict[str, Any]:
    """A discriminator before and after its update, and the loss and gradient that the encoder then gets from it."""
    trainer, _, _, encoded = _forward(model, precision)
    term = model.terms["others_loss"] | {"discriminator": KINDS[kind]}
    adversary = Adversary(term, trainer.network.text.width, trainer.network.device)
    model.load_discriminator(adversary, kind, DTYPES[precision])
    originals, translations = (captions(encoded, stream) for stream in term["pair"])

    with torch.no_grad():
        before = [adversary.discriminator(*captions) for captions in (originals, translations)]
    real = _generator(term, before[0])
    values = {
        "logits_src": before[0],
        "logits_tgt": before[1],
        "real_loss": real,
        "fake_loss": 2 * adversarial.discriminator_loss(*before) - real,
        "real_acc": (before[0].argmax(1) == 1).double().mean(),
        "fake_acc": (before[1].argmax(1) == 0).double().mean(),
    }
    adversary.update(originals, translations)
    parameters = dict(adversary.discriminator.named_parameters())
    for name in model.weights:
        if name.startswith(f"AdvAgent[{kind}]."):
            published, parameter = name.partition("].")[2], parameters[rename(name)]
            values[f"grad/{published}"] = parameter.grad
            values[f"after/{published}"] = settled(parameter, parameter.grad, precision)

    states, counted = translations
    states.requires_grad_()
    generator = term["weight"] * _generator(term, adversary.logits((states, counted)))
    values["gen_loss"] = generator
    (values["gen_grad_tgt"],) = torch.autograd.grad(generator, states)
    return values


def settled(after: Tensor, gradient: Tensor | None, precision: str, noise: float = 0.0) -> Tensor | Entries:
    """A weight after Adam's first step, lr * sign(gradient); in float32 compared only where the sign is reliable.

    `noise`: signs of gradients up to this size are rounding error.
    """
    if precision == "f64" or gradient is None:
        return after
    sizes = gradient.abs()
    return Entries(after, sizes > max(1e-3 * float(sizes.max()), noise))
