"""Faulty params.yaml files: one message each, whichever command reads them."""

import copy
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from ccr import params
from ccr.errors import CcrError
from ccr.params.reading import parse

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)
BYTES = {
    "an anchor bomb": (BOMB.encode(), "more than 100,000 values"),
    "brackets 3,000 deep": (b"a: " + b"[" * 3000 + b"]" * 3000, "nested too deeply"),
    "braces 100 deep": (b"a: " + b"{a: " * 100 + b"1" + b"}" * 100, "line 1: nested too deeply; .* at most 30 levels"),
    "not UTF-8": ("a: 1\nb: häßlich".encode("latin-1"), "line 2 is not UTF-8. Save the file in UTF-8"),
    "UTF-16": ("a: 1".encode("utf-16"), "line 1 is not UTF-8"),
    "NUL": (b"a: \0", "not valid YAML: unacceptable character"),
    "a key twice": (b"a: 1\nb: 2\na: 3\n", "line 3: the key 'a' stands twice, first in line 1"),
    "a key twice, deep inside": (b"a:\n  b: {c: 1, d: 2, c: 3}\n", "line 2: the key 'c' stands twice, first in line 2"),
    "no quotes around no": (b"a: {no: 1}", "line 1: expected a name as key, but 'no' is read as another kind"),
    "a number as key": (b"2024: {}", "'2024' is read as another kind of value; put quotes around it"),
    "a list as key": (b"? [a, b]\n: 1", "expected a name as key, but a list"),
    "an alias to itself": (b"a: &a [*a]", "line 1: an alias leads back to itself"),
    "an unknown alias": (b"a: *b", "not valid YAML: found undefined alias"),
    "an object of Python": (b"a: !!python/object/apply:os.system [ls]", "not valid YAML: could not determine"),
    "a day that is none": (b"a: 2024-13-45", "not valid YAML: month must be in 1..12"),
    "an endless number": (b"a: " + b"9" * 5000, "not valid YAML: Exceeds the limit"),
    "tabs": (b"a:\n\tb: 1", "not valid YAML: while scanning"),
    "a list": (b"- a\n- b", "expected sections"),
    "nothing": (b"", "expected sections"),
    "too much": (b"# " + b"x" * 2_000_000, "2,000,002 bytes; a file of settings has at most 1,048,576"),
}


@pytest.mark.parametrize("what", BYTES)
def test_a_malformed_file_is_one_message(tmp_path, what):
    data, message = BYTES[what]
    path = tmp_path / "params.yaml"
    path.write_bytes(data)
    start = time.perf_counter()
    for door in (params.load, params.differences, lambda path: params.use("smoke", path)):
        with pytest.raises(CcrError, match=f"params.yaml: .*{message}"):
            door(path)
    assert time.perf_counter() - start < 10
    assert path.read_bytes() == data


SLOW = [pytest.param(what, marks=pytest.mark.slow) for what in ("a key twice", "brackets 3,000 deep")]


