"""A second implementation of the published NRCCR model, from its description in words, in plain tensor algebra.

It shares no code with `ccr`. It writes small directories of reference numbers for the tests of `ccr.parity`.
"""

import json

import numpy as np
import torch
from safetensors.torch import save_file

BERT = {
    "vocab_size": 40, "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 30,
    "max_position_embeddings": 16, "type_vocab_size": 2, "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}  # fmt: skip
OPT = {
    "margin": 0.25, "max_violation": True, "cost_style": "sum", "tri_alpha": 0.7, "dtl_beta": 0.3, "l1_gama": 0.2,
    "back_w": 0.4, "scale": 0.01, "glr": 2e-3, "learning_rate": 3e-4, "grad_clip": 1.5, "layer_list": ["layer.1"],
    "text_num_attention": 4, "video_num_attention": 3,
}  # fmt: skip
MODES = {"video": "strong", "image": "not-so-weak"}  # with their discriminators
KEYS, TEXT, VIDEO, FEATURE, DIM = 24, 20, 12, 7, 10
LENGTHS = {"src": [6, 5, 5, 3, 2], "tgt": [4, 7, 3, 2, 5], "back": [2, 5, 4, 5, 3], "video": [3, 1, 4, 2, 4]}
TEXTS = ("src", "tgt", "back")
B = 5
TERMS = ("Le_tri", "Le_tri_trans", "loss_dtl", "loss_feat", "loss_contrastive")
EMBEDDINGS = {
    "vid": "vid_emb",
    "src": "cap_emb",
    "tgt": "cap_emb_trans",
    "cross": "cap_emb_cross",
    "back": "cap_emb_back",
}


def write_group(folder, stem, arrays, meanings=()):
    """Write `{stem}.npz` and its index."""
    np.savez(folder / f"{stem}.npz", **arrays)
    index = {
        name: {"shape": list(array.shape), "dtype": str(array.dtype), "meaning": dict(meanings).get(name, "")}
        for name, array in arrays.items()
    }
    (folder / f"{stem}_index.json").write_text(json.dumps(index))


# --- Losses ------------------------------------------------------------------------------------------------


def unit(rows):
    return rows / (rows**2).sum(1, keepdim=True) ** 0.5


def triplet(captions, videos, margin, hardest, scale):
    scores = videos @ captions.T
    total = 0.0
    for matrix in (scores, scores.T):
        n = len(matrix)
        for i in range(n):
            hinges = [(margin + matrix[i, j] - matrix[i, i]).clamp(min=0) for j in range(n) if j != i]
            cost = torch.stack(hinges).max() if hardest else sum(hinges)
            total = total + (cost if scale == "sum" else cost / (n if hardest else n * n))
    return total


def soft_targets(teacher, student, videos, temperature=0.07, target_videos=None):
    def log_softmax(x):
        return x - x.exp().sum(1, keepdim=True).log()

    seen = videos if target_videos is None else target_videos
    total = 0.0
    for targets, scores in ((seen @ teacher.T, videos @ student.T), (teacher @ seen.T, student @ videos.T)):
        targets, scores = log_softmax(targets / temperature).exp(), log_softmax(scores / temperature)
        total = total - (targets * scores).sum() / len(scores) / 2
    return total


def smooth_l1(teacher, student, beta=4.0):
    """Always in float32; only the quadratic part, for differences below beta."""
    return ((teacher.float() - student.float()) ** 2 / (2 * beta)).mean()


def write_losses(folder, seed=0, rows=B, dim=DIM):
    generator = np.random.default_rng(seed)
    common = generator.normal(size=(rows, dim))
    arrays, meanings = {}, {}
    streams = ("cap", "vid", "trans", "cross", "back")
    for name in streams:
        arrays[f"c0/raw_{name}"] = common + generator.normal(size=(rows, dim))
    for precision, dtype in (("f64", torch.float64), ("f32", torch.float32)):
        where = f"c0/{precision}"
        raw = {name: torch.from_numpy(arrays[f"c0/raw_{name}"]).to(dtype) for name in streams}
        leaf, w = raw["cap"].clone().requires_grad_(), torch.from_numpy(generator.normal(size=(rows, dim))).to(dtype)
        out = unit(leaf)
        (grad,) = torch.autograd.grad((w * out).sum(), leaf)
        found = {"l2norm/w": w, "l2norm/out": out, "l2norm/grad": grad}
        embedded = {name: unit(x).requires_grad_() for name, x in raw.items()}
        found |= {f"emb_{name}": x for name, x in embedded.items()}
        cap, vid, trans, cross = (embedded[name] for name in ("cap", "vid", "trans", "cross"))
        cases = {
            f"triplet_mv{mv}_{scale}": (("cap", "vid"), triplet(cap, vid, 0.3, mv == 1, scale), "margin .3")
            for mv in (0, 1)
            for scale in ("sum", "mean")
        }
        cases["dtl"] = (("cross", "trans", "vid"), soft_targets(cross, trans, vid, 0.1), "temperature .1, as called")
        cases["dtl_feat"] = (("cross", "trans"), smooth_l1(cross, trans, 3.0), "SmoothL1 beta 3, mean")
        for loss, (names, value, meaning) in cases.items():
            gradients = torch.autograd.grad(value, [embedded[name] for name in names], retain_graph=True)
            found |= {f"{loss}/loss": value} | {f"{loss}/grad_{n}": g for n, g in zip(names, gradients, strict=True)}
            meanings[f"{where}/{loss}/loss"] = meaning
        cut = soft_targets(cross, trans, vid, 0.1, vid.detach())
        found["dtl/grad_vid_targets_detached"] = torch.autograd.grad(cut, vid)[0]
        arrays |= {f"{where}/{name}": x.detach().numpy() for name, x in found.items()}
    write_group(folder, "losses", arrays, meanings)


# --- Metrics -----------------------------------------------------------------------------------------------


def both_ranks(errors, items):
    """Per direction: optimistic and pessimistic rank of the first relevant entry, and average precision."""
    captions, videos = errors.shape
    relevant = items[:, None] == np.arange(videos)[None]
    found = {}
    for direction, matrix, right in (("t2v", errors, relevant), ("v2t", errors.T, relevant.T)):
        best, worst, precision = [], [], []
        for row, good in zip(matrix, right, strict=True):
            first = row[good].min()
            best.append(1 + (row[~good] < first).sum())
            worst.append(1 + (row[~good] <= first).sum())
            places = 1 + np.flatnonzero(good[np.argsort(row, kind="stable")])
            precision.append(np.mean(np.arange(1, len(places) + 1) / places))
        found[direction] = np.array(best), np.array(worst), np.array(precision)
    return found


def summary(ranks, number):
    values = {}
    for direction, found in ranks.items():
        values |= {f"{direction}_r{k}": 100 * float(np.mean(found[number] <= k)) for k in (1, 5, 10)}
        values |= {
            f"{direction}_medr": float(np.median(found[number])),
            f"{direction}_meanr": float(found[number].mean()),
        }
    return values


def write_metrics(folder, seed=0):
    generator = np.random.default_rng(seed)
    items = np.array([2, 0, 1, 3, 3, 0, 1, 2, 0, 0, 2, 3, 1])
    ids = {
        "video_ids": np.array([f"v#{n}" for n in range(4)]),
        "caption_ids": np.array([f"v#{item}#enc#{k}" for k, item in enumerate(items)]),
        "gt_video_of_caption": items,
        "gt_captions_flat": np.concatenate([np.flatnonzero(items == n) for n in range(4)]),
        "gt_captions_count": np.array([(items == n).sum() for n in range(4)]),
    }
    videos, captions = generator.normal(size=(4, 6)), generator.normal(size=(13, 6))
    errors = (
        -(captions / np.linalg.norm(captions, axis=1, keepdims=True))
        @ (videos / np.linalg.norm(videos, axis=1, keepdims=True)).T
    )
    second = generator.normal(size=(13, 4))
    norms = [-(x.max() - x) / (x.max() - x.min()) for x in (errors, second)]
    with_nan = errors.copy()
    with_nan[3] = np.nan
    cases = {
        "a": errors, "a_hybrid": 0.3 * norms[0] + 0.7 * norms[1], "tie_round": np.round(errors, 0),
        "tie_flat": np.zeros_like(errors), "tie_nan": with_nan, "a_f32": errors.astype(np.float32),
    }  # fmt: skip
    arrays, expected = {}, {}
    for case, matrix in cases.items():
        arrays |= {f"{case}/errors": matrix, **{f"{case}/{name}": array for name, array in ids.items()}}
        ranks = both_ranks(np.where(np.isnan(matrix), np.inf, matrix), items)
        precision = {f"{direction}_map": float(found[2].mean()) for direction, found in ranks.items()}
        best, worst = summary(ranks, 0), summary(ranks, 1)
        reference = {name: (value + worst[name]) / 2 for name, value in best.items()} | precision
        expected[case] = {
            "reference": reference, "tied": case.startswith("tie"), "rank_best": best, "rank_worst": worst
        }  # fmt: skip
    arrays |= {"a/V": videos, "a/C": captions, "a/errors2": second}
    arrays |= {"a/norm1": norms[0], "a/norm2": norms[1], "a/norm1_twice": norms[0]}
    write_group(folder, "metrics", arrays, {"a_hybrid/errors": "0.3*norm1 + 0.7*norm2"})
    (folder / "metrics_expected.json").write_text(json.dumps(expected))


# --- Networks ----------------------------------------------------------------------------------------------


def make_weights(mode, generator):
    """Random weights under their published names."""
    weights = {}

    def tensor(name, *shape, mean=0.0, scale=0.3):
        weights[name] = torch.from_numpy(mean + scale * generator.normal(size=shape)).float()

    def linear(name, rows, columns):
        tensor(f"{name}.weight", rows, columns)
        tensor(f"{name}.bias", rows)

    def norm(name, width):
        tensor(f"{name}.weight", width, mean=1.0)
        tensor(f"{name}.bias", width)

    def stack(part, raw, width, positions):
        norm(f"{part}.input_proj_layer.LayerNorm", raw)
        linear(f"{part}.input_proj_layer.net.1", width, raw)
        tensor(f"{part}.pos_embed_layer.position_embeddings.weight", positions, width)
        norm(f"{part}.pos_embed_layer.LayerNorm", width)
        for name, rows in (("query", KEYS), ("key", KEYS), ("value", width)):
            linear(f"{part}.encoder_layer.self.{name}", rows, width)
        linear(f"{part}.encoder_layer.output.dense", width, width)
        norm(f"{part}.encoder_layer.output.LayerNorm", width)

    h, bert = BERT["hidden_size"], "text_encoding.text_bert.text_bert"
    for name, rows in (("word", BERT["vocab_size"]), ("position", BERT["max_position_embeddings"]), ("token_type", 2)):
        tensor(f"{bert}.embeddings.{name}_embeddings.weight", rows, h)
    norm(f"{bert}.embeddings.LayerNorm", h)
    for n in range(BERT["num_hidden_layers"]):
        layer = f"{bert}.encoder.layer.{n}"
        for name in ("self.query", "self.key", "self.value", "output.dense"):
            linear(f"{layer}.attention.{name}", h, h)
        norm(f"{layer}.attention.output.LayerNorm", h)
        linear(f"{layer}.intermediate.dense", BERT["intermediate_size"], h)
        linear(f"{layer}.output.dense", h, BERT["intermediate_size"])
        norm(f"{layer}.output.LayerNorm", h)
    linear(f"{bert}.pooler.dense", h, h)
    stack("text_encoding", h, TEXT, 30)
    if mode == "video":
        stack("vid_encoding", FEATURE, VIDEO, 8)
    else:
        linear("vid_encoding.proj", VIDEO, FEATURE)
    for part, width in (("text", TEXT), ("vid", VIDEO)):
        mapping = f"{part}_mapping.mapping"
        linear(f"{mapping}.fc1", DIM, width)
        norm(f"{mapping}.bn_1", DIM)
        tensor(f"{mapping}.bn_1.running_mean", DIM)
        weights[f"{mapping}.bn_1.running_var"] = torch.from_numpy(generator.uniform(0.5, 1.5, DIM)).float()
        weights[f"{mapping}.bn_1.num_batches_tracked"] = torch.tensor(0)
    for kind in {MODES[mode], "weak"}:
        part = f"AdvAgent[{kind}].discriminator"
        if kind == "strong":
            tensor(f"{part}.convolve.0.weight", 128, h, 1)
            tensor(f"{part}.convolve.0.bias", 128)
            for name in (f"{part}.convolve.{n}.conv{m}" for n in (1, 2, 3) for m in (1, 2)):
                tensor(f"{name}.weight", 128, 128, 5, scale=0.05)
                tensor(f"{name}.bias", 128)
        widths = {"strong": [128, 2], "weak": [h, 2], "not-so-weak": [h, 256, 128, 2]}[kind]
        for n, (columns, rows) in enumerate(zip(widths, widths[1:], strict=False)):
            linear(f"{part}.model" + (f".{2 * n}" if len(widths) > 2 else ""), rows, columns)
    return weights


class ByHand:
    """One forward pass of the published model; `seen` collects the batch statistics of the heads in training."""

    def __init__(self, weights, inputs, mode, training):
        self.w, self.inputs, self.mode, self.training = weights, inputs, mode, training
        self.seen = {"text": [], "vid": []}
        self.bert = {name: self._bert(inputs[f"in/{name}_ids"], inputs[f"in/{name}_mask"]) for name in TEXTS}
        first = {name: self._first("text_encoding", states) for name, states in self.bert.items()}
        mask = {name: inputs[f"in/{name}_mask"].to(first[name].dtype) for name in TEXTS}
        heads = OPT["text_num_attention"]
        self.pooled = {}
        for name in TEXTS:
            own = self._attend("text_encoding", first[name], first[name], mask[name], mask[name], heads, True)
            self.pooled[name] = own.mean(1)
        across = self._attend("text_encoding", first["src"], first["tgt"], mask["src"], mask["tgt"], heads, False)
        self.pooled["cross"] = torch.cat([across, first["tgt"]], 1).mean(1)
        self.embedded = {name: self._head("text", self.pooled[name]) for name in ("src", "tgt", "cross", "back")}
        self.pooled["vid"] = self._visual()
        self.embedded["vid"] = self._head("vid", self.pooled["vid"])

    def _linear(self, name, x):
        return x @ self.w[f"{name}.weight"].T + self.w[f"{name}.bias"]

    def _norm(self, name, x, eps=1e-5):
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / ((centred**2).mean(-1, keepdim=True) + eps) ** 0.5
        return scaled * self.w[f"{name}.weight"] + self.w[f"{name}.bias"]

    def _bert(self, ids, mask):
        bert = "text_encoding.text_bert.text_bert"
        table = {
            name: self.w[f"{bert}.embeddings.{name}_embeddings.weight"] for name in ("word", "position", "token_type")
        }
        # the row of the padding token gets no gradient
        words = torch.where((ids == 0)[..., None], table["word"][ids].detach(), table["word"][ids])
        x = words + table["position"][: ids.shape[1]] + table["token_type"][0]
        x = self._norm(f"{bert}.embeddings.LayerNorm", x, 1e-12)
        heads = BERT["num_attention_heads"]
        for n in range(BERT["num_hidden_layers"]):
            layer = f"{bert}.encoder.layer.{n}"
            q, k, v = (
                self._split(self._linear(f"{layer}.attention.self.{s}", x), heads) for s in ("query", "key", "value")
            )
            scores = q @ k.transpose(2, 3) / q.shape[-1] ** 0.5
            scores = scores.masked_fill(mask[:, None, None] == 0, -torch.inf)
            mixed = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)
            x = x + self._linear(f"{layer}.attention.output.dense", mixed)
            x = self._norm(f"{layer}.attention.output.LayerNorm", x, 1e-12)
            inner = self._linear(f"{layer}.intermediate.dense", x)
            inner = inner * (1 + torch.erf(inner / 2**0.5)) / 2
            x = self._norm(f"{layer}.output.LayerNorm", x + self._linear(f"{layer}.output.dense", inner), 1e-12)
        return x

    @staticmethod
    def _split(x, heads):
        return x.unflatten(2, (heads, -1)).transpose(1, 2)

    def _first(self, part, x):
        x = self._linear(f"{part}.input_proj_layer.net.1", self._norm(f"{part}.input_proj_layer.LayerNorm", x))
        positions = self.w[f"{part}.pos_embed_layer.position_embeddings.weight"]
        return self._norm(f"{part}.pos_embed_layer.LayerNorm", x.clamp(min=0) + positions[: x.shape[1]])

    def _attend(self, part, own, other, own_mask, other_mask, heads, residual):
        layer = f"{part}.encoder_layer"
        q = self._split(self._linear(f"{layer}.self.query", own), heads)
        k, v = (self._split(self._linear(f"{layer}.self.{name}", other), heads) for name in ("key", "value"))
        scores = q @ k.transpose(2, 3) / (own.shape[2] / heads) ** 0.5
        scores = scores + (1 - own_mask[:, :, None] * other_mask[:, None])[:, None] * -10000
        out = self._linear(f"{layer}.output.dense", (scores.softmax(-1) @ v).transpose(1, 2).flatten(2))
        return self._norm(f"{layer}.output.LayerNorm", own + out if residual else out)

    def _visual(self):
        if self.mode == "image":
            image = self.inputs["in/image"].to(self.w["vid_encoding.proj.weight"].dtype)
            return self._linear("vid_encoding.proj", image).clamp(min=0)
        first = self._first("vid_encoding", self.inputs["in/video"].to(self.w["vid_mapping.mapping.fc1.weight"].dtype))
        mask = self.inputs["in/video_mask"].to(first.dtype)
        return self._attend("vid_encoding", first, first, mask, mask, OPT["video_num_attention"], True).mean(1)

    def _head(self, part, pooled):
        name = f"{part}_mapping.mapping"
        x = self._linear(f"{name}.fc1", pooled)
        mean, variance = self.w[f"{name}.bn_1.running_mean"], self.w[f"{name}.bn_1.running_var"]
        if self.training:
            mean, variance = x.mean(0), x.var(0, correction=0)
            self.seen[part].append((mean.detach(), x.var(0).detach()))
        scaled = (x - mean) / (variance + 1e-5) ** 0.5
        return unit(scaled * self.w[f"{name}.bn_1.weight"] + self.w[f"{name}.bn_1.bias"])

    def terms(self):
        """The loss terms, unweighted, with their weights."""
        e = self.embedded

        def ranking(captions, others):
            return triplet(captions, others, OPT["margin"], True, "sum")

        values = (
            ranking(e["src"], e["vid"]),
            ranking(e["tgt"], e["vid"]),
            soft_targets(e["cross"].detach(), e["tgt"], e["vid"]),
            smooth_l1(e["cross"], e["tgt"]),
            ranking(e["back"], e["src"]),
        )
        weights = (1.0, OPT["tri_alpha"], OPT["dtl_beta"], OPT["l1_gama"], OPT["back_w"])
        return dict(zip(TERMS, zip(values, weights, strict=True), strict=True))


