"""params.yaml: readable messages, and a plan that knows what depends on what."""

import copy
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ccr import params
from ccr.errors import CcrError

FILE = Path(__file__).parents[1] / "params.yaml"


# An encoder whose states are computed once, in the place of the `small` network's.
CACHED = yaml.safe_load(FILE.read_text())["networks"]["e5"]["text"]


@pytest.fixture
def raw():
    return copy.deepcopy(yaml.safe_load(FILE.read_text()))


def edit(raw, path, value):
    *parents, last = path.split(".")
    for part in parents:
        raw = raw[part]
    raw[last] = value


@pytest.mark.parametrize(
    ("path", "value", "named", "nearest"),
    [
        ("methods.cl2cm.tecaher", "cl", "methods.cl2cm.tecaher", "teacher"),
        ("methods.cl2cm.teacher", "cll", "methods.cl2cm.teacher", "cl"),
        ("methods.baseline.objectives.vs.wieght", 1, "methods.baseline.objectives.vs.wieght", "weight"),
        ("methods.baseline.objectives.vs.weight", "much", "methods.baseline.objectives.vs.weight", "number"),
        ("methods.baseline.objectives.vs.weight", -1, "methods.baseline.objectives.vs.weight", "from 0 to 1,000,000"),
        ("methods.baseline.objectives.vs.objective", "infonse", "methods.baseline.objectives.vs", "infonce"),
        ("methods.baseline.objectives.vs.pair", ["visual", "sauce"], "objectives.vs.pair", "source"),
        ("methods.baseline.objectives.vs.pair", ["visual"], "objectives.vs.pair", "two different streams"),
        ("methods.baseline.objectives.vs.pair", None, "objectives.vs.pair", "two different streams"),
        (
            "methods.nrccr.objectives.adversarial.pair",
            ["visual", "target"],
            "adversarial.pair.0",
            "Valid: back, source, target",
        ),
        ("methods.nrccr.objectives.feature_regression.pair", ["source", "back"], "pair.1", "Valid: target"),
        (
            "methods.cl2cm.objectives.relation_distillation.pair",
            ["target", "source"],
            "pair.0: 'target'",
            "Valid: source, visual",
        ),
        ("teachers.cl.objectives.word_alignment.pair", ["source", "visual"], "word_alignment.pair.1", "Valid: back"),
        (
            "methods.nrccr.objectives.adv2",
            {"objective": "adversarial", "discriminator": "conv"},
            "methods.nrccr.objectives.adv2: 'adversarial'",
            "another pair, or remove it",
        ),
        (
            "teachers.cl.objectives.again",
            {"objective": "pointer", "layer": "block"},
            "teachers.cl.objectives.again: 'word_alignment'",
            "another pair or layer",
        ),
        ("methods.cl2cm.like", "baselin", "methods.cl2cm.like", "baseline"),
        ("methods.cl2cm.like", "cl2cm", "methods.cl2cm.like", "circle"),
        ("methods.cl2cm.teacher", None, "methods.cl2cm.teacher", "objectives need one"),
        ("methods.nrccr.teacher", "cl", "methods.nrccr.teacher", "no term distils it"),
        ("methods.translate_test.uses", "sauce_only", "methods.translate_test.uses", "source_only"),
        ("methods.translate_test.uses", "nrccr_fusion", "methods.translate_test.uses", "trains nothing itself"),
        ("methods.nrccr_fusion.like", "nrccr", "methods.nrccr_fusion.objectives", "the `like` that brings it"),
        *(
            (f"methods.nrccr_fusion.{key}", value, f"methods.nrccr_fusion.{key}", "would change nothing")
            for key, value in (
                ("lr", 0.5),
                ("weight_decay", 0),
                ("teacher", "cl"),
                ("norm", "layer"),
                ("init", "teacher"),
                ("objectives", {"soft_similarity": {"weight": 0}}),
            )
        ),
        ("methods.source_only", None, "methods.source_only", "expected keys and values"),
        ("datasets.vatex.source", "oficial", "datasets.vatex.source", "official"),
        ("datasets.vatex.source", "official", "datasets.vatex", "mini-world"),
        ("datasets.vatex.target_langs", ["zn"], "datasets.vatex.target_langs", "zh"),
        ("datasets.vatex.target_langs", ["de"], "datasets.vatex.target_langs", "kind: image"),
        ("datasets.vatex.importer", "vatexx", "datasets.vatex.importer", "vatex"),
        ("datasets.vatex.mt", "googel", "datasets.vatex.mt", "google"),
        ("datasets.vatex.mt", "google", "datasets.vatex", "lexicon"),
        ("datasets.vatex.world.tran", 3, "datasets.vatex.world.tran", "train"),
        ("datasets.flickr8k.options", {"colection": "x"}, "datasets.flickr8k.options.colection", "collection"),
        ("tables.vatex_table.baseline", "basline", "tables.vatex_table.baseline", "'baseline'"),
        ("translate.variants.lexicon.engine", "lexcon", "translate.variants.lexicon.engine", "lexicon"),
        ("translate.variants.google_swap20.noise.kind", "swp", "google_swap20.noise.kind", "'swap'"),
        ("translate.variants.google_swap20.noise.rate", 1.5, "google_swap20.noise.rate", "less than or equal to 1"),
        ("translate.variants.google_swap20.noise.rate", -0.1, "google_swap20.noise.rate", "greater than or equal to 0"),
        ("translate.variants.google_swap20.noise.rte", 0.1, "google_swap20.noise.rte", "rate"),
        ("translate.variants.google.filter", {"min_chrf": 101}, "google.filter.min_chrf", "less than or equal to 100"),
        ("translate.variants.google.filter", {"min_chrf": 9, "wieght": 1}, "google.filter.wieght", "weight"),
        ("translate.variants.google.filter", {"min_chrf": 10}, "google: its filter", "an entry of its own"),
        ("translate.variants.human.filter", {"min_chrf": 10}, "human.filter", "engine none"),
        ("translate.shards", 0, "translate.shards", "greater than or equal to 1"),
        ("translate.variants.google_swap20.noise", {"rate": 0.1}, "google_swap20.noise.kind", "missing"),
        ("translate.variants.google_swap20.noise", 0.2, "google_swap20.noise", "dictionary"),
        ("translate.variants.google_swap20.like", "human", "google_swap20.noise", "engine none"),
        ("translate.variants.google.noise", {"kind": "drop", "rate": 0.1}, "translate.variants.google", "like"),
        (
            "translate.variants.lexicon_substitute10.error_rate",
            0.3,
            "variants.lexicon_substitute10",
            "but for its noise",
        ),
        ("features.extractors.descriptor.frames", 0, "features.extractors.descriptor.frames", "greater than"),
        ("networks.small.text.hiden", 3, "networks.small.text.hiden", "hidden"),
        (
            "networks.small.text",
            {
                "encoder": "scratch",
                "max_tokens": 9,
                "frozen_layers": 0,
                "frozen_prefix": "computed",
                "prompt": "",
                "block": None,
            },
            "text.hidden",
            "scratch",
        ),
        ("networks.mbert.text.layers", 0, "networks.mbert.text.layers", "1 or more"),
        ("networks.mbert.text.heads", 3, "networks.mbert.text.heads", "leave it out"),
        ("networks.small.visual.block.heads", 3, "networks.small.visual.block.heads", "do not divide"),
        ("networks.small.text.block.keys", 31, "networks.small.text.block.heads", "do not divide keys"),
        ("methods.nrccr.compat", "clip", "methods.nrccr.compat", "nrccr"),
        ("methods.nrccr.on_missing", "drop", "methods.nrccr.on_missing", "drop_term"),
        ("train.student.word_droput", 0.1, "train.student.word_droput", "word_dropout"),
        ("train.student.lr", "fast", "train.student.lr", "number"),
        ("train.student.lr", True, "train.student.lr", "number"),
        ("train.student.network", "smal", "train.student.network", "small"),
        ("train.student.lr", 0, "train.student.lr", "greater than 0"),
        ("datasets.vatex.train", {"student": {"lr": -1}}, "datasets.vatex.train.student.lr", "greater than 0"),
        ("datasets.vatex.train", {"teacher": {"batch": 1}}, "datasets.vatex.train.teacher.batch", "equal to 3"),
        ("methods.pseudo_parallel.lr", float("inf"), "methods.pseudo_parallel.lr", "finite"),
        ("methods.pseudo_parallel.word_dropout", 1, "methods.pseudo_parallel.word_dropout", "less than 1"),
        ("teachers.cl_instance.epochs", 0, "teachers.cl_instance.epochs", "greater than or equal to 1"),
        ("tables.vatex_table.methods", ["basline"], "tables.vatex_table.methods", "baseline"),
        ("tables.vatex_table.data", ["vatexx"], "tables.vatex_table.data", "vatex"),
        ("tables.vatex_table.compare", "parnt", "tables.vatex_table.compare", "parent"),
        ("run", ["vatex_tabel"], "run", "vatex_table"),
        ("tabels", {}, "tabels", "tables"),
    ],
)
def test_a_mistake_is_one_message_with_key_and_nearest_value(raw, path, value, named, nearest):
    edit(raw, path, value)
    with pytest.raises(CcrError) as error:
        params.plan(params.validate(raw))
    assert named in str(error.value)
    assert nearest in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("path", ["networks", "train.student.lr", "train.threads", "networks.small.dim"])
