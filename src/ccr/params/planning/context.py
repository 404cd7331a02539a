"""What the planning of all stages shares: the settings, the jobs so far, and entries resolved once."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ccr.artifacts.jobs import Job
from ccr.params.entries import base_variant, extractor_of, in_force, network_of, objectives_of, variant_of
from ccr.params.schema import Method, Params, Teacher
from ccr.params.validation import mismatch


class Planning:
    """Settings and the jobs that follow from them.

    Attributes:
        params: the settings. jobs: target -> job, in the order in which they were planned.
    """

    def __init__(self, params: Params, jobs: dict[str, Job]):
        self.params = params
        self.jobs = jobs
        self._resolved: dict[tuple, Any] = {}

    def once(self, target: str, make: Callable[[], Job]) -> Job:
        """The job of a target, made on first request."""
        if target not in self.jobs:
            job = make()
            self.jobs[target] = job
        return self.jobs[target]

    def scattered(self, job: Job, folder: str, shards: int) -> Job:
        """The job, to run after its `shards`, which share its work; unchanged if there would be only one."""
        if shards == 1:
            return job
        paths = tuple(f"{folder}/{number}of{shards}.parquet" for number in range(shards))
        for number, path in enumerate(paths):
            settings = job.settings | {"shard": {"number": number, "of": shards}}
            part = {"module": f"ccr.{job.stage}.shards", "outputs": {"shard": path}, "settings": settings}
            self.jobs[path] = replace(job, target=path, **part)
        return replace(job, after=paths, gpus=0)

    def data(self, dataset: str) -> str:
        """The name of a data set in paths."""
        return dataset + ("-synthetic" if self.params.datasets[dataset].source == "synthetic" else "")

    def home(self, dataset: str) -> str:
        """The data set whose runs are evaluated on this one: itself, or the one that it names as `trained_on`."""
        return self.params.datasets[dataset].trained_on or dataset

    def variant(self, mt: str) -> dict[str, Any]:
        """A resolved translation variant (see `variant_of`)."""
        return self._once(("variant", mt), lambda: variant_of(self.params, mt))

    def base(self, mt: str) -> str:
        """The variant whose translations this one modifies (see `base_variant`); itself if it modifies none."""
        return self._once(("base", mt), lambda: base_variant(self.params, mt))

    def mismatch(self, dataset: str, mt: str, visual: str) -> str:
        """Why a data set cannot have these translations or features; empty when it can."""
        return self._once(("mismatch", dataset, mt, visual), lambda: mismatch(self.params, dataset, mt, visual))

    def extractor(self, visual: str) -> dict[str, Any]:
        """A resolved extractor entry (see `extractor_of`)."""
        return self._once(("extractor", visual), lambda: extractor_of(self.params, visual))

    def objectives(self, role: str, name: str) -> dict[str, dict[str, Any]]:
        """The resolved terms of a `student`'s method or a `teacher`."""
        section = {"student": "methods", "teacher": "teachers"}[role]

        def resolve() -> dict[str, dict[str, Any]]:
            entry = getattr(self.params, section)[name]
            return objectives_of(entry.objectives, f"{section}.{name}.objectives", getattr(entry, "compat", None))

        return self._once((section, name), resolve)

    def training(self, dataset: str, role: str, name: str) -> dict[str, Any]:
        """train.{role} <- datasets.{dataset}.train.{role} <- the entry, with the network resolved."""
        return self._once(("training", dataset, role, name), lambda: self._training(dataset, role, name))

    def _training(self, dataset: str, role: str, name: str) -> dict[str, Any]:
        entry: Method | Teacher = self.params.methods[name] if role == "student" else self.params.teachers[name]
        settings = getattr(self.params.train, role).model_dump()
        given = in_force(entry)
        for layer in (getattr(self.params.datasets[dataset].train, role).model_dump(exclude_none=True), given):
            settings |= {key: value for key, value in layer.items() if key in settings}
        network = network_of(self.params, settings["network"])
        settings["network"] = network | {key: given[key] for key in ("norm", "pooling") if key in given}
        return settings

    def _once(self, place: tuple, resolve: Callable[[], Any]) -> Any:
        if place not in self._resolved:
            self._resolved[place] = resolve()
        return self._resolved[place]
