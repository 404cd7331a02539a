"""Planning of stage features."""

import os
from pathlib import Path

from ccr import registry
from ccr.artifacts.jobs import Job
from ccr.params.planning.captions import captions, root
from ccr.params.planning.context import Planning


def every(planning: Planning) -> None:
    """All possible features of every data set."""
    for dataset, settings in planning.params.datasets.items():
        for visual in planning.params.features.extractors:
            if not planning.mismatch(planning.home(dataset), settings.mt, visual):
                features(planning, dataset, visual)


def features(planning: Planning, dataset: str, visual: str) -> Job:
    """A data set's features by one extractor: outputs `features` and `rejected`."""
    target = f"data/{planning.data(dataset)}/features/{visual}.parquet"
    return planning.once(target, lambda: _features(planning, dataset, visual, target))


def _features(planning: Planning, dataset: str, visual: str, target: str) -> Job:
    data, chosen = planning.data(dataset), planning.extractor(visual)
    extractor = registry.EXTRACTORS[chosen["extractor"]]
    inputs = {"items": captions(planning, dataset).outputs["items"], "root": root(planning, dataset)}
    model = chosen["options"].get("model")
    if model and Path(model).expanduser().is_dir():  # else its name and revision on the hub identify it
        inputs["model"] = str(Path(model).expanduser())
    path = chosen["options"].get("path", "")
    if ".." in Path(path).parts:  # published features outside the root
        inputs["published"] = os.path.normpath(Path(inputs["root"], path))
    job = Job(
        stage="features",
        target=target,
        inputs=inputs,
        outputs={"features": target, "rejected": f"data/{data}/features/{visual}.rejected.parquet"},
        settings={"kind": planning.params.datasets[dataset].kind, **chosen},
        module="ccr.features.extracted" if extractor.remembered else "ccr.features.imported",
        entries=(f"EXTRACTORS.{chosen['extractor']}",),
        threads=planning.params.features.threads,
        gpus=int(extractor.neural),
    )
    if extractor.remembered:
        job = planning.scattered(job, f"work/features/shards/{data}/{visual}", planning.params.features.shards)
    return job
