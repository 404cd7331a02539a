"""Quality of translations: every figure checked against sacreBLEU or by hand, and the table that shows them."""

import csv
import json
import logging
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from checkouts import check_out
from hand_made import hand_made, run
from hypothesis import given
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU, CHRF

from ccr import params
from ccr.artifacts.files import read_json, write_json
from ccr.artifacts.memo import MEMO, adopt
from ccr.artifacts.parquet import read_parquet, write_parquet
from ccr.artifacts.schemas import CAPTIONS, SPLITS
from ccr.errors import CcrError
from ccr.running import execute
from ccr.translate import chrf, quality

pytestmark = pytest.mark.usefixtures("in_a_folder_of_its_own")

SHARES = ("empty", "copied", "repeated", "wrong_script", "wrong_language")
EN = ["A man runs.", "Two dogs play in the snow.", "A child eats an apple.", "Some people dance."]
DE = ["Ein Mann rennt.", "Zwei Hunde spielen im Schnee.", "Ein Kind isst einen Apfel.", "Einige Leute tanzen."]


def write(path, rows, refused=None):
    """A file of captions; rows: (caption_id, split, lang, origin, parent_id, text)."""
    columns = {name: [] for name in CAPTIONS.names}
    for caption_id, split, lang, origin, parent, text in rows:
        row = (caption_id.split("#")[0], caption_id, split, lang, origin, None if origin == "human" else "toy", parent)
        for name, value in zip(CAPTIONS.names, (*row, text), strict=True):
            columns[name].append(value)
    write_parquet(columns, path, CAPTIONS, metadata={"refused": json.dumps(refused)} if refused else {})


def measure(pairs, back=(), human=(), source="en", target="de", refused=None, refused_back=None, more=()):
    """Figures of (source, translation) pairs, train captions of item 0, 1, ...

    `back`: one text or None for each. `human`: (number of the caption it translates or None, text). `more`: additional
    captions.
    """
    captions = [(f"{i}#{source}#0", "train", source, "human", None, text) for i, (text, _) in enumerate(pairs)]
    captions += [
        (f"{i}#{target}#{n}", "train", target, "human", None if i is None else f"{i}#{source}#0", text)
        for n, (i, text) in enumerate(human)
    ]
    write("captions.parquet", [*captions, *more])
    forward = [
        (f"{i}#{source}#0@toy", "train", target, "mt", f"{i}#{source}#0", text)
        for i, (_, text) in enumerate(pairs)
        if text is not None
    ]
    write("forward.parquet", forward, refused)
    texts = [
        (f"{i}#{source}#0@toy@toy", "train", source, "back", f"{i}#{source}#0@toy", text)
        for i, text in enumerate(back)
        if text is not None
    ]
    write("back.parquet", texts, refused_back)
    run(job(source, target))
    return read_json("q.json")


def job(source="en", target="de"):
    settings = {"variant": "toy", "source_lang": source, "target_lang": target}
    inputs = {role: f"{role}.parquet" for role in ("captions", "forward", "back")}
    return hand_made("translate", "q.json", inputs, {"quality": "q.json"}, settings, key="k")


# scores


def test_scores_are_sacrebleus(monkeypatch):
    monkeypatch.setattr(quality, "BATCH", 3)  # batches change nothing
    machine = ["Ein Mann läuft.", "Zwei Hunde spielen Schnee.", "Kind isst einen Apfel.", "Leute tanzen ."]
    back = ["A man walks.", "Two dogs play snow.", None, "People dance ."]
    found = measure(list(zip(EN, machine, strict=True)), back, [(2, DE[2]), (0, DE[0]), (None, "Hallo."), (1, DE[1])])
    bleu = BLEU()
    forward = bleu.corpus_score(machine[:3], [DE[:3]]).score
    assert found["forward"]["n"] == 3 and found["forward"]["bleu"] == pytest.approx(forward)
    assert found["forward"]["chrf"] == pytest.approx(CHRF().corpus_score(machine[:3], [DE[:3]]).score)
    sources, back = EN[:2] + EN[3:], [text for text in back if text]
    assert found["round_trip"]["n"] == 3
    assert found["round_trip"]["bleu"] == pytest.approx(bleu.corpus_score(back, [sources]).score)
    metric = CHRF()
    assert found["round_trip"]["chrf"] == pytest.approx(metric.corpus_score(back, [sources]).score)
    signatures = {"bleu": str(bleu.get_signature()), "chrf": str(metric.get_signature())}
    assert found["forward"]["signatures"] == found["round_trip"]["signatures"] == signatures
    assert (found["key"], found["engine"], found["n"]) == ("k", "toy", 4)
    assert found["n_by_split"] == {"train": 4, "val": 0, "test": 0}