def test_a_missing_key_is_named(raw, path):
    *parents, last = path.split(".")
    section = raw
    for part in parents:
        section = section[part]
    del section[last]
    with pytest.raises(CcrError, match=f"{path}: missing"):
        params.validate(raw)


def test_a_synthetic_data_set_needs_the_size_of_its_world(raw):
    raw["datasets"]["flickr8k"] |= {"source": "synthetic", "mt": "lexicon", "visual": "descriptor"}
    with pytest.raises(CcrError, match="datasets.flickr8k.world: missing"):
        params.validate(raw)


def test_exponents_without_a_dot_are_numbers(raw):
    """YAML 1.1 reads 3e-4 as a string."""
    edit(raw, "train.student.lr", "3e-4")
    assert params.validate(raw).train.student.lr == 3e-4


@pytest.fixture
def plan(raw):
    return params.plan(params.validate(raw))


def targets(plan, table):
    return [job.target for job in plan.needs(f"results/{table}.csv")]


def test_the_plan_is_in_order_and_complete(plan):
    made = set()
    for job in plan.needs("results/vatex_table.csv"):
        for path in job.prerequisites():
            raw = path.startswith("data/raw/vatex-synthetic")  # represented by the world's manifest
            assert path in made or raw, (job.target, path)
        made |= set(job.outputs.values())


def test_synthetic_and_official_data_do_not_share_paths(plan):
    assert all("vatex-synthetic" in t for t in targets(plan, "vatex_table")[:-1])
    assert not any("synthetic" in t for t in targets(plan, "flickr8k_table"))


def test_runs_that_use_no_translation_are_shared_by_all_languages(plan):
    runs = [t for t in targets(plan, "multi30k_table") if "/runs/" in t and "source_only" in t]
    assert runs == [
        f"results/runs/multi30k_task{task}-synthetic/none/descriptor/en/source_only/seed0" for task in (1, 2)
    ]


