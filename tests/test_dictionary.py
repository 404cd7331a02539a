"""Engine dictionary: tables, FreeDict's in dictd's format, CC-CEDICT."""

import gzip
import logging
from pathlib import Path

import pyarrow as pa
import pytest
from hand_made import hand_made
from hypothesis import given
from hypothesis import strategies as st

from ccr.errors import CcrError
from ccr.translate.dictionary import Engine
from ccr.translate.text import clean

DICTD = Path("/usr/share/dictd/freedict-eng-deu.index")
DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

# in CC-CEDICT's line format
CEDICT = """# CC-CEDICT
#! version=1
一 一 [yi1] /one; single/a (article)/
人 人 [ren2] /person; people/CL:個|个[ge4]/
人家 人家 [ren2 jia1] /household/
狗 狗 [gou3] /dog/CL:隻|只[zhi1]/
犬 犬 [quan3] /dog/Kangxi radical 94/
狗屋 狗屋 [gou3 wu1] /kennel/
傻子 傻子 [sha3 zi5] /fool, dog, ass/
穿 穿 [chuan1] /to wear/to put on/
襯衫 衬衫 [chen4 shan1] /shirt/blouse/
紅 红 [Hong2] /surname Hong/
紅 红 [hong2] /red/popular/
衹 只 [zhi3] /variant of 只[zhi3]/
"""


def job(path, source="en", target="de", direction="forward"):
    settings = {"direction": direction, "variant": "words", "engine": "dictionary", "source_lang": source}
    settings |= {"target_lang": target, "options": {"path": str(path)}}
    return hand_made("translate", "de.parquet", {}, {}, settings)


def translate(path, texts, *pair, **settings):
    return Engine(job(path, *pair, **settings)).translate(pa.table({"text": texts}))


@pytest.fixture
def table(tmp_path):
    """Writes a table `en-de.tsv` with these lines and returns its path."""

    def write(*lines, name="en-de.tsv"):
        path = tmp_path / name
        path.write_text("".join(f"{line}\n" for line in lines))
        return path

    return write


def dictd(folder, entries, name="freedict-eng-deu"):
    """Writes a dictionary in dictd's format from (index word, entry) pairs."""
    index, text = "", b""
    for word, entry in [("00databaseutf8", "\n"), *entries]:
        data = entry.encode()
        index += f"{word}\t{number(len(text))}\t{number(len(data))}\n"
        text += data
    (folder / f"{name}.index").write_text(index)
    (folder / f"{name}.dict.dz").write_bytes(gzip.compress(text))
    return folder / f"{name}.index"


