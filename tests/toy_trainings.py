"""One-second training runs: a baseline, an NRCCR and a CL2CM student and a teacher, on colours and their names."""

import contextlib
import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from hand_made import hand_made

from ccr import train
from ccr.artifacts.jobs import Job, job_key
from ccr.artifacts.parquet import write_parquet
from ccr.artifacts.schemas import CAPTIONS, ITEMS, RUN_FILES
from ccr.store import write_features

SPLITS = {"train": 48, "val": 16}
EN = ["red", "green", "blue", "white", "black", "pink", "grey", "brown"]
ZH = ["红", "绿", "蓝", "白", "黑", "粉", "灰", "棕"]
NAMES = ("baseline", "nrccr", "cl2cm", "teacher")

_NETWORK = {
    "text": {
        "encoder": "scratch", "hidden": 16, "layers": 1, "heads": 2, "feedforward": 16, "vocabulary": 100,
        "max_tokens": 16, "dropout": 0.1, "frozen_layers": 0, "frozen_prefix": "computed", "prompt": "",
        "block": {"hidden": 16, "heads": 2, "keys": 16, "input_dropout": 0.1, "dropout": 0.1},
    },
    "visual": {
        "hidden": 16, "layer_norm": True, "max_frames": 8, "input_dropout": 0.1, "dropout": 0.1,
        "block": {"heads": 2, "keys": 16},
    },
    "dim": 16, "norm": "batch", "pooling": "masked_mean", "dropout": 0.1,
}  # fmt: skip
_TRAINING = {
    "network": _NETWORK, "lr": 0.005, "weight_decay": 0.01, "batch": 16, "epochs": 3, "warmup": 0.1, "clip_norm": 2.0,
    "precision": "fp32", "slices": 1, "word_dropout": 0.1, "encoder_lr": None, "schedule": "plateau",
    "select_by": "sumr", "gradient_every": 2,
    "on_missing": "error", "patience": 3, "source_lang": "en", "langs": ["zh"], "threads": 1, "processes": 1, "seed": 0,
}  # fmt: skip
_INFONCE = {"objective": "infonce", "weight": 1.0, "tau": None, "mask_same_item": True}
_TRIPLET = {"objective": "triplet", "margin": 0.2, "negatives": "hardest", "scale": "mean", "mask_same_item": True}
_BASELINE = {"vs": _INFONCE | {"pair": ["visual", "source"]}, "vt": _INFONCE | {"pair": ["visual", "target"]}}
_OBJECTIVES = {
    "baseline": _BASELINE,
    "nrccr": _BASELINE | {
        "soft_similarity": {
            "objective": "soft_similarity", "weight": 0.4, "pair": ["visual", "target"], "tau": 0.07,
            "cut_visual": True, "cut_teacher": True,
        },
        "feature_regression": {
            "objective": "feature_regression", "weight": 0.1, "pair": ["source", "target"], "beta": 4.0,
            "reduction": "sum", "cut_teacher": False,
        },
        "back_translation": _TRIPLET | {"weight": 0.5, "pair": ["source", "back"]},
        "adversarial": {
            "objective": "adversarial", "weight": 0.1, "pair": ["source", "target"], "discriminator": "conv",
            "lr": 1e-3,
        },
    },
    "cl2cm": _BASELINE | {
        "relation_distillation": {
            "objective": "relation_distillation", "weight": 1.0, "pair": ["visual", "target"], "tau_teacher": 0.1,
            "tau_student": 0.1, "intra": True,
        },
    },
    "teacher": {
        "instance_alignment": {
            "objective": "instance_alignment", "weight": 1.0, "pair": ["source", "target"], "loss": "infonce",
            "tau": None, "margin": 0.2, "mask_same_item": True,
        },
        "word_alignment": {
            "objective": "pointer", "weight": 0.5, "pair": ["source", "target"], "layer": "block", "epsilon": 0.1,
            "iterations": 5, "marginals": "unbalanced", "relaxation": 1.0, "masked": 0.15,
        },
        "transport_cost": {
            "objective": "transport_cost", "weight": 0.1, "pair": ["source", "target"], "layer": -1, "epsilon": 0.1,
            "iterations": 5, "marginals": "uniform", "relaxation": 1.0, "margin": 0.2,
        },
    },
}  # fmt: skip


