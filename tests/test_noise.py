"""Noise in translations: its rate, its place (the train split), what a seed determines, and back-translation."""

import json
import random
import re
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest
from hand_made import hand_made, run
from hypothesis import given, settings
from hypothesis import strategies as st

from ccr import languages
from ccr.artifacts.contents import content_hash
from ccr.artifacts.parquet import read_parquet, write_parquet
from ccr.artifacts.schemas import CAPTIONS
from ccr.params.schema import Noise
from ccr.translate.noise import KINDS, Vocabulary, corrupted
from ccr.world.lexicon import lexicon

RATES = (0.1, 0.2, 0.4, 0.6)
WORDS = ["hund", "katze", "rot", "blau", "l'arbre", "3,5", "über", "spielt"]


def table(texts, lang="de", per_item=5):
    """Translations, a (split, text) for each; `per_item` captions per item."""
    rows = [
        {
            "item_id": f"{split}{n // per_item}",
            "caption_id": f"{split}{n // per_item}#enc2{lang}#{n}@google",
            "split": split,
            "lang": lang,
            "origin": "mt",
            "engine": "google",
            "parent_id": f"{split}{n // per_item}#enc#{n}",
            "text": text,
        }
        for n, (split, text) in enumerate(texts)
    ]
    return pa.Table.from_pylist(rows, CAPTIONS)


def sentences(lang, count):
    """Different sentences of 5 to 14 words."""
    rng = random.Random(lang)
    words = "一二三四五六七八九十犬猫" if not languages.spaced(lang) else WORDS
    gap, end = ("", "。") if not languages.spaced(lang) else (" ", f" {lang}.")
    return [gap.join(rng.choices(words, k=rng.randint(5, 14))) + f"{gap}{n}{end}" for n in range(count)]


def mixed(lang="de", count=2000):
    return table(
        [(("train", "train", "train", "val", "test")[n % 5], s) for n, s in enumerate(sentences(lang, count))], lang
    )


def words(text, lang):
    return re.findall(r"[0-9]+|[^0-9 。]", text) if not languages.spaced(lang) else text.rstrip(".").split()


def texts(captions):
    return dict(zip(captions["caption_id"].to_pylist(), captions["text"].to_pylist(), strict=True))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lang", ["de", "zh"])
def test_rate_zero_is_the_same_content_and_noise_touches_the_texts_of_train_alone(kind, lang, tmp_path):
    clean, noisy = mixed(lang), corrupted(mixed(lang), kind, 0.5, 0)
    for name, rate in {"clean": None, "zero": 0.0, "tiny": 1e-12}.items():
        written = clean if rate is None else corrupted(clean, kind, rate, 0)
        write_parquet(written, tmp_path / f"{name}.parquet", CAPTIONS, key=name)
    assert len({content_hash(tmp_path / f"{name}.parquet") for name in ("clean", "zero", "tiny")}) == 1
    assert noisy.drop_columns("text").equals(clean.drop_columns("text"))
    changed = Counter()
    for split, a, b in zip(*(x.to_pylist() for x in (clean["split"], clean["text"], noisy["text"])), strict=True):
        changed[split] += a != b
    assert changed["train"] > 400 and changed["val"] == changed["test"] == 0


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("lang", ["de", "zh"])
def test_the_rate_is_met_within_the_error_of_a_binomial(lang, rate):
    clean = table([("train", text) for text in sentences(lang, 3000)], lang)
    before = [words(text, lang) for text in clean["text"].to_pylist()]

    def after(kind):
        return [words(text, lang) for text in corrupted(clean, kind, rate, 7)["text"].to_pylist()]

    def close(hits, trials, slack=0.0):
        assert abs(hits - rate * trials) < 4 * (rate * (1 - rate) * trials) ** 0.5 + slack

    tokens = sum(map(len, before))
    close(sum(a != b for a, b in zip(before, after("swap"), strict=True)), len(before), slack=1)
    close(tokens - sum(map(len, after("drop"))), tokens, slack=3000 * rate**6)  # the last word stays
    for kind in ("substitute", "shuffle"):
        pairs = list(zip(before, after(kind), strict=True))
        assert all(len(a) == len(b) for a, b in pairs)
        hits = sum(x != y for a, b in pairs for x, y in zip(a, b, strict=True))
        if kind == "substitute":
            close(hits, tokens)
        else:
            assert all(sorted(a) == sorted(b) for a, b in pairs)
            close(hits, tokens, slack=0.15 * rate * tokens)  # swaps of equal words go unnoticed


