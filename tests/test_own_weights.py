"""A new objective with its own weights: one module and one line in the registry."""

import contextlib
import math
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors import safe_open
from test_resume import results
from toy_trainings import trained, training

from ccr import registry, train
from ccr.train.loop import Trainer

MODULE = '''
"""Items and captions matched by a bilinear form, which is learnt with them."""

import torch
from torch import nn
from torch.nn import functional

from ccr.objectives.provider import Provider as Base


class Provider(Base):
    """The bilinear form of a term."""

    def __init__(self, terms, context):
        super().__init__(terms, context)
        ((self.name, self.term),) = terms.items()
        self.form = nn.Linear(context.network.text_head.linear.out_features, 1, bias=False).to(context.network.device)

    def modules(self):
        return [self.form]

    def fill(self, step, encoded):
        first, second = (step.embeddings[stream] for stream in self.term["pair"])
        step.own[self.name] = (first * self.form.weight) @ second.T
        return {f"{self.name}_norm": self.form.weight.norm().detach()}


def loss(step, *, own, pair, scale):
    logits = scale * own
    return functional.cross_entropy(logits, torch.arange(len(logits), device=logits.device))
'''
TERM = {"objective": "matching", "weight": 0.5, "pair": ["visual", "target"], "scale": 5.0}


@pytest.fixture
def matching(tmp_path, monkeypatch):
    (tmp_path / "matching_of_mine.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    line = registry.Entry(
        "matching_of_mine",
        needs=("weights",),
        pair=registry.streams("visual", "target"),
        scale=registry.number(5.0, gt=0),
    )
    monkeypatch.setitem(registry.OBJECTIVES, "matching", line)
    yield
    sys.modules.pop("matching_of_mine", None)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return trained(tmp_path_factory.mktemp("data"), [])


def job(data: Path, folder: Path):
    plain = training("baseline", data, folder)
    settings = plain.settings | {"objectives": plain.settings["objectives"] | {"matching": TERM}}
    return replace(plain, settings=settings, key="matching" + "0" * 24)


def test_it_trains_its_weights_and_goes_on_where_it_was_stopped(data, tmp_path, monkeypatch, matching):
    with contextlib.chdir(tmp_path):
        whole = job(data, tmp_path / "whole")
        train.run(whole)
        history = Path(whole.outputs["history"]).read_text().splitlines()
        column = history[0].split(",").index("matching_norm")
        norms = [float(line.split(",")[column]) for line in history[1:]]
        assert len(set(norms)) == len(norms) and all(map(math.isfinite, norms))
        with safe_open(whole.outputs["model"], "pt") as model:  # not needed to use a student
            assert not any("form" in name for name in model.keys())  # noqa: SIM118

        stopped, update, steps = job(data, tmp_path / "stopped"), Trainer.update, []

        def interrupted(self, *arguments, **options):
            steps.append(len(steps))
            if len(steps) == 5:
                os.kill(os.getpid(), signal.SIGTERM)
            return update(self, *arguments, **options)

        monkeypatch.setattr(Trainer, "update", interrupted)
        with pytest.raises(SystemExit):
            train.run(stopped)
        train.run(stopped)
        assert len(steps) == 9
        assert results(stopped) == results(whole)


def test_the_loop_knows_no_objectives_needs(repository):
    code = (repository / "src/ccr/train/loop.py").read_text()
    private = {"cut_teacher", "cut_visual", "masked", "margin", "intra", "discriminator", "cross", "teacher"}
    assert [word for word in sorted(private) if f'"{word}"' in code] == []
