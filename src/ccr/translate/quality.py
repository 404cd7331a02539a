"""Quality figures of the translations of one language: `{lang}.quality.json`."""

import logging
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import regex
from py3langid.langid import MODEL_FILE, LanguageIdentifier
from sacrebleu.metrics import BLEU, CHRF

from ccr import languages
from ccr.artifacts.files import write_json
from ccr.artifacts.jobs import Job
from ccr.artifacts.parquet import read_parquet, refused_of
from ccr.artifacts.schemas import CAPTIONS, SPLITS
from ccr.errors import CcrError
from ccr.translate import chrf

log = logging.getLogger(__name__)

TOKENIZERS = {"Hans": "zh", "Hant": "zh", "Jpan": "ja-mecab"}  # sacreBLEU's, by script
WORST = 20  # captions listed
REASONS = 20  # refusals listed
BATCH = 10_000  # sentences passed to sacreBLEU at a time; bounds the memory, changes no figure


def run(job: Job) -> None:
    """Measure translations and write the figures as JSON, with the job's key; null for what cannot be measured.

    Inputs: `captions`, `forward`, `back` (schema CAPTIONS). Settings: `variant`, `source_lang`, `target_lang`.

    - `round_trip`: back-translations against the source captions (train and val); `forward`: translations against
      human captions that translate the same source caption (all splits). Each {n, bleu, chrf, signatures}.
    - `length_ratio`: characters of the translations divided by those of their sources, without white space.
    - `shares` of captions, 0 to 1: `empty`, without a translation (refused); of those with one: `copied`, equal to the
      source text; `repeated`, equal to the translation of another source text; `wrong_script`, most letters not in the
      target language's script; `wrong_language`, the source language according to py3langid, if scripts are shared.
    - `worst`: the captions with the lowest chrF in the comparison that `worst_by` names, each text once.
    - `refused`, `refused_back`: number and first reasons. The former count only in `empty`; the latter are left out of
      `round_trip`.
    """
    settings = job.settings
    source, target = settings["source_lang"], settings["target_lang"]
    captions, forward, back = (read_parquet(job.inputs[role], CAPTIONS) for role in ("captions", "forward", "back"))
    rows = _side_by_side(captions, forward, back, job)
    forward_figures, by_forward = _compare(rows, "translation", "human", target)
    round_trip, by_round_trip = _compare(rows, "back", "source", source)
    quality = {
        "key": job.key,
        "variant": settings["variant"],
        "engine": ", ".join(sorted(filter(None, forward["engine"].unique().to_pylist()))) or None,
        "source_lang": source,
        "target_lang": target,
        "n": len(rows),
        "n_by_split": {split: int((rows["split"] == split).sum()) for split in SPLITS},
        "refused": _refused(forward),
        "refused_back": _refused(back),
        "round_trip": round_trip,
        "forward": forward_figures,
        "length_ratio": _length_ratio(rows),
        "shares": _shares(rows, len(refused_of(forward)), source, target),
        "worst_by": "round_trip" if round_trip else "forward" if forward_figures else None,
        "worst": by_round_trip or by_forward,
    }
    write_json(quality, job.outputs["quality"])
    log.info("%s: %s translations measured", job.target, f"{len(rows):,}")


def _side_by_side(captions: pa.Table, forward: pa.Table, back: pa.Table, job: Job) -> pd.DataFrame:
    """caption_id, split, source, translation, back and human of every translation; the last two may be null."""
    table = captions.to_pandas()
    sources = table.set_index("caption_id")["text"]
    human = table[(table["origin"] == "human") & (table["lang"] == job.settings["target_lang"])]
    human = human.dropna(subset="parent_id").drop_duplicates("parent_id").set_index("parent_id")["text"]
    returned = back.to_pandas().set_index("parent_id")["text"].drop(list(refused_of(back)), errors="ignore")
    rows = forward.to_pandas()
    rows = rows[~rows["parent_id"].isin(list(refused_of(forward)))]
    strange = rows.loc[~rows["parent_id"].isin(sources.index), "parent_id"]
    if len(strange):
        raise CcrError(
            f"{job.inputs['forward']}: {len(strange):,} translations of captions that {job.inputs['captions']} does "
            f"not hold, the first of {strange.iloc[0]!r}. Delete the translations and make them again."
        )
    return pd.DataFrame(
        {
            "caption_id": rows["parent_id"],
            "split": rows["split"],
            "source": rows["parent_id"].map(sources),
            "translation": rows["text"],
            "back": rows["caption_id"].map(returned),
            "human": rows["parent_id"].map(human),
        }
    ).reset_index(drop=True)


