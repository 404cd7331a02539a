"""Scenes to sentences: choose what to say, then express it in a language."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ccr.world.languages import CLASSES, Language, by_gender
from ccr.world.scenes import Scene, Thing, relation

# Relative frequencies of the kinds of sentences, among those that fit the scene.
KIND_WEIGHTS = {"moves": 5, "located": 2, "relation": 2, "acts": 6, "exists": 0.7, "pair": 2, "while": 3, "count": 0.7}
MENTIONED = {"colour": 0.95, "texture": 0.75, "size": 0.55}
VAGUE = 0.04  # how often the shape is not named
ASIDE = {"PLACE": 0.55, "BG": 0.4}  # how often place and background are mentioned where the kind does not require them


@dataclass(frozen=True)
class Content:
    """What a caption says, in no language yet: the kind of sentence, its noun phrases and its slots, as concepts."""

    kind: str
    mentions: Mapping[str, Mapping[str, str]]  # slot A, B -> class -> concept
    slots: Mapping[str, str]


def describe(scene: Scene, rng: np.random.Generator, moving: bool) -> Content:
    """Choose what one caption says about a scene: always true, seldom complete."""
    things = scene.things
    first, *others = (int(i) for i in rng.permutation(len(things)))
    act = scene.act is not None and first < 2
    related = next(((o, r) for o in others if (r := relation(scene, first, o))), None)
    fits = {"moves": moving and not act, "located": not act, "exists": True, "pair": bool(others), "acts": act,
            "relation": related is not None, "while": moving and bool(others), "count": bool(others)}  # fmt: skip
    kinds = [kind for kind, fit in fits.items() if fit]
    weights = np.array([KIND_WEIGHTS[kind] for kind in kinds])
    kind = str(rng.choice(kinds, p=weights / weights.sum()))

    slots, second = {}, others[0] if kind in ("pair", "while") else None
    if kind == "acts":
        first, second, slots["ACT"] = 0, 1, scene.act
    elif kind == "relation":
        second, slots["REL"] = related
    elif kind == "count":
        slots["COUNT"] = CLASSES["count"][len(things) - 2]
    if kind in ("moves", "while"):
        slots["MOVE"] = things[first].motion
    if kind == "while":
        slots["MOVE2"] = things[second].motion
    if kind == "located" or (kind in ("moves", "exists") and not act and rng.random() < ASIDE["PLACE"]):
        slots["PLACE"] = things[first].place
    if rng.random() < ASIDE["BG"]:
        slots["BG"] = scene.background
    mentions = {"A": _mention(things[first], rng)}
    if second is not None:
        mentions["B"] = _mention(things[second], rng)
    return Content(kind, mentions, slots)


def realise(content: Content, language: Language, rng: np.random.Generator) -> str:
    """One sentence with this content; `rng` chooses template and synonyms."""
    templates = language.templates[content.kind]
    template = re.sub(
        r"\[([^]]*)\]", lambda m: m[1] if _sayable(m[1], content) else "", templates[rng.integers(len(templates))]
    )
    governed, tokens, genders = "nom", [], {}
    for token in [*template.split(), "stop"]:
        slot, _, case = token.partition(".")
        if slot in content.mentions:
            case = governed if case == "gov" else case or "nom"
            genders[slot], words = _noun_phrase(content.mentions[slot], case, language, rng)
            tokens += [(word, slot) for word in words]
            continue
        form, _, asked = _choose(language.phrases[content.slots.get(slot, slot)], rng).partition(" +")
        tokens.append((form, "B" if slot == "MOVE2" else "A"))
        governed = asked or governed
    return surface([by_gender(form, genders.get(subject, "")) for form, subject in tokens], language)


def surface(tokens: list[str], language: Language) -> str:
    """Join tokens by the rules of the language: spaces, elisions, an initial capital."""
    if not language.spaces:
        return "".join(tokens)
    text, last = "", ""
    for token in filter(None, tokens):
        for end, start, changed in language.joins:
            if re.match(start, token) and re.search(end, text):
                text = re.sub(end, changed, text)
        joined = not text or token[0] in ",.،" or text[-1] == "'" or last in language.proclitics
        text, last = text + (token if joined else " " + token), token
    return text[0].upper() + text[1:]


def _mention(thing: Thing, rng: np.random.Generator) -> dict[str, str]:
    """The attributes of a thing that a noun phrase names."""
    named = {name: getattr(thing, name) for name, rate in MENTIONED.items() if rng.random() < rate}
    named = {name: concept for name, concept in named.items() if concept != "plain"}
    vague = bool(named) and rng.random() < VAGUE
    return {**named, "shape": "thing" if vague else thing.shape}


def _sayable(part: str, content: Content) -> bool:
    """Whether every slot of an optional part is filled."""
    return all(token in content.slots for token in part.split() if token.isupper())


def _noun_phrase(
    mention: Mapping[str, str], case: str, language: Language, rng: np.random.Generator
) -> tuple[str, list[str]]:
    """Gender and words of a noun phrase."""
    gender, forms = language.noun_cases(_choose(language.nouns[mention["shape"]], rng))
    words, behind = [], []
    for name in language.order:
        if name == "article":
            words.append(language.article(gender, case))
        elif name == "shape":
            words.append(forms[case])
        elif name in mention:
            stem = _choose(language.adjectives[mention[name]], rng)
            if stem.startswith("~"):
                behind.append(stem[1:])
            else:
                words.append(language.inflect(stem, gender, case))
    return gender, words + behind


def _choose(forms: list[str], rng: np.random.Generator) -> str:
    """A random form; the canonical first one is twice as likely as any other."""
    return forms[rng.integers(len(forms) + 1) % len(forms)]
