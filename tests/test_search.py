"""Search: the nearest items are those found by the evaluation, in the terminal and over HTTP."""

import json
import os
import re
import shutil
import signal
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import requests
import torch
from checkouts import CL2CM, DATA
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file

from ccr import load, params
from ccr.artifacts.schemas import RUN_FILES
from ccr.errors import CcrError
from ccr.retrieval.ranks import rank
from ccr.search.collection import Collection, open_collection, samples
from ccr.search.index import Index
from ccr.search.searcher import Searcher

RUN = f"results/runs/{CL2CM}/seed0"
OTHER = RUN.replace("cl2cm", "baseline")
FEATURES = f"data/{DATA}/features/descriptor.parquet"


@pytest.fixture(scope="module")
def project(made, tmp_path_factory):
    return made.copy(tmp_path_factory.mktemp("search") / "project")


@pytest.fixture
def job(project, monkeypatch):
    monkeypatch.chdir(project.folder)
    return params.plan(params.load(Path("params.yaml"))).job(FEATURES)


@pytest.fixture
def searcher(job) -> Searcher:
    return searcher_of(RUN, open_collection(FEATURES, job, "test"))


def searcher_of(run: str, collection: Collection) -> Searcher:
    return Searcher(run, {role: f"{run}/{file}" for role, file in RUN_FILES.items()}, collection, 64)


def ranked(run: str, data: str = DATA) -> pd.DataFrame:
    """The test captions with their ranks in the evaluation: query_id, item_id, rank, text."""
    ranks = pd.read_parquet(f"{run.replace('runs', 'evaluations', 1)}/ranks.parquet")
    captions = pd.read_parquet(f"data/{data}/captions.parquet", columns=["caption_id", "text"])
    return ranks[ranks["direction"] == "t2v"].merge(captions, left_on="query_id", right_on="caption_id")


# --- the index ---------------------------------------------------------------------------------------------


@given(st.integers(1, 60), st.integers(1, 9), st.integers(1, 70), st.integers(0, 2**32 - 1))
def test_the_nearest_are_those_that_exact_scores_give(items, dim, count, seed):
    draw = np.random.default_rng(seed)
    gallery = draw.integers(-2, 3, (items, dim)).astype(np.float32) + 0.1  # many equal scores
    gallery /= np.linalg.norm(gallery, axis=1, keepdims=True)
    query = gallery[draw.integers(items)]
    rows, scores = Index(gallery).top(torch.from_numpy(query), count)
    every = [(-np.float32(row.astype(float) @ query.astype(float)), n) for n, row in enumerate(gallery)]
    best = sorted(every)[: min(count, items)]
    assert scores == pytest.approx([-score for score, _ in best], abs=1e-6)
    assert np.all(np.diff(scores) <= 0) and len(set(rows.tolist())) == len(rows)


@given(st.integers(2, 40), st.integers(0, 2**32 - 1))
def test_the_rank_of_an_entry_is_that_of_the_evaluation(items, seed):
    draw = np.random.default_rng(seed)
    gallery = draw.choice([-1.0, 1.0], (items, 4)).astype(np.float32) / 2  # at most 16 different entries
    queries = draw.choice([-1.0, 1.0], (5, 4)).astype(np.float32) / 2
    right = draw.integers(items, size=5)
    index = Index(gallery)
    found = [index.standing(torch.from_numpy(query), int(row)) for query, row in zip(queries, right, strict=True)]
    assert found == rank(queries, gallery, right, np.arange(items)).first.tolist()


# --- a run -------------------------------------------------------------------------------------------------


def test_every_caption_finds_its_item_where_the_evaluation_says(searcher):
    table = ranked(RUN)
    rows = {item: row for row, item in enumerate(searcher.collection.item_ids)}
    found = [searcher.standing(text, rows[item]) for text, item in zip(table["text"], table["item_id"], strict=True)]
    assert found == table["rank"].tolist()
    first = table[table["rank"] == 1].iloc[0]
    assert searcher.search(first["text"], 3)[0].item_id == first["item_id"]


def test_embeddings_are_made_once(searcher, monkeypatch):
    monkeypatch.setattr("ccr.evaluate.encoder.Encoder.items", None)  # calling it would fail
    again = searcher_of(RUN, searcher.collection)
    assert again.search("red", 5) == searcher.search("red", 5)