@pytest.mark.parametrize(
    ("lang", "machine", "human", "tokenizer"),
    [
        ("zh", "一个男人在公园里跑步。", "一名男子在公园里跑。", "zh"),
        ("ja", "男が公園で走っている。", "男性が公園を走っています。", "ja-mecab"),
        ("cs", "Muž běží v parku.", "Muž utíká v parku.", "13a"),
    ],
)
def test_every_language_has_its_tokenizer(lang, machine, human, tokenizer):
    found = measure([("A man runs.", machine)], ["A man ran."], [(0, human)], target=lang)
    metric = BLEU(tokenize=tokenizer)
    assert found["forward"]["bleu"] == pytest.approx(metric.corpus_score([machine], [[human]]).score)
    assert found["forward"]["signatures"]["bleu"] == str(metric.get_signature())
    assert "tok:13a" in found["round_trip"]["signatures"]["bleu"]


TEXTS = st.lists(st.tuples(*[st.text("aab 狗\u3000é", max_size=12)] * 2), min_size=1, max_size=6)


@given(TEXTS)
def test_chrf_in_one_pass_is_sacrebleus(pairs):
    hypotheses, references = map(list, zip(*pairs, strict=True))
    counts, metric = chrf.statistics(hypotheses, references), CHRF()
    sentences = [metric.sentence_score(text, [reference]).score for text, reference in pairs]
    assert chrf.score(counts).tolist() == pytest.approx(sentences)
    assert chrf.score(counts.sum(0)) == pytest.approx(metric.corpus_score(hypotheses, [references]).score)


def test_every_split_is_held_to_human_translations_and_only_machine_translations_are_judged():
    more = [
        ("9#en#0", "test", "en", "human", None, "A cat."),
        ("9#de#0", "test", "de", "human", "9#en#0", "Eine Katze."),
    ]
    captions = [
        ("0#en#0", "val", "en", "human", None, "A dog."),
        ("0#de#0", "val", "de", "human", "0#en#0", "Ein Hund."),
    ]
    published = [("9#en2de#0@other", "test", "de", "mt", "9#en#0", "Katze")]  # by another engine, among the captions
    write("captions.parquet", captions + more + published)
    forward = [(f"{i}#x", split, "de", "mt", f"{i}#en#0", "Ein Hund.") for i, split in ((9, "test"), (0, "val"))]
    write("forward.parquet", forward)
    write("back.parquet", [("0#y", "val", "en", "back", "0#x", "A dog.")])
    run(job())
    found = read_json("q.json")
    assert found["n_by_split"] == {"train": 0, "val": 1, "test": 1}
    assert (found["forward"]["n"], found["round_trip"]["n"]) == (2, 1)
    assert found["forward"]["chrf"] < 100 == found["round_trip"]["chrf"]


# shares


def shares(pairs, **rest):
    return measure(pairs, **rest)["shares"]


def test_copied_and_repeated():
    pairs = [("A dog.", "A dog."), ("A cat.", "Ein Tier."), ("A cow.", "Ein Tier."), ("A hen.", "Ein Huhn.")]
    assert shares(pairs)["copied"] == 0.25
    assert shares(pairs)["repeated"] == 0.5
    same = [("A cat.", "Eine Katze."), ("A cat.", "Eine Katze."), ("A dog.", "Ein Hund.")]
    assert shares(same)["repeated"] == 0  # the same sentence twice has the same translation


@pytest.mark.parametrize(
    ("target", "right", "wrong"),
    [
        ("zh", ["一只狗在跑。", "他在用iPad玩游戏", "3 : 0"], ["他用iPad玩", "いぬがはしる", "собака"]),
        ("ja", ["犬が走る。", "ラーメンを食べる人", "カメラー", "1990"], ["a dog runs", "개가 달린다"]),
        ("de", ["Öl und Straße", "Ein „Hund“ 狗", "12 % …"], ["собака бежит", "狗在跑 x"]),
    ],
)
def test_wrong_script(target, right, wrong):
    pairs = [(f"caption {n}", text) for n, text in enumerate([*right, *wrong])]
    assert shares(pairs, target=target)["wrong_script"] == pytest.approx(len(wrong) / len(pairs))
    assert shares(pairs[: len(right)], target=target)["wrong_script"] == 0


