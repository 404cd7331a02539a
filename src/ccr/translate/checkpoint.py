"""Translation models as files: where they are, of which kind, and how they are told the languages. Without torch.

Kinds: `marian` (OPUS-MT), `nllb` and `m2m_100`; a model's config tells its kind, its name does not.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ccr.artifacts import content_hash, digest
from ccr.errors import CcrError

# Helsinki's codes of a pair in the name of its model, where they are not ours
HELSINKI = {("en", "ja"): ("en", "jap"), ("de", "zh"): ("de", "ZH")}

# The first that a model knows is taken. In `>>cmn_Hans<<` before a text it says what to translate into; in
# tokenizer_config.json it names a language, alone (`zho`) or among others (`ces_slk`).
MARIAN = {
    "en": ("eng", "en"),
    "zh": ("cmn_Hans", "zho_Hans", "zh_CN", "zh_cn", "cmn", "zho", "zh"),
    "de": ("deu", "de"),
    "fr": ("fra", "fr"),
    "cs": ("ces", "cs"),
    "ja": ("jpn", "ja", "jap"),
}
# groups of languages that Helsinki's models translate from
GROUPS = {
    "en": {"gmw", "gem", "ine", "mul"},
    "zh": {"sit", "mul"},
    "de": {"gmw", "gem", "ine", "mul"},
    "fr": {"romance", "roa", "itc", "ine", "mul"},
    "cs": {"zlw", "sla", "ine", "mul"},
    "ja": {"jpx", "mul"},
}
NLLB = {"en": "eng_Latn", "zh": "zho_Hans", "de": "deu_Latn", "fr": "fra_Latn", "cs": "ces_Latn", "ja": "jpn_Jpan"}
M2M100 = {"m2m100": {"en", "zh", "de", "fr", "cs", "ja"}, "wmt21": {"en", "zh", "de", "cs", "ja"}}

FILES = {  # that the tokenizer of each kind needs
    "marian": ("source.spm", "target.spm", "vocab.json"),
    "nllb": ("tokenizer.json",),
    "m2m_100": ("sentencepiece.bpe.model", "vocab.json"),
}
CONFIGS = ("*config.json", "*tokens_map.json", "added_tokens.json")
SMALL = (*CONFIGS, "tokenizer.json", "*vocab.json", "*.spm", "*.model")
WEIGHTS = (  # the first pair that is there is used
    ("model*.safetensors", "model.safetensors.index.json"),
    ("pytorch_model*.bin", "pytorch_model.bin.index.json"),
)
WEIGHTS_NAMES = "model.safetensors or pytorch_model.bin"


@dataclass(frozen=True)
class Languages:
    """How a model is told from what to translate and into what.

    `source`: the tokenizer's `src_lang`. `prefix`: stands before every text. `first`: the token that the translation
    starts with. "" where the kind has no such thing.
    """

    source: str = ""
    prefix: str = ""
    first: str = ""


@dataclass(frozen=True)
class Checkpoint:
    """The files of a model. `repository`: its name at the hub, "" for a folder of the user's.

    `revision`: the commit at the hub, or the hash of the folder's files.
    """

    name: str
    folder: Path
    repository: str
    revision: str
    variant: str

    @property
    def identity(self) -> dict[str, str]:
        """Which model this is. Where a folder of the user's lies, and what it is called, says nothing about that."""
        return {"model": self.repository or "local files", "revision": self.revision}

    @property
    def kind(self) -> str:
        """`marian`, `nllb` or `m2m_100`; `CcrError` for other models."""
        model_type = self._json("config.json").get("model_type")
        if model_type == "m2m_100":
            tokenizer = self._json("tokenizer_config.json").get("tokenizer_class") or ""
            return "nllb" if tokenizer.startswith("Nllb") else "m2m_100"
        if model_type != "marian":
            raise CcrError(
                f"{self.folder}/config.json: model_type {model_type!r}. The engine runs MarianMT (marian), NLLB and "
                f"M2M100 (m2m_100). Set translate.variants.{self.variant}.model to one of these."
            )
        return model_type

    def languages(self, source: str, target: str) -> Languages:
        """How the model is told to translate from `source` into `target` (our codes); `CcrError` where it cannot."""
        return getattr(self, f"_{self.kind}")(source, target)

    def weights(self) -> Path:
        """The folder, with weights in it. Those of a hub's model are fetched; `CcrError` where they cannot be."""
        for patterns in WEIGHTS if self.repository else ():
            _fetch(self.repository, self.revision, patterns, self.variant, [WEIGHTS_NAMES])
            if _matching(self.folder, patterns):
                return self.folder
        if not _weights(self.folder):
            raise _absent(self.repository or str(self.folder), self.variant, [WEIGHTS_NAMES], self.folder)
        return self.folder

    def _marian(self, source: str, target: str) -> Languages:
        config = self._json("tokenizer_config.json")
        spoken = config.get("source_lang")
        if spoken and not _named(spoken) & ({code.lower() for code in MARIAN[source]} | GROUPS[source]):
            raise self._cannot(source, target, f"it translates from {spoken!r}")
        codes = [token[2:-2] for token in self._json("vocab.json") if token[:2] + token[-2:] == ">><<"]
        for code in MARIAN[target]:
            if code in codes:
                return Languages(prefix=f">>{code}<< ")
        only = config.get("target_lang")
        if (only or codes) and not _named(only or "") & {code.lower() for code in MARIAN[target]}:
            raise self._cannot(source, target, f"it translates into {', '.join(sorted(codes)) or repr(only)}")
        return Languages()

    def _nllb(self, source: str, target: str) -> Languages:
        known = {token["content"] for token in self._json("tokenizer.json").get("added_tokens", [])}
        for language in (source, target):
            if NLLB[language] not in known:
                raise self._cannot(source, target, f"its tokenizer has no {NLLB[language]}")
        return Languages(source=NLLB[source], first=NLLB[target])

    def _m2m_100(self, source: str, target: str) -> Languages:
        codes = self._json("tokenizer_config.json").get("language_codes", "m2m100")
        for language in (source, target):
            if language not in M2M100.get(codes, ()):
                raise self._cannot(source, target, f"its languages ({codes}) lack {language!r}")
        return Languages(source=source, first=f"__{target}__")

    def _cannot(self, source: str, target: str, reason: str) -> CcrError:
        return CcrError(
            f"translate.variants.{self.variant}.model: {self.name} cannot translate from {source!r} into {target!r}: "
            f"{reason}. Choose another model for this pair."
        )

    def _json(self, file: str) -> dict[str, Any]:
        """A file's object; empty where the file, one that may be missing, is not there."""
        path = self.folder / file
        try:
            return json.loads(path.read_text()) if path.exists() else {}
        except ValueError as error:
            raise CcrError(f"{path}: not valid JSON ({error}). Fetch the model again.") from error