def test_words_are_judged_by_the_score_without_them(searcher):
    text = ranked(RUN)["text"].iloc[0]
    row = searcher.search(text, 1)[0].row
    words = searcher.words(text, row)
    assert len(words) > 1
    whole = searcher.search(text, 1)[0].score
    start, end, difference = words[0]
    shortened = {hit.row: hit.score for hit in searcher.search(text[:start] + text[end:], 10**6)}
    assert difference == pytest.approx(whole - shortened[row], abs=1e-5)
    assert searcher.words("red", 0) == []


def test_a_clip_of_the_collection_finds_itself(searcher):
    captions, hits = searcher.like(searcher.collection.extract(searcher.collection.file(3), "video"), 5)
    assert hits[0].row == 3 and hits[0].score == pytest.approx(1, abs=1e-3)
    assert len(captions) == 5
    with pytest.raises(CcrError, match="cannot be read"):
        searcher.collection.extract(Path("params.yaml"), "video")


def test_imported_features_cannot_be_made_of_a_new_picture(searcher):
    published = replace(searcher.collection.job, settings={"extractor": "published", "options": {}})
    other = replace(searcher.collection, job=published)
    assert not other.extracts
    with pytest.raises(CcrError, match="these features came with the data set"):
        other.extract(searcher.collection.file(0), "video")


def test_of_an_imported_run_no_languages_are_known(searcher, tmp_path):
    imported = shutil.copytree(RUN, tmp_path / "imported")
    description = json.loads((imported / "config.json").read_text())
    description["settings"] = {"network": description["settings"]["network"]}
    (imported / "config.json").write_text(json.dumps(description))
    other = searcher_of(str(imported), searcher.collection)
    assert other.langs == [] and other.search("red", 5) == searcher.search("red", 5)


def test_what_is_wrong_is_one_message(searcher, job):
    with pytest.raises(CcrError, match="The query is empty"):
        searcher.search(" ", 3)
    with pytest.raises(CcrError, match="--split tset: expected one of"):
        open_collection(FEATURES, job, "tset")
    with pytest.raises(CcrError, match="Give --split all"):
        open_collection(FEATURES, None, "test")
    assert len(open_collection(FEATURES, None, "all").item_ids) > len(searcher.collection.item_ids)