def test_wrong_language():
    english = "Two brown dogs are playing with a ball in the snow."
    german = "Zwei braune Hunde spielen mit einem Ball im Schnee."
    pairs = [("a", german), ("b", english), ("c", "2 : 1"), ("d", german + " !")]
    assert shares(pairs)["wrong_language"] == 0.25
    assert shares(pairs, source="de", target="en")["wrong_language"] == 0.5
    assert shares([("a", "一只狗在跑。")], target="zh")["wrong_language"] is None  # the script decides
    assert shares([("一只狗在雪地里跑。", "一只狗在雪地里跑。")], source="zh", target="ja")["wrong_language"] == 1


def test_length_ratio_counts_characters_without_white_space():
    assert measure([("a b c d", "ab"), ("e f", "f  g h i")])["length_ratio"] == 1
    assert measure([("two dogs", "两只狗")], target="zh")["length_ratio"] == 3 / 7


# refused


def test_refused_captions_are_empty_outputs_and_nothing_else():
    refused = {"1#en#0": "only emoji", "2#en#0": "too long"}
    dropped = [(EN[0], DE[0]), (EN[1], None), (EN[2], None), (EN[3], DE[3])]
    kept = [(EN[0], DE[0]), (EN[1], EN[1]), (EN[2], EN[2]), (EN[3], DE[3])]  # on_failure: keep_source
    found = [
        measure(dropped, [EN[0], None, None, "x"], refused=refused, refused_back={"3#en#0@toy": "too long"}),
        measure(kept, [EN[0], EN[1], EN[2], "x"], refused=refused, refused_back={"3#en#0@toy": "too long"}),
    ]
    assert found[0] == found[1]
    assert found[0]["shares"]["empty"] == 0.5 and found[0]["shares"]["copied"] == 0
    assert found[0]["refused"] == {"n": 2, "reasons": refused}
    assert found[0]["refused_back"] == {"n": 1, "reasons": {"3#en#0@toy": "too long"}}
    assert (found[0]["n"], found[0]["round_trip"]["n"], found[0]["round_trip"]["chrf"]) == (2, 1, 100)


def test_only_the_first_reasons_are_listed():
    refused = {f"{i}#en#0": f"reason {i}" for i in range(30)}
    found = measure([(f"A man {i}.", None if i < 30 else "Ein Mann.") for i in range(40)], refused=refused)
    assert found["refused"] == {"n": 30, "reasons": {f"{i}#en#0": f"reason {i}" for i in range(20)}}
    assert found["shares"]["empty"] == 0.75


# what cannot be measured


def test_what_cannot_be_measured_is_null():
    found = measure([(EN[0], DE[0])], human=[(None, "Hallo.")])
    assert found["round_trip"] is None and found["forward"] is None
    assert found["worst"] == [] and found["worst_by"] is None
    assert found["refused"] == {"n": 0, "reasons": {}} and found["shares"]["empty"] == 0
    nothing = measure([(EN[0], None)], refused={"0#en#0": "too long"})
    assert nothing["n"] == 0 and nothing["length_ratio"] is None and nothing["engine"] is None
    assert nothing["shares"] == {"empty": 1} | dict.fromkeys(SHARES[1:])


def test_files_that_do_not_belong_together():
    measure([(EN[0], DE[0])])
    write("captions.parquet", [("7#en#0", "train", "en", "human", None, "A man runs.")])
    with pytest.raises(CcrError, match="forward.parquet: 1 translations of captions that captions.parquet .*'0#en#0'"):
        quality.run(job())


# the worst


def test_the_worst_sentences_come_first_and_each_once():
    pairs = [(f"A man has {i} dogs.", f"Ein Mann hat {i} Hunde.") for i in range(30)]
    back = ["zzz" if i % 2 else source for i, (source, _) in enumerate(pairs)]
    back[29] = "A man has no dogs."
    found = measure([*pairs, pairs[1]], [*back, back[1]], [(0, "Hallo.")])
    assert found["worst_by"] == "round_trip" and len(found["worst"]) == quality.WORST
    ids = [caption["caption_id"] for caption in found["worst"]]
    assert ids[:15] == [*(f"{i}#en#0" for i in range(1, 28, 2)), "29#en#0"]  # ties are in file order
    assert found["worst"][0] == {
        "caption_id": "1#en#0",
        "source": "A man has 1 dogs.",
        "translation": "Ein Mann hat 1 Hunde.",
        "back": "zzz",
        "human": None,
        "score": 0,
    }
    assert found["worst"][14]["score"] == pytest.approx(CHRF().sentence_score(back[29], [pairs[29][0]]).score)
    assert {caption["score"] for caption in found["worst"][15:]} == {100}