def test_a_student_that_starts_from_its_teacher_waits_for_it(raw):
    raw["methods"]["starts"] = {"like": "baseline", "teacher": "cl", "init": "teacher"}
    raw["tables"]["vatex_table"]["methods"] += ["starts"]
    plan = params.plan(params.validate(raw))
    student, teacher = plan.job(RUN.format("starts")), "results/teachers/vatex-synthetic/lexicon/zh/cl/seed0"
    assert student.inputs["init_model"] == f"{teacher}/model.safetensors"
    assert student.inputs["init_tokenizer"] == f"{teacher}/tokenizer.json"
    assert "teacher" not in student.inputs  # nothing is distilled
    assert teacher in {job.target for job in plan.needs(student.target)}


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ({"init": "teacher"}, "methods.odd.teacher: init: teacher needs one; Valid: cl,"),
        ({"objectives": {"embedding_distillation": {"weight": 1.0}}}, "methods.odd.teacher: its objectives need one"),
    ],
)
def test_a_student_without_the_teacher_that_it_needs_is_refused(raw, method, message):
    raw["methods"]["odd"] = {"like": "baseline", **method}
    with pytest.raises(CcrError, match=message):
        params.validate(raw)


@pytest.mark.parametrize(
    ("method", "key"),
    [({"init": "teacher"}, "text"), ({"objectives": {"embedding_distillation": {"weight": 1.0}}}, "dim")],
)
def test_a_student_that_cannot_take_over_what_its_teacher_has_is_left_out(raw, method, key):
    raw["methods"]["odd"] = {"like": "baseline", "teacher": "cl", "network": "photo", **method}
    raw["tables"]["vatex_table"]["methods"] += ["odd"]
    settings = params.plan(params.validate(raw)).jobs["results/vatex_table.csv"].settings
    assert "odd" not in {row["method"] for row in settings["rows"]}
    assert settings["left_out"] == [f"vatex, zh, odd: its network and that of teacher 'cl' must have the same {key!r}"]


@pytest.mark.parametrize(
    ("edits", "left_out"),
    [
        ({"networks.small.text.block": None}, {"nrccr, nrccr_fusion": "networks.*.text.block"}),
        (
            {"networks.small.text": CACHED},
            {"cl2cm": "set teachers.cl.objectives.word_alignment.masked: 0, or networks"},
        ),
        (
            {
                "networks.small.text": CACHED,
                "teachers.cl.objectives.word_alignment": {"objective": "pointer", "layer": 1},
            },
            {"cl2cm": "teachers.cl.objectives.word_alignment.masked"},
        ),
        (
            {
                "networks.small.text": CACHED,
                "teachers.cl.objectives.word_alignment": {"objective": "pointer", "layer": 1, "masked": 0},
            },
            {"cl2cm": "teachers.cl.objectives.word_alignment.layer lies below the frozen layers"},
        ),
        (
            {"networks.small.text": CACHED, "methods.supervised.word_dropout": 0.1},
            {"cl2cm": "masked", "supervised": "set methods.supervised.word_dropout: 0"},
        ),
    ],
)
def test_rows_that_cannot_be_trained_are_left_out(raw, edits, left_out):
    for path, value in edits.items():
        edit(raw, path, value)
    plan = params.plan(params.validate(raw))
    found = dict(line.split(": ", 1) for line in plan.job("results/vatex_table.csv").settings["left_out"])
    expected = {f"vatex, zh, {name}": part for names, part in left_out.items() for name in names.split(", ")}
    assert found.keys() == expected.keys()
    assert all(part in found[row] for row, part in expected.items())


def test_one_setting_for_a_network_that_cannot_follow_it_leaves_the_other_tables(raw):
    edit(raw, "train.student.word_dropout", 0.1)
    plan = params.plan(params.validate(raw))
    assert not plan.job("results/vatex_table.csv").settings["left_out"]
    with pytest.raises(CcrError, match="set datasets.multi30k_photos.train.student.word_dropout: 0"):
        plan.job("results/multi30k_photos_table.csv")


def test_teachers_that_cannot_be_trained_have_no_row(raw):
    edit(raw, "networks.small.text", CACHED)
    settings = params.plan(params.validate(raw)).job("results/vatex_alignment.csv").settings
    assert {row["teacher"] for row in settings["rows"]} == {"cl_instance", "cl_transport"}
    assert all("zh, cl: " in line and "masked: 0" in line for line in settings["left_out"])


def test_teacher_seed_n_serves_student_seed_n(plan):
    for seed in (0, 1, 2):
        job = plan.job(f"results/runs/vatex-synthetic/lexicon/descriptor/zh/cl2cm/seed{seed}")
        assert job.inputs["teacher"] == f"results/teachers/vatex-synthetic/lexicon/zh/cl/seed{seed}/embeddings.parquet"


def changed(raw, path, value):
    """Targets of the vatex table whose settings change with this edit."""
    before = {j.target: j.digest for j in params.plan(params.validate(copy.deepcopy(raw))).jobs.values()}
    edit(raw, path, value)
    after = {j.target: j.digest for j in params.plan(params.validate(raw)).jobs.values()}
    return {t for t in after if before.get(t) != after[t]}


def test_a_student_weight_touches_only_that_student_and_those_like_it(raw):
    touched = changed(raw, "methods.cl2cm.objectives.relation_distillation.weight", 0.5)
    assert touched and all("/cl2cm" in target for target in touched)
    assert not any("teachers" in target or "translations" in target for target in touched)


def test_an_added_seed_adds_only_its_own_jobs(raw):
    touched = changed(raw, "tables.vatex_table.seeds", [0, 1, 2, 3])
    assert all(t.endswith("seed3") or t == "results/vatex_table.csv" for t in touched)


def test_a_zero_weight_is_no_term(raw):
    """A method with its extra weights at 0 is therefore the same job as the method without them."""
    edit(raw, "methods.cl2cm.objectives.relation_distillation.weight", 0)
    plan = params.plan(params.validate(raw))
    folder = "results/runs/vatex-synthetic/lexicon/descriptor/zh"
    jobs = [plan.job(f"{folder}/{method}/seed0") for method in ("cl2cm", "baseline")]
    assert jobs[0].settings == jobs[1].settings
    assert jobs[0].inputs == jobs[1].inputs


RUN = "results/runs/vatex-synthetic/lexicon/descriptor/zh/{}/seed0"


