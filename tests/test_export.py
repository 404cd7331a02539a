"""Exported runs, loaded by the real libraries, embed as ccr does."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from checkouts import CL2CM, DATA
from hand_made import hand_made

from ccr import load
from ccr.artifacts.runs import run_files
from ccr.errors import CcrError
from ccr.export import mteb
from ccr.export.towers import TextTower
from ccr.networks.dual_encoder import DualEncoder
from ccr.networks.ragged import Padded

RUN = f"results/runs/{CL2CM}/seed0"
FEATURES = f"data/{DATA}/features/descriptor.parquet"
TEXTS = ["一颗大的红色星星在蓝色圆环上面。", "a big red star", "red", "a word " * 200]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def project(made, tmp_path_factory):
    found = made.copy(tmp_path_factory.mktemp("export") / "project")
    for form in ("onnx", "sentence-transformers"):
        done = found.ccr("export", form, RUN, form)
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("\n") == 1
    return found


@pytest.fixture
def run(project, monkeypatch):
    monkeypatch.chdir(project.folder)
    return load(RUN)


def test_onnx_as_documented(project, run, repository):
    """The code of docs/export.md, as written except for folder and texts."""
    code = re.findall(r"```python\n(.*?)```", (repository / "docs/export.md").read_text(), re.S)[0]
    code = code.replace("DIR", "onnx").replace('["一颗大的红色星星", "a blue ring"]', "TEXTS")
    names: dict = {"TEXTS": TEXTS}
    exec(compile(code, "docs/export.md", "exec"), names)
    assert np.abs(names["vectors"] - run.embed(TEXTS)).max() < 1e-5


def test_the_visual_side(project, run):
    import onnxruntime

    from ccr.store import open_features

    store, facts = open_features(FEATURES), json.loads(Path("onnx/ccr.json").read_text())
    features, lengths = store.rows(np.arange(5), facts["max_frames"])
    mask = np.arange(lengths.max()) < lengths[:, None]
    padded = np.full((*mask.shape, store.dim), 7.0, np.float32)  # the values in padding do not matter
    padded[mask] = features
    session = onnxruntime.InferenceSession("onnx/visual.onnx")
    [vectors] = session.run(None, {"features": padded, "frame_mask": mask.astype(np.int64)})
    assert np.abs(vectors - run.embed_items(FEATURES)[:5]).max() < 1e-5


def test_sentence_transformers(project, run, tmp_path):
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer("sentence-transformers", trust_remote_code=True)
    assert np.abs(model.encode(TEXTS) - run.embed(TEXTS)).max() < 1e-5
    model.save(str(tmp_path / "again"))
    again = SentenceTransformer(str(tmp_path / "again"), trust_remote_code=True)
    assert np.array_equal(again.encode(TEXTS), model.encode(TEXTS))


def test_the_card_is_written_from_the_run(project):
    card = (project.folder / "onnx/README.md").read_text()
    metrics = json.loads(project.read(f"results/evaluations/{CL2CM}/seed0/metrics.json"))
    assert f"{metrics['sumr']:.1f} |" in card and "relation_distillation" in card and "license: unknown" in card
    assert card.startswith('---\nlanguage: ["en", "zh"]')


def test_a_run_whose_features_cannot_be_made_again_is_not_for_mteb(project, run):
    shutil.copytree(RUN, "elsewhere")
    moved = project.ccr("export", "mteb", "elsewhere", "new")
    assert (moved.returncode, moved.stderr) == (
        1,
        "ccr: elsewhere: params.yaml plans no such run, so it is not known how its features are made.\n",
    )
    came = hand_made("features", FEATURES, {}, {}, {"extractor": "published", "options": {}})
    with pytest.raises(CcrError, match="came with the data set"):
        mteb.export(run_files(RUN), Path("new"), [], came)
    assert not Path("new").exists()


def test_what_cannot_be_exported_is_one_message(project, run):
    again = project.ccr("export", "onnx", RUN, "onnx")
    assert (again.returncode, again.stderr) == (1, "ccr: onnx: is there already. Name a folder that is not.\n")
    network = DualEncoder.__new__(DualEncoder)
    network.__dict__["shape"] = Padded
    with pytest.raises(CcrError, match="cannot be exported"):
        TextTower(network)
