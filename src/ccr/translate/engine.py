"""What a translation engine is. One module with a class `Engine` and one line in the registry add one."""

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import pyarrow as pa

from ccr.artifacts.jobs import Job


class Engine(Protocol):
    """Translates captions from and to the languages of its job, at next to no cost.

    `name` goes into the `engine` column (with the model or version). A translation depends on the text alone,
    never on its neighbours: identical captions are passed once (unless the engine is `Publishing`).
    """

    name: str

    def __init__(self, job: Job): ...

    def translate(self, parents: pa.Table) -> list[str | None]:
        """Translations of the captions `parents` (schema CAPTIONS), in order; None where there is none."""
        ...


@runtime_checkable
class Publishing(Protocol):
    """An engine that finds translations by their original's id and knows the ids they were published with."""

    def caption_ids(self, parents: pa.Table) -> list[str | None]:
        """The ids of the translations of `parents`, in order; None where there is none."""
        ...


@runtime_checkable
class Aligning(Protocol):
    """An engine that knows which word became which."""

    def alignment(self, parents: pa.Table) -> pa.Table:
        """The word alignment (schema ALIGNMENT) of the translations of `parents`."""
        ...


@dataclass(frozen=True)
class Refused:
    """A sentence that an engine cannot translate. `reason`: one line.

    `until`: seconds since 1970 after which it is tried again; None where trying again would not help.
    """

    reason: str
    until: float | None = None


Outcome = str | Refused


@dataclass(frozen=True)
class Unanswered:
    """A sentence that a service did not translate in this run, though it translated others: evidence, no verdict."""

    reason: str


@dataclass(frozen=True)
class Withdrawn:
    """A sentence whose translation has turned out to be none. `translation`: what the service gives to everything."""

    translation: str


class Past(Protocol):
    """What the translation memory holds of an engine and language pair.

    `known`: text -> outcome. `withdrawn`: what was taken for translations and is none.
    """

    known: Mapping[str, Outcome]
    withdrawn: Set[str]


@runtime_checkable
class Remembered(Protocol):
    """An engine whose work is dear: what it did is kept in the translation memory and never done again.

    `name` goes into the `engine` column. `identity` (JSON-able) is all that a translation depends on beside the
    languages and the text: service or model, revision, decoding settings; nothing that only makes it faster.
    Creating one checks what can be checked before any work (languages, keys, files; `CcrError`) and loads no model.
    """

    name: str
    identity: dict[str, Any]

    def __init__(self, job: Job): ...

    def translate_texts(
        self, texts: list[str], finish: Callable[[str, Outcome | Unanswered | Withdrawn], None], past: Past
    ) -> None:
        """Translate the texts, all different, and call `finish(text, outcome)` for each as soon as it is done.

        `finish` may be called by any thread. A sentence that is refused does not stop the others. What cannot be
        translated now, but may be later (no network), is not finished; then `CcrError` ends the call. A sentence that
        fails while others do not is finished as `Unanswered`: the memory decides when that is a refusal.
        """
        ...


def languages(job: Job) -> tuple[str, str]:
    """The languages that a job translates from and to."""
    source, target = job.settings["source_lang"], job.settings["target_lang"]
    return (source, target) if job.settings["direction"] == "forward" else (target, source)
