"""What a translation engine is. One module with a class `Engine` and one line in the registry add one."""

from typing import Protocol, runtime_checkable

import pyarrow as pa

from ccr.artifacts import Job


class Engine(Protocol):
    """Translates captions from and to the languages of its job.

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