def test_nrccr_without_its_robust_terms_is_the_baseline_to_the_last_digit(raw):
    for term in ("soft_similarity", "feature_regression", "back_translation", "adversarial"):
        edit(raw, f"methods.nrccr.objectives.{term}.weight", 0)
    plan = params.plan(params.validate(raw))
    nrccr, baseline = (plan.job(RUN.format(method)) for method in ("nrccr", "baseline"))
    assert nrccr.digest == baseline.digest and nrccr.inputs == baseline.inputs  # so both have the same key and result


def test_keeping_embeddings_changes_no_result(raw):
    target = RUN.format("baseline").replace("/runs/", "/evaluations/")
    without = params.plan(params.validate(raw)).job(target)
    edit(raw, "evaluate.embeddings", True)
    with_them = params.plan(params.validate(raw)).job(target)
    assert with_them.outputs == without.outputs | {"embeddings": f"{target}/embeddings.safetensors"}
    assert (with_them.digest, with_them.inputs) == (without.digest, without.inputs)  # what a key is made of


def test_every_ablation_of_nrccr_lacks_its_term(plan):
    full = set(plan.job(RUN.format("nrccr")).settings["objectives"])
    for term in ("soft_similarity", "feature_regression", "back_translation", "adversarial"):
        job = plan.job(RUN.format(f"nrccr_no_{term}"))
        assert full - set(job.settings["objectives"]) == {term}
        assert ("back" in job.inputs) == (term != "back_translation")


def test_compat_is_the_published_behaviour_and_each_repair_undoes_its_part_alone(plan):
    def settings(method):
        found = plan.job(RUN.format(method)).settings
        flat = {
            f"{term}.{key}": value for term, options in found["objectives"].items() for key, value in options.items()
        }
        return flat | {k: found["network"][k] for k in ("norm", "pooling")} | {"select_by": found["select_by"]}

    published, repaired = settings("nrccr_published"), settings("nrccr_repaired")
    triplets = ("vs", "vt", "back_translation")
    parts = {
        "nrccr_masked_pooling": {"pooling": ("padded_mean", "masked_mean")},
        "nrccr_query_statistics": {"norm": ("batch_all_streams", "batch")},
        "nrccr_same_item_masked": {f"{term}.mask_same_item": (False, True) for term in triplets},
        "nrccr_mean_scaled": {f"{term}.scale": ("sum", "mean") for term in triplets}
        | {"feature_regression.reduction": ("mean", "sum")},
    }
    for method, expected in parts.items():
        mended = settings(method)
        assert {k: (published[k], mended[k]) for k in mended if mended[k] != published[k]} == expected
        assert all(repaired[key] == value for key, (_, value) in expected.items())
    assert {k for k in repaired if repaired[k] != published[k]} == {
        *(key for expected in parts.values() for key in expected),
        *("select_by", "soft_similarity.cut_visual", "feature_regression.cut_teacher"),
    }
    fusions = {
        method: plan.job(f"results/evaluations/vatex-synthetic/lexicon/descriptor/zh/{method}/seed0").settings["fusion"]
        for method in ("nrccr_fusion", "nrccr_published_fusion", "nrccr_per_query_fusion", "nrccr_repaired_fusion")
    }
    assert [method for method, fusion in fusions.items() if fusion == "min_max"] == ["nrccr_published_fusion"]


def test_multi_target_students_and_rows_that_cannot_exist(raw):
    raw["methods"]["multi"] = {"like": "baseline", "langs": ["de", "fr"]}
    raw["methods"]["multi_fusion"] = {"uses": "multi", "queries": {"target": 1, "translated": 1}}
    raw["methods"]["human_queries"] = {"uses": "source_only", "mt": "human", "queries": {"translated": 1}}
    raw["tables"]["multi30k_table"]["data"] = ["multi30k_task1"]
    raw["tables"]["multi30k_table"]["methods"] += ["multi", "multi_fusion", "human_queries"]
    raw["tables"]["vatex_table"]["methods"] += ["multi"]
    plan = params.plan(params.validate(raw))
    job = plan.job("results/multi30k_table.csv")
    left_out = {line.split(": ")[0] for line in job.settings["left_out"]}
    impossible = {"cs, multi", "cs, multi_fusion", *(f"{lang}, human_queries" for lang in ("de", "fr", "cs"))}
    assert left_out == {f"multi30k_task1, {row}" for row in impossible}
    assert plan.job("results/vatex_table.csv").settings["left_out"] == [
        "vatex, zh, multi: methods.multi.langs does not hold 'zh'"
    ]
    rows = [row for row in job.settings["rows"] if row["method"] == "multi"]
    assert {row["target_lang"] for row in rows} == {"de", "fr"}
    assert {row["history"][0].split("/")[5] for row in rows} == {"de+fr"}


def test_queries_of_another_variant_are_asked_of_the_run_that_the_row_names(raw):
    raw["methods"]["asked"] = {"uses": "nrccr", "mt": "lexicon", "queries": {"target": 0.8, "translated": 0.2}}
    mts = ["lexicon_substitute40", "lexicon"]
    raw["tables"] = {"vatex_table": raw["tables"]["vatex_table"] | {"mt": mts, "methods": ["baseline", "asked"]}}
    raw["run"] = ["vatex_table"]
    plan = params.plan(params.validate(raw))
    rows = [row for row in plan.job("results/vatex_table.csv").settings["rows"] if row["method"] == "asked"]
    assert [row["mt"] for row in rows] == mts
    for row in rows:
        job = plan.job(str(Path(row["metrics"][0]).parent))
        assert f"/{row['mt']}/" in job.inputs["model"] and "/lexicon/" in job.inputs["queries"]


def test_no_real_data_set_has_the_folder_of_the_mini_world(raw):
    raw["datasets"]["vatex-synthetic"] = raw["datasets"]["flickr8k"] | {"source": "official"}
    with pytest.raises(CcrError, match="datasets.vatex-synthetic: data/vatex-synthetic is the folder of vatex"):
        params.validate(raw)


