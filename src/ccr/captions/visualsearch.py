"""VisualSearch text lists, as the NRCCR authors publish them.

`TextData/{collection}{split}[_{engine}]_{tag}.caption.txt`, without engine and tag for the English original; a
line is `{item}#{tag}#{n} {text}`. A tag is a chain of languages: `enc` (English), `zh` (Chinese, human-written),
`enc2zh` (English translated into Chinese by the engine in the file name), `enc2zh2enc` (and back).
`TextData/{split}.ids.txt`, if published, lists the items of a split; otherwise they are those of its captions.
The files do not say which human captions are translations; option `translated` does: `5-9` means that captions 5 to 9
of an item in each target language translate its source captions of the same number.
"""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ccr import languages
from ccr.artifacts.files import atomic
from ccr.artifacts.jobs import Job
from ccr.artifacts.parquet import read_parquet
from ccr.artifacts.schemas import CAPTIONS, SPLITS
from ccr.captions.raw import Raw, found, listed
from ccr.errors import CcrError
from ccr.texts.files import read_ids, read_lines, short

log = logging.getLogger(__name__)

ENGLISH = "enc"  # the format's tag for English captions; other languages use their codes
NUMBER = re.compile(r"#([0-9]{1,9})(?:@.*)?$")
LINE = r"^(?P<item>[^\s]+)#(?P<tag>[^#\s]+)#(?P<n>[0-9]{1,9})(?:\s(?P<text>.*))?$"
ORIGIN = {1: "human", 2: "mt", 3: "back"}
NAME = re.compile(rf"(.+?)(?:{'|'.join(SPLITS)})(?:_.+)?\.caption\.txt")
NUMBERS = re.compile(r"([0-9]{1,9})-([0-9]{1,9})")


@dataclass(frozen=True)
class CaptionFile:
    """What the name of a caption file says; `langs`: the tag's chain of languages, None for an unknown one."""

    path: Path
    split: str
    engine: str | None
    tag: str
    langs: list[str | None]


def _lang(tag: str, asked: Sequence[str]) -> str | None:
    """The requested language that a tag is a variety of, else its code."""
    tag = "en" if tag == ENGLISH else tag
    return languages.variety(tag, tuple(asked)) or languages.known(tag)


def _tag(lang: str) -> str:
    return ENGLISH if lang == "en" else lang


def _collection(settings: dict) -> str:
    return settings["options"]["collection"] or settings["data"]


def expected(settings: dict) -> list[str]:
    """The files that the pipeline needs, relative to the root; `*` stands for an engine's name."""
    collection, (source, *targets) = _collection(settings), settings["langs"]
    original = "" if source == "en" else f"_{source}"
    names = [f"{split}{original}" for split in SPLITS]
    for target in targets:
        names += [f"train_*_{_tag(source)}2{_tag(target)}"]
        names += [f"{split}" if target == "en" else f"{split}_{target}" for split in SPLITS[1:]]
    return [f"TextData/{collection}{name}.caption.txt" for name in names]


def layouts(root: Path) -> list[dict]:
    """Options and languages of every collection in `root`."""
    folder, collections = root / "TextData", []
    names = [match for path in sorted(folder.glob("*")) if (match := NAME.fullmatch(path.name))]
    for collection in dict.fromkeys(match[1] for match in names):
        human = {file.langs[0] for file in _files(folder, collection) if len(file.langs) == 1}
        langs = languages.ordered(human - {None})
        collections.append({"options": {"collection": collection, "translated": ""}, "langs": langs})
    return collections


def read(root: Path, settings: dict) -> Raw:
    """All human captions in `langs`, and every published machine translation between them."""
    items, captions, notes = [], [], []
    files = _files(root / "TextData", _collection(settings), settings["langs"])
    source, translated = settings["langs"][0], _translated(settings)
    original = next((file.tag for file in files if file.langs == [source]), _tag(source))
    for file in files:
        if set(file.langs) <= set(settings["langs"]):
            captions.append(_captions(file, original if file.langs != [source] else None, translated))
        else:
            known = all(file.langs)
            why = "not among the chosen languages" if known else "no language"
            notes.append(f"{file.path.name} left out: {file.tag!r} is {why}")
    for split in SPLITS:
        ids = root / "TextData" / f"{split}.ids.txt"
        items += [listed(ids, read_ids(ids), split)] if ids.exists() else _items_of(captions, split)
    return Raw.collect(items, captions, notes)


def _files(folder: Path, collection: str, asked: Sequence[str] = ()) -> list[CaptionFile]:
    pattern = re.compile(rf"{re.escape(collection)}({'|'.join(SPLITS)})(?:_(.+))?\.caption\.txt")
    files = []
    for path in sorted(folder.glob("*.caption.txt")):
        if match := pattern.fullmatch(path.name):
            engine, _, tag = (match[2] or "enc").rpartition("_")
            langs = [_lang(part, asked) for part in tag.split("2")]
            files.append(CaptionFile(path, match[1], engine or None, tag, langs))
    return files