@pytest.mark.parametrize("what", ["an anchor bomb", *SLOW])
def test_snakemake_and_dvc_say_the_same(fresh, tmp_path, what):
    checkout = fresh.copy(tmp_path / "checkout")
    data, message = BYTES[what]
    (checkout.folder / "params.yaml").write_bytes(data)
    for command in (["workflow/pipeline.py", "--cores", "1", "-n"], ["workflow/run", "train", "vatex-synthetic"]):
        result = subprocess.run(
            [sys.executable, *command],
            cwd=checkout.folder,
            env=checkout.environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        said = result.stdout + result.stderr
        assert result.returncode != 0 and "Traceback" not in said
        assert message.split("; ")[0] in said


def test_a_mark_at_the_beginning_and_merged_sections_are_read(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\n")
    assert params.read(path) == {"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3}}


@examples(max_examples=300)
@given(st.binary(max_size=200))
def test_any_bytes_are_settings_or_a_message(data):
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return
    try:
        assert isinstance(parse(text, "params.yaml"), dict)
    except CcrError as error:
        assert str(error).startswith("params.yaml: ")


TEXT = Path(__file__).parents[1].joinpath("params.yaml").read_text()


@examples(max_examples=60)
@given(st.integers(0, len(TEXT)), st.integers(0, 30), st.text("[]{}:&*!-'\"\n #abc0123456789e.\t", max_size=8))
def test_a_slip_of_the_keyboard_is_settings_or_a_message(at, cut, put):
    try:
        params.plan(params.validate(parse(TEXT[:at] + put + TEXT[at + cut :], "params.yaml")))
    except CcrError as error:
        assert str(error)


# --- values ------------------------------------------------------------------------------------------------

VALUES = [
    ("tables.vatex_table.seeds", [0, 0], "0 stands there twice"),
    ("tables.vatex_table.methods", ["baseline", "nrccr", "baseline"], "'baseline' stands there twice"),
    ("tables.vatex_table.data", ["vatex", "vatex"], "'vatex' stands there twice"),
    ("tables.noise_curve.mt", ["lexicon", "lexicon"], "'lexicon' stands there twice"),
    ("tables.noise_curve.mt", [], "at least 1 item"),
    ("alignments.vatex_alignment.teachers", ["cl", "cl"], "'cl' stands there twice"),
    ("alignments.vatex_alignment.seeds", [1, 2, 1], "1 stands there twice"),
    ("translations.vatex_translation.data", ["vatex", "vatex"], "'vatex' stands there twice"),
    ("datasets.multi30k_task1.target_langs", ["de", "de"], "'de' stands there twice"),
    ("methods.cl2cm_multi.langs", ["de", "de"], "'de' stands there twice"),
    ("run", ["vatex_table", "vatex_table"], "'vatex_table' stands there twice"),
    ("tables.vatex_table.data", "vatex", "valid list"),
    ("tables.vatex_table.seeds", [10**23], "less than or equal to 4294967295"),
    ("tables.vatex_table.seeds", [True], "expected a number"),
    ("tables.vatex_table.seeds", [1.5], "integer"),
    ("train.student.epochs", 10**26, "less than or equal to 100000"),
    ("train.student.lr", 1e308, "less than or equal to 100"),
    ("train.student.batch", 10**12, "less than or equal to 100000000"),
    ("train.student.weight_decay", 1e300, "less than or equal to 1000000"),
    ("train.threads", 10**30, "less than or equal to"),
    ("train.checkpoint_minutes", float("inf"), "finite number"),
    ("networks.small.dim", 10**9, "less than or equal to 65536"),
    ("networks.small.text.layers", 10**6, "less than or equal to 1000"),
    ("datasets.vatex.world.train", 10**15, "less than or equal to"),
    ("datasets.vatex.world.seed", 10**23, "less than or equal to"),
    ("evaluate.batch", 10**20, "less than or equal to"),
    ("translate.variants.lexicon.seed", 10**23, "less than or equal to"),
    ("translate.variants.opus.beams", 10**20, "less than or equal to"),
    ("translate.variants.lexicon_substitute20.noise.seed", 10**20, "less than or equal to"),
    ("features.extractors.descriptor.size", 10**20, "less than or equal to"),
    ("methods.cl2cm.objectives.relation_distillation.tau_teacher", 1e300, "less than or equal to"),
    ("methods.cl2cm.objectives.relation_distillation.weight", 1e300, "expected a number from 0 to 1,000,000"),
    ("methods.cl2cm.objectives.relation_distillation.tau_student", True, "expected a number, not true/false"),
    ("datasets.multi30k_task1.options.task", True, "expected a number, not true/false"),
    ("methods.baseline.objectives.vs.objective", ["infonce"], "unknown objective ['infonce']"),
    ("features.extractors.mobilenet_v2.extractor", {}, "unknown extractor {}"),
    ("methods", "baseline", "expected names, each with keys and values"),
    ("datasets.vatex.root", "", "at least 1 character"),
    ("preset", "smok", "did you mean 'smoke'"),
]


@pytest.mark.parametrize(("path", "value", "message"), VALUES)
def test_a_value_that_cannot_be_meant_is_named(repository, path, value, message):
    raw = yaml.safe_load((repository / "params.yaml").read_text())
    *above, last = path.split(".")
    at = raw
    for name in above:
        at = at[name]
    at[last] = value
    with pytest.raises(CcrError) as error:
        params.plan(params.validate(raw))
    assert message in str(error.value) and path.split(".")[-1] in str(error.value)
    assert len(str(error.value)) < 500


def places(raw, path=()):
    """Paths of all entries in settings."""
    for name, value in raw.items() if isinstance(raw, dict) else enumerate(raw) if isinstance(raw, list) else ():
        yield (*path, name)
        yield from places(value, (*path, name))


@pytest.mark.slow
@pytest.mark.parametrize("value", [None, [], {}, "", "../x", [1, [2]], {"a": 1}, True, -1, 0.5, 1e300, float("nan")])
def test_any_other_value_anywhere_is_settings_or_a_message(value):
    whole = yaml.safe_load(TEXT)
    one_of_a_kind = {(path[0], str(path[-1]), len(path)): path for path in places(whole)}
    for *above, last in one_of_a_kind.values():
        raw = at = copy.deepcopy(whole)
        for name in above:
            at = at[name]
        at[last] = value
        try:
            params.plan(params.validate(raw))
        except CcrError as error:
            assert str(error)


def test_a_data_set_that_no_table_names_can_be_imported(repository):
    raw = yaml.safe_load((repository / "params.yaml").read_text())
    raw["datasets"]["alone"] = raw["datasets"]["vatex"]
    plan = params.plan(params.validate(raw))
    for target in ("captions.parquet", "features/descriptor.parquet", "translations/lexicon/zh.parquet"):
        assert plan.job(f"data/alone-synthetic/{target}").target
    assert plan.job("data/raw/alone-synthetic").stage == "world"
