"""From a table's rows back to the raw data: the jobs that each part of params.yaml means."""

import csv
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from importlib.resources import files
from itertools import product
from pathlib import Path
from typing import Any

from ccr import registry
from ccr.artifacts.jobs import Job
from ccr.errors import CcrError
from ccr.params.entries import (
    base_variant,
    clean_variant,
    extractor_of,
    in_force,
    needs,
    objectives_of,
    options_of,
    variant_of,
)
from ccr.params.schema import Dataset, Method, Params, Raw, Table, Teacher
from ccr.params.validation import mismatch

SUFFIX = {"forward": "", "back": ".back", "queries": ".queries"}  # of the files of translations, by direction
TEST_SET = {"split": "by_language", "test": ""}  # importer options that say what is tested on, as the papers do


def translate_module(variant: Raw) -> str:
    """The module that makes the translations of a variant."""
    if variant["engine"] == "none":
        return "ccr.translate.human"
    change = next((change for change in ("filter", "noise") if change in variant), None)
    return {"filter": "ccr.translate.filters", "noise": "ccr.translate.noisy", None: "ccr.translate.machine"}[change]


class Planner:
    """Adds the jobs of a table, from its rows back to the raw data."""

    def __init__(self, params: Params, jobs: dict[str, Job]):
        self.params = params
        self.jobs = jobs

    def _add(self, job: Job) -> Job:
        self.jobs[job.target] = job
        return job

    def _scattered(self, job: Job, folder: str, shards: int) -> Job:
        """The job behind its `shards`, jobs that share its work; as it is where there would be one."""
        if shards == 1:
            return job
        paths = tuple(f"{folder}/{number}of{shards}.parquet" for number in range(shards))
        for number, path in enumerate(paths):
            settings = job.settings | {"shard": {"number": number, "of": shards}}
            module = f"ccr.{job.stage}.shards"
            self._add(replace(job, module=module, target=path, outputs={"shard": path}, settings=settings))
        return replace(job, after=paths, gpus=0)

    # data: names and paths

    def _data(self, dataset: str) -> str:
        return dataset + ("-synthetic" if self.params.datasets[dataset].source == "synthetic" else "")

    def _root(self, dataset: str) -> str:
        """Raw data. The mini-world is published into a folder of its own."""
        settings = self.params.datasets[dataset]
        if settings.source == "official":
            return settings.root
        root = f"data/raw/{self._data(dataset)}"
        task = settings.options.get("task", 2) if settings.importer == "multi30k" else 2
        self._add(
            Job(
                stage="world",
                module="ccr.world.publish",
                entries=tuple(f"WORLD_LANGUAGES.{lang}" for lang in (settings.source_lang, *settings.target_langs)),
                target=root,
                inputs={},
                outputs={"root": root},
                settings={
                    "layout": "vatex" if settings.kind == "video" else f"multi30k_task{task}",
                    "kind": settings.kind,
                    "langs": [settings.source_lang, *settings.target_langs],
                    **settings.world.model_dump(),
                },
            )
        )
        return root

    def _importer(self, dataset: str) -> tuple[str, dict[str, Any]]:
        settings = self.params.datasets[dataset]
        if settings.source == "official":
            importer, options = settings.importer, settings.options
        elif settings.kind == "video":
            importer, options = "vatex", {}
        else:
            importer, options = "multi30k", {"task": 1 if settings.options.get("task") == 1 else 2}
        return importer, options_of(registry.IMPORTERS[importer], options, f"datasets.{dataset}.options")

    def captions(self, dataset: str) -> dict[str, str]:
        """Outputs {captions, items} of a data set's captions job."""
        settings = self.params.datasets[dataset]
        folder = f"data/{self._data(dataset)}"
        root = self._root(dataset)
        importer, options = self._importer(dataset)
        return self._add(
            Job(
                stage="captions",
                module="ccr.captions.dataset",
                entries=(f"IMPORTERS.{importer}",),
                target=f"{folder}/captions.parquet",
                inputs={"root": root},
                outputs={"captions": f"{folder}/captions.parquet", "items": f"{folder}/items.parquet"},
                settings={
                    "importer": importer,
                    "data": dataset,
                    "kind": settings.kind,
                    "source": settings.source,
                    "langs": [settings.source_lang, *settings.target_langs],
                    "options": options,
                },
            )
        ).outputs

    def parallel(self, dataset: str, name: str, lang: str) -> str:
        """Path of sentence pairs for teachers on a data set, in its source language and `lang`."""
        settings, entry = self.params.datasets[dataset], self.params.parallel[name]
        root = self._root(dataset)
        source, target = (entry.files[code].replace("{root}", root) for code in (settings.source_lang, lang))
        stem = f"data/{self._data(dataset)}/parallel/{name}/{lang}"
        return self._add(
            Job(
                stage="captions",
                module="ccr.captions.parallel",
                target=f"{stem}.parquet",
                inputs={"captions": self.captions(dataset)["captions"], "source": source, "target": target},
                outputs={"parallel": f"{stem}.parquet", "rejected": f"{stem}.rejected.parquet"},
                settings={
                    "data": dataset,
                    "parallel": name,
                    "source_lang": settings.source_lang,
                    "target_lang": lang,
                    "ids": entry.ids,
                    "on_leak": entry.on_leak,
                },
            )
        ).outputs["parallel"]

    def _no_parallel(self, dataset: str, name: str, langs: list[str]) -> str:
        """Why a data set cannot have these sentence pairs; empty when it can."""
        settings, files = self.params.datasets[dataset], self.params.parallel[name].files
        for lang in (settings.source_lang, *langs):
            if lang not in files:
                return f"parallel.{name} has no sentences in {lang!r}"
            path = files[lang].replace("{root}", settings.root)
            if path != files[lang] and settings.source == "synthetic" and not settings.world.parallel:
                return f"datasets.{dataset}.world.parallel is 0"
            if path != files[lang] and settings.source == "official" and not Path(path).exists():
                return f"parallel.{name}: {path} does not exist"
        return ""

    def parallels(self) -> None:
        """All the sentence pairs that there can be for any data set."""
        for dataset, settings in self.params.datasets.items():
            for name, lang in product(self.params.parallel, settings.target_langs):
                if not self._no_parallel(dataset, name, [lang]):
                    self.parallel(dataset, name, lang)

    def translation(self, dataset: str, mt: str, lang: str, direction: str) -> str:
        """Path of one language's forward translations, back-translations or translated queries."""
        base = base_variant(self.params, mt)
        if base != mt and direction == "queries":  # neither noise nor filters touch them
            return self.translation(dataset, base, lang, "queries")
        stem = f"data/{self._data(dataset)}/translations/{mt}/{lang}"
        target = f"{stem}{SUFFIX[direction]}.parquet"
        variant = variant_of(self.params, mt)
        inputs, outputs = {}, {"translations": target}
        if base == mt:
            inputs = self._translated(dataset, mt, lang, direction)
            if variant["engine"] == "lexicon" and direction == "forward":
                outputs["alignment"] = f"{stem}.alignment.parquet"
        elif "filter" in variant:
            inputs = {"whole": self.translation(dataset, base, lang, "forward")}
            inputs["captions"] = self.captions(dataset)["captions"]
            inputs["whole_back"] = self.translation(dataset, base, lang, "back")
            if direction == "forward":
                outputs["weights"] = f"{stem}.weights.parquet"
            else:
                inputs = {"forward": self.translation(dataset, mt, lang, "forward"), "whole_back": inputs["whole_back"]}
        else:
            inputs = {"clean": self.translation(dataset, base, lang, "forward")}
            if direction == "back":
                inputs["clean_back"] = self.translation(dataset, base, lang, "back")
                inputs |= self._translated(dataset, mt, lang, "back")
        langs = {"source_lang": self.params.datasets[dataset].source_lang, "target_lang": lang}
        engine = registry.ENGINES[variant["engine"]]
        settings = {"direction": direction, "variant": mt, **langs, **variant}
        module = translate_module(variant)
        entries = () if module == "ccr.translate.filters" else (f"ENGINES.{variant['engine']}",)
        job = Job("translate", target, inputs, outputs, settings, module, entries)
        if engine.neural and (base == mt or (direction == "back" and "filter" not in variant)):  # the engine translates
            job = replace(job, threads=self.params.translate.threads, gpus=1)
        if base == mt and engine.remembered:
            folder = f"work/tm/shards/{self._data(dataset)}/{mt}/{lang}{SUFFIX[direction]}"
            job = self._scattered(job, folder, self.params.translate.shards)
        self._add(job)
        return target

    def _translated(self, dataset: str, mt: str, lang: str, direction: str) -> dict[str, str]:
        """What an engine reads."""
        inputs = {"captions": self.captions(dataset)["captions"]}
        if variant_of(self.params, mt)["engine"] == "lexicon":
            inputs["lexicon"] = f"{self._root(dataset)}/lexicon.json"
        if direction == "back":
            inputs["forward"] = self.translation(dataset, mt, lang, "forward")
        return inputs

    def translations(self) -> None:
        """Every translation that there can be of any data set, with any variant, and how good each is."""
        for dataset, settings in self.params.datasets.items():
            for mt in self.params.translate.variants:
                if mismatch(self.params, dataset, mt, settings.visual):
                    continue
                for lang in settings.target_langs:
                    for direction in SUFFIX:
                        self.translation(dataset, mt, lang, direction)
                    if variant_of(self.params, mt)["engine"] != "none":
                        self.quality(dataset, mt, lang)

    def quality(self, dataset: str, mt: str, lang: str) -> str:
        """Path of the figures of how good one language's translations are."""
        target = f"data/{self._data(dataset)}/translations/{mt}/{lang}.quality.json"
        return self._add(
            Job(
                stage="translate",
                module="ccr.translate.quality",
                target=target,
                inputs={
                    "captions": self.captions(dataset)["captions"],
                    **{role: self.translation(dataset, mt, lang, role) for role in ("forward", "back")},
                },
                outputs={"quality": target},
                settings={
                    "variant": mt,
                    "source_lang": self.params.datasets[dataset].source_lang,
                    "target_lang": lang,
                },
            )
        ).outputs["quality"]

    def features(self, dataset: str, visual: str) -> str:
        """Path of a data set's features."""
        folder, threads = f"data/{self._data(dataset)}/features", self.params.features.threads
        inputs = {"items": self.captions(dataset)["items"], "root": self._root(dataset)}
        settings = {"kind": self.params.datasets[dataset].kind, **extractor_of(self.params, visual)}
        model = settings["options"].get("model")
        if model and Path(model).expanduser().is_dir():  # else its name and revision at the hub say which it is
            inputs["model"] = str(Path(model).expanduser())
        target = f"{folder}/{visual}.parquet"
        outputs = {"features": target, "rejected": f"{folder}/{visual}.rejected.parquet"}
        extractor = registry.EXTRACTORS[settings["extractor"]]
        module = f"ccr.features.{'extracted' if extractor.remembered else 'imported'}"
        entries = (f"EXTRACTORS.{settings['extractor']}",)
        job = Job("features", target, inputs, outputs, settings, module, entries, threads, gpus=int(extractor.neural))
        if extractor.remembered:
            job = self._scattered(
                job, f"work/features/shards/{self._data(dataset)}/{visual}", self.params.features.shards
            )
        self._add(job)
        return target

    def every_features(self) -> None:
        """All the features that there can be of any data set."""
        for dataset, settings in self.params.datasets.items():
            for visual in self.params.features.extractors:
                if not mismatch(self.params, dataset, settings.mt, visual):
                    self.features(dataset, visual)

    # training

    def _training(self, dataset: str, role: str, entry: Teacher | Method) -> dict[str, Any]:
        """train.{role} <- datasets.{dataset}.train.{role} <- the entry, the network resolved."""
        settings = getattr(self.params.train, role).model_dump()
        given = in_force(entry)
        for layer in (getattr(self.params.datasets[dataset].train, role).model_dump(exclude_none=True), given):
            settings |= {name: value for name, value in layer.items() if name in settings}
        network = self.params.networks[settings["network"]].model_dump()
        settings["network"] = network | {name: given[name] for name in ("norm", "pooling") if name in given}
        return settings

    def _texts(self, dataset: str, mt: str, langs: list[str], streams: set[str], select_on: str) -> dict[str, Any]:
        """Text inputs of a training: captions, translations and back-translations in the order of `langs`."""
        inputs: dict[str, Any] = {**self.captions(dataset)}
        if "target" in streams or select_on == "mt":
            inputs["translations"] = [self.translation(dataset, mt, lang, "forward") for lang in langs]
            if mt != "none" and variant_of(self.params, mt).get("filter", {}).get("weight"):
                inputs["weights"] = [path.replace(".parquet", ".weights.parquet") for path in inputs["translations"]]
        if "back" in streams:
            inputs["back"] = [self.translation(dataset, mt, lang, "back") for lang in langs]
        return inputs

    def _train(self, target: str, dataset: str, inputs: dict[str, Any], settings: dict[str, Any]) -> Job:
        files = ["model.safetensors", "config.json", "tokenizer.json", "history.csv", "provenance.json"]
        if settings["role"] == "teacher":
            files.append("embeddings.parquet")
        padded = settings["network"]["pooling"] == "padded_mean"  # depends on the whole batch
        processes = 1 if padded else self.params.train.processes
        return self._add(
            Job(
                stage="train",
                module="ccr.train",
                entries=tuple(sorted({f"OBJECTIVES.{term['objective']}" for term in settings["objectives"].values()})),
                target=target,
                inputs=inputs,
                outputs={file.split(".")[0]: f"{target}/{file}" for file in files},
                settings={
                    **settings,
                    "source_lang": self.params.datasets[dataset].source_lang,
                    "threads": self.params.train.threads,
                    "processes": processes,
                },
                threads=self.params.train.threads * processes,
                gpus=processes,
                checkpoint_minutes=self.params.train.checkpoint_minutes,
            )
        )

    def teacher(self, dataset: str, mt: str, langs: list[str], name: str, seed: int) -> Job:
        """A CL teacher's training."""
        entry = self.params.teachers[name]
        objectives = objectives_of(entry.objectives, f"teachers.{name}.objectives")
        settings = self._training(dataset, "teacher", entry)
        inputs = self._texts(dataset, mt, langs, registry.streams_of(objectives) | {"target"}, "mt")
        if entry.parallel:
            inputs["parallel"] = [self.parallel(dataset, entry.parallel, lang) for lang in langs]
        return self._train(
            f"results/teachers/{self._data(dataset)}/{mt}/{'+'.join(langs)}/{name}/seed{seed}",
            dataset,
            inputs,
            {"role": "teacher", "langs": langs, "objectives": objectives, "seed": seed, "select_on": "mt", **settings},
        )

    def student(self, dataset: str, mt: str, visual: str, lang: str, name: str, seed: int) -> Job:
        """A CM network's training, for the method that trains it."""
        entry = self.params.methods[name]
        settings = self._training(dataset, "student", entry)
        objectives = objectives_of(entry.objectives, f"methods.{name}.objectives", entry.compat)
        streams = registry.streams_of(objectives)
        translated = bool(streams & {"target", "back"}) or entry.teacher is not None or settings["select_on"] == "mt"
        if needs(objectives, "cross") and settings["network"]["text"]["block"] is None:
            raise CcrError(
                f"params.yaml: methods.{name}: its cross-attention teacher needs an attention block in the text "
                f"encoder; give networks.*.text.block of the network that it trains on {dataset}."
            )
        langs = entry.langs or [lang]
        mt = entry.mt or mt
        if not translated:  # one run serves every target language and translation
            mt = "none"
            langs = [lang] if settings["select_on"] == "target" else [self.params.datasets[dataset].source_lang]
        inputs = self._texts(dataset, mt, langs, streams, settings["select_on"])
        inputs["features"] = self.features(dataset, visual)
        if needs(objectives, "teacher") or entry.init:
            teacher = self.teacher(dataset, mt, langs, entry.teacher, seed)
            if needs(objectives, "teacher"):
                inputs["teacher"] = teacher.outputs["embeddings"]
            if entry.init:
                inputs |= {f"init_{role}": teacher.outputs[role] for role in ("model", "tokenizer")}
        return self._train(
            f"results/runs/{self._data(dataset)}/{mt}/{visual}/{'+'.join(langs)}/{name}/seed{seed}",
            dataset,
            inputs,
            {"role": "student", "langs": langs, "objectives": objectives, "seed": seed, **settings},
        )

    # results

    def evaluation(self, dataset: str, mt: str, visual: str, lang: str, name: str, seed: int) -> Job:
        """A method's evaluation on the human test captions of one language."""
        method = self.params.methods[name]
        run = self.student(dataset, mt, visual, lang, method.uses or name, seed)
        translated = "translated" in method.queries
        mt_label = (method.mt or mt) if translated else run.target.split("/")[3]
        inputs = {
            **self.captions(dataset),
            "features": self.features(dataset, visual),
            **{role: run.outputs[role] for role in ("model", "config", "tokenizer")},
        }
        if translated:
            inputs["queries"] = self.translation(dataset, method.mt or mt, lang, "queries")
        folder = f"results/evaluations/{self._data(dataset)}/{mt_label}/{visual}/{lang}/{name}/seed{seed}"
        files = ["metrics.json", "ranks.parquet", *["embeddings.safetensors"] * self.params.evaluate.embeddings]
        return self._add(
            Job(
                stage="evaluate",
                module="ccr.evaluate.retrieval",
                target=folder,
                inputs=inputs,
                outputs={file.split(".")[0]: f"{folder}/{file}" for file in files},
                settings={
                    "lang": lang,
                    "queries": dict(method.queries),
                    "fusion": in_force(method).get("fusion", "standardise"),
                    "batch": self.params.evaluate.batch,
                    "threads": self.params.train.threads,
                },
                threads=self.params.train.threads,
            )
        )

    def alignment(self, dataset: str, mt: str, lang: str, name: str, seed: int, solver: Raw) -> Job:
        """How well a teacher aligns words: on the val translations of the clean variant, whose alignment is known."""
        teacher = self.teacher(dataset, mt, [lang], name, seed)
        translations = self.translation(dataset, clean_variant(self.params, mt), lang, "forward")
        folder = teacher.target.replace("results/teachers/", "results/alignments/", 1)
        return self._add(
            Job(
                stage="evaluate",
                module="ccr.evaluate.alignment",
                target=folder,
                inputs={
                    "captions": self.captions(dataset)["captions"],
                    **self.jobs[translations].outputs,
                    **{role: teacher.outputs[role] for role in ("model", "config", "tokenizer")},
                },
                outputs={"metrics": f"{folder}/metrics.json"},
                settings={
                    "solver": dict(solver),
                    "batch": self.params.evaluate.batch,
                    "threads": self.params.train.threads,
                },
                threads=self.params.train.threads,
            )
        )

    def alignments(self, name: str) -> None:
        """The job of a table of alignment quality and all it needs."""
        table = self.params.alignments[name]
        solver = options_of(registry.SOLVER, table.solver, f"alignments.{name}.solver")
        rows, left_out = [], {}
        for dataset in table.data:
            settings = self.params.datasets[dataset]
            for mt in table.mt or [settings.mt]:
                reason = mismatch(self.params, dataset, mt, settings.visual)
                if not reason and variant_of(self.params, mt)["engine"] != "lexicon":
                    reason = "nobody knows the true word alignment of these translations"
                if reason:
                    left_out[f"{dataset}, {mt}: {reason}"] = None
                    continue
                for lang, teacher in product(settings.target_langs, table.teachers):
                    jobs = [self.alignment(dataset, mt, lang, teacher, seed, solver) for seed in table.seeds]
                    rows.append(
                        {
                            **self._identity(dataset, mt, lang),
                            "teacher": teacher,
                            "seeds": list(table.seeds),
                            "metrics": [job.outputs["metrics"] for job in jobs],
                        }
                    )
        self._add(
            Job(
                stage="tables",
                module="ccr.tables.alignment_table",
                target=f"results/{name}.csv",
                inputs={"metrics": [path for row in rows for path in row["metrics"]]},
                outputs={
                    **{kind: f"results/{name}.{kind}" for kind in ("csv", "json", "md")},
                    "aer": f"results/figures/{name}/aer.png",
                },
                settings={"table": name, "solver": solver, "rows": rows, "left_out": list(left_out)},
            )
        )

    def translation_quality(self, name: str) -> None:
        """The job of a table of how good translations are and all it needs."""
        table = self.params.translations[name]
        rows, left_out = [], {}
        for dataset in table.data:
            settings = self.params.datasets[dataset]
            for mt in table.mt or [settings.mt]:
                if reason := self._no_quality(dataset, mt):
                    left_out[f"{dataset}, {mt}: {reason}"] = None
                    continue
                rows += [
                    {**self._identity(dataset, mt, lang), "metrics": [self.quality(dataset, mt, lang)]}
                    for lang in settings.target_langs
                ]
        figures = f"results/figures/{name}"
        self._add(
            Job(
                stage="tables",
                module="ccr.tables.translation_table",
                target=f"results/{name}.csv",
                inputs={"metrics": [path for row in rows for path in row["metrics"]]},
                outputs={
                    **{kind: f"results/{name}.{kind}" for kind in ("csv", "json", "md")},
                    "page": f"{figures}/table.html",
                    "translation": f"{figures}/translation.png",
                },
                settings={"table": name, "rows": rows, "left_out": list(left_out)},
            )
        )

    def _no_quality(self, dataset: str, mt: str) -> str:
        """Why there are no figures of these translations; empty when there are."""
        settings = self.params.datasets[dataset]
        if variant_of(self.params, mt)["engine"] == "none":
            return f"{mt!r} is what people wrote: there is no translation to judge"
        if settings.source == "official" and not Path(settings.root).is_dir():
            return f"datasets.{dataset}.root: {settings.root} does not exist"
        return mismatch(self.params, dataset, mt, settings.visual)

    def table(self, name: str) -> None:
        """The table's own job and all it needs."""
        table = self.params.tables[name]
        found: dict[tuple[str, ...], dict[str, Any]] = {}
        left_out: dict[str, None] = {}  # each line once
        for dataset in table.data:
            settings = self.params.datasets[dataset]
            for mt, visual in product(table.mt or [settings.mt], table.visual or [settings.visual]):
                reason = mismatch(self.params, dataset, mt, visual)
                if reason:
                    left_out[f"{dataset}, {mt}, {visual}: {reason}"] = None
                    continue
                for lang, method in product(settings.target_langs, table.methods):
                    reason = self._impossible(dataset, mt, visual, method, lang)
                    if reason:
                        left_out[f"{dataset}, {lang}, {method}: {reason}"] = None
                    else:
                        row = self._row(table, dataset, mt, visual, lang, method)
                        found[dataset, row["mt"], visual, lang, method] = row
        rows = [row | {"reference": self._reference(table, row, found.values())} for row in found.values()]
        figures = f"results/figures/{name}"
        self._add(
            Job(
                stage="tables",
                module="ccr.tables.retrieval_table",
                target=f"results/{name}.csv",
                inputs={role: [p for row in rows for p in row[role]] for role in ("metrics", "ranks", "history")},
                outputs={
                    **{kind: f"results/{name}.{kind}" for kind in ("csv", "json", "md", "tex")},
                    "page": f"{figures}/table.html",
                    "curves": f"{figures}/training_curves.png",
                    "shares": f"{figures}/gradient_shares.png",
                    "recall": f"{figures}/recall.png",
                    "sumr": f"{figures}/sumr.png",
                },
                settings={"table": name, "rows": rows, "left_out": list(left_out)},
            )
        )

    def _impossible(self, dataset: str, mt: str, visual: str, name: str, lang: str) -> str:
        """Why a row cannot exist; empty when it can."""
        method = self.params.methods[name]
        variant = method.mt or mt
        if "translated" in method.queries and variant_of(self.params, variant)["engine"] == "none":
            return f"translation variant {variant!r} has no engine for the way back"
        for owner in dict.fromkeys((name, method.uses or name)):  # the row's entry and the one that is trained
            entry = self.params.methods[owner]
            if entry.langs and lang not in entry.langs:
                return f"methods.{owner}.langs does not hold {lang!r}"
            if entry.langs and set(entry.langs) - set(self.params.datasets[dataset].target_langs):
                return f"{dataset} does not have every language of methods.{owner}.langs"
            if entry.mt and (reason := mismatch(self.params, dataset, entry.mt, visual)):
                return reason
            parallel = self.params.teachers[entry.teacher].parallel if entry.teacher else None
            if parallel and (reason := self._no_parallel(dataset, parallel, entry.langs or [lang])):
                return reason
            if reason := self._misfit(dataset, owner):
                return reason
        return ""

    def _misfit(self, dataset: str, name: str) -> str:
        """Why a method cannot regress its teacher's embeddings, or start with its weights; empty when it can."""
        entry = self.params.methods[name]
        objectives = objectives_of(entry.objectives, f"methods.{name}.objectives", entry.compat)
        fitting = ["text", "dim", "norm"] if entry.init else []
        fitting += ["dim"] if any(t["objective"] == "embedding_distillation" for t in objectives.values()) else []
        if not fitting:
            return ""
        student = self._training(dataset, "student", entry)["network"]
        teacher = self._training(dataset, "teacher", self.params.teachers[entry.teacher])["network"]
        differ = [key for key in fitting if student[key] != teacher[key]]
        return f"its network and that of teacher {entry.teacher!r} must have the same {differ[0]!r}" if differ else ""

    def _reference(self, table: Table, row: dict[str, Any], rows: Iterable[dict[str, Any]]) -> str | None:
        """Name of the method that a row is compared with; it stands in the table with the same data and language."""
        group = ("dataset", "visual", "target_lang")
        beside = {other["method"] for other in rows if all(other[part] == row[part] for part in group)}
        parent = self.params.methods[row["method"]].like
        if table.compare == "parent" and parent in beside:
            return parent
        return table.baseline if table.baseline in beside - {row["method"]} else None

    def _row(self, table: Table, dataset: str, mt: str, visual: str, lang: str, name: str) -> dict[str, Any]:
        method = self.params.methods[name]
        settings = self.params.datasets[dataset]
        trained = self.params.methods[method.uses] if method.uses else method
        training = self._training(dataset, "student", trained)
        evaluations = [self.evaluation(dataset, mt, visual, lang, name, seed) for seed in table.seeds]
        runs = [self.student(dataset, mt, visual, lang, method.uses or name, seed) for seed in table.seeds]
        mt_label = evaluations[0].target.split("/")[3]
        return {
            **self._identity(dataset, mt_label, lang),
            "visual": visual,
            "text_encoder": training["network"]["text"]["encoder"],
            "method": name,
            "select_on": training["select_on"],
            "seeds": list(table.seeds),
            "published": _published(settings, dataset, lang, name, visual),
            "metrics": [e.outputs["metrics"] for e in evaluations],
            "ranks": [e.outputs["ranks"] for e in evaluations],
            "history": [] if method.uses else [r.outputs["history"] for r in runs],
        }

    def _identity(self, dataset: str, mt: str, lang: str) -> dict[str, Any]:
        """What the rows of every kind of table say of their data."""
        settings = self.params.datasets[dataset]
        return {
            "data": settings.source,
            "dataset": dataset,
            "mt": mt,
            "noise_rate": self._noise_rate(mt),
            "source_lang": settings.source_lang,
            "target_lang": lang,
        }

    def _noise_rate(self, mt: str) -> float:
        """Share of the training translations that a row's variant corrupts; 0 where none are used."""
        variant = {} if mt == "none" else variant_of(self.params, mt)
        return variant["noise"]["rate"] if "noise" in variant else 0.0


@cache
def _published_rows() -> list[dict[str, str]]:
    return list(csv.DictReader(files("ccr.params").joinpath("published.csv").read_text().splitlines()))


def _published(settings: Dataset, dataset: str, lang: str, method: str, visual: str) -> dict[str, Any] | None:
    """Published SumR of this row: only on official data, with the same test set and features."""
    other_test_set = any(settings.options.get(option, value) != value for option, value in TEST_SET.items())
    if settings.source != "official" or other_test_set:
        return None
    row = (dataset, settings.source_lang, lang, method)
    for line in _published_rows():
        same = (line["dataset"], line["source_lang"], line["target_lang"], line["method"]) == row
        if same and visual in line["visual"].split():  # the extractors that give these features
            return {"sumr": float(line["sumr"]), "source": line["source"]}
    return None
