"""What a check found."""

from dataclasses import dataclass, field


@dataclass
class Section:
    """Facts by name, for text and JSON; what is `wrong` but stops nothing; what is `missing` for the run."""

    title: str
    facts: dict[str, str | int | float | bool | list[str]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
