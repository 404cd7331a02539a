"""The mini-world's offline translation engine."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hand_made import hand_made
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ccr.artifacts.schemas import ALIGNMENT
from ccr.errors import CcrError
from ccr.registry import WORLD_LANGUAGES
from ccr.translate.lexicon import Engine
from ccr.world.captions import describe, realise
from ccr.world.languages import language
from ccr.world.lexicon import lexicon
from ccr.world.scenes import family

WEIGHTS = {"wrong_sense": 1.0, "drop": 1.0, "repeat": 0.5, "order": 1.0, "untranslated": 0.5}
OTHERS = [code for code in WORLD_LANGUAGES if code != "en"]


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("lexicon") / "lexicon.json"
    path.write_text(json.dumps(lexicon(list(WORLD_LANGUAGES)), sort_keys=True))
    return path


def engine(path: Path, source="en", target="zh", direction="forward", **options) -> Engine:
    options = {"error_rate": 0.0, "seed": 0, **WEIGHTS, **options}
    choices = {"direction": direction, "source_lang": source, "target_lang": target, "options": options}
    return Engine(hand_made(stage="translate", target="t", inputs={"lexicon": str(path)}, outputs={}, settings=choices))


def captions(texts: list[str]) -> pa.Table:
    return pa.table({"caption_id": [f"v#{n}" for n in range(len(texts))], "text": texts})


def sentences(code: str, count: int = 200) -> list[str]:
    rng = np.random.default_rng(5)
    drawn = [scene for number in range(count // 4) for scene in family(9, "train", number, True)]
    return [realise(describe(scene, rng, True), language(code), rng) for scene in drawn]


@pytest.mark.parametrize(
    ("source", "target", "text", "expected"),
    [
        ("en", "zh", "A large scarlet star moves to the left.", "一颗很大的红色的星星向左移动。"),
        ("en", "zh", "A disc is under a tiny box.", "一个圆形在一个很小的正方形的下方。"),
        ("en", "de", "There is a huge green lozenge and a ball.", "Es gibt eine große grüne Raute und ein Kreis."),
        ("en", "fr", "A tiny star with dots flees from a ring.", "Une petite étoile à pois s'éloigne d'un anneau."),
        ("en", "cs", "A little heart sinks in the dark.", "Malé srdce se pohybuje dolů na černém pozadí."),
        ("en", "ja", "A red disc follows a blue block.", "赤い円は青い四角を追いかけている。"),
        ("en", "ar", "A large scarlet star moves to the left.", "نجمة حمراء كبيرة تتحرك إلى اليسار."),
        ("en", "ar", "A red block and a red hoop.", "مربع أحمر وحلقة حمراء."),
        ("en", "ar", "A disc spins, and a heart grows.", "دائرة تدور حول نفسها بينما قلب يكبر."),
        ("en", "th", "A large scarlet star moves to the left.", "ดาวสีแดงขนาดใหญ่เคลื่อนที่ไปทางซ้าย"),
        ("en", "th", "In the dark, a tiny box is under a disc.", "บนพื้นหลังสีดำ สี่เหลี่ยมจัตุรัสขนาดเล็กอยู่ใต้วงกลม"),
        ("ar", "en", "نجمة وردية صغيرة ومربع وردي.", "A small pink star and a pink square."),
        ("ar", "en", "نرى قرصًا أزرق كبيرًا فوق الشكل النجمي.", "There is a big blue circle above a star."),
        ("th", "en", "ห่วงสีแสดอันเล็กวนรอบกล่องสี่เหลี่ยม", "A small orange ring circles around a square"),
        ("zh", "en", "一个鲜红的圆圈追着一颗爱心。", "A red circle chases a heart."),
        ("ja", "en", "四角形の左側に橙色の丸が見える。", "To the left of a square there is an orange circle."),
        ("cs", "en", "Rudá hvězdička jede doleva.", "A red star moves to the left."),
    ],
)  # fmt: skip
def test_literal_translation(path, source, target, text, expected):
    assert engine(path, source, target).translate(captions([text])) == [expected]


@pytest.mark.parametrize("code", OTHERS)
@pytest.mark.parametrize("forward", [True, False])
def test_knows_every_word_of_the_world(path, code, forward):
    pair = ("en", code) if forward else (code, "en")
    translator = engine(path, *pair)
    for text in sentences(pair[0]):
        assert all(unit.concept for unit in translator._segment(text)), text


def test_one_canonical_synonym(path):
    """The engine's Chinese has fewer distinct words than that of the captions: the two distributions differ."""
    translated = engine(path).translate(captions(sentences("en")))
    assert not any(word in text for text in translated for word in ("鲜红", "圆圈", "方块", "巨大", "位于"))
    assert any("方块" in text for text in sentences("zh"))


def test_directions(path):
    text = captions(["一颗星星旋转。"])
    for direction in ("back", "queries"):
        assert engine(path, direction=direction).translate(text) == ["A star spins."]


def changed(path: Path, noise: float, texts: list[str], **options) -> float:
    """Share of the phrases that noise damaged."""
    translator = engine(path, error_rate=noise, **options)
    pairs = [(u, d) for text in texts for u, d in _damage(translator, text)]
    return float(np.mean([unit != damaged for unit, damaged in pairs]))


def _damage(translator: Engine, text: str):
    units = translator._segment(text)
    damaged = translator._disturb(units, text)
    return [pair for pair in zip(units, damaged, strict=True) if pair[0].kind not in ("mark", "article", "particle")]


