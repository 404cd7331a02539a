"""Bytes are checked where they are reused: tampering is found, named, and never published."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from checkouts import CL2CM, DATA, TABLE, Checkout, targets
from safetensors.numpy import load_file, save_file

from ccr import params
from ccr.artifacts.contents import content_hash
from ccr.artifacts.memo import adopt
from ccr.errors import CcrError
from ccr.verify import verify

BASELINE = CL2CM.replace("cl2cm", "baseline")
BASELINE_RUN = f"results/runs/{BASELINE}/seed0"
RUN, EVALUATION = f"results/runs/{CL2CM}/seed0", f"results/evaluations/{CL2CM}/seed0"
TEACHER = f"results/teachers/{DATA}/lexicon/zh/cl/seed0"
TRANSLATION = f"data/{DATA}/translations/lexicon/zh.parquet"
CAPTIONS, FEATURES = f"data/{DATA}/captions.parquet", f"data/{DATA}/features/descriptor.parquet"
ROW = "vatex/lexicon/descriptor/zh/cl2cm"


def ccr(checkout: Checkout, *words: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "ccr", *words],
        cwd=checkout.folder,
        env=checkout.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def kept(checkout: Checkout, target: str, role: str) -> Path:
    """A file of a result in the memo."""
    for record in checkout.folder.glob("work/memo/??/*/job.json"):
        if json.loads(record.read_text())["target"] == target:
            return record.with_name(role)
    raise LookupError(target)


# --- ways to tamper with a file ----------------------------------------------------------------------------


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def append(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\n")


def other_weights(path: Path) -> None:
    weights = load_file(path)
    save_file({name: values[::-1].copy() for name, values in weights.items() if values.ndim} | weights, path)
    name = max(weights, key=lambda name: weights[name].size)
    save_file(weights | {name: weights[name][::-1].copy()}, path)


def json_values(**values) -> Callable[[Path], None]:
    return lambda path: path.write_text(json.dumps(json.loads(path.read_text()) | values))


def every_row(name: str, value) -> Callable[[Path], None]:
    """The same value in every row, under the old metadata."""

    def edit(path: Path) -> None:
        table = pq.read_table(path)
        at = table.schema.get_field_index(name)
        same = pa.array([value] * len(table), table[name].type if name == "rank" else pa.string())
        pq.write_table(table.set_column(at, table.schema.field(at), same.cast(table[name].type)), path)
        assert pq.read_schema(path).metadata == table.schema.metadata

    return edit


def of_the_baseline(path: Path) -> None:
    shutil.copyfile(str(path).replace("/cl2cm/", "/baseline/"), path)


def under_another_key(path: Path) -> None:
    """An older version, whose metadata name the newer key."""
    table = pq.read_table(path)
    metadata = table.schema.metadata
    pq.write_table(table.slice(1).replace_schema_metadata(metadata), path)


# --- in data/ and results/ ---------------------------------------------------------------------------------

# what is tampered with, how
RESULTS = {
    "a bit of a model": (f"{RUN}/model.safetensors", flip),
    "other weights": (f"{RUN}/model.safetensors", other_weights),
    "the model of another run": (f"{RUN}/model.safetensors", of_the_baseline),
    "a model that is cut off": (f"{RUN}/model.safetensors", cut),
    "settings of a run": (f"{RUN}/config.json", json_values(terms=["vs"])),
    "a tokenizer": (f"{RUN}/tokenizer.json", append),
    "a training curve": (f"{RUN}/history.csv", append),
    "embeddings of a teacher": (f"{TEACHER}/embeddings.parquet", flip),
    "all ranks are 1": (f"{EVALUATION}/ranks.parquet", every_row("rank", 1)),
    "SumR is 600": (f"{EVALUATION}/metrics.json", json_values(sumr=600.0)),
    "the seal of an evaluation": (f"{EVALUATION}/seal.json", json_values(key="of another one")),
    "texts of translations": (TRANSLATION, every_row("text", "红")),
    "fewer captions": (CAPTIONS, under_another_key),
    "a bit of the features": (FEATURES, flip),
    "a table": (TABLE, append),
    "a table's json": (TABLE.replace(".csv", ".json"), append),
    "a figure": ("results/figures/tiny/recall.png", flip),
    "a video of the mini-world": (f"data/raw/{DATA}/videos", flip),
}


@pytest.fixture(scope="module")
def copy(made, tmp_path_factory) -> Checkout:
    """A copy of the made table; tests restore what they damage."""
    return made.copy(tmp_path_factory.mktemp("integrity") / "copy")


@pytest.fixture
def here(copy, monkeypatch) -> Checkout:
    monkeypatch.chdir(copy.folder)
    return copy


@contextmanager
def tampered(path: Path, tamper: Callable[[Path], None]) -> Iterator[None]:
    """Tamper with a file, or the first one in a folder, for a while."""
    path = min(path.iterdir()) if path.is_dir() else path
    shutil.copyfile(path, "backup")
    try:
        tamper(path)
        yield
    finally:
        shutil.move("backup", path)


def planned() -> params.Plan:
    return params.plan(params.load())


@pytest.mark.parametrize("what", RESULTS)
def test_tampering_with_a_result_is_found(here, what):
    file, tamper = RESULTS[what]
    with tampered(Path(file), tamper):
        damaged, *rows = verify(planned(), afresh=False)
    assert (Path(file).name in damaged) != ("raw" in damaged)
    if file.startswith((RUN, EVALUATION)):
        assert f"{TABLE}: row {ROW} rests on {RUN if file.startswith(RUN) else EVALUATION}" in rows
    assert list(verify(planned(), afresh=True)) == []


@pytest.mark.parametrize("what", ["SumR is 600", "all ranks are 1", "texts of translations", "other weights"])
def test_nothing_that_was_tampered_with_is_read_or_adopted(here, what):
    file, tamper = RESULTS[what]
    maker = TRANSLATION if file == TRANSLATION else str(Path(file).parent)
    reader = {EVALUATION: TABLE, RUN: EVALUATION, TRANSLATION: RUN}[maker]
    shutil.move("work/memo", "memo")
    try:
        with tampered(Path(file), tamper):
            for door in (lambda: adopt(planned().job(maker)), lambda: planned().keyed(reader)):
                with pytest.raises(CcrError, match=f"{Path(file).name}: is not what its job wrote"):
                    door()
    finally:
        shutil.rmtree("work/memo", ignore_errors=True)
        shutil.move("memo", "work/memo")


def test_rows_edited_under_their_old_metadata_are_refused_without_a_seal_too(here):
    with (
        tampered(Path(TRANSLATION), every_row("text", "红")),
        pytest.raises(CcrError, match="zh.parquet: its rows are not those that were written there"),
    ):
        content_hash(TRANSLATION)


@pytest.mark.slow
def test_whatever_was_tampered_with_is_copied_out_of_the_memo_again(checkout):
    before = checkout.read()
    for file, tamper in RESULTS.values():
        path = checkout.folder / file
        if path.exists() and path.name not in ("model.safetensors", "seal.json"):
            tamper(min(path.iterdir()) if path.is_dir() else path)
    other_weights(checkout.folder / RUN / "model.safetensors")
    output = checkout.run()
    assert targets("computed", output) == set()
    assert f"{RUN}/model.safetensors: is not what its job wrote" in output
    assert checkout.read() == before
    assert ccr(checkout, "memo", "verify", "--all").stdout.strip() == "all is as it was written"


# --- in the memo and in caches -----------------------------------------------------------------------------

KEPT = {
    "other weights": (RUN, "model", other_weights),
    "a bit of a model": (RUN, "model", flip),
    "a model that is cut off": (RUN, "model", cut),
    "SumR is 600": (EVALUATION, "metrics", json_values(sumr=600.0)),
    "all ranks are 1": (EVALUATION, "ranks", every_row("rank", 1)),
    "the record of a job": (EVALUATION, "job.json", json_values(settings={})),
    "a file is gone": (RUN, "tokenizer", Path.unlink),
}


@pytest.mark.parametrize("what", KEPT)
def test_tampering_with_the_memo_is_found(here, what):
    target, role, tamper = KEPT[what]
    with tampered(kept(here, target, role), tamper):
        (damaged,) = verify(planned(), afresh=False)
        assert f"/{role}: " in damaged


@pytest.mark.slow
def test_a_damaged_entry_of_the_memo_is_set_aside_and_computed_anew(checkout):
    before = checkout.read()
    other_weights(kept(checkout, RUN, "model"))
    json_values(sumr=600.0)(kept(checkout, EVALUATION, "metrics"))
    for target in (RUN, EVALUATION, BASELINE_RUN):
        shutil.rmtree(checkout.folder / target)
    output = checkout.run()
    assert targets("computed", output) == {RUN, EVALUATION}
    assert output.count("The entry is set aside in work/memo/damaged/") == 2
    assert checkout.read() == before
    assert ccr(checkout, "memo", "verify").returncode == 0


def test_a_file_changed_and_given_its_old_time_is_found_by_a_full_check(checkout):
    model = kept(checkout, RUN, "model")
    ccr(checkout, "memo", "verify")
    stat = model.stat()
    data = bytearray(model.read_bytes())
    data[-1] ^= 1
    with model.open("r+b") as file:
        file.write(data)
    os.utime(model, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    found = ccr(checkout, "memo", "verify", "--all")
    assert found.returncode == 1 and str(model.relative_to(checkout.folder)) in found.stdout


@pytest.mark.slow
def test_a_damaged_array_is_decoded_again(checkout):
    (array,) = (checkout.folder / "work/arrays").glob("*.npy")
    flip(array)
    assert f"{array.name}: is not what was decoded" in ccr(checkout, "memo", "verify").stdout
    shutil.rmtree(checkout.folder / "work/memo")
    shutil.rmtree(checkout.folder / EVALUATION)
    before = checkout.read()
    assert f"{array.name}: is damaged, and decoded again" in checkout.run()
    assert checkout.read() == before


# --- what is no longer needed ------------------------------------------------------------------------------


@pytest.mark.slow
def test_collecting_deletes_what_no_plan_needs_and_no_more(checkout):
    every = set(checkout.folder.glob("work/memo/??/*/job.json"))
    assert ccr(checkout, "memo", "gc").stdout.endswith("0 entries, 0.0 MB freed\n")
    checkout.edit(lambda raw: raw["tables"]["tiny"].update(methods=["baseline"]))
    old = checkout.run()
    said = ccr(checkout, "memo", "gc", "--dry-run").stdout
    for target in (RUN, EVALUATION, TABLE):  # the teacher is in a table of alignment, too
        assert f" {target}: " in said
    assert f" {BASELINE_RUN}: " not in said and f" {TEACHER}: " not in said
    assert every <= set(checkout.folder.glob("work/memo/??/*/job.json")), old
    assert "0 entries" in ccr(checkout, "memo", "gc", "--older-than", "1").stdout
    assert "0 entries" in ccr(checkout, "memo", "gc", "--down-to", "1").stdout
    assert ccr(checkout, "memo", "gc").returncode == 0
    kept = {json.loads(path.read_text())["target"] for path in checkout.folder.glob("work/memo/??/*/job.json")}
    assert RUN not in kept and {BASELINE_RUN, TEACHER} <= kept
    shutil.rmtree(checkout.folder / BASELINE_RUN)
    assert checkout.computed() == set()
