"""Engine apertium: the real command if it is installed, and a fake one that fails on purpose."""

import logging
import shutil
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from hand_made import hand_made, run

from ccr.artifacts.parquet import read_parquet, write_parquet
from ccr.artifacts.schemas import CAPTIONS
from ccr.errors import CcrError
from ccr.pairs import apertium as installed
from ccr.translate import apertium
from ccr.translate.apertium import Engine
from ccr.translate.engine import Refused, Remembered

REAL = Path("/usr/share/apertium/modes/eng-spa.mode")
needs_apertium = pytest.mark.skipif(
    not (shutil.which("apertium") and REAL.exists()), reason="apt-get install apertium apertium-eng-spa"
)
CAPTIONS_EN = [
    "A woman crouches near three dogs in a field .",
    "Two men are playing football on the beach",
    "A snowmobiler flies through the air.",
    "A boy in a red shirt rides his bike .",
    "the girl is eating an apple",
]

# Answers in the stream format: capitals, `*` before "Qux", and no answer to a text with "Fatal".
COMMAND = """#!{python}
import sys
assert sys.argv[1:4] == ["-f", "none", "-z"], sys.argv
for text in sys.stdin.buffer.read().decode().split("\\0")[:-1]:
    if "Fatal" in text or "{broken}":
        print("lt-proc: boom", file=sys.stderr)
        sys.exit(1)
    sys.stdout.write(sys.argv[4][-3:] * ("Say" in text) + text.replace("Qux", "*Qux").upper() + "\\0")
    sys.stdout.flush()
"""


def job(source="en", target="es", direction="forward", inputs=None, outputs=None, pivot="", on_failure="error"):
    settings = {"direction": direction, "variant": "rules", "engine": "apertium", "source_lang": source}
    settings |= {"target_lang": target, "options": {"pivot": pivot, "on_failure": on_failure}}
    return hand_made("translate", "es.parquet", inputs or {}, outputs or {}, settings)


def translate(texts, **settings):
    """The outcomes of all texts; each must be finished only once."""
    outcomes = {}

    def finish(text, outcome):
        assert text not in outcomes
        outcomes[text] = outcome

    Engine(job(**settings)).translate_texts(texts, finish)
    return outcomes