def write_data(folder: Path) -> None:
    """Captions of 3 to 8 words, their translations there and back, and features of 1 to 3 frames."""
    rng = np.random.default_rng(0)
    items, captions, forward, back, features = [], [], [], [], []
    for split, number in SPLITS.items():
        for n in range(number):
            item, colours = f"{split}{n:02d}", rng.choice(len(EN), rng.integers(1, 4), replace=False)
            english, chinese = " and ".join(EN[c] for c in colours), "和".join(ZH[c] for c in colours)
            items.append((item, split, None, "video"))
            captions.append((item, f"{item}#en", split, "en", "human", None, None, f"a {english} thing"))
            captions.append((item, f"{item}#zh", split, "zh", "human", None, None, f"{chinese}的东西"))
            forward.append((item, f"{item}#mt", split, "zh", "mt", "toy", f"{item}#en", f"{chinese}东西"))
            back.append((item, f"{item}#back", split, "en", "back", "toy", f"{item}#mt", f"{english} thing"))
            frames = np.eye(len(EN), dtype=np.float32)[colours] + rng.normal(0, 0.05, (len(colours), len(EN)))
            features.append((item, frames))
    tables = {"items": items, "captions": captions, "zh": forward, "zh.back": back}
    for name, rows in tables.items():
        schema = ITEMS if name == "items" else CAPTIONS
        columns = dict(zip(schema.names, map(list, zip(*rows, strict=True)), strict=True))
        write_parquet(columns, folder / f"{name}.parquet", schema)
    described = {"dim": str(len(EN)), "extractor": "toy", "weights": "", "preprocess": "", "frame_sampling": ""}
    write_features(folder / "features.parquet", sorted(features, key=lambda f: f[0]), metadata=described)


def training(
    name: str, data: Path, folder: Path, *, minutes: float = 10.0, trackers: tuple[str, ...] = (), **settings: Any
) -> Job:
    """The job of one of the runs, with results in `folder`; `cl2cm` reads the embeddings in data/teacher."""
    role = "teacher" if name == "teacher" else "student"
    inputs: dict[str, Any] = {role: str(data / f"{role}.parquet") for role in ("captions", "items")}
    inputs["translations"] = [str(data / "zh.parquet")]
    files = [*RUN_FILES.values(), "history.csv", "provenance.json"]
    if role == "teacher":
        files.append("embeddings.parquet")
    else:
        inputs["features"] = str(data / "features.parquet")
    if name == "nrccr":
        inputs["back"] = [str(data / "zh.back.parquet")]
    if name == "cl2cm":  # partly frozen
        settings = {"network": _NETWORK | {"text": _NETWORK["text"] | {"frozen_layers": 1}}} | settings
        inputs["teacher"] = str(data / "teacher/embeddings.parquet")
    settings = {
        **copy.deepcopy(_TRAINING), "role": role, "objectives": copy.deepcopy(_OBJECTIVES[name]),
        "select_on": "mt" if role == "teacher" else "target", **settings,
    }  # fmt: skip
    outputs = {file.split(".")[0]: str(folder / file) for file in files}
    job = hand_made("train", str(folder), inputs, outputs, settings, checkpoint_minutes=minutes, trackers=trackers)
    return replace(job, key=job_key(job))


def trained(folder: Path, names: list[str]) -> Path:
    """The folder, with the data and the results of these training runs, each in a folder of its name."""
    write_data(folder)
    with contextlib.chdir(folder):
        for name in names:
            train.run(training(name, folder, folder / name))
    return folder
