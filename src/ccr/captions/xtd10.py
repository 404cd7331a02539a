"""XTD10 (Aggarwal and Kale, 2020): 1,000 MSCOCO photos with one caption per language.

`test_image_names.txt` names the photos, one per line; `test_1kcaptions_{lang}.txt` are aligned with it. They are
looked for in the publisher's three folders, `XTD10/` (Spanish, Italian, Korean, Polish, Russian, Turkish, Chinese),
`MIC/` (German and French, from Rajendran et al., 2016) and `STAIR/` (Japanese, from STAIR Captions, with the tag `jp`),
and in the root. An item's id is its file name without the extension; all are test items.

The names come from the publisher's list of files; the files themselves have not been imported here.
"""

from pathlib import Path, PurePath

from ccr import languages
from ccr.captions.raw import Raw, found, listed
from ccr.errors import CcrError
from ccr.texts.files import read_ids, read_lines

NAMES, CAPTIONS = "test_image_names.txt", "test_1kcaptions_{}.txt"
FOLDERS = ("", "XTD10", "MIC", "STAIR")
TAGS = {"ja": "jp"}  # where the file name uses another tag


def expected(settings: dict) -> list[str]:
    """The files that the pipeline needs, in any folder under the root."""
    names = (NAMES, *(CAPTIONS.format(TAGS.get(lang, lang)) for lang in settings["langs"]))
    return [f"**/{name}" for name in names]


def layouts(root: Path) -> list[dict]:
    """The languages of the files in `root`."""
    files = _files(root)
    return [{"options": {}, "langs": languages.ordered(files)}] if files else []


def read(root: Path, settings: dict) -> Raw:
    """The captions in `langs`, all of the test split."""
    files, names = _files(root), _there(root, NAMES)
    if not files:
        return Raw.collect([], [], [])
    if names is None:
        raise CcrError(f"{root / NAMES}: missing, here and in {', '.join(FOLDERS[1:])}. It names the photos.")
    items = [PurePath(name).stem for name in read_ids(names)]
    captions = []
    for lang in (lang for lang in settings["langs"] if lang in files):
        lines = read_lines(files[lang])
        if len(lines) != len(items):
            raise CcrError(
                f"{files[lang]} has {len(lines):,} lines, {names} has {len(items):,}: line k of the one belongs to "
                "line k of the other, so the numbers must be equal. Fetch both again."
            )
        rows = {"n": [0] * len(items), "row": range(1, len(items) + 1)}
        captions.append(found(files[lang], item_id=items, tag=lang, text=lines, lang=lang, **rows))
    return Raw.collect([listed(names, items, "test")], captions, [])


def _there(root: Path, name: str) -> Path | None:
    return next((root / folder / name for folder in FOLDERS if (root / folder / name).exists()), None)


def _files(root: Path) -> dict[str, Path]:
    """Language -> its caption file; of several, the one in the first folder."""
    files = {}
    for path in (path for folder in FOLDERS for path in sorted((root / folder).glob(CAPTIONS.format("*")))):
        if lang := _lang(path.stem.rpartition("_")[2]):
            files.setdefault(lang, path)
    return files


def _lang(tag: str) -> str | None:
    """The language of a file's tag; None if it is not a language."""
    return {own: lang for lang, own in TAGS.items()}.get(tag) or languages.known(tag)
