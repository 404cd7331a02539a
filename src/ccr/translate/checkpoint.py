"""Translation models as files: of which kind they are, and how they are told the languages. Without torch.

Kinds: `marian` (OPUS-MT), `nllb` and `m2m_100`; a model's config tells its kind, its name does not.
"""

import re
from dataclasses import dataclass

from ccr import hub
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
ADVICE = "Not every pair has a model of its own; facebook/nllb-200-distilled-600M knows all our languages."


@dataclass(frozen=True)
class Languages:
    """How a model is told from what to translate and into what.

    `source`: the tokenizer's `src_lang`. `prefix`: stands before every text. `first`: the token that the translation
    starts with. "" where the kind has no such thing.
    """

    source: str = ""
    prefix: str = ""
    first: str = ""


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
        """How the model is told to translate from `source` into `target` (our codes); `CcrError` where it cannot."""
        return getattr(self, f"_{self.kind}")(source, target)

    def _marian(self, source: str, target: str) -> Languages:
        config = self.json("tokenizer_config.json")
        spoken = config.get("source_lang")
        if spoken and not _named(spoken) & ({code.lower() for code in MARIAN[source]} | GROUPS[source]):
            raise self._cannot(source, target, f"it translates from {spoken!r}")
        codes = [token[2:-2] for token in self.json("vocab.json") if token[:2] + token[-2:] == ">><<"]
        for code in MARIAN[target]:
            if code in codes:
                return Languages(prefix=f">>{code}<< ")
        only = config.get("target_lang")
        if (only or codes) and not _named(only or "") & {code.lower() for code in MARIAN[target]}:
            raise self._cannot(source, target, f"it translates into {', '.join(sorted(codes)) or repr(only)}")
        return Languages()

    def _nllb(self, source: str, target: str) -> Languages:
        known = {token["content"] for token in self.json("tokenizer.json").get("added_tokens", [])}
        for language in (source, target):
            if NLLB[language] not in known:
                raise self._cannot(source, target, f"its tokenizer has no {NLLB[language]}")
        return Languages(source=NLLB[source], first=NLLB[target])

    def _m2m_100(self, source: str, target: str) -> Languages:
        codes = self.json("tokenizer_config.json").get("language_codes", "m2m100")
        for language in (source, target):
            if language not in M2M100.get(codes, ()):
                raise self._cannot(source, target, f"its languages ({codes}) lack {language!r}")
        return Languages(source=source, first=f"__{target}__")

    def _cannot(self, source: str, target: str, reason: str) -> CcrError:
        return CcrError(
            f"{self.setting}: {self.name} cannot translate from {source!r} into {target!r}: "
            f"{reason}. Choose another model for this pair."
        )


def find(model: str, revision: str, pair: tuple[str, str], variant: str) -> Checkpoint:
    """The model's small files, fetched where they are at the hub; the weights are looked for in local folders only.

    Args:
        model: name at the hub or folder; {source} and {target} in it are filled with Helsinki's codes of `pair`.
        revision: branch, tag or commit at the hub. variant: whose setting it is, for messages.
    Raises `CcrError` where files are missing: which, and how to give a folder.
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