def number(value):
    return (number(value // 64) if value >= 64 else "") + DIGITS[value % 64]


# --- word by word ------------------------------------------------------------------------------------------


def test_the_longest_phrase_wins_and_unknown_words_stay_and_are_counted(table, caplog):
    path = table("hot\theiß", "dog\tHund", "hot dog\tBockwurst", "t-shirt\tT-Shirt", "the\t")
    with caplog.at_level(logging.INFO):
        made = translate(path, ["The hot dog, hot. Dog zzz t shirt!"])
    assert made == ["Bockwurst, heiß. Hund zzz T-Shirt!"]
    assert "de.parquet: 16.7 % of the words are not in en-de" in caplog.text


def test_of_several_translations_the_highest_weight_then_the_first(table):
    path = table("bank\tBank\t0.5", "bank\tUfer\t2", "bank\tBord\t2", "ride\treiten", "ride\tfahren")
    assert translate(path, ["bank ride"]) == ["Ufer reiten"]


def test_a_dictionary_translates_back_turned_round(table):
    path = table("dog\tHund", "hound\tHund", "the\t")
    assert translate(path, ["der Hund"], direction="back") == ["der dog"]
    assert Engine(job(path, direction="back")).name == "en-de inverted"


@pytest.mark.parametrize(
    ("word", "entry"),
    [
        ("dogs", "dog"), ("boxes", "box"), ("ladies", "lady"), ("jumping", "jump"), ("running", "run"),
        ("riding", "ride"), ("jumped", "jump"), ("stopped", "stop"), ("used", "use"), ("carried", "carry"),
    ],
)  # fmt: skip
def test_an_english_word_is_looked_up_without_its_ending(table, word, entry):
    path = table(f"{entry}\tgefunden", "pas\tnicht", "bu\tnicht")
    assert translate(path, [word]) == ["gefunden"]
    assert translate(table("pass\tHund", name="en-fr.tsv"), ["passs"], "en", "fr") == ["passs"]


def test_no_ending_is_taken_off_in_other_languages(table):
    assert translate(table("autos\tcars", "hund\tdog", name="de-en.tsv"), ["hunds autos"], "de", "en") == ["hunds cars"]


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=40).map(clean))
def test_without_a_known_word_a_text_comes_back(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "en-de.tsv"
    path.write_text("qqqqq\tzzzzz\n")
    assert translate(path, [text]) == [text]


def test_of_the_files_in_a_folder_the_one_that_says_the_pair(table, tmp_path):
    table("dog\tHund")
    table("dog\tchien", name="my-en-fr.tsv")
    table("Hund\thound", name="x-deu-eng.tsv")
    table("no dictionary", name="notes.md")
    table("cane\tdog", name="my.v1-it-en.tsv")
    assert translate(tmp_path, ["dog"]) == ["Hund"]
    assert translate(tmp_path, ["dog"], "en", "fr") == ["chien"]
    assert translate(tmp_path, ["Hund"], "de", "en") == ["Hound"]
    assert translate(tmp_path, ["chien"], "fr", "en") == ["dog"]  # reversed
    assert translate(tmp_path, ["cane"], "it", "en") == ["dog"]
    assert Engine(job(tmp_path, "it", "en")).name == "my.v1-it-en"


@pytest.mark.parametrize(
    ("source", "entries", "text", "made"),
    [
        ("hi", ["का\tof", "को\tto", "कि\tthat", "लड़का\tboy", "कुत्ता\tdog"], "कुत्ता, लड़का कि को के", "dog, boy that to के"),
        ("hi", ["\u0932\u095c\u0915\u093e\tboy"], "लड़का", "boy"),  # ड़ as one character, as keyboards type it
        ("th", ["ผู้ชาย\tman", "ผู้หญิง\twoman", "ชา\ttea", "และ\tand"], "ผู้ชายและผู้หญิง", "man and woman"),
        ("fa", ["می\u200cرود\tgoes", "مرد\tman"], "مرد می\u200cرود", "man goes"),
        ("ar", ["كَلْب\tdog", "أَحْمَر\tred"], "كَلْب أَحْمَر.", "dog red."),
        ("tr", ["İstanbul\tIstanbul", "iki\ttwo", "ışık\tlight"], "İki IŞIK, İSTANBUL", "Two light, Istanbul"),
        ("de", ["m\tmetre", "m²\tsquare metre"], "m² m ❤️", "square metre metre ❤️"),
    ],
)
def test_words_are_whole_in_every_script(table, source, entries, text, made):
    assert translate(table(*entries, name=f"{source}-en.tsv"), [clean(text)], source, "en") == [clean(made)]


def test_targets_are_written_as_their_script_is(table):
    thai = table("dog\tสุนัข", "black\tดำ", name="en-th.tsv")
    assert translate(thai, ["Black dog, labrador retriever"], "en", "th") == ["ดำสุนัข,labrador retriever"]
    assert translate(table("two\tiki", name="en-tr.tsv"), ["Two"], "en", "tr") == ["İki"]


def test_unknown_words_with_vowel_signs_are_counted(table, caplog):
    caplog.set_level(logging.INFO)
    translate(table("का\tof", name="hi-en.tsv"), ["लड़का का"], "hi", "en")
    assert "50.0 % of the words are not in hi-en" in caplog.text


def test_a_translation_of_one_word_with_vowel_signs_ranks_before_two(tmp_path):
    path = dictd(tmp_path, [("student", "student\nएक जन, विद्यार्थी\n")], "freedict-eng-hin")
    assert translate(path, ["student"], "en", "hi") == ["विद्यार्थी"]


# --- CC-CEDICT ---------------------------------------------------------------------------------------------


@pytest.fixture
def cedict(tmp_path):
    path = tmp_path / "cedict_ts.u8"
    path.write_text(CEDICT.replace("\n", "\r\n"))
    return path


def test_english_to_chinese(cedict):
    made = translate(cedict, ["A person wearing a red shirt .", "the dogs, snowboard IBM"], "en", "zh")
    assert made == ["人穿红衬衫.", "狗,snowboard IBM"]
    assert translate(cedict, ["red shirt"], "en", "zh-Hant") == ["紅襯衫"]


def test_the_word_that_more_others_are_made_of_and_a_whole_gloss_before_a_part(cedict):
    assert translate(cedict, ["dog ass household"], "en", "zh") == ["狗傻子人家"]


def test_chinese_to_english(cedict):
    assert translate(cedict, ["人家穿红衬衫。狗"], "zh", "en") == ["household wear red shirt。 dog"]


def test_a_packed_file(cedict, tmp_path):
    packed = tmp_path / "cedict_1_0_ts_utf-8_mdbg.txt.gz"
    packed.write_bytes(gzip.compress(cedict.read_bytes()))
    assert translate(packed, ["dog"], "en", "zh") == ["狗"]


# --- dictd -------------------------------------------------------------------------------------------------


def test_freedict_one_common_word_before_rare_ones_and_phrases(tmp_path):
    path = dictd(
        tmp_path,
        [
            ("dog", "dog /dɒɡ/\nBandhaken <masc>, Reifzange <fem>\n         Note: Fassbinderei\n"),
            ("dog", "dog /dɒɡ/\nHund <masc> [zool.]\n      \"train a dog\"  - einen Hund abrichten\n\n see: {dogs}\n"),
            ("dog collar", "dog collar\nHalsband für den Hund\n"),
            ("man", "managing /ˈm/ (man. /ˈm/)\nHund\n"),
            ("man", "man /mˈan/\n1. Mensch\n(remark) a human\n2. Mann, jdn. bemannen\n"),
            ("woman", "woman\nFrau, Mann und Frau\n"),
        ],
    )  # fmt: skip
    assert translate(path, ["the man, a dog collar, dogs"]) == ["the Mann, a Halsband für den Hund, Hund"]
    assert translate(path, ["Hund Frau"], "de", "en") == ["Dog woman"]


@pytest.mark.skipif(not DICTD.exists(), reason="apt-get install dict-freedict-eng-deu")
@pytest.mark.slow
def test_the_real_freedict():
    made = translate(DICTD.parent, ["Two dogs are running in the snow ."])
    assert made[0].startswith("Zwei Hunde ")
    assert made[0].endswith("Schnee .")


# --- errors ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("en-de.tsv", b"dog\tHund\nword\n", "line 2: expected a phrase, a tab, its translation"),
        ("en-de.tsv", b"\tHund\n", "line 1: expected a phrase"),
        ("en-de.tsv", b"dog\tHund\theavy\n", "line 1: expected a number as weight, found 'heavy'"),
        ("en-de.tsv", b"dog\tHund\tnan\n", "expected a number as weight"),
        ("en-de.tsv", b"dog\tHund\nM\xe4nner\tmen\n", "line 2: not UTF-8"),
        ("en-de.tsv", b"\n", "no translations in it"),
        ("en-de.tsv.gz", gzip.compress(b"dog\tHund\n" * 99, mtime=0)[:-9], "not a whole gzip file"),
        ("words.tsv", b"dog\tHund\n", "is no dictionary of 'en' and 'de', by its name"),
        ("en-fr.tsv", b"dog\tchien\n", "is no dictionary of 'en' and 'de', by its name"),
        ("en-de.pdf", b"", "no dictionary of 'en' and 'de'"),
        ("en-de.index", b"dog\tA\tB\n", "en-de.dict.dz, which goes with "),
    ],
)  # fmt: skip
def test_a_broken_file_is_named_with_its_line(tmp_path, name, content, says):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(CcrError) as error:
        Engine(job(path))
    assert says in str(error.value)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("line", ["dog\tA!\tB", "dog\tA\tBBBB", "dog\tA", "dog\t\tB"])
def test_a_broken_index(tmp_path, line):
    index = dictd(tmp_path, [("cat", "cat\nKatze\n")])
    with index.open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(CcrError, match="line 3: expected a word, and the place and the length of its entry"):
        Engine(job(index))


def test_a_broken_line_of_cedict(cedict):
    with cedict.open("a") as file:
        file.write("狗 dog\n")
    with pytest.raises(CcrError, match=r"cedict_ts.u8, line 15: expected CC-CEDICT's .* found '狗 dog'"):
        Engine(job(cedict, "en", "zh"))
    with pytest.raises(CcrError, match="is no dictionary of 'en' and 'de'"):
        Engine(job(cedict))


def test_no_dictionary_at_all(tmp_path):
    with pytest.raises(CcrError, match=r"translate.variants.words.path: missing. Give a dictionary"):
        Engine(job(""))
    with pytest.raises(CcrError, match="does not exist. Expected is a table in UTF-8"):
        Engine(job(tmp_path / "absent"))
    with pytest.raises(CcrError, match="no dictionary of 'en' and 'de'"):
        Engine(job(tmp_path))
