"""Exported runs in MTEB: its own retrieval tasks give the numbers of the project's evaluation."""

import json

import numpy as np
import pandas as pd
import pytest
from checkouts import GERMAN, PICTURES

mteb = pytest.importorskip("mteb", reason="MTEB is not installed: pip install -e '.[mteb]' -c constraints.txt")

RUN = f"results/runs/{GERMAN}/seed0"
TASKS = {"t2v": "XM3600T2IRetrieval", "v2t": "XM3600I2TRetrieval"}


@pytest.fixture(scope="module")
def project(german, tmp_path_factory):
    found = german.copy(tmp_path_factory.mktemp("mteb") / "project")
    done = found.ccr("export", "mteb", RUN, "tiny-german")
    assert done.returncode == 0, done.stderr
    return found


@pytest.fixture
def crossmodal3600(project, monkeypatch) -> str:
    """The mini-world's test pictures and German captions as a data set in Crossmodal-3600's format."""
    from datasets import Dataset, Image

    monkeypatch.chdir(project.folder)
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.setenv(name, "1")
    captions = pd.read_parquet(f"data/{PICTURES}/captions.parquet").query("split == 'test' and lang == 'de'")
    items = pd.read_parquet(f"data/{PICTURES}/items.parquet").set_index("item_id")
    rows = [
        {
            "image_id": item,
            "image_locale": "de",
            "captions": group["text"].tolist(),
            "captions_tokenized": group["text"].tolist(),
            "captions_tokenized_lowercase": group["text"].str.lower().tolist(),
            "image": f"data/raw/{PICTURES}/{items.loc[item, 'path']}",
        }
        for item, group in captions[captions["origin"] == "human"].groupby("item_id")
    ]
    table = Dataset.from_list(rows).cast_column("image", Image())
    table.to_parquet("xm3600/de.parquet")
    splits = "configs:\n- config_name: default\n  data_files:\n  - {split: de, path: de.parquet}"
    (project.folder / "xm3600/README.md").write_text(f"---\n{splits}\n---\n")
    return str(project.folder / "xm3600")


def unrounded(scores: dict[str, dict[str, float]], *_: object, **__: object) -> dict[str, float]:
    """The mean of its nDCG@10 over queries; MTEB rounds what it reports to five digits."""
    return {"unrounded": float(np.mean([of_query["ndcg_cut_10"] for of_query in scores.values()]))}


@pytest.mark.parametrize("direction", TASKS)
def test_its_ndcg_is_that_of_the_evaluation(project, crossmodal3600, tmp_path, monkeypatch, direction):
    from ccr.export.mteb_student import Student

    task = mteb.get_task(TASKS[direction], languages=["deu"])
    monkeypatch.setitem(task.metadata.dataset, "path", crossmodal3600)
    monkeypatch.setattr(task, "task_specific_scores", unrounded)
    results = mteb.evaluate(Student("tiny-german"), task, cache=mteb.ResultCache(tmp_path), co2_tracker=False)
    [scores] = results.task_results[0].scores["test"]
    metrics = json.loads(project.read(f"results/evaluations/{GERMAN}/seed0/metrics.json"))
    assert scores["unrounded"] == pytest.approx(metrics[f"{direction}_ndcg10"] / 100, abs=1e-6)
    assert scores["ndcg_at_10"] == pytest.approx(scores["unrounded"], abs=1e-5)
    assert results.model_name == "ccr/tiny-german"