def test_without_a_way_back_the_worst_are_those_far_from_the_human_translation():
    found = measure(list(zip(EN, DE, strict=True)), human=[(0, DE[0]), (1, "Etwas anderes.")])
    assert found["worst_by"] == "forward"
    assert [(c["caption_id"], c["human"], c["back"]) for c in found["worst"]] == [
        ("1#en#0", "Etwas anderes.", None),
        ("0#en#0", DE[0], None),
    ]


def test_the_same_files_give_the_same_bytes():
    pairs = [(f"A man has {i % 7} dogs.", f"Ein Mann hat {i % 5} Hunde.") for i in range(50)]
    args = pairs, [target for _, target in pairs], [(0, "Hallo.")]
    measure(*args, refused={"8#en#0": "x"})
    first = Path("q.json").read_bytes()
    measure(*args, refused={"8#en#0": "x"})
    assert Path("q.json").read_bytes() == first


# plan, command line, table

DATASET = {
    "kind": "image",
    "importer": "visualsearch",
    "options": {"translated": "1-1"},
    "source": "official",
    "root": "raw",
    "entities": "keep",
    "target_langs": ["zh"],
    "mt": "google",
    "visual": "i3d",
}
NASTY = '"; rm -rf ~ | <script>alert(1)</script> **b** [x](http://e.com) `c` $d$ &amp; \\| _e_'


@pytest.fixture
def raw(repository):
    """Settings with one table: a tiny data set with Google's translations, and two rows that cannot exist."""
    raw = yaml.safe_load((repository / "params.yaml").read_text())
    raw["datasets"] |= {"toy": DATASET, "absent": DATASET | {"root": "nowhere"}}
    raw["tables"], raw["alignments"], raw["run"] = {}, {}, ["toy_translation"]
    raw["translations"] = {"toy_translation": {"data": ["toy", "vatex", "absent"], "mt": ["google", "human"]}}
    return raw


@pytest.fixture
def toy():
    """Two captions per item: English, Chinese, Google's Chinese and English again; number 1 is a human translation."""
    for split in SPLITS:
        kinds = {
            "": ("enc", "a dog runs", NASTY),
            "_zh": ("zh", "狗跑", "一只猫"),
            "_google_enc2zh": ("enc2zh", "一只狗在跑", "一只猫在睡觉"),
        }
        if split != "test":
            kinds["_google_enc2zh2enc"] = ("enc2zh2enc", "a dog runs", "A cat sleeps.")
        for name, (tag, *texts) in kinds.items():
            path = Path(f"raw/TextData/toy{split}{name}.caption.txt")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(f"{split}#{tag}#{n} {text}\n" for n, text in enumerate(texts)))


def make(plan, target):
    for planned in plan.needs(target):
        execute(plan.keyed(planned.target))


def test_a_table_from_raw_data_to_the_page(raw, toy):
    plan = params.plan(params.validate(raw))
    make(plan, "results/toy_translation.csv")
    measured = read_json("data/toy/translations/google/zh.quality.json")
    with open("results/toy_translation.csv", newline="") as file:
        (line,) = csv.DictReader(file)
    identity = ("data", "dataset", "mt", "engine", "source_lang", "target_lang", "n", "round_trip_n", "forward_n")
    assert [line[name] for name in identity] == ["official", "toy", "google", "google", "en", "zh", "6", "4", "3"]
    chinese = ["一只猫在睡觉"] * 3, [["一只猫"] * 3]
    assert float(line["forward_bleu"]) == pytest.approx(BLEU(tokenize="zh").corpus_score(*chinese).score, abs=1e-4)
    assert float(line["forward_chrf"]) == pytest.approx(CHRF().corpus_score(*chinese).score, abs=1e-4)
    assert float(line["round_trip_chrf"]) == pytest.approx(measured["round_trip"]["chrf"], abs=1e-4)
    assert (line["empty"], line["copied"], line["wrong_language"]) == ("0.0", "0.0", "")

    text = Path("results/toy_translation.md").read_text()
    assert text.startswith("# toy_translation\n")
    assert f"| google | google | 0 | 6 | 4 | {measured['round_trip']['bleu']:.1f} |" in text
    for signature in {**measured["forward"]["signatures"], **measured["round_trip"]["signatures"]}.values():
        assert signature in text
    assert "- vatex, google: there are no published translations" in text
    assert "- absent, google: datasets.absent.root: nowhere does not exist" in text
    assert "- toy, human: 'human' is what people wrote" in text
    page = Path("results/figures/toy_translation/table.html").read_text()
    assert "<script>" not in page and "<strong>b</strong>" not in page
    assert "&quot;; rm -rf ~ | &lt;script&gt;alert(1)&lt;/script&gt; **b** [x](http://e.com) `c` $d$" in page
    assert "&amp;amp; \\| _e_" in page
    assert Path("results/figures/toy_translation/translation.png").read_bytes().startswith(b"\x89PNG")