def test_one_teacher_is_judged_with_one_solver(raw):
    raw["alignments"]["other"] = raw["alignments"]["vatex_alignment"] | {"solver": {"layer": -1}}
    with pytest.raises(CcrError, match="two tables judge the teacher 'cl_instance' of vatex with different solvers"):
        params.plan(params.validate(raw))


def test_a_student_of_all_languages_stands_beside_those_of_one(raw):
    raw["methods"]["baseline_multi"] = {"like": "baseline", "langs": ["de", "fr", "cs"]}
    table = {"data": ["multi30k_task1"], "methods": ["baseline", "baseline_multi"], "seeds": [0, 1]}
    raw["tables"]["multi30k_table"] |= table
    plan = params.plan(params.validate(raw))
    rows = plan.job("results/multi30k_table.csv").settings["rows"]
    found = [(row["target_lang"], row["method"], row["mt"], row["reference"]) for row in rows]
    assert found == [
        (lang, *row)
        for lang in ("de", "fr", "cs")
        for row in (("baseline", "lexicon", None), ("baseline_multi", "lexicon", "baseline"))
    ]
    students = [t for t in targets(plan, "multi30k_table") if "/runs/" in t and t.endswith("baseline_multi/seed0")]
    assert students == ["results/runs/multi30k_task1-synthetic/lexicon/descriptor/de+fr+cs/baseline_multi/seed0"]
    assert len(plan.job(students[0]).inputs["translations"]) == 3


def references(raw, table):
    rows = params.plan(params.validate(raw)).job(f"results/{table}.csv").settings["rows"]
    return {(row["target_lang"], row["method"]): row["reference"] for row in rows}


def test_every_row_is_compared_with_the_baseline(raw):
    raw["tables"]["vatex_ablation"] |= {"baseline": "nrccr", "compare": "baseline"}
    compared = references(raw, "vatex_ablation")
    assert compared.pop(("zh", "nrccr")) is None
    assert set(compared.values()) == {"nrccr"}
    raw["tables"]["vatex_ablation"]["methods"].remove("nrccr")
    assert set(references(raw, "vatex_ablation").values()) == {None}


def test_a_row_may_be_compared_with_what_it_is_like(raw):
    raw["methods"] |= {
        "multi": {"like": "baseline", "langs": ["de", "fr"]},
        "no_words": {"like": "cl2cm", "teacher": None, "objectives": {"relation_distillation": None}},
        "of_multi": {"like": "multi", "langs": ["de", "fr", "cs"]},
    }
    methods = [
        "source_only",
        "baseline",
        "cl2cm",
        "no_words",
        "multi",
        "of_multi",
        "nrccr_no_adversarial",
        "nrccr_fusion",
    ]
    raw["tables"]["multi30k_table"] |= {"compare": "parent", "methods": methods}
    compared = references(raw, "multi30k_table")
    assert {method: compared["de", method] for method in methods} == {
        "source_only": "baseline",
        "baseline": None,
        "cl2cm": "baseline",
        "no_words": "cl2cm",
        "multi": "baseline",
        "of_multi": "multi",
        "nrccr_no_adversarial": "baseline",  # nrccr is not in the table
        "nrccr_fusion": "baseline",  # without `like`
    }
    assert compared["cs", "of_multi"] == "baseline"  # multi has no row in this language
    raw["tables"]["multi30k_table"]["baseline"] = "cl2cm"
    assert references(raw, "multi30k_table")["de", "cl2cm"] == "baseline"  # its parent is in the table


RATES = ("", "_substitute10", "_substitute20", "_substitute40", "_substitute60")


def test_a_noise_curve_has_the_translations_that_go_with_the_datas_source(raw):
    for settings, engine, other in (
        ({}, "lexicon", "google"),
        ({"source": "official", "mt": "google", "visual": "i3d"}, "google", "lexicon"),
    ):
        raw["datasets"]["vatex"] |= settings
        job = params.plan(params.validate(raw)).job("results/noise_curve.csv")
        assert {row["mt"] for row in job.settings["rows"]} == {engine + rate for rate in RATES}
        assert len(job.settings["rows"]) == 5 * len(raw["tables"]["noise_curve"]["methods"])
        visual = raw["datasets"]["vatex"]["visual"]
        left_out = [line.split(": ")[0] for line in job.settings["left_out"]]
        assert left_out == [f"vatex, {other}{rate}, {visual}" for rate in RATES]  # each once, not for every method


def test_features_that_do_not_go_with_the_data_are_left_out(raw):
    raw["tables"]["vatex_table"]["visual"] = ["descriptor", "i3d"]
    job = params.plan(params.validate(raw)).job("results/vatex_table.csv")
    assert {row["visual"] for row in job.settings["rows"]} == {"descriptor"}
    (line,) = job.settings["left_out"]
    assert line.startswith("vatex, lexicon, i3d: there are no published features")


def test_a_method_whose_own_translations_do_not_go_with_the_data_is_left_out(raw):
    raw["methods"] |= {"published": {"like": "baseline", "mt": "google"}, "again": {"uses": "published"}}
    raw["tables"]["vatex_table"]["methods"] = ["baseline", "published", "again"]
    job = params.plan(params.validate(raw)).job("results/vatex_table.csv")
    assert [row["method"] for row in job.settings["rows"]] == ["baseline"]
    assert [line.split(": ")[0] for line in job.settings["left_out"]] == ["vatex, zh, published", "vatex, zh, again"]


def test_a_table_without_any_row_fails_when_it_is_asked_for(raw):
    raw["tables"]["empty"] = {"data": ["flickr8k"], "mt": ["lexicon"], "methods": ["baseline"]}
    plan = params.plan(params.validate(raw))
    assert plan.needs("results/vatex_table.csv")
    for ask in (plan.job, plan.needs):
        with pytest.raises(CcrError) as error:
            ask("results/empty.csv")
        assert "tables.empty: none of its rows can be made" in str(error.value)
        assert "flickr8k, lexicon, mobilenet_v2: translation variant 'lexicon'" in str(error.value)