@pytest.mark.parametrize("kind", KINDS)
def test_one_seed_one_result_whatever_the_order_and_the_company(kind):
    clean = mixed()
    noisy = corrupted(clean, kind, 0.3, 0)
    order = list(range(len(clean)))
    random.Random(1).shuffle(order)
    assert corrupted(clean, kind, 0.3, 0).equals(noisy)
    assert texts(corrupted(clean.take(order), kind, 0.3, 0)) == texts(noisy)
    assert texts(corrupted(clean, kind, 0.3, 1)) != texts(noisy)
    without_val = clean.filter(pa.array([split != "val" for split in clean["split"].to_pylist()]))
    assert texts(corrupted(without_val, kind, 0.3, 0)).items() <= texts(noisy).items()


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_low_rate_hits_a_higher_one_hits_too(kind):
    distinct = [" ".join(f"w{n}x{i}" for i in range(8)) for n in range(1000)]  # so that every hit is visible
    clean = table([("train", text) for text in distinct])

    def hits(rate):
        found = set()
        for caption, text in texts(corrupted(clean, kind, rate, 3)).items():
            old, new = texts_clean[caption].split(), text.split()
            if kind == "swap":
                found |= {caption} if old != new else set()
            elif kind == "drop":
                found |= set(old) - set(new)
            else:
                found |= {a for a, b in zip(old, new, strict=True) if a != b}
        return found

    texts_clean = texts(clean)
    levels = [hits(rate) for rate in (0, 0.05, *RATES, 1)]
    assert all(low < high for low, high in zip(levels, levels[1:], strict=False))
    assert not levels[0] and len(levels[-1]) == {"swap": 1000, "drop": 7000}.get(kind, 8000)


@given(st.lists(st.tuples(st.sampled_from("abcde"), st.booleans()), max_size=40), st.floats(0, 1), st.integers(0, 9))
@settings(max_examples=150, deadline=None)
def test_swap_hands_every_chosen_text_to_another_item(captions, rate, seed):
    clean = table([("train", f"text {n}") for n in range(len(captions))])
    clean = clean.set_column(0, "item_id", pa.array([item for item, _ in captions], pa.string()))
    noisy = corrupted(clean, "swap", rate, seed)["text"].to_pylist()
    before = clean["text"].to_pylist()
    assert sorted(noisy) == sorted(before)  # no text is lost
    owner = dict(zip(before, clean["item_id"].to_pylist(), strict=True))
    chosen = [n for n in range(len(captions)) if random.Random(f"{seed}\nde\n{clean['parent_id'][n]}").random() < rate]
    assert all(noisy[n] == before[n] for n in range(len(captions)) if n not in chosen)
    per_item = Counter(captions[n][0] for n in chosen)
    if chosen and max(per_item.values()) <= len(chosen) / 2:
        assert all(owner[noisy[n]] != captions[n][0] for n in chosen)


def test_swap_prefers_a_giver_with_another_text():
    clean = table([("train", f"{n % 50}") for n in range(1000)])
    noisy = corrupted(clean, "swap", 1.0, 0)["text"].to_pylist()
    assert all(a != b for a, b in zip(clean["text"].to_pylist(), noisy, strict=True))


@given(
    st.lists(st.text("ab狗が 3,。.!'-é", min_size=1).map(lambda s: " ".join(s.split())).filter(bool), max_size=6),
    st.sampled_from(["de", "zh", "ja"]),
    st.sampled_from(KINDS),
    st.floats(0, 1),
)
@settings(max_examples=200, deadline=None)
def test_texts_stay_captions(rows, lang, kind, rate):
    """Never empty, trimmed, and a second run gives the same."""
    clean = table([("train", text) for text in rows], lang, per_item=1)
    noisy = corrupted(clean, kind, rate, 0)
    assert noisy.equals(corrupted(clean, kind, rate, 0))
    assert all(text and text == " ".join(text.split()) for text in noisy["text"].to_pylist())