def test_deleted_figures_come_back_from_the_memo_and_can_be_adopted(raw, toy, caplog):
    plan = params.plan(params.validate(raw))
    target = "data/toy/translations/google/zh.quality.json"
    make(plan, target)
    shutil.rmtree(MEMO)
    assert adopt(plan.job(target))
    Path(target).unlink()
    caplog.set_level(logging.INFO)
    execute(plan.keyed(target))
    assert "copied from the memo" in caplog.text and read_json(target)["n"] == 6


def test_quality_of_what_no_table_asks_for(raw, toy):
    raw["translations"] = {}
    raw["run"] = []
    Path("params.yaml").write_text(yaml.safe_dump(raw))
    plan = params.plan(params.load())
    target = "data/toy/translations/google_swap20/zh.quality.json"
    for planned in plan.needs(target)[:-1]:
        execute(plan.keyed(planned.target))
    done = subprocess.run([sys.executable, "-m", "ccr", "translate", target], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert read_json(target)["variant"] == "google_swap20"
    with pytest.raises(CcrError, match="plans no such job"):
        plan.job("data/toy/translations/human/zh.quality.json")
    exported = subprocess.run(
        [sys.executable, "-m", "ccr", "export-captions", target, "x.txt"], capture_output=True, text=True
    )
    assert exported.returncode == 1 and "holds no translations" in exported.stderr


def test_a_table_of_synthetic_data_says_so(raw):
    raw["translations"]["toy_translation"] = {"data": ["multi30k_task1"]}
    table = params.plan(params.validate(raw)).job("results/toy_translation.csv")
    assert [row["target_lang"] for row in table.settings["rows"]] == ["de", "fr", "cs"]
    score = {"n": 2, "bleu": 12.3456789, "chrf": 45.6, "signatures": {"bleu": "nrefs:1|tok:13a", "chrf": "nc:6"}}
    for number, row in enumerate(table.settings["rows"]):
        found = {"key": f"k{number}", "engine": "lexicon", "n": 7, "length_ratio": 0.987654, "worst": []}
        found |= {"round_trip": score if number else None, "forward": None, "worst_by": None}
        found |= {
            "refused": {"n": 2 * number, "reasons": {"1#en#0": "HTTP 500"}},
            "refused_back": {"n": 0, "reasons": {}},
        }
        write_json(found | {"shares": dict.fromkeys(SHARES, 0.125)}, row["metrics"][0])
    execute(table)
    text = Path("results/toy_translation.md").read_text()
    assert text.startswith("# toy_translation (SYNTHETIC data)\n")
    assert "## multi30k_task1 (SYNTHETIC), en to fr" in text
    assert [line for line in text.splitlines() if line.startswith("- Refused")] == [
        f"- Refused, multi30k_task1 (SYNTHETIC), en to {lang}, lexicon, forward: {n} captions. 1#en#0: HTTP 500; ..."
        for lang, n in (("fr", 2), ("cs", 4))
    ]
    share = " | ".join(["12.50%"] * 5)
    assert f"| lexicon | lexicon | 0 | 7 | 2 | 12.3 | 45.6 |  |  |  | 0.99 | {share} |" in text
    assert f"| lexicon | lexicon | 0 | 7 |  |  |  |  |  |  | 0.99 | {share} |" in text
    assert "bleu: `nrefs:1|tok:13a`: back (en to fr), back (en to cs)." in text
    assert "Worst sentences" not in text
    with open("results/toy_translation.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["round_trip_bleu"] for line in lines] == ["", "12.3457", "12.3457"]
    assert {line["data"] for line in lines} == {"synthetic"} and len({line["key"] for line in lines}) == 3


def test_a_file_that_lacks_figures_is_named(raw):
    raw["translations"]["toy_translation"] = {"data": ["multi30k_task1"]}
    table = params.plan(params.validate(raw)).job("results/toy_translation.csv")
    for row in table.settings["rows"]:
        write_json({"key": "k"}, row["metrics"][0])
    with pytest.raises(CcrError, match="de.quality.json: no 'engine'; it must hold"):
        execute(table)


def test_data_that_are_not_there_make_a_row_left_out_and_no_table_without_rows(raw):
    raw["translations"]["toy_translation"]["data"] = ["absent"]
    plan = params.plan(params.validate(raw))
    with pytest.raises(CcrError, match="translations.toy_translation: none of its rows .*\n.*nowhere does not exist"):
        plan.job("results/toy_translation.csv")


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        ({"data": ["vatx"]}, "translations.toy_translation.data: unknown data set 'vatx'; did you mean 'vatex'"),
        ({"mt": ["gogle"]}, "translations.toy_translation.mt: unknown translation variant 'gogle'; .*'google'"),
        ({"seeds": [1]}, "translations.toy_translation.seeds: unknown key"),
        ({"data": []}, "translations.toy_translation.data"),
    ],
)
def test_a_mistake_is_one_message(raw, edits, message):
    raw["translations"]["toy_translation"] |= edits
    with pytest.raises(CcrError, match=message):
        params.validate(raw)