def test_published_figures_stand_only_beside_official_data_with_the_same_features(raw):
    def published(raw):
        job = params.plan(params.validate(raw)).job("results/vatex_table.csv")
        return {row["method"]: row["published"] for row in job.settings["rows"]}

    raw["methods"]["nrccr_fusion"] = {"like": "baseline"}
    raw["tables"]["vatex_table"]["methods"] = ["baseline", "nrccr_fusion"]
    assert published(copy.deepcopy(raw)) == {"baseline": None, "nrccr_fusion": None}
    raw["datasets"]["vatex"] |= {"source": "official", "mt": "google", "visual": "i3d"}
    figures = published(copy.deepcopy(raw))
    assert figures["baseline"] is None
    assert figures["nrccr_fusion"]["sumr"] == 366.5
    raw["datasets"]["vatex"]["visual"] = "clip_b32"
    assert published(raw)["nrccr_fusion"] is None


@pytest.fixture
def paper(tmp_path):
    """params.yaml with preset `paper`."""
    file = tmp_path / "params.yaml"
    file.write_text(FILE.read_text())
    params.use("paper", file)
    return yaml.safe_load(file.read_text())


def test_preset_paper_has_the_settings_of_the_papers_and_published_figures_in_all_their_tables(paper):
    plan = params.plan(params.validate(paper))
    shown = {}
    for table in ("vatex_table", "msrvtt_cn_table", "multi30k_table", "mscoco_table"):
        rows = plan.job(f"results/{table}.csv").settings["rows"]
        assert {row["text_encoder"] for row in rows} == {"bert-base-multilingual-cased"}
        assert {row["data"] for row in rows} == {"official"}
        assert {row["method"] for row in rows} == set(plan.params.tables[table].methods)  # none is left out
        students = [job.settings for job in plan.needs(f"results/{table}.csv") if job.settings.get("role") == "student"]
        assert {(student["batch"], student["epochs"]) for student in students} == {(128, 50)}
        frames = {student["network"]["visual"]["max_frames"] for student in students}
        assert frames == ({64} if table in ("vatex_table", "msrvtt_cn_table") else {1})
        shown |= {(row["dataset"], row["target_lang"]): row["published"]["sumr"] for row in rows if row["published"]}
    assert shown["vatex", "zh"] == 366.5 and shown["msrvtt_cn", "zh"] == 308.0
    assert {task: {lang for name, lang in shown if name == task} for task, _ in shown} == {
        "vatex": {"zh"},
        "msrvtt_cn": {"zh"},
        "multi30k_task1": {"de", "fr", "cs"},
        "multi30k_task2": {"de", "fr", "cs"},
        "mscoco": {"zh", "ja"},
    }


@pytest.mark.parametrize(
    ("table", "dataset", "options"),
    [
        ("mscoco_table", "mscoco", {"split": "karpathy"}),
        ("multi30k_table", "multi30k_task1", {"task": 1, "test": "test_2017_flickr"}),
    ],
)
def test_published_figures_do_not_stand_beside_another_test_set(paper, table, dataset, options):
    paper["datasets"][dataset]["options"] = options
    rows = params.plan(params.validate(paper)).job(f"results/{table}.csv").settings["rows"]
    assert not any(row["published"] for row in rows if row["dataset"] == dataset)


def test_a_missing_data_root_says_what_is_expected_and_how_to_do_without(raw, tmp_path):
    raw["datasets"]["flickr8k"]["root"] = str(tmp_path / "nowhere")
    with pytest.raises(CcrError) as error:
        params.plan(params.validate(raw)).job("data/flickr8k/captions.parquet")
    for part in ("datasets.flickr8k.root", "nowhere", "caption.txt", "source: synthetic"):
        assert part in str(error.value)


NOISY = "data/vatex-synthetic/translations/lexicon_substitute20/zh{}.parquet"
CLEAN = "data/vatex-synthetic/translations/lexicon/zh{}.parquet"


def test_noise_is_put_on_the_clean_variants_files(plan):
    forward, back = plan.job(NOISY.format("")), plan.job(NOISY.format(".back"))
    assert forward.inputs == {"clean": CLEAN.format("")}
    assert forward.outputs == {"translations": NOISY.format("")}  # the word alignment is the clean variant's
    assert forward.settings["noise"] == {"kind": "substitute", "rate": 0.2, "seed": 0}
    assert back.inputs["forward"] == NOISY.format("")
    assert (back.inputs["clean"], back.inputs["clean_back"]) == (CLEAN.format(""), CLEAN.format(".back"))
    needed = [job.target for job in plan.needs(back.target)]
    assert needed.index(CLEAN.format("")) < needed.index(CLEAN.format(".back")) < needed.index(back.target)
    assert "noise" not in plan.job(CLEAN.format("")).settings


def test_rows_on_noisy_translations_are_tested_with_clean_queries(raw):
    raw["tables"]["vatex_table"] |= {"mt": ["lexicon", "lexicon_substitute20"], "methods": ["nrccr", "nrccr_fusion"]}
    plan = params.plan(params.validate(raw))
    run = plan.job("results/runs/vatex-synthetic/lexicon_substitute20/descriptor/zh/nrccr/seed0")
    assert run.inputs["translations"] == [NOISY.format("")] and run.inputs["back"] == [NOISY.format(".back")]
    assert run.digest == plan.job(RUN.format("nrccr")).digest  # so noise of rate 0 gives the same result
    folder = "results/evaluations/vatex-synthetic/lexicon_substitute20/descriptor/zh/nrccr_fusion/seed0"
    assert plan.job(folder).inputs["queries"] == CLEAN.format(".queries")
    rows = plan.job("results/vatex_table.csv").settings["rows"]
    assert {row["mt"] for row in rows} == {"lexicon", "lexicon_substitute20"}


