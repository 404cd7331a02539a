"""Jobs without a params.yaml, made by hand."""

from importlib import import_module
from typing import Any

from ccr.artifacts.jobs import Job
from ccr.params.planning.translate import module_of
from ccr.registry import EXTRACTORS


def hand_made(
    stage: str, target: str, inputs: dict[str, Any], outputs: dict[str, str], settings: dict[str, Any], **rest: Any
) -> Job:
    """A job with the module that the plan would give it."""
    return Job(stage, target, inputs, outputs, settings, _module(stage, outputs, settings), **rest)


def _module(stage: str, outputs: dict[str, str], settings: dict[str, Any]) -> str:
    if "shard" in settings:
        return f"ccr.{stage}.shards"
    if stage == "translate" and "engine" in settings:
        return module_of(settings)
    if stage == "features":
        return "ccr.features.extracted" if EXTRACTORS[settings["extractor"]].remembered else "ccr.features.imported"
    return {
        "world": "ccr.world.publish",
        "captions": "ccr.captions.parallel" if "parallel" in outputs else "ccr.captions.dataset",
        "translate": "ccr.translate.quality",
        "train": "ccr.train",
        "evaluate": "ccr.evaluate.alignment" if "solver" in settings else "ccr.evaluate.retrieval",
        "tables": "ccr.tables.retrieval_table",
    }[stage]


def run(job: Job) -> None:
    """Run the job."""
    import_module(job.module).run(job)
