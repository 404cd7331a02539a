"""The languages of the mini-world: one module with one `Language` each, and one line in the registry.

Words are listed by concept; the first form of a list is the canonical one, the only one that the mini-world's
translation engine writes, while human captions use them all. Notation of a form:

- noun: ``gender:nominative/second case/third case...`` (in the order of `Language.cases`; omitted = the last given);
- adjective: a stem for `Language.inflect`; a leading ``~`` puts it after the noun;
- phrase: plain words; ``+dat`` at the end gives the case of the noun phrase after it; ``masculine|feminine`` if it
  agrees with the gender of its subject (B for MOVE2, else A).

Templates are tokens separated by spaces: keys of `Language.phrases` such as ``be`` or ``comma``; slots A and B (noun
phrases, with ``.case`` or ``.gov``, the case required by the last phrase), MOVE, MOVE2, PLACE, REL, ACT, BG, COUNT;
``[...]`` is left out when a slot in it is empty.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from ccr.registry import WORLD_LANGUAGES
from ccr.world.scenes import ACTS, BACKGROUNDS, COLOURS, MOTIONS, PLACES, RELATIONS, SHAPES

# Concepts by class. Every language names them all; "plain" is never mentioned.
CLASSES: dict[str, tuple[str, ...]] = {
    "shape": (*SHAPES, "thing"),
    "colour": COLOURS,
    "size": ("big", "small"),
    "texture": ("striped", "dotted"),
    "motion": MOTIONS,
    "act": ACTS,
    "relation": RELATIONS,
    "place": tuple(place for row in PLACES for place in row),
    "background": BACKGROUNDS,
    "count": ("two", "three"),
    "exists": ("there_is",),
    "be": ("be",),
    "link": ("and", "including"),
    "clause": ("while",),
    "mark": ("comma", "stop"),
}
KINDS = ("moves", "located", "relation", "acts", "exists", "pair", "while", "count")


def by_gender(forms: str, gender: str) -> str:
    """The form for a gender out of ``masculine|feminine``, or the one form for both."""
    masculine, _, feminine = forms.partition("|")
    return feminine if feminine and gender == "f" else masculine


def unchanged(form: str, gender: str, case: str) -> str:
    """Inflection for languages without any."""
    return form


def no_article(gender: str, case: str) -> str:
    """Article for languages without an indefinite one."""
    return ""


@dataclass(frozen=True)
class Language:
    """Vocabulary and grammar of one language; see the module docstring for the notation."""

    nouns: dict[str, list[str]]
    adjectives: dict[str, list[str]]
    phrases: dict[str, list[str]]
    templates: dict[str, list[str]]
    inflect: Callable[[str, str, str], str] = unchanged
    article: Callable[[str, str], str] = no_article
    cases: tuple[str, ...] = ("nom",)
    order: tuple[str, ...] = ("article", "size", "colour", "texture", "shape")  # of a noun phrase
    spaces: bool = True
    proclitics: tuple[str, ...] = ()  # words written together with the next one
    joins: tuple[tuple[str, str, str], ...] = ()  # (end of a token, start of the next one, what the end becomes)
    relation_last: bool = False  # "the square's left" instead of "left of the square"
    final: tuple[str, ...] = ()  # classes of words that end a clause
    topic: str = ""  # marks the subject
    homonyms: dict[str, str] = field(default_factory=dict)  # what a dictionary may offer for the wrong sense
    particles: tuple[str, ...] = ()  # function words that only this language has

    def noun_cases(self, form: str) -> tuple[str, dict[str, str]]:
        """Gender and case table of a noun's notation."""
        gender, _, rest = form.rpartition(":")
        given = rest.split("/")
        return gender, {case: given[min(i, len(given) - 1)] for i, case in enumerate(self.cases)} | {"nom": given[0]}


def language(code: str) -> Language:
    """The language with this code, one of `registry.WORLD_LANGUAGES`."""
    return WORLD_LANGUAGES[code].load().LANGUAGE