@pytest.mark.parametrize("section", ["tables", "alignments"])
def test_no_two_tables_of_one_name(raw, section):
    tables = {
        "tables": {"data": ["vatex"], "methods": ["baseline"]},
        "alignments": {"data": ["vatex"], "teachers": ["cl"]},
    }
    raw[section] = {"toy_translation": tables[section]}
    with pytest.raises(CcrError, match=f"translations.toy_translation: {section}.toy_translation has this name"):
        params.validate(raw)


def test_snakemake_measures_before_it_makes_the_table(raw, toy, repository):
    checkout = check_out(repository, Path.cwd())
    Path("params.yaml").write_text(yaml.safe_dump(raw))
    done = checkout.says(sys.executable, "-m", "snakemake", "--dry-run", "--cores", "1", "--quiet", "host")
    assert done.returncode == 0, done.stderr
    stats = {line.split()[0]: line.split()[-1] for line in done.stdout.splitlines() if len(line.split()) == 2}
    assert {rule: stats.get(rule) for rule in ("captions", "translate", "quality", "translations")} == {
        "captions": "1", "translate": "2", "quality": "1", "translations": "1"
    }  # fmt: skip


# the real data


@pytest.mark.slow
def test_real_vatex_against_its_human_translations(repository, real):
    raw = yaml.safe_load((repository / "params.yaml").read_text())
    raw["datasets"]["vatex_captions"]["root"] = str(real / "vatex")
    plan = params.plan(params.validate(raw))
    target = "data/vatex_captions/translations/google/zh.quality.json"
    make(plan, target)
    found = read_json(target)
    assert (found["n"], found["round_trip"], found["worst_by"]) == (15000, None, "forward")
    captions = read_parquet("data/vatex_captions/captions.parquet", CAPTIONS).to_pylist()
    forward = read_parquet("data/vatex_captions/translations/google/zh.parquet", CAPTIONS).to_pylist()
    machine = {row["parent_id"]: row["text"] for row in forward}
    pairs = [(machine[c["parent_id"]], c["text"]) for c in captions if c["origin"] == "human" and c["parent_id"]]
    hypotheses, references = map(list, zip(*pairs, strict=True))
    assert found["forward"]["n"] == len(pairs) == 7500
    metric = BLEU(tokenize="zh")
    assert found["forward"]["bleu"] == pytest.approx(metric.corpus_score(hypotheses, [references]).score)
    assert found["forward"]["chrf"] == pytest.approx(CHRF().corpus_score(hypotheses, [references]).score)
    others = metric.corpus_score(hypotheses[1:1001], [references[:1000]]).score
    assert found["forward"]["bleu"] > 3 * others  # other captions, mostly of the same video