def discriminate(weights, x):
    """Logits of token states, from weights named as in the published discriminator."""
    x = x.transpose(1, 2)
    if "discriminator.convolve.0.weight" in weights:

        def convolve(name, x, padding):
            name = f"discriminator.convolve.{name}"
            return torch.conv1d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], padding=padding)

        x = convolve("0", x, 0)
        for n in (1, 2, 3):
            x = x.clamp(min=0)
            x = x + 0.3 * convolve(f"{n}.conv2", convolve(f"{n}.conv1", x, 2).clamp(min=0), 2)
    x = x.mean(2)
    layers = sorted(name.removesuffix(".weight") for name in weights if ".model" in name and name.endswith(".weight"))
    for n, layer in enumerate(layers):
        x = (x.tanh() if n else x) @ weights[f"{layer}.weight"].T + weights[f"{layer}.bias"]
    return x


def entropy(logits, target):
    p = torch.sigmoid(logits)
    return -(p if target else 1 - p).log().mean()


def adam(weight, gradient, rate):
    return weight - rate * gradient / (gradient.abs() + 1e-8)


def adversary(weights, kind, states):
    """The values of `adv[kind]/*`, and the updated discriminator."""
    prefix = f"AdvAgent[{kind}]."
    own = {k.removeprefix(prefix): w.clone().requires_grad_() for k, w in weights.items() if k.startswith(prefix)}
    logits = [discriminate(own, states[name].detach()) for name in ("src", "tgt")]
    losses = [entropy(logits[0], True), entropy(logits[1], False)]
    gradients = dict(zip(own, torch.autograd.grad(sum(losses) / 2, list(own.values())), strict=True))
    own = {name: adam(weight.detach(), gradients[name], OPT["glr"]) for name, weight in own.items()}
    values = {
        "logits_src": logits[0], "logits_tgt": logits[1], "real_loss": losses[0], "fake_loss": losses[1],
        "real_acc": (logits[0].argmax(1) == 1).double().mean(), "fake_acc": (logits[1].argmax(1) == 0).double().mean(),
        **{f"grad/{name}": gradient for name, gradient in gradients.items()},
        **{f"after/{name}": weight for name, weight in own.items()},
    }  # fmt: skip
    return values, own


