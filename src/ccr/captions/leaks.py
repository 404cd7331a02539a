"""Content that occurs in two splits: pictures, published features and texts. Test data must not be trained on."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, compress
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from ccr.artifacts.schemas import SPLITS
from ccr.captions.checks import listing, with_captions
from ccr.captions.likeness import hashes, near
from ccr.captions.rows import row_hashes
from ccr.texts.cleaning import letters
from ccr.texts.files import short

PAIRS = tuple(combinations(SPLITS, 2))
# messages about things of the later split, {1}
KINDS = {
    "same": "items of {1} have the picture or clip of an item of {0}, byte for byte",
    "alike": "items of {1} look like an item of {0}",
    "features": "items of {1} have the features of an item of {0}, value for value",
    "text": "{2} captions of {1} have the text of a caption of {0}",
    "translated": "{2} captions of {1} have the text of a machine translation in {0}",
}


@dataclass(frozen=True)
class Leak:
    """Identical or similar things in two splits: items, or captions in one language (if `lang` is given).

    `kind`: a key of KINDS. `splits`: in the order train, val, test. `first`: their ids in the first split. `second`:
    their ids in the second split, each mapped to one match in the first.
    """

    kind: str
    splits: tuple[str, str]
    lang: str = ""
    first: set[str] = field(default_factory=set)
    second: dict[str, str] = field(default_factory=dict)


def find(root: Path, items: pa.Table, captions: pa.Table, threads: int) -> tuple[list[Leak], list[str]]:
    """What the splits share, and notes on files that cannot be decoded.

    Compared are the bytes of files, their difference hashes (see `likeness`), rows of features published in `root`, and
    texts: human captions, reduced to letters and digits, against human captions of other splits and, for val and test,
    the machine translations of train in the same language.
    """
    names, splits = items["item_id"].to_pylist(), items["split"].to_pylist()
    files = {item: root / path for item, path in zip(names, items["path"].to_pylist(), strict=True) if path}
    contents, looks, notes = hashes(files, items["kind"][0].as_py() if len(items) else "image", threads)
    leaks = _shared("same", map(contents.get, names), names, splits)
    leaks += _alike(looks, contents, dict(zip(names, splits, strict=True)))
    for rows in row_hashes(root, names):
        leaks += _shared("features", rows, names, splits)
    for lang in pc.unique(captions["lang"]).to_pylist():
        leaks += _texts(captions.filter(pc.equal(captions["lang"], lang)), lang)
    return leaks, notes


def _texts(captions: pa.Table, lang: str) -> list[Leak]:
    """Human captions in two splits, and those of val and test among the machine translations of train."""
    keys = [letters(text) or None for text in captions["text"].to_pylist()]
    names, splits, origins = (captions[name].to_pylist() for name in ("caption_id", "split", "origin"))
    human = [origin == "human" for origin in origins]
    machine = [by_people != (split == SPLITS[0]) for by_people, split in zip(human, splits, strict=True)]

    def shared(kind: str, chosen: list[bool]) -> list[Leak]:
        return _shared(kind, compress(keys, chosen), *([*compress(of, chosen)] for of in (names, splits)), lang)

    translated = shared("translated", machine)  # machine translations of train, human captions of val and test
    return shared("text", human) + [leak for leak in translated if leak.splits[0] == SPLITS[0]]


def _shared(
    kind: str, keys: Iterable[Hashable | None], names: Sequence[str], splits: Sequence[str], lang: str = ""
) -> list[Leak]:
    """What occurs in two splits under the same key; None is not a key."""
    owners: dict[Hashable, dict[str, list[str]]] = {}
    for key, name, split in zip(keys, names, splits, strict=True):
        if key is not None:
            owners.setdefault(key, {}).setdefault(split, []).append(name)
    leaks = {pair: Leak(kind, pair, lang) for pair in PAIRS}
    for held in owners.values():
        for pair in PAIRS if len(held) > 1 else ():
            if pair[0] in held and pair[1] in held:
                leaks[pair].first.update(held[pair[0]])
                leaks[pair].second.update(dict.fromkeys(held[pair[1]], held[pair[0]][0]))
    return [leak for leak in leaks.values() if leak.second]


def _alike(looks: Mapping[str, bytes], contents: Mapping[str, str], splits: Mapping[str, str]) -> list[Leak]:
    """Items whose files look alike but are not identical."""
    leaks = []
    for pair in PAIRS:
        sides = [[item for item in looks if splits[item] == split] for split in pair]
        if all(sides):
            one, other = ([(looks[item], contents[item]) for item in side] for side in sides)
            first, second = near(one, other)
            found = {sides[1][n]: sides[0][partner] for n, partner in second.items()}
            leaks += [Leak("alike", pair, "", {sides[0][n] for n in first}, found)] if found else []
    return leaks


def described(leaks: Sequence[Leak], items: pa.Table, captions: pa.Table) -> list[str]:
    """One line per leak: how many, of how many, and which."""
    lines = []
    for leak in leaks:
        table = items
        if leak.lang:
            human = pc.and_(pc.equal(captions["origin"], "human"), pc.equal(captions["lang"], leak.lang))
            table = captions.filter(human)
        whole = pc.sum(pc.equal(table["split"], leak.splits[1])).as_py()
        shown = listing([f"{short(name)} that of {short(owner)}" for name, owner in leak.second.items()])
        lines.append(f"{len(leak.second):,} of {whole:,} {KINDS[leak.kind].format(*leak.splits, leak.lang)} ({shown})")
    return lines


def without(leaks: Sequence[Leak], items: pa.Table, captions: pa.Table) -> tuple[pa.Table, pa.Table, str]:
    """Items and captions without those of train that val or test share, and a note on what was left out.

    A caption is removed with its original and all translations of that, and an item left without captions, too.
    """
    train = [leak for leak in leaks if leak.splits[0] == SPLITS[0]]
    out_items = {item for leak in train if not leak.lang for item in leak.first}
    out_texts = {caption for leak in train if leak.lang for caption in leak.first}
    parents = dict(zip(captions["caption_id"].to_pylist(), captions["parent_id"].to_pylist(), strict=True))

    def original(name: str) -> str:
        while parents[name] is not None:
            name = parents[name]
        return name

    originals = {original(name) for name in out_texts}
    keep = [
        item not in out_items and (split != SPLITS[0] or original(name) not in originals)
        for item, split, name in zip(
            *(captions[column].to_pylist() for column in ("item_id", "split", "caption_id")), strict=True
        )
    ]
    kept = captions.filter(pa.array(keep, pa.bool_()))
    left = with_captions(items, kept)
    word = f"left out of train: {len(items) - len(left):,} items, {len(captions) - len(kept):,} captions"
    return left, kept, word
