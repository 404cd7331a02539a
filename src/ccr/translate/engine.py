"""What a translation engine is. A module with a class `Engine` and a line in the registry add a new one."""

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import pyarrow as pa

from ccr.artifacts.jobs import Job


class Engine(Protocol):
    """Translates captions between the languages of its job, at almost no cost.

    `name` (with the model or version) goes into the `engine` column. A translation depends only on the text, never on
    its neighbours: identical captions are passed once (unless the engine is `Publishing`).
    """

    name: str

    def __init__(self, job: Job): ...

    def translate(self, parents: pa.Table) -> list[str | None]:
        """Translations of the captions `parents` (schema CAPTIONS), in order; None where there is none."""
        ...


@runtime_checkable
class Publishing(Protocol):
    """An engine that looks translations up by the id of their original and knows their published ids."""

    def caption_ids(self, parents: pa.Table) -> list[str | None]:
        """The ids of the translations of `parents`, in order; None where there is none."""
        ...


@runtime_checkable
class Aligning(Protocol):
    """An engine that knows the word alignment of its translations."""

    def alignment(self, parents: pa.Table) -> pa.Table:
        """The word alignment (schema ALIGNMENT) of the translations of `parents`."""
        ...


@dataclass(frozen=True)
class Refused:
    """A sentence that an engine cannot translate. `reason`: one line.

    `until`: seconds since 1970 after which it is tried again; None if trying again would not help.
    """

    reason: str
    until: float | None = None


Outcome = str | Refused


@dataclass(frozen=True)
class Unanswered:
    """A sentence that a service did not translate in this run while it translated others: evidence, not a verdict."""

    reason: str


@dataclass(frozen=True)
class Withdrawn:
    """A sentence whose translation turned out not to be one. `translation`: the service's answer to everything."""

    translation: str


class Past(Protocol):
    """What the translation memory holds for an engine and language pair.

    `known`: text -> outcome. `withdrawn`: answers that were mistaken for translations.
    """

    known: Mapping[str, Outcome]
    withdrawn: Set[str]


@runtime_checkable
class Remembered(Protocol):
    """An engine whose work is expensive: its results are kept in the translation memory and never computed again.

    `name` goes into the `engine` column. `identity` (JSON-serialisable) is everything that a translation depends on
    besides the languages and the text: service or model, revision, decoding settings; nothing that only affects speed.
    Creating an engine checks what can be checked before any work (languages, keys, files; `CcrError`) and loads no
    model.
    """

    name: str
    identity: dict[str, Any]

    def __init__(self, job: Job): ...

    def translate_texts(
        self, texts: list[str], finish: Callable[[str, Outcome | Unanswered | Withdrawn], None], past: Past
    ) -> None:
        """Translate the texts, all different, and call `finish(text, outcome)` for each as soon as it is done.

        `finish` may be called from any thread. A refused sentence does not stop the others. A sentence that cannot be
        translated now but may be later (no network) is not finished; the call then ends with `CcrError`. A sentence
        that fails while others succeed is finished as `Unanswered`: the memory decides when that is a refusal.
        """
        ...


def languages(job: Job) -> tuple[str, str]:
    """The languages that a job translates from and into."""
    source, target = job.settings["source_lang"], job.settings["target_lang"]
    return (source, target) if job.settings["direction"] == "forward" else (target, source)
