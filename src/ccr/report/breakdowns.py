"""t2v R@10 by kinds of test captions: by length, by how rare their words are, by how well they are translated."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from sacrebleu.metrics import CHRF

from ccr import languages
from ccr.artifacts.parquet import read_parquet
from ccr.artifacts.schemas import CAPTIONS
from ccr.report.group import Group, units

BINS = 4
RARE = (0, 10, 100)  # occurrences of a caption's rarest word in the training translations


@dataclass(frozen=True)
class Breakdown:
    """R@10 in percent: label -> one value per bin; `counts`: captions in each bin."""

    title: str
    bins: list[str]
    counts: list[int]
    recall: dict[str, list[float]]


def breakdowns(group: Group) -> list[Breakdown]:
    """The breakdowns for which there are numbers."""
    texts = group.captions["text"]
    settings = group.rows[0].settings
    cut = units(texts.tolist(), settings["target_lang"])
    unit = "word" if languages.spaced(settings["target_lang"]) else "character"
    length = pd.Series([len(words) for words in cut], index=texts.index)
    found = [_by(group, f"By length, in {unit}s", _quarters(length, "{:.0f}"))]
    rarity = _rarity(group, cut)
    if rarity is not None:
        title = f"By how often the caption's rarest {unit} stands in the training translations"
        found.append(_by(group, title, rarity))
    quality = _quality(group)
    if quality is not None:
        source = languages.name(settings["source_lang"])
        title = f"By how well the caption is translated: chrF against the {source} captions of its item"
        found.append(_by(group, title, _quarters(quality, "{:.0f}")))
    return found


def _by(group: Group, title: str, bins: pd.Series) -> Breakdown:
    names = list(bins.cat.categories)
    counts = bins.value_counts().reindex(names).fillna(0).astype(int)
    names = [name for name in names if counts[name]]
    recall = {}
    for label, row in zip(group.labels, group.rows, strict=True):
        hits = (group.ranks(row) <= 10).mean(axis=1) * 100
        by_bin = hits.groupby(bins, observed=True).mean()
        recall[label] = [float(by_bin[name]) for name in names]
    return Breakdown(title, [str(name) for name in names], [int(counts[name]) for name in names], recall)


def _quarters(values: pd.Series, form: str) -> pd.Series:
    """Bins with roughly equal numbers of captions."""
    bins = pd.qcut(values, BINS, duplicates="drop")
    names = [f"{form.format(i.left)} to {form.format(i.right)}" for i in bins.cat.categories]
    return bins.cat.rename_categories(dict(zip(bins.cat.categories, _distinct(names), strict=True)))


def _distinct(names: list[str]) -> list[str]:
    return [f"{name} ({n})" if names.count(name) > 1 else name for n, name in enumerate(names, start=1)]


def _rarity(group: Group, cut: list[list[str]]) -> pd.Series | None:
    pair = group.compared
    if pair is None:
        return None
    run = group.plan.job(str(Path(group.job(pair[0]).inputs["model"]).parent))
    lang = group.rows[0].settings["target_lang"]
    paths = [path for path in run.inputs.get("translations", []) if Path(path).stem == lang]
    if not paths:
        return None
    seen = Counter()
    for words in units(read_parquet(paths[0], CAPTIONS).to_pandas()["text"].tolist(), lang):
        seen.update(words)
    rarest = [min((seen[word] for word in words), default=0) for words in cut]
    names = ["never", *(f"{low + 1} to {high}" for low, high in zip(RARE, RARE[1:], strict=False)), f"over {RARE[-1]}"]
    bins = pd.cut(rarest, [-1, *RARE, np.inf], labels=names)
    return pd.Series(bins, index=group.captions.index)


def _quality(group: Group) -> pd.Series | None:
    """chrF of each test caption's translation against all source captions of its item."""
    translated = group.translated
    source = group.human[group.human["lang"] == group.rows[0].settings["source_lang"]]
    references = source.groupby("item_id")["text"].agg(list)
    if translated is None or not group.captions["item_id"].isin(references.index).all():
        return None
    chrf = CHRF()
    pairs = zip(translated.loc[group.captions.index], group.captions["item_id"], strict=True)
    scores = [chrf.sentence_score(text, references[item]).score for text, item in pairs]
    return pd.Series(scores, index=group.captions.index)
