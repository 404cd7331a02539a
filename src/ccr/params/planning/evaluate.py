"""Planning of stage evaluate: methods on human test captions, and teachers' word alignment."""

from ccr import languages
from ccr.artifacts.jobs import Job
from ccr.errors import CcrError
from ccr.params.entries import clean_variant, in_force
from ccr.params.planning.captions import captions
from ccr.params.planning.context import Planning
from ccr.params.planning.features import features
from ccr.params.planning.train import encoder_folder, encoders, states, student, teacher, trained_on
from ccr.params.planning.translate import translation
from ccr.params.schema import Raw


def label(planning: Planning, dataset: str, mt: str, lang: str, name: str) -> str:
    """The translation variant that a method's results are filed under: the table's if it trains or asks with that.

    Else the method's own, of its training or of its queries.
    """
    method, home = planning.params.methods[name], planning.home(dataset)
    trained = trained_on(planning, home, mt, learnt(planning, dataset, lang), method.uses or name)[0]
    if "translated" in method.queries and (method.mt is None or trained == "none"):
        return method.mt or mt
    return trained


def learnt(planning: Planning, dataset: str, lang: str) -> str:
    """The target language of the runs that are evaluated in `lang`, if each run has only one.

    For a data set evaluated with another's runs: `lang` itself or a variety of it, else the only target language of
    these runs (zero-shot), else `lang`, for which there are none.
    """
    targets = planning.params.datasets[planning.home(dataset)].target_langs
    only = targets[0] if len(targets) == 1 else lang
    return lang if lang in targets else languages.variety(lang, tuple(targets)) or only


def run_of(planning: Planning, dataset: str, mt: str, visual: str, lang: str, name: str, seed: int) -> Job:
    """The training job of the student that a method is evaluated with."""
    trained = planning.params.methods[name].uses or name
    return student(planning, planning.home(dataset), mt, visual, learnt(planning, dataset, lang), trained, seed)


def evaluation(planning: Planning, dataset: str, mt: str, visual: str, lang: str, name: str, seed: int) -> Job:
    """A method's evaluation on the human test captions of one language: outputs `metrics` and `ranks`."""
    labelled = label(planning, dataset, mt, lang, name)
    target = f"results/evaluations/{planning.data(dataset)}/{labelled}/{visual}/{lang}/{name}/seed{seed}"
    return planning.once(target, lambda: _evaluation(planning, dataset, mt, visual, lang, name, seed, target))


def _evaluation(
    planning: Planning, dataset: str, mt: str, visual: str, lang: str, name: str, seed: int, target: str
) -> Job:
    method, settings = planning.params.methods[name], planning.params.evaluate
    run = run_of(planning, dataset, mt, visual, lang, name, seed)
    imported = captions(planning, dataset).outputs
    inputs = {
        **{role: imported[role] for role in ("captions", "items")},
        "features": features(planning, dataset, visual).outputs["features"],
        **{role: run.outputs[role] for role in ("model", "config", "tokenizer")},
        **encoder_folder(run.settings),
    }
    if planning.home(dataset) != dataset:
        inputs["trained_items"] = captions(planning, planning.home(dataset)).outputs["items"]
    if "translated" in method.queries:
        queries = translation(planning, dataset, method.mt or mt, lang, "queries")
        inputs["queries"] = queries.outputs["translations"]
    texts = [inputs["captions"], *([inputs["queries"]] if "queries" in inputs else [])]
    files = ["metrics.json", "ranks.parquet", *["embeddings.safetensors"] * settings.embeddings]
    threads = planning.params.train.threads
    return Job(
        stage="evaluate",
        target=target,
        inputs=inputs,
        outputs={file.split(".")[0]: f"{target}/{file}" for file in files},
        settings={
            "lang": lang,
            "queries": dict(method.queries),
            "fusion": in_force(method).get("fusion", "standardise"),
            "batch": settings.batch,
            "threads": threads,
        },
        module="ccr.evaluate.retrieval",
        entries=tuple(encoders(run.settings)),
        threads=threads,
        after=states(planning, dataset, run.settings, texts),
    )


def alignment(planning: Planning, dataset: str, mt: str, lang: str, name: str, seed: int, solver: Raw) -> Job:
    """A teacher's word alignment, judged on the val translations of the clean variant, whose alignment is known."""
    target = f"results/alignments/{planning.data(dataset)}/{mt}/{lang}/{name}/seed{seed}"
    threads = planning.params.train.threads

    def make() -> Job:
        run = teacher(planning, dataset, mt, [lang], name, seed)
        clean = translation(planning, dataset, clean_variant(planning.params, mt), lang, "forward")
        return Job(
            stage="evaluate",
            target=target,
            inputs={
                "captions": captions(planning, dataset).outputs["captions"],
                **clean.outputs,
                **{role: run.outputs[role] for role in ("model", "config", "tokenizer")},
                **encoder_folder(run.settings),
            },
            outputs={"metrics": f"{target}/metrics.json"},
            settings={"solver": dict(solver), "batch": planning.params.evaluate.batch, "threads": threads},
            module="ccr.evaluate.alignment",
            entries=tuple(encoders(run.settings)),
            threads=threads,
        )

    job = planning.once(target, make)
    if job.settings["solver"] != dict(solver):
        raise CcrError(
            f"params.yaml: alignments: two tables judge the teacher {name!r} of {dataset} with different solvers, and "
            "both results would have one path. Name the teacher twice (`cl_other: {like: cl}`, which the memo gives "
            "without a second training), one for each table."
        )
    return job
