"""Engine none: human captions in the target language take the place of machine translations.

For the row `supervised`, the upper bound: nothing is translated.
"""

import logging
from collections import Counter, defaultdict

import pyarrow as pa
import pyarrow.compute as pc

from ccr.artifacts.jobs import Job
from ccr.artifacts.parquet import read_parquet
from ccr.artifacts.schemas import CAPTIONS
from ccr.errors import CcrError
from ccr.translate.writing import warn_of_no_way_back, write_translations

log = logging.getLogger(__name__)


def run(job: Job) -> None:
    """Write the output of engine none for a direction: human captions for `forward`, no rows for `back`."""
    write_translations(_human(job), {}, job)


def _human(job: Job) -> pa.Table:
    settings = job.settings
    if settings["direction"] == "queries":
        raise CcrError(
            f"translate.variants.{settings['variant']}: engine none translates nothing, so there is no 'queries'. "
            "Take methods that need it out of the table, or choose an engine."
        )
    if settings["direction"] == "back":
        warn_of_no_way_back("none", job)
        return CAPTIONS.empty_table()
    return pair(read_parquet(job.inputs["captions"], CAPTIONS), settings["source_lang"], settings["target_lang"])


def pair(captions: pa.Table, source_lang: str, target_lang: str) -> pa.Table:
    """Human target captions (schema CAPTIONS), each with a source caption of its item as `parent_id`.

    The n-th is paired with the n-th; if there are fewer source captions, they are reused in order. Target captions of
    an item without a source caption are left out and counted in the log. `CcrError` if there are no target captions, or
    none of train items though there are train items.
    """
    human = captions.filter(pc.equal(captions["origin"], "human"))
    sources = human.filter(pc.equal(human["lang"], source_lang))
    targets = human.filter(pc.equal(human["lang"], target_lang))
    if not len(targets):
        raise CcrError(
            f"no human captions in {target_lang!r}: a translation variant with engine none needs them. Take "
            "the methods that use it out of the table, or the language out of the data set."
        )
    partners = defaultdict(list)
    for item, caption in zip(sources["item_id"].to_pylist(), sources["caption_id"].to_pylist(), strict=True):
        partners[item].append(caption)
    seen: Counter[str] = Counter()
    chosen = []
    for item in targets["item_id"].to_pylist():
        own = partners.get(item)
        chosen.append(own[seen[item] % len(own)] if own else None)
        seen[item] += 1
    parents = pa.array(chosen, pa.string())
    if parents.null_count:
        log.warning("%s captions left out: their items have no caption in %s", parents.null_count, source_lang)
    paired = targets.set_column(targets.schema.get_field_index("parent_id"), "parent_id", parents)
    paired = paired.filter(parents.is_valid())
    if "train" in sources["split"].to_pylist() and "train" not in paired["split"].to_pylist():
        raise CcrError(
            f"no human captions in {target_lang!r} of train items: a translation variant with engine none, as in the "
            "row `supervised`, puts them in the place of translations. Add them, or take the methods that use it out "
            "of the table."
        )
    return paired
