"""Language pairs of translation jobs: unsupported ones are refused before any work starts."""

from typing import Any

from ccr.artifacts.jobs import Job
from ccr.errors import CcrError
from ccr.pairs import apertium, dictionary, services


def files(variant: dict[str, Any], source: str, target: str, where: str) -> dict[str, list[str]]:
    """The files that a variant's engine reads to translate a pair, in addition to the captions, as inputs of a job.

    Raises `CcrError` if the engine does not support the pair. What a neural model supports, only its files tell.
    """
    engine, options = variant["engine"], variant["options"]
    if engine == "deep_translator":
        services.codes(options["service"], source, target, where)
    if engine == "apertium":
        return {"modes": apertium.files(apertium.chain(source, target, options["pivot"], where))}
    if engine == "dictionary":
        return {"dictionary": list(dictionary.find(options["path"], source, target, where).files)}
    return {}


def check(job: Job) -> None:
    """Raise `CcrError`, naming engines that do, if the engine of a translation does not support its language pair."""
    settings = job.settings
    pair = settings["source_lang"], settings["target_lang"]
    source, target = pair if settings["direction"] == "forward" else pair[::-1]
    try:
        files(settings, source, target, f"translate.variants.{settings['variant']}")
    except CcrError as error:
        raise CcrError(f"{error} {_others(settings['engine'], source, target)}".strip()) from error


def _others(engine: str, source: str, target: str) -> str:
    online = services.serving(source, target) if engine != "deep_translator" else []
    found = [f"deep_translator (service: {', '.join(online)})"] if online else []
    if engine != "apertium" and (offer := apertium.offer(source, target)):
        found.append(offer)
    return f"Other engines: {'; '.join(found)}; transformers, with a model for this pair." if found else ""
