"""A job's key covers all the code that the job uses and no more: edits on a copy of the source tree."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ccr import registry
from ccr.artifacts.code import closure

DIGESTS = """
import json, sys
from ccr import params
plan = params.plan(params.load(sys.argv[1]))
print(json.dumps({job.target: [job.stage, job.digest, job.settings, job.module] for job in plan.jobs.values()}))
"""


class Tree:
    """A copy of the source code."""

    def __init__(self, folder: Path, params: Path):
        self.folder, self._params = folder, params

    def append(self, file: str, text: str = "REMARK = 1") -> None:
        with (self.folder / "ccr" / file).open("a") as code:
            code.write(f"\n{text}\n")

    def replace(self, file: str, old: str, new: str) -> None:
        path = self.folder / "ccr" / file
        text = path.read_text()
        assert text.count(old) == 1, (file, old)
        path.write_text(text.replace(old, new))

    def jobs(self) -> dict[str, list]:
        """Target -> stage, digest of settings and code, settings, module: of every job that params.yaml plans."""
        command = [sys.executable, "-c", DIGESTS, str(self._params)]
        output = subprocess.run(command, env={"PYTHONPATH": str(self.folder)}, capture_output=True, text=True)
        assert output.returncode == 0, output.stderr
        return json.loads(output.stdout)


@pytest.fixture
def tree(tmp_path, repository) -> Tree:
    shutil.copytree(repository / "src/ccr", tmp_path / "ccr")
    return Tree(tmp_path, repository / "params.yaml")


@pytest.fixture(scope="module")
def before(repository) -> dict[str, list]:
    return Tree(repository / "src", repository / "params.yaml").jobs()


def stage(*names: str) -> Callable[..., bool]:
    return lambda stage, settings, module: stage in names


def objective(name: str) -> Callable[..., bool]:
    """Training jobs with a term of this objective."""
    return lambda stage, settings, module: any(
        term["objective"] == name for term in settings.get("objectives", {}).values()
    )


def engine(name: str) -> Callable[..., bool]:
    return lambda stage, settings, module: stage == "translate" and settings.get("engine") == name


def module(*names: str) -> Callable[..., bool]:
    return lambda stage, settings, module: module.removeprefix("ccr.") in names


def adds_objective(tree: Tree) -> None:
    tree.append("objectives/hubness.py", "def loss(step, *, pair):\n    return step.similarity(pair).mean()")
    tree.replace("registry.py", "\nOBJECTIVES = {", '\nOBJECTIVES = {\n    "hubness": Entry("ccr.objectives.hubness"),')


def adds_engine(tree: Tree) -> None:
    tree.append("translate/moses.py", "class Engine: ...")
    tree.replace("registry.py", "\nENGINES = {", '\nENGINES = {\n    "moses": Entry("ccr.translate.moses"),')


def adds_extractor(tree: Tree) -> None:
    tree.append("features/hog.py", "class Extractor: ...")
    tree.replace("registry.py", "\nEXTRACTORS = {", '\nEXTRACTORS = {\n    "hog": Entry("ccr.features.hog"),')


def adds_importer(tree: Tree) -> None:
    tree.append("captions/xtd.py", "def read(root, settings): ...")
    tree.replace("registry.py", "\nIMPORTERS = {", '\nIMPORTERS = {\n    "xtd": Entry("ccr.captions.xtd"),')


def adds_writer_of_tables(tree: Tree) -> None:
    tree.append("tables/as_excel.py", "def write(rows, path): ...")


def repoints_objective(tree: Tree) -> None:
    tree.replace("registry.py", '"ccr.objectives.soft_similarity"', '"ccr.objectives.feature_regression"')


def edits(file: str, text: str = "REMARK = 1") -> Callable[[Tree], None]:
    return lambda tree: tree.append(file, text)


# edits after which every job has the key that it had
HARMLESS = [
    adds_objective,
    adds_engine,
    adds_extractor,
    adds_importer,
    adds_writer_of_tables,
    edits("objectives/infonce.py", "# why"),
    lambda tree: tree.replace("objectives/infonce.py", '"""Symmetric InfoNCE', '"""The symmetric InfoNCE'),
    edits("artifacts/memo.py"),
    edits("errors.py"),
    edits("cli.py"),
    edits("params/plan.py"),
]
# what is edited, how, which jobs have another key afterwards
EDITS = {
    "an objective": (edits("objectives/soft_similarity.py"), objective("soft_similarity")),
    "an objective is another module": (repoints_objective, objective("soft_similarity")),
    "what an objective needs": (
        lambda tree: tree.replace(
            "registry.py",
            '"ccr.objectives.feature_regression",\n        needs=("cross",)',
            '"ccr.objectives.feature_regression",\n        needs=("cross", "cross")',
        ),
        objective("feature_regression"),
    ),
    "a module that an objective imports": (
        edits("objectives/transport.py"),
        lambda stage, settings, module: module in ("ccr.train", "ccr.evaluate.alignment"),
    ),
    "a visual encoder": (
        edits("networks/frames.py"),
        lambda stage, settings, module: settings.get("role") == "student" or module == "ccr.evaluate.retrieval",
    ),
    "what provides a need": (edits("train/needs/discriminator.py"), objective("adversarial")),
    "how the registry resolves terms": (
        lambda tree: tree.replace("registry.py", "return used.union(", "return {*()}.union(used, "),
        None,
    ),
    "human captions in place of translations": (edits("translate/human.py"), engine("none")),
    "the lexicon engine": (
        edits("translate/lexicon.py"),
        lambda stage, settings, module: engine("lexicon")(stage, settings, module) and "filter" not in settings,
    ),
    "noise": (edits("translate/noise.py"), module("translate.noisy")),
    "figures of quality": (edits("translate/quality.py"), module("translate.quality")),
    "an importer": (
        edits("captions/vatex.py"),
        lambda stage, settings, module: settings.get("importer") == "vatex",
    ),
    "an extractor": (
        edits("features/descriptor.py"),
        lambda stage, settings, module: settings.get("extractor") == "descriptor",
    ),
    "a language of the mini-world": (
        edits("world/languages/ja.py"),
        lambda stage, settings, module: stage == "world" and "ja" in settings["langs"],
    ),
    "the training loop": (edits("train/loop.py"), module("train")),
    "fusion of queries": (edits("retrieval/fusion.py"), module("evaluate.retrieval")),
    "how tables of retrieval are written": (edits("tables/as_latex.py"), module("tables.retrieval_table")),
    "embeddings of a store": (edits("retrieval/embed.py"), module("train", "evaluate.retrieval")),
    "how Parquet is written": (edits("artifacts/parquet.py"), lambda stage, settings, module: stage != "world"),
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_changes_the_keys_of_what_uses_it(tree, before, edit):
    change, uses = EDITS[edit]
    change(tree)
    after = tree.jobs()
    assert after.keys() == before.keys()
    changed = {target for target in before if after[target][1] != before[target][1]}
    if uses is None:  # every job that reads the registry
        uses = lambda stage, settings, module: "ccr.registry" in closure(module)  # noqa: E731
    expected = {target for target, (stage, _, settings, module) in before.items() if uses(stage, settings, module)}
    assert changed == expected != set()


def test_what_no_result_depends_on_changes_no_key(tree, before):
    for change in HARMLESS:
        change(tree)
    assert tree.jobs() == before


def test_every_module_of_a_table_of_the_registry_is_there():
    for table in (registry.IMPORTERS, registry.ENGINES, registry.EXTRACTORS, registry.OBJECTIVES):
        for entry in table.values():
            assert entry.module in closure(entry.module)


def test_an_import_inside_a_function_counts(tree, before):
    tree.append("captions/readers.py", "LIMIT = 1")
    tree.append("captions/checks.py", "def late():\n    from ccr.captions import readers\n    return readers")
    imported = tree.jobs()
    tree.append("captions/readers.py", "LIMIT = 2")
    changed = {target for target, job in tree.jobs().items() if job[1] != imported[target][1]}
    assert changed == {target for target, job in before.items() if "ccr.captions.checks" in closure(job[3])} != set()


def test_planning_imports_no_torch(repository):
    code = DIGESTS + "\nassert not {'torch', 'transformers', 'pandas'} & set(sys.modules)"
    command = [sys.executable, "-c", code, str(repository / "params.yaml")]
    assert subprocess.run(command, env={"PYTHONPATH": str(repository / "src")}, capture_output=True).returncode == 0