@pytest.fixture
def command(tmp_path, monkeypatch):
    """Installs a fake command `apertium` with these modes, alone on PATH, and returns its data folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("APERTIUM_DATADIR", raising=False)

    def install(*modes, broken=""):
        folder = tmp_path / "share/apertium"
        (folder / "modes").mkdir(parents=True)
        for mode in modes:
            (folder / f"{mode}.bin").write_text(f"data of {mode}")
            (folder / f"modes/{mode}.mode").write_text(f"lt-proc '{folder}/{mode}.bin' | lt-proc $1 '{folder}/absent'")
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin/apertium").write_text(COMMAND.format(python=sys.executable, broken=broken))
        (tmp_path / "bin/apertium").chmod(0o755)
        return folder

    return install


# --- the real one ------------------------------------------------------------------------------------------


@needs_apertium
def test_real_captions_become_spanish_and_unknown_words_stay_without_their_marks(caplog):
    with caplog.at_level(logging.INFO):
        made = translate(CAPTIONS_EN)
    assert made[CAPTIONS_EN[3]] == "Un chico en una camisa roja monta su bici ."
    assert "snowmobiler" in made[CAPTIONS_EN[2]]
    assert not any(mark in text for text in made.values() for mark in "*@#[]\\")
    assert "of the words unknown to apertium eng-spa" in caplog.text


@needs_apertium
@pytest.mark.parametrize("text", ["#@", "*star* ~ {a} / \\ [x] ^y$ <b>z</b>", "[", "]]", "5 @ 3 # 2", "日本 ☃ ~"])
def test_signs_that_mean_something_to_apertium_come_back(text):
    made = translate([text])[text]
    signs = [sign for sign in text if not sign.isalnum() and sign != " "]
    assert [sign for sign in made if sign in signs] == signs


@needs_apertium
def test_a_translation_does_not_depend_on_its_neighbours(monkeypatch):
    together = translate(CAPTIONS_EN)
    monkeypatch.setattr(apertium, "BATCH", 2)
    assert translate(CAPTIONS_EN[::-1]) == together
    assert translate(CAPTIONS_EN[2:3]) == {CAPTIONS_EN[2]: together[CAPTIONS_EN[2]]}


@needs_apertium
def test_the_stage_translates_there_and_back(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = {"item_id": ["a", "b"], "caption_id": ["a#enc#0", "b#enc#0"], "split": ["train", "val"]}
    rows |= {"lang": ["en", "en"], "origin": ["human", "human"], "text": CAPTIONS_EN[1:4:2]}
    table = pa.table(rows)
    for name in set(CAPTIONS.names) - set(rows):
        table = table.append_column(name, pa.nulls(2, pa.string()))
    write_parquet(table.select(CAPTIONS.names).cast(CAPTIONS), "captions.parquet", CAPTIONS)
    run(job(inputs={"captions": "captions.parquet"}, outputs={"translations": "es.parquet"}))
    inputs = {"captions": "captions.parquet", "forward": "es.parquet"}
    run(job(direction="back", inputs=inputs, outputs={"translations": "es.back.parquet"}))
    back = read_parquet("es.back.parquet", CAPTIONS)
    assert back["engine"].unique().to_pylist() == ["apertium spa-eng"]
    assert back["parent_id"].to_pylist() == read_parquet("es.parquet", CAPTIONS)["caption_id"].to_pylist()
    assert "red shirt" in back["text"][1].as_py()


# --- one that fails ----------------------------------------------------------------------------------------


def test_marks_are_taken_off_and_counted_and_a_texts_own_signs_stay(command, caplog):
    command("eng-spa")
    with caplog.at_level(logging.INFO):
        made = translate(["a Qux * b", "c [d] Qux", "*e* #f"])
    assert made == {"a Qux * b": "A QUX * B", "c [d] Qux": "C [D] QUX", "*e* #f": "*E* #F"}
    assert "es.parquet: 22.2 % of the words unknown to apertium eng-spa" in caplog.text


def test_a_text_that_ends_the_process_is_refused_and_the_others_are_translated(command):
    command("eng-spa")
    made = translate(["one", "Fatal two", "three", "Fatal four"])
    assert (made["one"], made["three"]) == ("ONE", "THREE")
    reason = "apertium eng-spa ends at this text: lt-proc: boom"
    assert made["Fatal two"] == made["Fatal four"] == Refused(reason)


def test_a_mode_that_translates_nothing_is_an_error_and_refuses_nothing(command):
    command("eng-spa", broken="yes")
    with pytest.raises(CcrError, match=r"eng-spa: it translates nothing: lt-proc: boom. Try `echo test \| apertium"):
        translate(["one", "two"])


def test_what_cannot_be_sent_is_refused(command):
    command("eng-spa")
    made = translate(["a\0b", "\ud800", "c"])
    assert "NUL" in made["a\0b"].reason
    assert "surrogates" in made["\ud800"].reason
    assert made["c"] == "C"


def test_a_direct_pair_comes_before_the_way_through_a_pivot(command):
    command("eng-spa", "spa-eng", "es-fr", "fr-es")
    assert Engine(job(target="es", pivot="es")).name == "apertium eng-spa"
    assert translate(["Say"], target="fr", pivot="es") == {"Say": "SPASAY"}  # the second mode sees no "Say"
    assert Engine(job(target="fr", pivot="es", direction="back")).name == "apertium fr-es spa-eng"


@pytest.mark.parametrize(
    ("source", "target", "name"),
    [
        ("en", "hr", "eng-hbs_HR"), ("en", "bs", "eng-hbs_BS"), ("en", "sr-Latn", "eng-hbs"), ("hr", "en", "hbs-eng"),
        ("en", "ca", "eng-cat"), ("en", "ca-valencia", "eng-cat_valencia"), ("is", "en", "isl-eng"),
        ("en", "es-MX", "eng-spa"), ("es", "en", "spa-eng"),
    ],
)  # fmt: skip
def test_a_language_goes_by_apertiums_name_for_it(command, source, target, name):
    command(
        "eng-hbs", "eng-hbs_HR", "eng-hbs_BS", "hbs-eng", "eng-cat", "eng-cat_valencia", "eng-cat_valencia_uni_iec2017",
        "isl-eng", "eng-spa", "spa-eng", "spa-eng_US", "eo-en-bytecode", "Cyrl-Latn",
    )  # fmt: skip
    assert installed.chain(source, target, "", "here") == [name]


@pytest.mark.parametrize(
    ("source", "target", "pivot", "says"),
    [
        ("en", "ca", "", "apt-get install apertium-eng-cat"),
        ("is", "en", "", "apt-get install apertium-isl-eng"),
        ("en", "fr", "es", "apt-get install apertium-fr-es"),
        ("en", "fr", "", "`pivot: es` (apertium-eng-spa and apertium-fr-es)"),
        ("es", "fr", "", "apt-get install apertium-fr-es"),
        ("en", "ja", "", "Debian has no package for it"),
    ],
)
def test_a_pair_that_is_not_installed_names_what_to_install(command, source, target, pivot, says):
    (command("eng-spa", "spa-eng") / "apertium-eng-spa").mkdir()
    with pytest.raises(CcrError) as error:
        Engine(job(source, target, pivot=pivot))
    assert says in str(error.value)
    assert f"translate.variants.rules: apertium has no mode from {source!r} to {target!r}" in str(error.value)
    assert "Installed: eng-spa, spa-eng." in str(error.value)


def test_a_package_that_has_the_other_direction_only(command):
    (command("isl-eng") / "apertium-isl-eng").mkdir()
    with pytest.raises(CcrError, match="Debian's apertium-isl-eng has the other direction only"):
        Engine(job("en", "is"))


def test_without_the_command_the_message_is_the_line_that_installs_it(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CcrError, match="On Debian: `apt-get install apertium apertium-isl-eng`"):
        Engine(job("is", "en"))


def test_another_release_of_the_data_or_the_command_translates_again(command, tmp_path):
    folder = command("eng-spa", "spa-eng")
    first = Engine(job())
    assert isinstance(first, Remembered)
    assert Engine(job()).identity == first.identity
    (folder / "spa-eng.bin").write_text("the other direction, newer")
    assert Engine(job()).identity == first.identity
    (folder / "eng-spa.bin").write_text("newer data")
    second = Engine(job()).identity
    assert second != first.identity
    with (tmp_path / "bin/apertium").open("a") as file:
        file.write("# a newer version\n")
    assert Engine(job()).identity not in (first.identity, second)