def test_no_file_outside_the_collection_has_a_place_in_it(tmp_path):
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    root = tmp_path / "root"
    (root / "inside").mkdir(parents=True)
    (root / "inside/good.jpg").write_bytes(b"good")
    (root / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    (root / "folder").symlink_to(tmp_path)
    paths = [
        "inside/good.jpg",
        "../secret.jpg",
        str(tmp_path / "secret.jpg"),
        "link.jpg",
        "folder/secret.jpg",
        "inside",
    ]
    ids = [str(number) for number in range(len(paths))]
    media = {item: (path, "image") for item, path in zip(ids, paths, strict=True)}
    collection = Collection("", ids, root, media)
    found = [collection.file(row) for row in range(len(paths))]
    assert found == [root.resolve() / "inside/good.jpg", None, None, None, None, None]


# --- in Python ---------------------------------------------------------------------------------------------


def test_a_run_is_loaded_in_python(project, monkeypatch):
    monkeypatch.chdir(project.folder)
    Path("queries.txt").write_text("a red star\n一颗红色的星星\n", encoding="utf-8")
    assert project.ccr("embed", RUN, "queries.txt", "queries.safetensors").returncode == 0
    run = load(RUN)
    found = run.embed(["a red star", "一颗红色的星星"])
    assert found.dtype == np.float32 and np.array_equal(found, load_file("queries.safetensors")["embeddings"])
    items = run.embed_items(FEATURES)
    assert np.linalg.norm(items, axis=1) == pytest.approx(np.ones(len(items)), abs=1e-6)
    assert run.settings["langs"] == ["zh"]
    assert np.array_equal(run.embed(text for text in ["a red star", "一颗红色的星星"]), found)
    assert np.array_equal(run.embed(["a red\u200b star", " 一颗红色的星星"]), found)  # cleaned like captions
    with pytest.raises(TypeError, match="expected a list of strings"):
        run.embed("a red star")
    with pytest.raises(ValueError, match="embed: text 1 is empty"):
        run.embed(["a red star", " "])
    with pytest.raises(ValueError, match="embed_items: no items"):
        run.embed_items(FEATURES, [])
    with pytest.raises(CcrError, match="no such file. Name a trained run's folder"):
        load("results/runs/none")


# --- the command and the page ------------------------------------------------------------------------------


def test_a_query_in_the_terminal(project, monkeypatch):
    monkeypatch.chdir(project.folder)
    first = ranked(RUN).query("rank == 1").iloc[0]
    plain = project.ccr("search", RUN, FEATURES, first["text"], "--top", "2")
    assert plain.returncode == 0, plain.stderr
    assert re.fullmatch(rf"  1 +0\.\d+  {first['item_id']}  data/raw/.*\n  2 .*\n", plain.stdout)
    features = str(Path(FEATURES).absolute())
    both = project.ccr("search", RUN, features, first["text"], "--top", "2", "--json", "--compare", OTHER)
    lines = [json.loads(line) for line in both.stdout.splitlines()]
    assert [(line["run"], line["rank"]) for line in lines] == [
        (f"{method}/seed0", place) for method in ("cl2cm", "baseline") for place in (1, 2)
    ]
    assert lines[0]["id"] == first["item_id"] and Path(lines[0]["path"]).is_file()
    missing = project.ccr("search", "results/runs/none", FEATURES, "x")
    assert missing.returncode == 1 and missing.stderr.count("\n") == 1 and "no such file" in missing.stderr


@contextmanager
def served(project, *words):
    """The address of the page; without words it compares two runs."""
    process = project.launch("-m", "ccr", "search", *(words or (RUN, FEATURES, "--compare", OTHER)), "--port", "0")
    try:
        address = process.stdout.readline().split()[0]
        assert address.startswith("http://127.0.0.1:"), process.stdout.read()
        yield address
    finally:
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(timeout=20) == 0


@pytest.fixture(scope="module")
def address(project):
    with served(project) as found:
        yield found


def test_the_server_answers_the_page(project, address, monkeypatch):
    monkeypatch.chdir(project.folder)
    table = ranked(RUN)
    known = table.iloc[0]
    found = requests.get(f"{address}/search", {"text": known["text"]}).json()
    assert [answer["run"] for answer in found["answers"]] == ["cl2cm/seed0", "baseline/seed0"]
    assert found["answers"][0]["right"]["rank"] == known["rank"]
    hit = found["answers"][0]["hits"][0]
    assert (
        requests.get(f"{address}/media/{hit['row']}").content
        == Path("data/raw", DATA, "videos", f"{hit['id']}.mp4").read_bytes()
    )
    moving = requests.get(f"{address}/preview/{hit['row']}")
    assert moving.headers["content-type"] == "image/webp" and moving.content[:4] == b"RIFF"
    clip = Path("data/raw", DATA, "videos", f"{hit['id']}.mp4").read_bytes()
    like = requests.post(f"{address}/like", params={"type": "video/mp4"}, data=clip).json()
    assert like["answers"][0]["hits"][0]["row"] == hit["row"] and like["answers"][0]["captions"]
    about = requests.get(f"{address}/about").json()
    assert about["langs"] == ["en", "zh"] and {sample["lang"] for sample in about["samples"]} == {"en", "zh"}


def test_the_server_gives_nothing_to_strangers(address):
    assert requests.get(f"{address}/about", headers={"Host": "evil.example"}).status_code == 400
    strange = requests.post(f"{address}/like", data=b"x", headers={"Origin": "http://evil.example"})
    assert strange.status_code == 403
    for path in ("/media/99999", "/page/../server.py", "/page/%2e%2e/server.py", "/media/../../../etc/passwd"):
        request = requests.Request("GET", address).prepare()
        request.url = address + path  # verbatim: requests would normalise it
        with requests.Session() as session:
            assert session.send(request).status_code == 404
    for bad in ({"text": ""}, {}):
        answer = requests.get(f"{address}/search", bad)
        assert answer.status_code == 422 and answer.json() == {"error": "The query is empty. Give a sentence."}
    assert requests.get(f"{address}/words", {"text": "x", "row": "-1", "run": "0"}).status_code == 400


def test_a_port_that_is_taken_is_one_message(project, address):
    port = address.rpartition(":")[2]
    taken = project.ccr("search", RUN, FEATURES, "--port", port)
    assert taken.returncode == 1
    assert taken.stderr == f"ccr: --port {port}: Address already in use. Give another one, or 0 for any that is free.\n"


def test_samples_are_the_same_every_time_and_of_different_items(searcher):
    chosen = samples(searcher.collection.captions, 3)
    assert chosen == samples(searcher.collection.captions, 3)
    assert [caption.lang for caption in chosen] == ["en"] * 3 + ["zh"] * 3
    assert len({caption.row for caption in chosen if caption.lang == "zh"}) == 3