def find(model: str, revision: str, pair: tuple[str, str], variant: str) -> Checkpoint:
    """The model's small files, fetched where they are at the hub; the weights are looked for in local folders only.

    Args:
        model: name at the hub or folder; {source} and {target} in it are filled with Helsinki's codes of `pair`.
        revision: branch, tag or commit at the hub. variant: whose setting it is, for messages.
    Raises `CcrError` where files are missing: which, and how to give a folder.
    """
    source, target = HELSINKI.get(pair, pair)
    model = model.replace("{source}", source).replace("{target}", target)
    folder = Path(model).expanduser()
    if folder.is_dir():
        found = Checkpoint(folder.resolve().name, folder, "", _hash(folder), variant)
    else:
        every = ["config.json", *(f"{', '.join(files)} ({kind})" for kind, files in FILES.items()), WEIGHTS_NAMES]
        folder = _fetch(model, revision, SMALL, variant, every)
        found = Checkpoint(model.rsplit("/", 1)[-1], folder, model, folder.name, variant)
    needed = FILES[found.kind] if (folder / "config.json").exists() else ("config.json",)
    missing = [file for file in needed if not (folder / file).exists()]
    if not found.repository and not _weights(folder):
        missing.append(WEIGHTS_NAMES)
    if missing:
        raise _absent(model, variant, missing, folder)
    return found


def _fetch(repository: str, revision: str, patterns: Iterable[str], variant: str, missing: list[str]) -> Path:
    """The folder with a hub's files that match; what is in its cache is not fetched again."""
    from huggingface_hub import constants, errors, snapshot_download

    setting = f"translate.variants.{variant}.model"
    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=list(patterns)))
    except errors.HFValidationError as error:
        raise CcrError(f"{setting}: {repository} is no folder, and no name that a hub could know.") from error
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        raise CcrError(
            f"{setting}: the hub has no public model {repository} with a revision {revision!r}. Not every pair has a "
            "model of its own; facebook/nllb-200-distilled-600M knows all our languages."
        ) from error
    except Exception as error:  # whatever a broken network or a full disk raises
        raise _absent(f"{repository} ({revision})", variant, missing, Path(constants.HF_HUB_CACHE), error) from error


def _absent(
    model: str, variant: str, missing: list[str], folder: Path, error: Exception | str = "it is not there"
) -> CcrError:
    reason = str(error).partition("\n")[0].partition(". ")[0]
    return CcrError(
        f"{model}: the model is not whole on this machine and could not be fetched ({reason}). Missing in {folder}: "
        f"{'; '.join(missing)}. Run this once with a network; or fetch the files elsewhere and give their folder: "
        f"translate.variants.{variant}.model: /path/to/folder."
    )


def _named(language: str) -> set[str]:
    """The codes in a name such as `zho`, `zh_cn` or `deu_eng_fra`."""
    return {language.lower(), *re.split(r"[_+]", language.lower())}


def _hash(folder: Path) -> str:
    """Hash of all files of a folder that a translation depends on."""
    files = [*_matching(folder, SMALL), *_weights(folder)]
    return digest({file.name: content_hash(file) for file in files})


def _weights(folder: Path) -> list[Path]:
    return next(filter(None, (_matching(folder, patterns) for patterns in WEIGHTS)), [])


def _matching(folder: Path, patterns: Iterable[str]) -> list[Path]:
    return sorted({file for pattern in patterns for file in folder.glob(pattern)})
