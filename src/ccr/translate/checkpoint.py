"""Files of translation models: their kind, and how they are told the languages. Does not need torch.

Kinds: `marian` (OPUS-MT), `nllb` and `m2m_100`; determined by a model's config, not by its name.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass

from ccr import hub, languages
from ccr.errors import CcrError

# Helsinki's codes for a pair in model names, where they differ from ours
HELSINKI = {("en", "ja"): ("en", "jap"), ("de", "zh"): ("de", "ZH")}

ALIASES = {"jap": "jpn"}  # Helsinki's codes that are not language codes
# Groups of languages that Helsinki's models translate from. The groups of a few languages are known; for any other
# language, a model that translates from any group is accepted.
EVERY_GROUP = (
    "aav afa alv bat bnt cau ccs cel cpf cpp dra fiu gem gmq gmw iir inc ine itc jpx map mul nic phi poz pqe roa "
    "romance sem sit sla trk tut urj zle zls zlw"
)
GROUPS = {
    "en": {"gmw", "gem", "ine", "mul"},
    "zh": {"sit", "mul"},
    "de": {"gmw", "gem", "ine", "mul"},
    "fr": {"romance", "roa", "itc", "ine", "mul"},
    "cs": {"zlw", "sla", "ine", "mul"},
    "ja": {"jpx", "mul"},
}
# languages of M2M100 models, by the set named in their tokenizer
M2M100 = {
    "m2m100": (
        "af am ar ast az ba be bg bn br bs ca ceb cs cy da de el en es et fa ff fi fr fy ga gd gl gu ha he hi hr ht hu "
        "hy id ig ilo is it ja jv ka kk km kn ko lb lg ln lo lt lv mg mk ml mn mr ms my ne nl no ns oc or pa pl ps pt "
        "ro ru sd si sk sl so sq sr ss su sv sw ta th tl tn tr uk ur uz vi wo xh yi yo zh zu"
    ),
    "wmt21": "cs de en ha is ja ru zh",
}

FLORES = re.compile("[a-z]{3}_[A-Z][a-z]{3}")  # language tokens in NLLB's tokenizer

FILES = {  # needed by the tokenizer of each kind
    "marian": ("source.spm", "target.spm", "vocab.json"),
    "nllb": ("tokenizer.json",),
    "m2m_100": ("sentencepiece.bpe.model", "vocab.json"),
}
CONFIGS = ("*config.json", "*tokens_map.json", "added_tokens.json")
SMALL = (*CONFIGS, "tokenizer.json", "*vocab.json", "*.spm", "*.model")
ADVICE = "Not every pair has a model of its own; facebook/nllb-200-distilled-600M has 200 languages."


@dataclass(frozen=True)
class Languages:
    """How a model is told which languages to translate from and into.

    `source`: the tokenizer's `src_lang`. `first`: the token that the translation starts with. `prefix`: prepended to
    every text. "" if the kind does not use it.
    """

    source: str = ""
    first: str = ""
    prefix: str = ""


class Checkpoint(hub.Checkpoint):
    """The files of a translation model."""

    @property
    def kind(self) -> str:
        """`marian`, `nllb` or `m2m_100`; `CcrError` for other models."""
        model_type = self.json("config.json").get("model_type")
        if model_type == "m2m_100":
            tokenizer = self.json("tokenizer_config.json").get("tokenizer_class") or ""
            return "nllb" if tokenizer.startswith("Nllb") else "m2m_100"
        if model_type != "marian":
            raise CcrError(
                f"{self.folder}/config.json: model_type {model_type!r}. The engine runs MarianMT (marian), NLLB and "
                f"M2M100 (m2m_100). Set {self.setting} to one of these."
            )
        return model_type

    def languages(self, source: str, target: str) -> Languages:
        """How the model is told to translate from `source` into `target` (our codes); `CcrError` if it cannot."""
        return getattr(self, f"_{self.kind}")(source, target)

    def _marian(self, source: str, target: str) -> Languages:
        config = self.json("tokenizer_config.json")
        spoken = config.get("source_lang")
        if spoken and not (_one_of(source, spoken) or _named(spoken) & GROUPS.get(source, {*EVERY_GROUP.split()})):
            raise self._cannot(source, target, f"it translates from {spoken!r}")
        codes = [token[2:-2] for token in self.json("vocab.json") if token[:2] + token[-2:] == ">><<"]
        if code := languages.served(target, codes):
            return Languages(prefix=f">>{code}<< ")
        only = config.get("target_lang")
        if (only or codes) and not _one_of(target, only or ""):
            raise self._cannot(source, target, f"it translates into {', '.join(sorted(codes)) or repr(only)}")
        return Languages()

    def _nllb(self, source: str, target: str) -> Languages:
        tokens = (token["content"] for token in self.json("tokenizer.json").get("added_tokens", []))
        known = [token for token in tokens if FLORES.fullmatch(token)]
        return Languages(*self._both(source, target, known, f"{len(known)} of FLORES-200"))

    def _m2m_100(self, source: str, target: str) -> Languages:
        codes = self.json("tokenizer_config.json").get("language_codes", "m2m100")
        first, second = self._both(source, target, M2M100.get(codes, "").split(), codes)
        return Languages(source=first, first=f"__{second}__")

    def _both(self, source: str, target: str, known: Collection[str], which: str) -> tuple[str, str]:
        """Both languages in the model's codes."""
        pair = languages.served(source, known), languages.served(target, known)
        for language, its in zip((source, target), pair, strict=True):
            if its is None:
                raise self._cannot(source, target, f"its languages ({which}) lack {language!r}")
        return pair

    def _cannot(self, source: str, target: str, reason: str) -> CcrError:
        return CcrError(
            f"{self.setting}: {self.name} cannot translate from {source!r} into {target!r}: "
            f"{reason}. Choose another model for this pair."
        )


def find(model: str, revision: str, pair: tuple[str, str], variant: str) -> Checkpoint:
    """The model's small files, fetched if they are on the hub; weights are checked for in local folders only.

    Args:
        model: name on the hub or folder; {source} and {target} in it are replaced by Helsinki's codes for `pair`.
        revision: branch, tag or commit on the hub. variant: the one whose setting this is, for messages.
    Raises `CcrError` if files are missing, saying which and how to give a folder.
    """
    source, target = HELSINKI.get(pair, pair)
    model = model.replace("{source}", source).replace("{target}", target)
    every = ["config.json", *(f"{', '.join(files)} ({kind})" for kind, files in FILES.items())]
    found = Checkpoint.find(model, revision, f"translate.variants.{variant}.model", SMALL, every, ADVICE)
    needed = FILES[found.kind] if (found.folder / "config.json").exists() else ("config.json",)
    found.check((file,) for file in needed)
    return found


def _named(language: str) -> set[str]:
    """The codes in a name such as `zho`, `zh_cn` or `deu_eng_fra`."""
    return {language.lower(), *re.split(r"[_+]", language.lower())}


def _one_of(language: str, name: str) -> bool:
    """Whether a language is among those in a model's language name (see `_named`)."""
    return languages.served(language, {ALIASES.get(part, part) for part in _named(name)}) is not None