def write_model(folder, mode, seed=0):
    """Write `{mode}_weights.safetensors`, `_forward.npz`, its index and `_config.json`, with both training steps."""
    generator = np.random.default_rng(seed)
    weights = make_weights(mode, generator)
    inputs = {}
    for name in TEXTS:
        length = torch.tensor(LENGTHS[name])
        mask = (torch.arange(int(length.max())) < length[:, None]).float()
        ids = torch.from_numpy(generator.integers(1, BERT["vocab_size"], mask.shape)) * mask.long()
        inputs |= {f"in/{name}_ids": ids, f"in/{name}_mask": mask, f"in/{name}_len": length.int()}
    if mode == "video":
        length = torch.tensor(LENGTHS["video"])
        mask = (torch.arange(int(length.max())) < length[:, None]).float()
        frames = torch.from_numpy(generator.normal(size=(*mask.shape, FEATURE))).float() * mask[..., None]
        inputs |= {"in/video": frames, "in/video_mask": mask, "in/video_len": length}
    else:
        inputs["in/image"] = torch.from_numpy(generator.normal(size=(B, FEATURE))).float()
    double = {name: w.double() for name, w in weights.items()}

    found = {}
    model = ByHand(double, inputs, mode, training=False)
    found |= {f"eval/{EMBEDDINGS[name]}": x for name, x in model.embedded.items()}
    found |= {f"eval/bert_{name}": model.bert[name] for name in ("src", "tgt")}
    found |= {f"eval/{'vid_pooled' if name == 'vid' else f'pooled_{name}'}": x for name, x in model.pooled.items()}
    for name, other in (("embed_txt_first", "src"), ("embed_txt_second", "tgt"), ("embed_vis", "vid")):
        found[f"eval/{name}"] = model.embedded[other]
    terms = model.terms()
    for name, (value, _) in zip(("tri", "tri_trans", "dtl", "feat", "back"), terms.values(), strict=True):
        found[f"loss/{name}"] = value
    total = sum(value * weight for value, weight in terms.values())
    for kind in sorted({MODES[mode], "weak"}):
        values, updated = adversary(double, kind, model.bert)
        states = model.bert["tgt"].detach().requires_grad_()
        values["gen_loss"] = OPT["scale"] * entropy(discriminate(updated, states), True)
        (values["gen_grad_tgt"],) = torch.autograd.grad(values["gen_loss"], states)
        found |= {f"adv[{kind}]/{name}": x for name, x in values.items()}
        if kind == MODES[mode]:
            found["loss/total"] = total + values["gen_loss"]

    runs = {}
    for run in ("step_frozen", "step_full"):
        values, runs[f"f64/{run}"] = step(double, inputs, mode, frozen=run == "step_frozen")
        found |= {f"{run}/{name}": x for name, x in values.items()}
    arrays = {name: x.numpy() for name, x in inputs.items()}
    for precision, dtype in (("f64", torch.float64), ("f32", torch.float32)):
        arrays |= {f"{precision}/{name}": x.detach().to(dtype).numpy() for name, x in found.items()}
    write_group(folder, f"{mode}_forward", arrays)
    save_file(weights, folder / f"{mode}_weights.safetensors")
    config = {"mode": mode, "bert": BERT, "opt": OPT | {"disc_type": MODES[mode]}, "runs": runs}
    (folder / f"{mode}_config.json").write_text(json.dumps(config))


