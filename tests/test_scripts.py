"""Captions in any script, from import to lists of sentences: letters and words stay whole, as a speaker reads them."""

import unicodedata

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import regex
from hand_made import hand_made, run
from test_noise import table

from ccr import languages
from ccr.alignment.aligner import Alignment, word_spans
from ccr.alignment.sentences import describe
from ccr.artifacts.parquet import read_parquet
from ccr.networks.tokens import Tokens, train_tokenizer
from ccr.report.group import units
from ccr.tables import as_markdown
from ccr.texts.cleaning import clean as clean_captions
from ccr.texts.cleaning import letters
from ccr.translate import quality
from ccr.translate.noise import corrupted
from ccr.translate.text import clean

# sentence -> its words, or in scripts without spaces its letters with their marks
CAPTIONS = {
    "ar": ("رجلٌ يركب دراجةً حمراء.", ["رجلٌ", "يركب", "دراجةً", "حمراء"]),
    "fa": ("دختری کتاب می\u200cخواند.", ["دختری", "کتاب", "می\u200cخواند"]),  # the joiner is part of the spelling
    "hi": ("लड़की हिन्दी की क्\u200dष लिखती है।", ["लड़की", "हिन्दी", "की", "क्\u200dष", "लिखती", "है"]),
    "th": ("น้ำเย็นที่นี่", ["น้ำ", "เ", "ย็", "น", "ที่", "นี่"]),
    "km": ("ឆ្មាស", ["ឆ្មា", "ស"]),
    "tr": ("İri ışıklı bir IŞIK.", ["İri", "ışıklı", "bir", "IŞIK"]),
    "he": ("ילד שׁוֹתֶה מים.", ["ילד", "שׁוֹתֶה", "מים"]),
    "ko": ("한 남자가 달린다.", ["한", "남자가", "달린다"]),
}


def nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)


@pytest.mark.parametrize("lang", CAPTIONS)
def test_import_keeps_every_letter_and_joiner(tmp_path, lang):
    text, _ = CAPTIONS[lang]
    words = f"\ufeff  {unicodedata.normalize('NFD', text)[:-1]}\u200b{text[-1]}\u3000 "
    rows = "".join(f"{split},{split},{lang},{words}\n" for split in ("train", "val", "test"))
    (tmp_path / "captions.csv").write_text("item_id,split,lang,text\n" + rows, encoding="utf-8")
    outputs = {name: str(tmp_path / f"{name}.parquet") for name in ("captions", "items")}
    outputs["report"] = str(tmp_path / "report.json")
    options = {"file": "captions.csv"}
    settings = {"importer": "table", "data": "t", "kind": "image", "source": "official", "langs": [lang]}
    settings |= {"entities": "decode", "on_leak": "keep"}
    run(hand_made("captions", outputs["captions"], {"root": str(tmp_path)}, outputs, settings | {"options": options}))
    assert set(read_parquet(outputs["captions"])["text"].to_pylist()) == {nfc(text)}


@pytest.mark.parametrize(
    "text",
    [
        "a\u200bb",
        "می\u200cخواند",
        "क्\u200dष",
        "ាស\u200bខ",
        "e\u0301 \u00a0x\ufeff",
        "ﻧﺠﻤﺔ",
        "ＡＢ１２，。",
        "👩\u200d👧",
    ],
)
def test_what_engines_write_becomes_what_captions_are(text):
    assert clean(text) == clean_captions(pa.array([text]))[0].as_py()


@pytest.mark.parametrize("lang", CAPTIONS)
def test_words_of_the_scratch_tokenizer(lang):
    text, words = CAPTIONS[lang]
    text, words = nfc(text), list(map(nfc, words))
    tokenizer = train_tokenizer([text, text], 200)
    spans = word_spans(tokenizer, [text])[0]
    found = [text[start:end] for start, end in spans]
    assert [word for word in found if regex.search(r"\w", word)] == words
    assert tokenizer.token_to_id("[UNK]") not in Tokens(tokenizer, [text], 64).ids


def test_turkish_has_two_letters_i():
    tokenizer = train_tokenizer(["İzmir izmir ılık ilik"] * 2, 100)
    one, other, warm, marrow = (tokenizer.encode(word).ids for word in ("İzmir", "izmir", "ılık", "ilik"))
    assert one == other and warm != marrow


@pytest.mark.parametrize("lang", CAPTIONS)
@pytest.mark.parametrize("kind", ["drop", "shuffle", "substitute"])
def test_noise_takes_no_letter_apart(lang, kind):
    text, words = CAPTIONS[lang]
    noisy = corrupted(table([("train", nfc(text))] * 20, lang), kind, 0.5, seed=0)["text"].to_pylist()
    kept = regex.compile("|".join(map(regex.escape, sorted(map(nfc, words), key=len, reverse=True))))
    assert len(set(noisy)) > 1
    for found in noisy:
        assert not regex.search(r"[\w\p{M}\u200c\u200d]", kept.sub("", found)), found


@pytest.mark.parametrize("lang", CAPTIONS)
def test_quality_knows_the_script(lang):
    text, words = CAPTIONS[lang]
    assert quality._wrong_script(pd.Series([text, "a man runs"]), lang) == (0 if lang == "tr" else 0.5)
    full, _ = quality._bleu([text], [text], lang)
    punctuation, _ = quality._bleu([f"{text[:-1]} {text[-1]}"], [text], lang)
    assert full == pytest.approx(100) and punctuation == pytest.approx(100)  # a full stop is not part of its word


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("مُرَبَّعٌ أَحْمَر", "مربع أحمر", True),  # vowel signs may be written or not
        ("مـــربع", "مربع", True),
        ("می\u200cخواند", "میخواند", True),
        ("ﻣﺮﺑﻊ", "مربع", True),
        ("שָׁלוֹם", "שלום", True),
        ("İSTANBUL", "istanbul", True),
        ("IŞIK", "ışık", True),
        ("Ａ ＭＡＮ", "a man", True),
        ("की", "का", False),
        ("น้ำ", "นำ", False),
        ("دائرة", "دائري", False),
    ],
)
def test_the_same_text_to_a_reader(one, other, same):
    assert (letters(one) == letters(other)) is same


@pytest.mark.parametrize("lang", CAPTIONS)
def test_the_report_counts_words_or_whole_letters(lang):
    text, words = CAPTIONS[lang]
    text = text.rstrip(".।")
    assert units([text], lang) == [[word.lower() for word in words] if languages.spaced(lang) else words]


def test_alignments_stand_in_columns():
    source, target = "ดำน้ำ 星星 ab", "swim stars ab"
    spans = np.array([[0, 5], [6, 8], [9, 11]])
    alignment = Alignment(
        spans, np.array([[0, 4], [5, 10], [11, 13]]), np.eye(3, dtype=np.float32), np.eye(3, dtype=bool)
    )
    assert describe(alignment, source, target) == ["1.00  ดำน้ำ  swim", "1.00  星星  stars", "1.00  ab    ab"]


def test_sentences_from_right_to_left_are_kept_apart_in_a_list():
    assert as_markdown._data("نجمة حمراء.") == "\u2068نجمة حمراء.\u2069"
    assert as_markdown._data("a *red* star") == r"a \*red\* star"
    long = as_markdown._data("กี่" * 300)
    assert long == "กี่" * 199 + "…"
