"""The command line: one subcommand per stage, each of which makes one target of the plan."""

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Annotated

import typer
from typer.core import TyperGroup

from ccr import params
from ccr.artifacts.jobs import Job, dump_job
from ccr.artifacts.memo import adopt, forget, unneeded
from ccr.artifacts.refusals import for_people
from ccr.artifacts.runs import evaluations_of, run_files
from ccr.errors import CcrError
from ccr.log import start_log
from ccr.notes import note
from ccr.running import evaluate_ahead, execute

app = typer.Typer(
    help="Reproducible cross-lingual cross-modal retrieval: captions in, a table of results out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
log = logging.getLogger("ccr")

ParamsFile = Annotated[Path, typer.Option("--params", help="The settings to obey.", show_default=True)]
PARAMS = Path("params.yaml")
Target = Annotated[str, typer.Argument(help="What to make.")]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A trained run's folder.")]

STAGES = {
    "world": "Publish the synthetic mini-world as raw data: data/raw/{data}.",
    "captions": "Import a raw data set: data/{data}/captions.parquet, or sentence pairs: data/{data}/parallel/...",
    "translate": "Translate captions: data/{data}/translations/{mt}/{lang}[.back|.queries].parquet, or judge "
    "them: {lang}.quality.json.",
    "features": "Extract or import features: data/{data}/features/{visual}.parquet.",
    "train": "Train a teacher or student: results/{teachers,runs}/.../seed{n}.",
    "evaluate": "Evaluate a run: results/evaluations/.../seed{n}.",
    "tables": "Make a table: results/{table}.csv.",
}


def _make(stage: str, target: str, file: Path, run: Path | None = None) -> None:
    plan = params.plan(params.load(file))
    job = plan.job(target)
    if job.stage != stage:
        raise CcrError(f"{target} is made by `ccr {job.stage}`, not `ccr {stage}`.")
    if run is not None:
        plan.jobs[job.target] = _of_run(job, run)
    job = plan.keyed(target)
    execute(job)
    if run is None:
        note(job)
    if stage == "train":
        evaluate_ahead(plan, job)


def _of_run(job: Job, run: Path) -> Job:
    """The evaluation `job` of another run directory, with its results in that run's folder evaluation/."""
    folder = run / "evaluation"
    outputs = {role: str(folder / Path(path).name) for role, path in job.outputs.items()}
    return replace(job, target=str(folder), inputs=job.inputs | run_files(run), outputs=outputs)


def _stage_command(stage: str) -> Callable[..., None]:
    def command(target: Target, file: ParamsFile = PARAMS) -> None:
        _make(stage, target, file)

    return command


def _evaluate(
    target: Target,
    run: Annotated[
        Path | None, typer.Option(help="Score this run directory instead; results go to its folder evaluation/.")
    ] = None,
    file: ParamsFile = PARAMS,
) -> None:
    _make("evaluate", target, file, run)


class _CaptionsGroup(TyperGroup):
    """`ccr captions TARGET` is `ccr captions import TARGET`: as with every stage, the target is enough."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, args if args and args[0] in (*self.commands, "--help") else ["import", *args])


captions = typer.Typer(cls=_CaptionsGroup, help=STAGES["captions"])
captions.command("import", help=STAGES["captions"])(_stage_command("captions"))


@captions.command("check")
def check_captions(
    root: Annotated[Path, typer.Argument(metavar="ROOT", help="A folder of raw data.")], file: ParamsFile = PARAMS
) -> None:
    """Say what a folder of raw data holds, what is missing, what would be put right, what its splits share, and which
    tables could run on it. Imports nothing.
    """
    for line in import_module("ccr.captions.inventory").inventory(root, params.load(file)):
        print(line)


for _stage, _text in STAGES.items():
    if _stage == "captions":
        app.add_typer(captions, name=_stage)
    else:
        app.command(_stage, help=_text)(_evaluate if _stage == "evaluate" else _stage_command(_stage))


@app.command("import-nrccr")
def import_nrccr(
    file: Annotated[Path, typer.Argument(help="A checkpoint of the authors' code (model_best.pth.tar).")],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The run directory to write.")],
    text_encoder: Annotated[
        str, typer.Option(help="Name or folder of the transformer it was trained with.")
    ] = "bert-base-multilingual-cased",
) -> None:
    """Import a published NRCCR checkpoint; `ccr evaluate TARGET --run DIR` scores it."""
    import_module("ccr.networks.published").import_checkpoint(file, folder, text_encoder)
    log.info("%s: imported from %s", folder, file)


@app.command("embed")
def embed(
    run: RunFolder,
    collection: Annotated[
        Path,
        typer.Argument(metavar="COLLECTION", help="Features (.parquet), or a text file with a query a line."),
    ],
    output: Annotated[Path, typer.Argument(metavar="FILE", help="The embeddings to write (.safetensors).")],
    keep_entities: Annotated[
        bool, typer.Option("--keep-entities", help="Leave HTML entities in queries (&amp;) as they are.")
    ] = False,
    file: ParamsFile = PARAMS,
) -> None:
    """Write the embeddings of a collection of items, or of queries: galleries to search without the network."""
    batch = params.load(file).evaluate.batch
    entities = "keep" if keep_entities else "decode"
    count = import_module("ccr.evaluate.encoder").embed(run_files(run), collection, output, batch, entities)
    log.info("%s: %s embeddings", output, f"{count:,}")


@app.command("search")
def search(
    run: RunFolder,
    collection: Annotated[str, typer.Argument(metavar="COLLECTION", help="data/{data}/features/{visual}.parquet")],
    query: Annotated[str | None, typer.Argument(help="A sentence; without one, the search page is served.")] = None,
    compare: Annotated[Path | None, typer.Option(metavar="RUN", help="Another run, shown next to the first.")] = None,
    split: Annotated[str, typer.Option(help="Which items: test, val, train or all.")] = "test",
    top: Annotated[int, typer.Option(min=1, help="How many items to print.")] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object a line.")] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of the page; 0 for any that is free.")] = 8600,
    file: ParamsFile = PARAMS,
) -> None:
    """Search a collection with a sentence, or serve a page to do so on this machine."""
    settings = params.load(file)
    job = params.plan(settings).find(collection)
    runs = [run] if compare is None else [run, compare]
    terminal = import_module("ccr.search.terminal")
    found = terminal.searchers(runs, [run_files(r) for r in runs], collection, job, split, settings.evaluate.batch)
    if query is None:
        terminal.page(found, runs, port)
    else:
        for line in terminal.hits(found, query, top, as_json):
            print(line)


@app.command("report")
def report(
    table: Annotated[str, typer.Argument(help="A table's name.")],
    file: ParamsFile = PARAMS,
) -> None:
    """Write the report of a table that has been made: results/report/{table}.html."""
    plan = params.plan(params.load(file))
    job = plan.job(f"results/{table}.csv")
    import_module("ccr.report.made").check(plan, job)
    import_module("ccr.report.page").write(plan, job, params.differences(file), f"results/report/{table}.html")


exports = typer.Typer(no_args_is_help=True, help="Trained runs for other programs.")
app.add_typer(exports, name="export")
NewFolder = Annotated[Path, typer.Argument(metavar="DIR", help="The folder to write; it must not be there.")]


@exports.command("onnx")
def export_onnx(run: RunFolder, folder: NewFolder) -> None:
    """Write a run for ONNX Runtime: text.onnx, visual.onnx (from features), the tokenizer and a model card."""
    import_module("ccr.export.onnx").export(run_files(run), folder, evaluations_of(run))
    log.info("%s: written", folder)


@exports.command("sentence-transformers")
def export_sentence_transformers(run: RunFolder, folder: NewFolder) -> None:
    """Write a run's text side for SentenceTransformer(DIR, trust_remote_code=True)."""
    import_module("ccr.export.sentence_transformers").export(run_files(run), folder, evaluations_of(run))
    log.info("%s: written", folder)


@exports.command("mteb")
def export_mteb(run: RunFolder, folder: NewFolder, file: ParamsFile = PARAMS) -> None:
    """Write a run for MTEB: mteb.evaluate(ccr.export.mteb_student.Student(DIR), tasks)."""
    plan = params.plan(params.load(file))
    job = plan.find(str(run))
    features = plan.find(job.inputs["features"]) if job and "features" in job.inputs else None
    import_module("ccr.export.mteb").export(run_files(run), folder, evaluations_of(run), features)
    log.info("%s: written", folder)


@app.command("align")
def align(
    source: Annotated[str, typer.Argument(help="A sentence.")],
    target: Annotated[str, typer.Argument(help="Its translation.")],
    teacher: Annotated[Path, typer.Option(metavar="DIR", help="A trained teacher's folder, or a student's.")],
    figure: Annotated[Path, typer.Option(metavar="FILE", help="The heat map: .svg, .png or .pdf.")] = Path(
        "alignment.svg"
    ),
) -> None:
    """Print which words of two sentences belong together and draw the plan between them."""
    for line in import_module("ccr.alignment.sentences").align(source, target, teacher, figure):
        print(line)


@app.command("export-captions")
def export_captions(
    target: Annotated[str, typer.Argument(help="Translations: data/{data}/translations/{mt}/{lang}[.back].parquet.")],
    text: Annotated[Path, typer.Argument(metavar="FILE", help="The text file to write.")],
    split: Annotated[str, typer.Option(help="train, val or test.")] = "train",
    file: ParamsFile = PARAMS,
) -> None:
    """Write translations as caption lines that other code reads: {item}#{tag}#{n} {text}."""
    job = params.plan(params.load(file)).job(target)
    if "translations" not in job.outputs:
        raise CcrError(f"{target} holds no translations, and only these are exported.")
    import_module("ccr.captions.visualsearch").export(job, split, text)


@app.command("plan")
def show_plan(
    target: Annotated[str, typer.Argument(help="A table's name, or any target.")],
    as_json: Annotated[bool, typer.Option("--json", help="The jobs as JSON, one per line.")] = False,
    file: ParamsFile = PARAMS,
) -> None:
    """List every job that a table needs, in order, with its resolved settings."""
    plan = params.plan(params.load(file))
    if target in plan.params.sections:
        target = f"results/{target}.csv"
    for job in plan.needs(target):
        if as_json:
            print(json.dumps(dump_job(job)))
        else:
            print(f"{job.stage:10s}{job.target}")
            for name, value in job.settings.items():
                if job.stage != "tables":
                    print(f"{'':12s}{name}: {json.dumps(value, ensure_ascii=False)}")


@app.command("explain")
def explain_key(
    key: Annotated[str, typer.Argument(help="A key: of a table's row, or of any result (its first digits).")],
    file: ParamsFile = PARAMS,
) -> None:
    """Print which settings made a result, job by job back to the raw data, and what params.yaml now says otherwise."""
    for line in import_module("ccr.explain").explain(key, params.plan(params.load(file))):
        print(line)


presets = typer.Typer(no_args_is_help=True, help="Presets: sets of edits to params.yaml.")
app.add_typer(presets, name="params")


@presets.command("use")
def use_preset(
    preset: Annotated[str, typer.Argument(help="laptop, pretrained, smoke or paper.")], file: ParamsFile = PARAMS
) -> None:
    """Write a preset's values into params.yaml; comments stay."""
    for path, old, new in params.use(preset, file):
        print(f"{path}: {json.dumps(old)} -> {json.dumps(new)}")


@presets.command("check")
def check_params(file: ParamsFile = PARAMS) -> None:
    """Validate params.yaml and list what differs from its preset."""
    plan = params.plan(params.load(file))
    for path, value, preset in params.differences(file):
        print(f"{path}: {json.dumps(value)} (preset {plan.params.preset}: {json.dumps(preset)})")
    print(f"{file}: valid; {len(plan.jobs)} jobs in {len(plan.params.sections)} tables")


tm = typer.Typer(no_args_is_help=True, help="The translation memory: sentences that engines have translated.")
app.add_typer(tm, name="tm")
MemoryFile = Annotated[Path, typer.Argument(metavar="FILE", dir_okay=False, help="A Parquet file.")]


@tm.command("export")
def export_memory(path: MemoryFile) -> None:
    """Write the whole memory into one file, so that a colleague need not translate again."""
    print(f"{_memory().export(path):,} sentences in {path}")


@tm.command("import")
def import_memory(path: MemoryFile) -> None:
    """Take the sentences of an exported file into the memory."""
    print(f"{_memory().absorb(path):,} new sentences from {path}")


@tm.command("forget-refused")
def forget_refused() -> None:
    """Let sentences that were refused be tried again. No translation may be running."""
    print(f"{_memory().forget_refused():,} refused sentences forgotten")


def _memory() -> ModuleType:
    return import_module("ccr.translate.memory")


memo = typer.Typer(no_args_is_help=True, help="The memo: results by the key of what made them.")
app.add_typer(memo, name="memo")


@memo.command("adopt")
def adopt_results(file: ParamsFile = PARAMS) -> None:
    """Take results that lie in data/ and results/ (pulled, say) into the memo, where their key is the plan's."""
    plan, adopted = params.plan(params.load(file)), 0
    damaged = []
    for job in plan.jobs.values():
        try:
            adopted += adopt(job)
        except CcrError as error:
            damaged.append(str(error))
    print(f"{adopted} of {len(plan.jobs)} jobs are in the memo")
    if damaged:
        raise CcrError("\n".join(damaged))


@memo.command("verify")
def verify_results(
    every: Annotated[
        bool, typer.Option("--all", help="Read all bytes again, also of files that have not changed.")
    ] = False,
    file: ParamsFile = PARAMS,
) -> None:
    """Check the bytes of the memo, of results and of cached arrays, and name the rows that rest on damaged ones."""
    damaged = 0
    for line in import_module("ccr.verify").verify(params.plan(params.load(file)), every):
        print(line)
        damaged += 1
    if damaged:
        raise CcrError("damaged: what is named above. Delete those files; what needs them makes them again.")
    print("all is as it was written")


@memo.command("gc")
def collect(
    older_than: Annotated[
        float, typer.Option(metavar="DAYS", min=0, help="Only what was of no use for so long.")
    ] = 0.0,
    down_to: Annotated[
        float | None, typer.Option(metavar="GB", min=0, help="Only until the memo is no larger, longest unused first.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be deleted, and delete nothing.")] = False,
    file: ParamsFile = PARAMS,
) -> None:
    """Delete what no job of params.yaml needs from the memo."""
    entries = unneeded(params.plan(params.load(file)).jobs.values(), older_than, down_to)
    for entry in entries:
        log.info("%s %s: %s MB", entry.folder.name[:12], entry.target, f"{entry.size / 1e6:,.1f}")
        if not dry_run:
            forget(entry)
    print(
        f"{len(entries)} entries, {sum(e.size for e in entries) / 1e6:,.1f} MB {'to be freed' if dry_run else 'freed'}"
    )


@app.command("doctor")
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, for bug reports.")] = False,
    file: ParamsFile = PARAMS,
) -> None:
    """Say what this machine has, what the tables of params.yaml need, and what is wrong. Makes nothing."""
    examination = import_module("ccr.doctor")
    sections = examination.examine(file)
    print(examination.as_json(sections) if as_json else examination.as_text(sections))
    if any(section.missing for section in sections):
        raise SystemExit(1)


def main() -> None:
    """Entry point: a `CcrError` or a refused write ends in a message and exit status 1, without a traceback."""
    start_log()
    with for_people():
        app()