def _compare(
    rows: pd.DataFrame, hypothesis: str, reference: str, lang: str
) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    """Figures of one column against another over rows with both, and the worst captions; None if no row has both."""
    pairs = rows.dropna(subset=[hypothesis, reference])
    if not len(pairs):
        return None, []
    hypotheses, references = pairs[hypothesis].tolist(), pairs[reference].tolist()
    bleu, signature = _bleu(hypotheses, references, lang)
    sentence_chrf = CHRF()
    sentence_chrf.sentence_score(hypotheses[0], references[:1])  # a metric has its signature only after scoring
    counts = chrf.statistics(hypotheses, references)
    figures = {
        "n": len(pairs),
        "bleu": bleu,
        "chrf": float(chrf.score(counts.sum(0))),
        "signatures": {"bleu": signature, "chrf": str(sentence_chrf.get_signature())},
    }
    return figures, _worst(pairs.assign(score=chrf.score(counts)))


def _bleu(hypotheses: list[str], references: list[str], lang: str) -> tuple[float, str]:
    """sacreBLEU's score and signature, with one reference each."""
    metric = BLEU(tokenize=_tokenizer(lang), force=True)  # force: no warning about " ." at the end
    parts = [
        metric.corpus_score(hypotheses[start : start + BATCH], [references[start : start + BATCH]])
        for start in range(0, len(hypotheses), BATCH)
    ]
    correct, total = (np.sum([getattr(part, name) for part in parts], axis=0).tolist() for name in ("counts", "totals"))
    lengths = sum(part.sys_len for part in parts), sum(part.ref_len for part in parts)
    return BLEU.compute_bleu(correct, total, *lengths, smooth_method="exp").score, str(metric.get_signature())


def _tokenizer(lang: str) -> str:
    """sacreBLEU's tokenizer for a language; characters if none segments the words of a script without spaces."""
    if not languages.spaced(lang):
        return TOKENIZERS.get(languages.script(lang), "char")
    return "13a" if languages.script(lang) == "Latn" else "intl"  # 13a only knows Latin punctuation


def _worst(pairs: pd.DataFrame) -> list[dict[str, Any]]:
    columns = ["caption_id", "source", "translation", "back", "human", "score"]
    ordered = pairs.sort_values("score", kind="stable").drop_duplicates(columns[1:5])
    worst = ordered[columns].head(WORST).astype(object)
    return worst.where(worst.notna(), None).to_dict("records")


def _refused(table: pa.Table) -> dict[str, Any]:
    reasons = refused_of(table)
    return {"n": len(reasons), "reasons": dict(islice(reasons.items(), REASONS))}


def _length_ratio(rows: pd.DataFrame) -> float | None:
    def characters(column: str) -> int:
        return sum(len("".join(text.split())) for text in rows[column])

    return characters("translation") / characters("source") if len(rows) else None


def _shares(rows: pd.DataFrame, refused: int, source: str, target: str) -> dict[str, float | None]:
    every = len(rows) + refused
    shares = {"empty": refused / every if every else None}
    if not len(rows):
        return shares | dict.fromkeys(("copied", "repeated", "wrong_script", "wrong_language"))
    texts = rows["translation"]
    return shares | {
        "copied": float((texts == rows["source"]).mean()),
        "repeated": float((rows.groupby(texts)["source"].transform("nunique") > 1).mean()),
        "wrong_script": _wrong_script(texts, target),
        "wrong_language": _wrong_language(texts, source, target),
    }


def _letters(texts: pd.Series, kind: str = r"\p{L}") -> pd.Series:
    """The number of letters of a kind in each text."""
    pattern = regex.compile(rf"[[{kind}]&&\p{{L}}]", regex.V1)  # marks are never counted
    return texts.map(lambda text: len(pattern.findall(text)))


def _wrong_script(texts: pd.Series, target: str) -> float:
    return float((2 * _letters(texts, languages.letters(target)) < _letters(texts)).mean())


def _wrong_language(texts: pd.Series, source: str, target: str) -> float | None:
    """None if the languages share no script (it decides then), or py3langid lacks one or does not distinguish them."""
    identifier = LanguageIdentifier.from_model_file(MODEL_FILE)
    known = [languages.served(lang, identifier.labels) for lang in (source, target)]
    if not {*languages.scripts(source)} & {*languages.scripts(target)} or None in known or known[0] == known[1]:
        return None
    identifier.set_languages(known)
    wrong = {text for text in texts.unique() if identifier.classify(text)[0] != known[1]}
    return float((texts.isin(wrong) & (_letters(texts) > 0)).mean())