def step(weights, inputs, mode, frozen):
    """One training step: the values of `step_*/*` and the norms in `*_config.json`."""
    trained = {}
    for name, w in weights.items():
        buffer = name.startswith("AdvAgent") or "running" in name or "tracked" in name
        still = frozen and ".text_bert." in name and not any(layer in name for layer in OPT["layer_list"])
        if not (buffer or still or ".pooler." in name):
            trained[name] = w.clone().requires_grad_()
    model = ByHand(weights | trained, inputs, mode, training=True)
    terms = {name: value * weight for name, (value, weight) in model.terms().items()}
    _, updated = adversary(weights, MODES[mode], model.bert)
    terms["others_loss"] = OPT["scale"] * entropy(discriminate(updated, model.bert["tgt"]), True)
    loss = sum(terms.values())
    gradients = dict(zip(trained, torch.autograd.grad(loss, list(trained.values())), strict=True))
    norm = sum((g**2).sum() for g in gradients.values()) ** 0.5
    clip = min(1.0, OPT["grad_clip"] / (float(norm) + 1e-6))
    after = {name: adam(trained[name].detach(), clip * g, OPT["learning_rate"]) for name, g in gradients.items()}
    values = {"loss": loss, "grad_norm": norm, **{f"term/{name}": value for name, value in terms.items()}}
    values |= {f"grad/{name}": g for name, g in gradients.items()} | {f"after/{name}": w for name, w in after.items()}
    for part, batches in model.seen.items():
        for n, statistic in enumerate(("running_mean", "running_var")):
            name = f"{part}_mapping.mapping.bn_1.{statistic}"
            running = weights[name]
            for batch in batches:
                running = 0.9 * running + 0.1 * batch[n]
            values[f"after/{name}"] = running
    parameters = [n for n in weights if not n.startswith("AdvAgent") and "running" not in n and "tracked" not in n]
    norms = {
        "grad_l2": {name: float(gradients[name].norm()) if name in gradients else None for name in parameters},
        "change_l2": {
            name: float((after[name] - weights[name]).norm()) if name in after else 0.0 for name in parameters
        },
        "num_batches_tracked": len(model.seen["text"]),
    }
    return values, norms