def test_the_rate_of_one_variant_touches_only_its_translations(raw):
    raw["tables"]["vatex_table"]["mt"] = ["lexicon", "lexicon_substitute20", "lexicon_substitute40"]
    touched = changed(raw, "translate.variants.lexicon_substitute20.noise.rate", 0.3)
    assert {t for t in touched if not t.endswith(".csv")} == {NOISY.format(""), NOISY.format(".back")}


def test_a_filter_changes_what_the_variant_without_it_has_noise_and_all(raw):
    raw["translate"]["variants"] |= {
        "strict": {"like": "lexicon_substitute20", "filter": {"min_chrf": 30}},
        "mild": {"like": "strict", "filter": {"weight": 0.5}},
    }
    raw["methods"]["baseline"]["mt"] = "mild"
    raw["methods"]["nrccr"]["mt"] = "strict"
    plan = params.plan(params.validate(raw))
    strict = "data/vatex-synthetic/translations/strict/zh{}.parquet"
    forward, back = plan.job(strict.format("")), plan.job(strict.format(".back"))
    assert forward.inputs["whole"] == NOISY.format("") and forward.inputs["whole_back"] == NOISY.format(".back")
    assert forward.outputs["weights"] == strict.format(".weights")
    assert back.inputs == {"forward": strict.format(""), "whole_back": NOISY.format(".back")}
    assert plan.job(forward.outputs["translations"].replace("strict", "mild")).settings["filter"]["min_chrf"] == 30
    runs = "results/runs/vatex-synthetic/{}/descriptor/zh/{}/seed0"
    assert "weights" not in plan.job(runs.format("strict", "nrccr")).inputs  # bad pairs are dropped
    mild = strict.replace("strict", "mild")
    assert plan.job(runs.format("mild", "baseline")).inputs["weights"] == [mild.format(".weights")]


NEURAL = "data/flickr8k/translations/opus/zh{}.parquet"


def test_shards_share_the_work_and_change_nothing_else(raw):
    raw["translate"]["variants"]["opus"] = {"engine": "transformers"}
    alone = params.plan(params.validate(raw)).job(NEURAL.format(""))
    raw["translate"]["shards"] = 3
    plan = params.plan(params.validate(raw))
    for suffix in ("", ".back", ".queries"):
        gathering = plan.job(NEURAL.format(suffix))
        assert gathering.after == tuple(f"work/tm/shards/flickr8k/opus/zh{suffix}/{n}of3.parquet" for n in range(3))
        shards = [plan.job(path) for path in gathering.after]
        assert [shard.settings["shard"] for shard in shards] == [{"number": n, "of": 3} for n in range(3)]
        assert all(shard.inputs == gathering.inputs and shard.stage == "translate" for shard in shards)
    assert (plan.job(NEURAL.format("")).digest, plan.job(NEURAL.format("")).inputs) == (alone.digest, alone.inputs)
    assert plan.job("data/flickr8k/translations/google/zh.parquet").after == ()  # a lookup is no work to share


def test_trainings_and_neural_models_ask_for_a_gpu_and_nothing_else_does(raw):
    raw["translate"]["variants"]["opus_noise"] = {"like": "opus", "noise": {"kind": "drop", "rate": 0.5}}
    noisy = NEURAL.replace("opus", "opus_noise")
    plan = params.plan(params.validate(raw))
    planned = [job for job in plan.jobs.values() if job.stage == "train"]
    others = [job for job in plan.jobs.values() if job.stage not in ("train", "features", "translate")]
    assert {job.gpus for job in planned} == {1}
    assert {job.gpus for job in others} == {0}
    assert [plan.job(NEURAL.format(suffix)).gpus for suffix in ("", ".back", ".queries")] == [1, 1, 1]
    assert plan.job(NEURAL.format("")).threads == raw["translate"]["threads"]
    assert plan.job(noisy.format("")).gpus == 0  # words are dropped from existing translations
    assert plan.job(noisy.format(".back")).gpus == 1  # translates the noisy texts back
    assert plan.job("data/vatex-synthetic/translations/lexicon/zh.parquet").gpus == 0
    assert plan.job("data/vatex-synthetic/features/clip_vit_b32.parquet").gpus == 1
    assert plan.job("data/vatex-synthetic/features/descriptor.parquet").gpus == 0


def test_shards_ask_for_a_gpu_and_what_gathers_them_does_not(raw):
    raw["translate"]["shards"] = raw["features"]["shards"] = 2
    plan = params.plan(params.validate(raw))
    for target in (NEURAL.format(""), "data/vatex-synthetic/features/clip_vit_b32.parquet"):
        gathering = plan.job(target)
        assert gathering.gpus == 0
        assert [plan.job(path).gpus for path in gathering.after] == [1, 1]


def test_published_translations_are_named_after_the_root_whether_or_not_it_says_that_it_is_like_none(raw):
    raw["translate"]["variants"] |= {
        "g2": {"engine": "precomputed", "like": None},
        "g3": {"like": "g2", "lacking": 0.1},
    }
    plan = params.plan(params.validate(raw))
    assert plan.job("data/flickr8k/translations/g3/zh.parquet").settings["options"]["published"] == "g2"


def test_noise_may_be_inherited_and_taken_away(raw):
    raw["translate"]["variants"] |= {
        "stronger": {"like": "google_swap20", "noise": {"rate": 0.5}},
        "none_again": {"like": "google_swap20", "noise": None},
    }
    plan = params.plan(params.validate(raw))
    stronger = plan.job("data/flickr8k/translations/stronger/zh.parquet")
    assert stronger.settings["noise"] == {"kind": "swap", "rate": 0.5, "seed": 0}
    assert stronger.inputs == {"clean": "data/flickr8k/translations/google/zh.parquet"}
    assert "captions" in plan.job("data/flickr8k/translations/none_again/zh.parquet").inputs


