"""The mini-world's dictionary: what its offline translation engine knows, derived from the grammars."""

import re
from typing import Any

from ccr.world.languages import CLASSES, Language, by_gender, language

ABOUT = (
    "Dictionary of the synthetic mini-world, made from the grammars that write its captions. It knows no other text. "
    "concepts: class; forms: every surface form by language; words: the canonical form by language and gender; "
    "gender: of nouns; wrong: a wrong sense."
)


def lexicon(langs: list[str]) -> dict[str, Any]:
    """The JSON-able lexicon of these languages."""
    tables = {code: language(code) for code in langs}
    concepts: dict[str, dict[str, Any]] = {"a": _concept("article")}
    for name, members in CLASSES.items():
        concepts |= {concept: _concept(name) for concept in members}
    for code, table in tables.items():
        concepts |= {particle: _concept("particle") for particle in table.particles}
        for concept, entry in concepts.items():
            _add(entry, concept, code, table)
    return {
        "synthetic": True,
        "about": ABOUT,
        "languages": {code: _grammar(table) for code, table in tables.items()},
        "concepts": concepts,
    }


def _concept(name: str) -> dict[str, Any]:
    return {"class": name, "forms": {}, "words": {}, "gender": {}, "wrong": {}}


def _grammar(table: Language) -> dict[str, Any]:
    """What the engine must know about a language in addition to its words."""
    return {
        "spaces": table.spaces,
        "order": table.order,
        "joins": table.joins,
        "relation_last": table.relation_last,
        "final": table.final,
        "topic": table.topic,
        **({"proclitics": table.proclitics} if table.proclitics else {}),
    }


def _add(entry: dict[str, Any], concept: str, code: str, table: Language) -> None:
    """Add one language's forms of one concept."""
    genders = sorted({table.noun_cases(form)[0] for forms in table.nouns.values() for form in forms})
    if entry["class"] == "article":
        inflected = {gender: [table.article(gender, case) for case in table.cases] for gender in genders}
    elif concept in table.nouns:
        nouns = [table.noun_cases(form) for form in table.nouns[concept]]
        inflected = {"": [form for _, cases in nouns for form in cases.values()]}
        entry["gender"][code] = nouns[0][0]
    elif concept in table.adjectives:
        stems = table.adjectives[concept]
        inflected = {
            gender: [_adjective(stem, gender, case, table) for stem in stems for case in table.cases]
            for gender in genders
        }
    elif concept in table.phrases:
        phrases = [form.partition(" +")[0] for form in table.phrases[concept]]
        agreeing = genders if any("|" in form for form in phrases) else [""]
        inflected = {gender: [by_gender(form, gender) for form in phrases] for gender in agreeing}
    else:
        return  # a particle of another language
    forms = {form for group in inflected.values() for form in group if form}
    if forms:
        entry["forms"][code] = sorted(forms | {joined for form in forms for joined in _joined(form, table)})
        if entry["class"] != "particle":
            entry["words"][code] = {gender: group[0] for gender, group in inflected.items()}
    if concept in table.homonyms:
        entry["wrong"][code] = table.homonyms[concept]


def _adjective(stem: str, gender: str, case: str, table: Language) -> str:
    return stem[1:] if stem.startswith("~") else table.inflect(stem, gender, case)


def _joined(form: str, table: Language) -> list[str]:
    """The form as it is written before words that change its end (d' for de)."""
    return [re.sub(end, changed, form) for end, _, changed in table.joins if re.search(end, form)]