@pytest.mark.parametrize("noise", [0.0, 0.2, 0.5, 1.0])
def test_noise_rate(path, noise):
    assert changed(path, noise, sentences("en", 400)) == pytest.approx(noise, abs=0.03)


def test_noise_kinds_obey_their_weights(path):
    text, parents = "A red circle moves up.", captions(["A red circle moves up."])
    only = {name: {**dict.fromkeys(WEIGHTS, 0.0), name: 1.0} for name in WEIGHTS}
    assert engine(path, error_rate=1.0, **only["drop"]).translate(parents) == ["一个。"]
    assert engine(path, error_rate=1.0, **only["repeat"]).translate(parents) == [
        "一个红色的红色的圆形圆形向上移动向上移动。"
    ]
    assert engine(path, error_rate=1.0, **only["untranslated"]).translate(parents) == ["一个red circle moves up。"]
    wrong = engine(path, error_rate=1.0, **only["wrong_sense"]).translate(parents)[0]
    assert not any(word in wrong for word in ("红色", "圆形", "向上")) and wrong.startswith("一")
    swapped = engine(path, error_rate=1.0, **only["order"]).translate(parents)[0]
    assert swapped != engine(path).translate_text(text).text
    assert sorted(swapped) == sorted("一个红色的圆形向上移动。")


def test_more_noise_keeps_the_damage_of_less(path):
    for text in sentences("en", 40):
        little, much = (_damage(engine(path, error_rate=noise), text) for noise in (0.2, 0.6))
        assert all(a == b for a, b in zip(little, much, strict=True) if a[0] != a[1])


def test_noisy_text_stays_informative(path):
    texts = captions(sentences("en"))
    clean, noisy = engine(path).translate(texts), engine(path, error_rate=0.15).translate(texts)
    same = np.mean([a == b for a, b in zip(clean, noisy, strict=True)])
    assert 0.2 < same < 0.7 and all(noisy)


def test_seed_and_neighbours(path):
    texts = sentences("en", 60)
    translator = engine(path, error_rate=0.5)
    together = translator.translate(captions(texts))
    assert together == [translator.translate(captions([text]))[0] for text in texts]
    assert together == engine(path, error_rate=0.5).translate(captions(texts[::-1]))[::-1]
    assert together != engine(path, error_rate=0.5, seed=1).translate(captions(texts))


WORDS = st.sampled_from(
    [
        "a",
        "red",
        "star",
        "Star",
        "to",
        "the",
        "left",
        "of",
        "while",
        "dog",
        "3.5",
        "can't",
        ",",
        ".",
        "é",
        "圆形",
        "の",
        "!?",
    ]
)
TEXTS = st.one_of(st.text(max_size=30), st.lists(WORDS, max_size=12).map(" ".join))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(TEXTS, st.sampled_from(OTHERS), st.booleans(), st.sampled_from([0.0, 0.5]))
def test_any_text_translates_and_alignment_spans_fit(engines, text, code, forward, noise):
    translator = engines[(("en", code) if forward else (code, "en")), noise]
    parents = captions([text])
    translation = translator.translate(parents)[0]
    table = translator.alignment(parents)
    assert table.schema.equals(ALIGNMENT)
    for row in table.to_pylist():
        assert text[row["source_start"] : row["source_end"]] == row["source_token"] != ""
        assert translation[row["target_start"] : row["target_end"]] == row["target_token"] != ""


@pytest.fixture(scope="module")
def engines(path):
    pairs = [pair for code in OTHERS for pair in (("en", code), (code, "en"))]
    return {(pair, noise): engine(path, *pair, error_rate=noise) for pair in pairs for noise in (0.0, 0.5)}


@pytest.mark.parametrize("code", OTHERS)
def test_alignment_is_right(path, code):
    table = engine(path, "en", code).alignment(captions(["A big red star is above a blue ring."])).to_pylist()
    links = {row["source_token"].lower(): row["target_token"] for row in table}
    red = {"zh": "红色的", "de": "roter", "fr": "rouge", "cs": "červená", "ja": "赤い", "ar": "حمراء", "th": "สีแดง"}[
        code
    ]
    blue = {"zh": "蓝色的", "de": "blauer", "fr": "bleu", "cs": "modrý", "ja": "青い", "ar": "زرقاء", "th": "สีน้ำเงิน"}[
        code
    ]
    assert links["red"] == red and links["blue"] == blue and {"star", "ring", "above"} <= set(links)


def test_unknown_words_stay(path):
    for target in ("zh", "th"):
        assert engine(path, "en", target).translate(captions(["Zebras eat 3.5 kg"])) == ["Zebras eat 3.5 kg"]
    assert engine(path, "th", "en").translate(captions(["กาแฟสีแดง"])) == ["กาแฟ red"]
    assert engine(path, "en", "th").translate(captions([", red,"])) == ["สีแดง"]
    assert engine(path).translate(captions(["  "])) == [None]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no such file"),
        ("{", "not valid JSON"),
        ("{}", "not a lexicon of the mini-world"),
        ('{"synthetic": true, "languages": {"en": {}, "zh": {}}}', "not a lexicon of the mini-world"),
        (json.dumps(lexicon(["en", "de"])), "no language 'zh'"),
    ],
)
def test_bad_lexicon(tmp_path, content, words):
    path = tmp_path / "lexicon.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(CcrError, match=words):
        engine(path)