def _translated(settings: dict) -> range:
    """Numbers of the human target captions that translate the source caption of the same number."""
    given = settings["options"]["translated"]
    numbers = NUMBERS.fullmatch(given)
    if given and not numbers:
        raise CcrError(
            f"datasets.{settings['data']}.options.translated: expected the first and the last number of the "
            f"captions that are translations, such as '5-9', found {given!r}."
        )
    return range(int(numbers[1]), int(numbers[2]) + 1) if numbers else range(0)


def _captions(file: CaptionFile, original: str | None, translated: range) -> pa.Table:
    """`original`: for human target captions, the tag of the source captions that numbers `translated` translate."""
    depth = len(file.langs)
    if depth not in ORIGIN or (depth > 1) != bool(file.engine):
        raise CcrError(
            f"{file.path}: engine {file.engine!r} and tag {file.tag!r} do not go together. The name of machine "
            "translations is {collection}{split}_{engine}_{tag}.caption.txt with a tag such as enc2zh or "
            "enc2zh2enc, that of human captions has no engine. Rename the file."
        )
    lines = pa.array(read_lines(file.path), pa.string())
    parts = pc.extract_regex(lines, LINE)
    bad = pc.index(parts.is_valid(), pa.scalar(False)).as_py()
    if bad >= 0:
        raise CcrError(_complaint(file, bad + 1, lines[bad].as_py()))
    item_id, tag, n, text = parts.flatten()
    other = pc.index(pc.equal(tag, file.tag), pa.scalar(False)).as_py()
    if other >= 0:
        raise CcrError(
            f"{file.path}, line {other + 1}: tag {short(tag[other].as_py())!r}, but by the file's name its captions "
            f"are {file.tag!r}. Move the line to the right file, or rename the file."
        )
    n = n.cast(pa.int32())
    parent_tag, has_parent = file.tag.rpartition("2")[0] or None, None
    if depth == 1 and original:
        parent_tag = original
        has_parent = pc.and_(pc.greater_equal(n, translated.start), pc.less(n, translated.stop))
    return found(
        file.path,
        item_id=item_id,
        tag=file.tag,
        n=n,
        text=text,
        row=range(1, len(lines) + 1),
        split=file.split,
        lang=file.langs[-1],
        origin=ORIGIN[depth],
        engine=file.engine,
        parent_tag=parent_tag,
        parent_engine=file.engine if depth == 3 else None,
        translated=has_parent,
    )


def _complaint(file: CaptionFile, number: int, line: str) -> str:
    """What is wrong with a line that is not a caption."""
    head = line.split(maxsplit=1)[:1]
    if not head:
        what = "the line is empty"
    elif "#" not in head[0]:
        what = f"no tag in {short(line)!r}"
    else:
        what = f"malformed: {short(line)!r}"
    return (
        f"{file.path}, line {number}: {what}. Expected is `{{item}}#{file.tag}#{{number}} {{text}}`. Mend "
        "the line or remove it."
    )


def _items_of(captions: list[pa.Table], split: str) -> list[pa.Table]:
    """The items of a split without an id list: those of its captions, each with its first occurrence."""
    rows = pa.concat_tables([c.filter(pc.equal(c["split"], split)) for c in captions]) if captions else None
    if not rows:
        return []
    codes = rows["item_id"].combine_chunks().dictionary_encode().indices
    first = np.unique(codes, return_index=True)[1]
    return [rows.take(pa.array(first)).select(["item_id", "split", "file", "row"])]


def export(job: Job, split: str, path: Path) -> None:
    """Export one split of a translation job's captions as lines `{item}#{tag}#{n} {text}`, atomically.

    n is that of the translated caption, so that pairs can be matched. Read back as
    `{collection}{split}_{engine}_{tag}.caption.txt`, the lines give the same texts. `CcrError` if a caption cannot be
    written as such a line, or the split has none.
    """
    settings = job.settings
    source, target = _tag(settings["source_lang"]), _tag(settings["target_lang"])
    tag = {"forward": f"{source}2{target}", "back": f"{source}2{target}2{source}", "queries": f"{target}2{source}"}
    tag = target if settings["engine"] == "none" else tag[settings["direction"]]
    table = read_parquet(job.outputs["translations"], CAPTIONS)
    rows = table.filter(pc.equal(table["split"], split)).select(["item_id", "caption_id", "text"]).to_pylist()
    if not rows:
        raise CcrError(f"{job.target}: no captions of split {split!r}; splits are {', '.join(SPLITS)}.")
    lines = []
    for row in rows:
        number = NUMBER.search(row["caption_id"])
        lines.append(f"{row['item_id']}#{tag}#{number[1] if number else ''} {row['text']}")
        if not re.fullmatch(LINE, lines[-1]):
            raise CcrError(
                f"{job.target}: caption {row['caption_id']!r} cannot be a line `{{item}}#{tag}#{{number}} {{text}}`. "
                "That needs an item without spaces, an id with a number (`item#en#0`), and no line break in the text."
            )
    with atomic(path) as temporary:
        temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    log.info("%s: %s lines %s", path, f"{len(lines):,}", f"{{item}}#{tag}#{{n}} {{text}}")