def test_translations_that_no_table_asks_for_can_be_made(plan):
    targets = set(plan.jobs)
    assert plan.job("data/flickr8k/translations/google_swap20/zh.parquet").target not in targets
    with pytest.raises(CcrError, match="plans no such job"):  # the mini-world's engine cannot translate real captions
        plan.job("data/flickr8k/translations/lexicon/zh.parquet")
    assert 'noise: {"kind": "swap"' in ccr("plan", "data/flickr8k/translations/google_swap20/zh.parquet").stdout


def test_an_unplanned_target_names_its_nearest(plan):
    with pytest.raises(CcrError, match="Nearest: results/vatex_table.csv"):
        plan.job("results/vatex_tabel.csv")


@pytest.mark.parametrize("preset", ["laptop", "pretrained", "smoke", "paper"])
def test_presets_are_edits_that_leave_the_rest_and_come_back(preset, tmp_path):
    file = tmp_path / "params.yaml"
    file.write_text(FILE.read_text())
    params.use(preset, file)
    assert params.differences(file) == []
    assert params.load(file).preset == preset
    plan = params.plan(params.load(file))
    assert all(plan.job(f"results/{table}.csv").settings["rows"] for table in plan.params.tables)
    params.use("laptop", file)
    assert file.read_text() == FILE.read_text()


def test_a_preset_passes_over_entries_and_terms_that_are_gone(raw, tmp_path):
    file = tmp_path / "params.yaml"
    del raw["datasets"]["mscoco"], raw["tables"]["mscoco_table"]
    raw["teachers"]["cl"]["objectives"]["words"] = raw["teachers"]["cl"]["objectives"].pop("word_alignment")
    del raw["teachers"]["cl_unmasked"]["objectives"], raw["datasets"]["multi30k_task2"]["train"]
    file.write_text(yaml.safe_dump(raw, sort_keys=False))
    gone = [f"datasets.multi30k_task2.train.{role}.network" for role in ("student", "teacher")]
    assert [key for key, _, _ in params.differences(file)] == gone
    params.use("smoke", file)
    assert params.differences(file) == []
    read = params.read(file)
    assert "mscoco" not in read["datasets"] and "word_alignment" not in read["teachers"]["cl"]["objectives"]
    assert read["datasets"]["multi30k_task2"]["train"]["student"] == {"network": "small"}


@pytest.mark.parametrize(("file", "named"), [("other.yaml", "other.yaml"), ("work/params/0a.yaml", "params.yaml")])
def test_messages_name_the_file(raw, in_a_folder_of_its_own, file, named):
    """Of a snapshot that Snakemake keeps for its jobs, the file that it was taken from."""
    Path("work/params").mkdir(parents=True)
    raw["tables"]["empty"] = {"data": ["flickr8k"], "mt": ["lexicon"], "methods": ["baseline"]}
    Path(file).write_text(yaml.safe_dump(raw))
    with pytest.raises(CcrError, match=rf"^{named}: tables.empty: none of its rows"):
        params.plan(params.load(file)).job("results/empty.csv")
    with pytest.raises(CcrError, match=rf"^{named}: preset: unknown preset 'smok'"):
        params.use("smok", file)
    raw["train"]["student"] |= {"clip_norm": 0, "gradient_every": -1}
    Path(file).write_text(yaml.safe_dump(raw))
    for door in (params.load, lambda path: params.use("pretrained", path)):
        with pytest.raises(CcrError) as error:
            door(file)
        lines = str(error.value).splitlines()
        assert lines and all(line.startswith(f"{named}: train.student.") for line in lines)


def test_the_file_is_its_preset():
    assert params.differences(FILE) == []


def test_an_unknown_preset_leaves_the_file(tmp_path):
    file = tmp_path / "params.yaml"
    file.write_text(FILE.read_text())
    with pytest.raises(CcrError, match="smoke"):
        params.use("smok", file)
    assert file.read_text() == FILE.read_text()


def ccr(*arguments):
    return subprocess.run([sys.executable, "-m", "ccr", *arguments], capture_output=True, text=True, cwd=FILE.parent)


def test_plan_prints_every_job_with_its_settings():
    done = ccr("plan", "vatex_table", "--json")
    jobs = [json.loads(line) for line in done.stdout.splitlines()]
    student = next(j for j in jobs if j["target"].endswith("zh/baseline/seed0") and j["stage"] == "train")
    assert student["settings"]["objectives"]["vs"]["mask_same_item"] is True
    assert "tau_teacher" in ccr("plan", "vatex_table").stdout


def test_the_command_line_says_it_in_one_line_and_fails(tmp_path):
    file = tmp_path / "params.yaml"
    file.write_text(FILE.read_text().replace("source: synthetic", "source: sinthetic"))
    done = ccr("plan", "vatex_table", "--params", str(file))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "datasets.vatex.source" in done.stderr and "did you mean 'synthetic'" in done.stderr


def test_light_modules_do_not_import_torch():
    code = "import sys; import ccr.cli; sys.exit(any(m in sys.modules for m in ('torch', 'transformers', 'pandas')))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_languages_are_bcp_47_tags(raw):
    raw["datasets"]["flickr8k"]["target_langs"] = ["deu", "zh-TW", "no"]
    assert params.validate(raw).datasets["flickr8k"].target_langs == ["de", "zh-Hant", "no"]
    for langs, message in (
        (["de", "xx"], r"datasets.flickr8k.target_langs.1: unknown language 'xx': did you mean 'xh' \(Xhosa\)\?"),
        (["de", "de-DE"], "'de' stands there twice"),
        ([False], 'write Norwegian as "no"'),
        (["en"], "'en' is the source language"),
    ):
        raw["datasets"]["flickr8k"]["target_langs"] = langs
        with pytest.raises(CcrError, match=message):
            params.validate(raw)
    raw["datasets"]["vatex"]["target_langs"] = ["sw"]
    with pytest.raises(CcrError, match="datasets.vatex.target_langs: unknown language of the mini-world 'sw'"):
        params.validate(raw)
