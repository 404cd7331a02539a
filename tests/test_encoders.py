"""An encoder that is not part of the project: one module and one line in the registry."""

import contextlib
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from toy_trainings import trained, training

from ccr import params, registry, train
from ccr.artifacts.schemas import RUN_FILES
from ccr.errors import CcrError
from ccr.evaluate.encoder import Encoder

BAG = '''
"""A bag of embeddings: every token's own, nothing else."""

from torch import nn


def encoder_config(settings, vocabulary):
    return {"vocabulary": vocabulary, "width": settings["options"]["width"]}


class Encoder(nn.Module):
    layers = 0

    def __init__(self, settings, config, pretrained, padded=False):
        super().__init__()
        self.width = config["width"]
        self.embeddings = nn.Embedding(config["vocabulary"], self.width)

    def forward(self, tokens, ragged, every_layer=False):
        return (self.embeddings(tokens),)
'''
MLP = '''
"""Two layers over each frame."""

from torch import nn


class Encoder(nn.Module):
    def __init__(self, feature_dim, settings):
        super().__init__()
        self.width = settings["hidden"]
        depth = settings["options"]["depth"]
        sizes = [feature_dim, *[self.width] * depth]
        layers = [layer for one, two in zip(sizes, sizes[1:]) for layer in (nn.Linear(one, two), nn.ReLU())]
        self.layers = nn.Sequential(*layers)

    def forward(self, rows, shape):
        return self.layers(rows.to(self.layers[0].weight.dtype))
'''


@pytest.fixture
def registered(tmp_path, monkeypatch):
    for name, code in (("bag_of_mine", BAG), ("mlp_of_mine", MLP)):
        (tmp_path / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    bag = registry.Entry("bag_of_mine", width=registry.count(24))
    mlp = registry.Entry("mlp_of_mine", depth=registry.count(2))
    monkeypatch.setitem(registry.TEXT_ENCODERS, "bag", bag)
    monkeypatch.setitem(registry.VISUAL_ENCODERS, "mlp", mlp)
    yield
    for name in ("bag_of_mine", "mlp_of_mine"):
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return trained(tmp_path_factory.mktemp("data"), [])


@pytest.mark.parametrize("part", ["text", "visual"])
def test_it_trains_and_its_run_is_loaded_again(data, tmp_path, registered, part):
    job = training("baseline", data, tmp_path / "run")
    chosen = {"text": {"kind": "bag", "options": {"width": 24}}, "visual": {"kind": "mlp", "options": {"depth": 2}}}
    network, chosen = job.settings["network"], chosen[part]
    job = replace(job, settings=job.settings | {"network": network | {part: network[part] | chosen}}, key="k" * 32)
    with contextlib.chdir(tmp_path):
        train.run(job)
        run = Encoder({role: str(tmp_path / "run" / file) for role, file in RUN_FILES.items()}, 8)
        texts, items = run.texts(["a red thing", "红的东西"]), run.items(job.inputs["features"])
    assert texts.shape == (2, 16) and items.shape == (64, 16)
    assert torch.allclose(texts.norm(dim=1), torch.ones(2)) and np.isfinite(items.numpy()).all()


def test_it_may_use_the_sizes_as_it_likes(repository, registered):
    raw = yaml.safe_load((repository / "params.yaml").read_text())
    raw["networks"]["mbert"]["text"] |= {"kind": "bag", "layers": 0}
    assert params.validate(raw).networks["mbert"].text.layers == 0


def test_params_check_and_complete_its_options(repository, registered):
    raw = yaml.safe_load((repository / "params.yaml").read_text())
    small = raw["networks"]["small"]
    small["text"] |= {"kind": "bag"}
    small["visual"] |= {"kind": "mlp", "options": {"depth": 3}}
    plan = params.plan(params.validate(raw))
    job = next(job for job in plan.jobs.values() if job.target.startswith("results/runs/vatex"))
    assert job.settings["network"]["text"]["options"] == {"width": 24}
    assert job.settings["network"]["visual"]["options"] == {"depth": 3}
    assert {"TEXT_ENCODERS.bag", "VISUAL_ENCODERS.mlp"} <= set(job.entries)
    for path, value, message in (
        ("kind", "mpl", "networks.small.visual.kind: unknown visual encoder 'mpl'; did you mean 'mlp'"),
        ("options", {"dept": 3}, "networks.small.visual.options.dept: unknown key; did you mean 'depth'"),
    ):
        wrong = small | {"visual": small["visual"] | {path: value}}
        with pytest.raises(CcrError, match=message):
            params.validate(raw | {"networks": raw["networks"] | {"small": wrong}})
