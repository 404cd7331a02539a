"""Engine precomputed: machine translations published with the data set, looked up by their original."""

import pyarrow as pa
import pyarrow.compute as pc

from ccr.artifacts.jobs import Job
from ccr.artifacts.parquet import read_parquet
from ccr.artifacts.schemas import CAPTIONS
from ccr.errors import CcrError

ORIGIN = {"forward": "mt", "back": "back", "queries": "mt"}


class Engine:
    """Looks up the translations of one published engine (option `published`, else the variant's name)."""

    def __init__(self, job: Job):
        settings = job.settings
        self.name = settings["options"]["published"] or settings["variant"]
        direction = settings["direction"]
        lang = settings["target_lang"] if direction == "forward" else settings["source_lang"]
        captions = read_parquet(job.inputs["captions"], CAPTIONS)
        chosen = pc.and_(
            pc.and_(pc.equal(captions["lang"], lang), pc.equal(captions["origin"], ORIGIN[direction])),
            pc.fill_null(pc.equal(captions["engine"], self.name), False),
        )
        self._published = captions.filter(chosen)
        if not len(self._published) and direction != "back":  # few publish back-translations
            raise CcrError(
                f"{job.inputs['captions']}: no published translations into {lang!r} by {self.name!r} for "
                f"direction {direction!r}. Published are: {_published(captions)}. Set translate.variants."
                f"{settings['variant']}.published to one of them, or use an engine that translates."
            )

    def translate(self, parents: pa.Table) -> list[str | None]:
        """Texts of the published translations of `parents`."""
        return self._look_up(parents, "text")

    def caption_ids(self, parents: pa.Table) -> list[str | None]:
        """Ids of the published translations of `parents`."""
        return self._look_up(parents, "caption_id")

    def _look_up(self, parents: pa.Table, column: str) -> list[str | None]:
        at = pc.index_in(parents["caption_id"], self._published["parent_id"].combine_chunks())
        return self._published[column].take(at).to_pylist()


def _published(captions: pa.Table) -> str:
    """Which published translations a data set has, for messages."""
    held = captions.filter(pc.is_valid(captions["engine"])).select(["engine", "lang", "origin"])
    kinds = held.group_by(held.column_names).aggregate([]).to_pylist()
    names = [f"{k['engine']} ({'back ' if k['origin'] == 'back' else ''}into {k['lang']})" for k in kinds]
    return ", ".join(sorted(names)) or "none"
