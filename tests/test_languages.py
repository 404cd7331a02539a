"""Languages are BCP 47 tags: any of them, normalised, matched, and handled as their script requires."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccr import languages
from ccr.errors import CcrError

SAME = {
    "zh": ["zh", "zh-CN", "zh_Hans_CN", "ZH-hans", "zho_Hans", "zho", "chi", "cmn", "zh-cmn-Hans-CN"],
    "zh-Hant": ["zh-TW", "zh_Hant_TW", "zho_Hant"],
    "zh-HK": ["zh-HK", "zh-Hant-HK"],
    "nan": ["zh-min-nan"],
    "he": ["iw", "he", "iw-IL", "heb"],
    "id": ["in", "id-ID"],
    "yi": ["ji", "yid"],
    "ro": ["mo", "ron", "rum"],
    "fil": ["tl", "fil-PH"],
    "sr-Latn": ["sh", "sr_Latn_RS"],
    "sr": ["sr-Cyrl-RS", "srp_Cyrl"],
    "de": ["de-DE", "deu", "ger", "deu_Latn"],
    "de-AT": ["de-at", "de_AT"],
    "pt": ["pt-BR", "por"],
    "pt-PT": ["pt_PT"],
    "en": ["en-US", "EN", "eng_Latn"],
    "en-GB": ["en-gb"],
    "en-MM": ["en-BU"],
    "es-419": ["es-419"],
    "nb": ["nb-NO", "nob"],
    "no": ["no", "nor"],
    "ar": ["arb", "ar-EG", "arb_Arab"],
    "fa": ["pes", "fas", "fa-IR"],
    "sw": ["swh", "sw-TZ", "swa"],
    "ja": ["ja-JP", "jpn_Jpan"],
    "ko": ["ko-KR", "kor_Hang"],
    "uz-Cyrl": ["uz-cyrl-UZ"],
    "mni-Mtei": ["mni_Mtei"],
    "tlh": ["i-klingon"],
    "ca-valencia": ["ca-valencia", "ca-ES-valencia"],
    "yue": ["yue", "zh-yue", "yue-Hant-HK"],
    "qaa": ["qaa"],
}


@pytest.mark.parametrize(("code", "tag"), [(code, tag) for code, tags in SAME.items() for tag in tags])
def test_a_tag_and_its_variants_are_one_code(code, tag):
    assert languages.code(tag) == code
    assert languages.code(code) == code


@pytest.mark.parametrize(
    ("tag", "suggestion"),
    [
        ("swahily", "did you mean 'sw' (Swahili)?"),
        ("Chinese", "did you mean 'zh' (Chinese)?"),
        ("xx", "did you mean 'xh' (Xhosa)?"),
        ("en-", "did you mean 'en' (English)?"),
        ("x-foo", "did you mean 'fo' (Faroese)?"),
        ("und", "expected a BCP 47 tag"),
        ("", "expected a BCP 47 tag"),
        ("../../etc", "expected a BCP 47 tag"),
    ],
)
def test_what_is_no_language_is_refused_with_the_nearest_one(tag, suggestion):
    with pytest.raises(CcrError) as error:
        languages.code(tag)
    assert f"unknown language {tag!r}" in str(error.value)
    assert suggestion in str(error.value)


def test_a_page_in_the_place_of_a_tag_is_no_page_of_a_message():
    with pytest.raises(CcrError, match="unknown language 'zzz") as error:
        languages.code("z" * 100_000)
    assert len(str(error.value)) < 200


@given(st.text(max_size=20) | st.from_regex(r"[a-z]{2,3}([-_][A-Za-z]{4})?([-_][A-Z]{2})?", fullmatch=True))
def test_a_code_is_a_name_for_files_and_its_own_code(tag):
    try:
        code = languages.code(tag)
    except CcrError:
        return
    assert all(part.isascii() and part.isalnum() for part in code.split("-"))
    assert languages.code(code) == code
    assert languages.name(code)


@pytest.mark.parametrize(
    ("tag", "asked", "found"),
    [
        ("de-AT", ("en", "de"), "de"),
        ("de-AT", ("de", "de-AT"), "de-AT"),
        ("pt-PT", ("pt",), "pt"),
        ("nb", ("no",), "no"),
        ("zh-HK", ("zh", "zh-Hant"), "zh-Hant"),
        ("zh-TW", ("zh",), None),  # another script
        ("sr-Latn", ("sr",), None),
        ("uk", ("ru",), None),
        ("no tag", ("en",), None),
    ],
)
def test_captions_of_a_variety_belong_to_the_language_that_is_asked_for(tag, asked, found):
    assert languages.variety(tag, asked) == found


def test_every_language_that_is_asked_for_has_the_tags_of_its_varieties():
    tags = ["de-AT", "no", "no tag", "de", "fr", "zh_TW"]
    assert languages.varieties(tags, ["nb", "de", "zh", "sw"]) == {"nb": ["no"], "de": ["de-AT", "de"]}
    assert languages.varieties(tags, ["de", "de-AT"]) == {"de": ["de"], "de-AT": ["de-AT"]}


@pytest.mark.parametrize(
    ("code", "tags", "found"),
    [
        ("zh", ["zh-CN", "zh-TW"], "zh-CN"),
        ("zh-Hant", ["zho_Hans", "zho_Hant"], "zho_Hant"),
        ("he", ["iw", "en"], "iw"),
        ("ar", ["ary_Arab", "arb_Arab"], "arb_Arab"),
        ("no", ["nno_Latn", "nob_Latn"], "nob_Latn"),
        ("sw", ["swh_Latn"], "swh_Latn"),
        ("sr", ["srp_Latn"], None),
        ("sw", ["en", "mul", "not a tag"], None),
    ],
)
def test_an_engine_has_a_language_under_its_own_tag(code, tags, found):
    assert languages.served(code, tags) == found


def test_scripts():
    spaced = {code: languages.spaced(code) for code in ("en", "ko", "vi", "zh", "yue", "ja", "th", "km", "lo", "my")}
    assert spaced == dict.fromkeys(("en", "ko", "vi"), True) | dict.fromkeys(
        ("zh", "yue", "ja", "th", "km", "lo", "my"), False
    )
    assert [languages.letters(code) for code in ("hi", "zh-Hant", "sr")] == [r"\p{Deva}", r"\p{Hani}", r"\p{Cyrl}"]