def test_punctuation_stays_and_words_stay_apart():
    clean = table([("train", "T恤和DVD。"), ("train", "狗,dog狗"), ("train", "!?"), ("train", "狗")], "zh")
    for kind in ("drop", "substitute", "shuffle"):
        for seed in range(20):
            first, second, marks, single = corrupted(clean, kind, 0.7, seed)["text"].to_pylist()
            assert first.endswith("。") and "," in second and marks == "!?"
            assert "TDVD" not in first and "DVDT" not in first and "TDVD" not in second
            assert single == "狗" or kind == "substitute"
    assert corrupted(table([("train", "a big, bad dog (old).")]), "drop", 1.0, 4)["text"][0].as_py() == ", (old)."


def test_substitutes_are_other_words_as_frequent_as_in_train():
    vocabulary = Vocabulary("a" * 5 + "b" * 3 + "c" * 2)
    drawn = Counter(vocabulary.other("a", n / 1000) for n in range(1000))
    assert drawn == {"b": 600, "c": 400}
    assert {vocabulary.other(word, n / 100) for word in "bc" for n in range(100)} == {"a", "b", "c"}
    assert all(vocabulary.other(word, n / 100) != word for word in "abc" for n in range(100))
    assert Vocabulary("aa").other("a", 0.5) == "a"
    captions = table([("train", "a b"), ("val", "x x x"), ("test", "y y y")], per_item=1)
    assert set(corrupted(captions, "substitute", 1.0, 0)["text"][0].as_py()) == {"a", "b", " "}


def test_the_schema_names_the_kinds_that_there_are():
    assert set(Noise.model_fields["kind"].annotation.__args__) == set(KINDS)


# --- the stage: forward and back ---------------------------------------------------------------------------


class Stage:
    """The jobs of a variant and its noisy version, as planned, on captions in the mini-world's words."""

    def __init__(self, folder: Path, engine: str, rows: list[dict]):
        self.folder, self.engine = folder, engine
        write_parquet(pa.Table.from_pylist(rows, CAPTIONS), folder / "captions.parquet", CAPTIONS)

    def path(self, name):
        return str(self.folder / f"{name}.parquet")

    def run(self, name, direction, **noise):
        inputs = {"captions": self.path("captions"), "lexicon": str(self.folder / "lexicon.json")}
        if noise:
            inputs = inputs if direction == "back" else {}
            inputs |= {"clean": self.path("clean"), "clean_back": self.path("clean.back")}
        if direction == "back":
            inputs["forward"] = self.path(name.removesuffix(".back"))
        options = {"published": "google"} if self.engine == "precomputed" else LEXICON
        settings = {"direction": direction, "variant": "v", "engine": self.engine, "options": options}
        settings |= {"source_lang": "en", "target_lang": "zh"} | ({"noise": noise} if noise else {})
        run(hand_made("translate", name, inputs, {"translations": self.path(name)}, settings, key=name))
        return read_parquet(self.path(name), CAPTIONS).to_pylist()


LEXICON = {"error_rate": 0.0, "seed": 0, "wrong_sense": 1.0, "drop": 1.0, "repeat": 0.5, "order": 1.0}
LEXICON |= {"untranslated": 0.5}


@pytest.fixture
def stage(tmp_path):
    def make(engine, published_back=True):
        (tmp_path / "lexicon.json").write_text(json.dumps(lexicon(["en", "zh"])))
        shapes, colours = ("circle", "square", "star", "heart"), ("red", "green", "blue", "black", "white")
        scenes = [f"a {colour} {shape} moves up" for colour in colours for shape in shapes]
        rows = []
        for n, text in enumerate(scenes):
            split = "val" if n % 5 == 4 else "train"
            ids = [f"i{n}#{tag}#0" for tag in ("enc", "enc2zh", "enc2zh2enc")]
            row = {"item_id": f"i{n}", "split": split, "engine": "google"}
            rows.append(row | {"caption_id": ids[0], "lang": "en", "origin": "human", "text": text, "engine": None})
            rows.append(
                row | {"caption_id": ids[1], "lang": "zh", "origin": "mt", "text": f"图{n}了吗", "parent_id": ids[0]}
            )
            if published_back:
                back = row | {"caption_id": ids[2], "lang": "en", "origin": "back", "parent_id": ids[1]}
                rows.append(back | {"text": f"{text} again"})
        made = Stage(tmp_path, engine, rows)
        made.run("clean", "forward")
        made.run("clean.back", "back")
        return made

    return make


