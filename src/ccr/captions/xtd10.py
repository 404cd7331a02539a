"""XTD10 (Aggarwal and Kale, 2020): 1,000 MSCOCO photos with one caption per language.

`test_image_names.txt` names the photos, one per line; `test_1kcaptions_{lang}.txt` are aligned with it. They are
looked for in the root, in the publisher's three folders, `XTD10/` (Spanish, Italian, Korean, Polish, Russian, Turkish,
Chinese), `MIC/` (German and French, from Rajendran et al., 2016) and `STAIR/` (Japanese, from STAIR Captions, with the
tag `jp`), and in all other folders, such as a clone of the publisher's. An item's id is its file name without the
extension; all are test items.

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
    files, names = _files(root), next(iter(_paths(root, NAMES)), None)
    if not files:
        return Raw.collect([], [], [])
    if names is None:
        raise CcrError(f"{root / NAMES}: missing, here and in every folder below. It names the photos.")
    items = [PurePath(name).stem for name in read_ids(names)]
    captions = []
    for lang, own in languages.varieties(files, settings["langs"]).items():
        for n, path in enumerate(files[code] for code in own):
            lines = read_lines(path)
            if len(lines) != len(items):
                raise CcrError(
                    f"{path} has {len(lines):,} lines, {names} has {len(items):,}: line k of the one belongs to "
                    "line k of the other, so the numbers must be equal. Fetch both again."
                )
            rows = {"n": [n] * len(items), "row": range(1, len(items) + 1)}
            captions.append(found(path, item_id=items, tag=lang, text=lines, lang=lang, **rows))
    return Raw.collect([listed(names, items, "test")], captions, [])


def _paths(root: Path, name: str) -> list[Path]:
    """The files of a name, or of a pattern, the publisher's folders first."""
    own = [path for folder in FOLDERS for path in sorted((root / folder).glob(name))]
    return list(dict.fromkeys([*own, *sorted(root.glob(f"**/{name}"))]))


def _files(root: Path) -> dict[str, Path]:
    """Language -> its caption file; of several, the one in the first folder."""
    files = {}
    for path in _paths(root, CAPTIONS.format("*")):
        if lang := _lang(path.stem.rpartition("_")[2]):
            files.setdefault(lang, path)
    return files


def _lang(tag: str) -> str | None:
    """The language of a file's tag; None if it is not a language."""
    return {own: lang for lang, own in TAGS.items()}.get(tag) or languages.known(tag)
