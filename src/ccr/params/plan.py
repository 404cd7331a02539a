"""The plan derived from params.yaml: every job with its settings resolved, from a table's rows back to the raw data."""

import difflib
import os
from dataclasses import replace
from pathlib import Path

from ccr import registry
from ccr.artifacts.jobs import Job, job_key
from ccr.artifacts.seals import check_input
from ccr.errors import CcrError
from ccr.params.messages import named
from ccr.params.planning import captions, features, pairs, tables, translate
from ccr.params.planning.context import Planning
from ccr.params.schema import Params


class Plan:
    """Every job of every table, by target. Inputs name the files of other targets, so the order follows from the plan.

    Captions, translations, parallel text and features that no table needs may be requested too; they are planned on
    request.
    """

    def __init__(self, params: Params):
        self.params = params
        self.jobs: dict[str, Job] = {}
        self._planning = Planning(params, self.jobs)
        self._counted, self._by_path = 0, {}
        tables.every(self._planning)

    @property
    def run(self) -> list[str]:
        """Tables that plain `snakemake` makes."""
        return list(self.params.run)

    @property
    def papers(self) -> list[str]:
        """Tables of the papers."""
        return [name for name, table in self.params.tables.items() if table.paper]

    def find(self, target: str) -> Job | None:
        """The job that makes `target`, a path from the working directory, for a table or not; None if there is none."""
        target = os.path.relpath(target or os.curdir)
        if target not in self.jobs:
            for stage in (captions, translate, features):
                stage.every(self._planning)
        return self.jobs.get(target)

    def job(self, target: str) -> Job:
        """The job that makes `target`; its settings are complete, its key is not yet known.

        Raises `CcrError` for an unplanned target, for a captions job whose raw data or files are missing, for
        translations of a language pair that their engine does not support, for a training job whose encoder folder is
        missing, and for a table none of whose rows can be made.
        """
        job = self.find(target)
        if job is None:
            close = ", ".join(difflib.get_close_matches(target, self.jobs, n=3, cutoff=0.3)) or "none"
            raise CcrError(f"{target or repr(target)}: params.yaml plans no such job. Nearest: {close}.")
        if "parallel" in job.outputs:
            self._check_parallel(job)
        elif job.stage == "captions" and job.settings["source"] == "official":
            self._check_root(job)
        if job.stage == "train":
            self._check_encoder(job)
        if any(entry.startswith("ENGINES.") for entry in job.entries):
            pairs.check(job)
        if job.stage == "tables" and not job.settings["rows"]:
            left_out = "".join(f"\n  {line}" for line in job.settings["left_out"])
            table = job.settings["table"]
            section = self.params.sections[table]
            raise CcrError(f"{self.params.file}: {section}.{table}: none of its rows can be made:{left_out}")
        return job

    def _check_parallel(self, job: Job) -> None:
        worlds = [world.target for world in self.jobs.values() if world.stage == "world"]
        for side in ("source", "target"):
            path = Path(job.inputs[side])
            if not path.exists() and not any(path.is_relative_to(world) for world in worlds):
                raise CcrError(
                    f"parallel.{job.settings['parallel']}.files.{job.settings[f'{side}_lang']}: {path} does not exist. "
                    "Put the file there, or fix the path in params.yaml."
                )

    @staticmethod
    def _check_encoder(job: Job) -> None:
        text = job.settings["network"]["text"] if "network" in job.settings else job.settings["text"]
        folder = text["encoder"]
        if text["kind"] == "pretrained" and folder.count("/") != 1 and "/" in folder and "encoder" not in job.inputs:
            name = Path(folder).name
            raise CcrError(
                f"networks.*.text.encoder: {folder} does not exist. It is a model's folder: config.json, "
                f"model.safetensors, tokenizer.json. With a network: `hf download ORGANISATION/{name} --local-dir "
                f"{folder}`, or give ORGANISATION/{name} in params.yaml; without one, bring the folder."
            )

    @staticmethod
    def _check_root(job: Job) -> None:
        root, data = job.inputs["root"], job.settings["data"]
        if not Path(root).is_dir():
            expects = "".join(f"\n  {root}/{name}" for name in registry.IMPORTERS[job.settings["importer"]].expects)
            raise CcrError(
                f"datasets.{data}.root: {root} does not exist. The importer {job.settings['importer']!r} expects"
                f"{expects}\nPut the data there, or point datasets.{data}.root in params.yaml to it. Without the data: "
                f"datasets.{data}.source: synthetic (with mt: lexicon, visual: descriptor) runs on the mini-world."
            )

    def keyed(self, target: str) -> Job:
        """The job with its key. `CcrError` if an input does not exist or is not what the job that made it wrote."""
        job = self.job(target)
        missing = [path for path in job.prerequisites() if not Path(path).exists()]
        if missing:
            raise CcrError(f"{target}: its input {missing[0]} does not exist; make that first (`ccr plan {target}`).")
        makers = self.makers
        for path in job.prerequisites():
            check_input(path, makers.get(path))
        return replace(job, key=job_key(job))

    def needs(self, target: str) -> list[Job]:
        """The jobs that `target` needs, in an order in which they can run, its own last."""
        last = self.job(target)
        makers = self.makers
        ordered: dict[str, Job] = {}

        def visit(job: Job) -> None:
            if job.target not in ordered:
                for path in job.prerequisites():
                    if path in makers:
                        visit(makers[path])
                ordered[job.target] = job

        visit(last)
        return list(ordered.values())

    @property
    def makers(self) -> dict[str, Job]:
        """Path -> the job that makes it."""
        if self._counted != len(self.jobs):  # more have been planned since
            self._by_path = {path: job for job in self.jobs.values() for path in job.outputs.values()}
            self._counted = len(self.jobs)
        return self._by_path


def plan(params: Params) -> Plan:
    """Every job that the tables of `params` need, with resolved settings."""
    with named(params.file):
        return Plan(params)