@pytest.mark.parametrize("engine", ["lexicon", "precomputed"])
@pytest.mark.parametrize("kind", KINDS)
def test_both_directions_of_rate_zero_are_the_clean_variant(stage, engine, kind):
    made = stage(engine)
    made.run("noisy", "forward", kind=kind, rate=0.0, seed=0)
    made.run("noisy.back", "back", kind=kind, rate=0.0, seed=0)
    for name in ("", ".back"):
        assert content_hash(made.path(f"noisy{name}")) == content_hash(made.path(f"clean{name}"))


@pytest.mark.parametrize("engine", ["lexicon", "precomputed"])
def test_a_swapped_text_brings_its_back_translation_along(stage, engine):
    made = stage(engine)
    clean, clean_back = ({r["caption_id"]: r for r in read_parquet(made.path(n)).to_pylist()} for n in CLEAN)
    of_text = {clean[row["parent_id"]]["text"]: row["text"] for row in clean_back.values()}
    noisy = {row["caption_id"]: row for row in made.run("noisy", "forward", kind="swap", rate=0.6, seed=0)}
    back = made.run("noisy.back", "back", kind="swap", rate=0.6, seed=0)
    assert [(row["caption_id"], row["parent_id"]) for row in back] == [
        (row["caption_id"], row["parent_id"]) for row in clean_back.values()
    ]
    assert all(row["text"] == of_text[noisy[row["parent_id"]]["text"]] for row in back)
    changed = {row["caption_id"] for row in back if row["text"] != clean_back[row["caption_id"]]["text"]}
    assert len(changed) > 4 and all(clean_back[caption]["split"] == "train" for caption in changed)


CLEAN = ("clean", "clean.back")


@pytest.mark.parametrize("engine", ["lexicon", "precomputed"])
@pytest.mark.parametrize("kind", ["drop", "shuffle", "substitute"])
def test_a_corrupted_text_is_translated_back_where_there_is_an_engine_for_it(stage, engine, kind):
    made = stage(engine)
    made.run("noisy", "forward", kind=kind, rate=0.5, seed=0)
    back = made.run("noisy.back", "back", kind=kind, rate=0.5, seed=0)
    clean = read_parquet(made.path("clean.back"), CAPTIONS).to_pylist()
    assert [row | {"text": ""} for row in back] == [row | {"text": ""} for row in clean]
    changed = {a["split"] for a, b in zip(clean, back, strict=True) if a["text"] != b["text"]}
    assert changed == ({"train"} if engine == "lexicon" else set())
    if engine == "lexicon":  # as if the noisy text were translated from scratch, unless that gives nothing
        from_scratch = made.run("noisy.back", "back")
        assert [row["text"] for row in back] == [row["text"] for row in from_scratch]


def test_only_new_texts_are_translated(stage, monkeypatch):
    from ccr.translate.lexicon import Engine

    made, seen = stage("lexicon"), []
    translate = Engine.translate

    def watched(self, rows):
        seen.extend(rows["text"].to_pylist())
        return translate(self, rows)

    monkeypatch.setattr(Engine, "translate", watched)
    made.run("noisy", "forward", kind="substitute", rate=0.1, seed=0)
    assert seen == []
    made.run("noisy.back", "back", kind="substitute", rate=0.1, seed=0)
    clean = {row["text"] for row in read_parquet(made.path("clean")).to_pylist()}
    assert seen and not clean & set(seen)


def test_where_nothing_comes_of_a_corrupted_text_the_clean_back_translation_stays(stage, monkeypatch):
    from ccr.translate.lexicon import Engine

    made = stage("lexicon")
    monkeypatch.setattr(Engine, "translate", lambda self, rows: [None] * len(rows))
    made.run("noisy", "forward", kind="drop", rate=0.9, seed=0)
    made.run("noisy.back", "back", kind="drop", rate=0.9, seed=0)
    assert content_hash(made.path("noisy.back")) == content_hash(made.path("clean.back"))


def test_a_variant_without_back_translations_has_none_with_noise(stage, caplog):
    made = stage("precomputed", published_back=False)
    made.run("noisy", "forward", kind="swap", rate=0.5, seed=0)
    assert made.run("noisy.back", "back", kind="swap", rate=0.5, seed=0) == []
    assert "noisy.back: 'precomputed' has no back-translation" in caplog.text
