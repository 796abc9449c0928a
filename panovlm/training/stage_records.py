"""The records of a stage: those to train on, and those set apart from them.

A share to validate on is set apart by the names of panoramas alone: it is the same in every stage.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from panovlm.data.mixture import MixturePart
from panovlm.data.records import Record
from panovlm.errors import PanoVLMError
from panovlm.pictures.declaring import PictureFile
from panovlm.training.data_sources import DataSource, check_source
from panovlm.training.stage_run import StageRun


@dataclass(frozen=True)
class StageRecords:
    """The records that a stage reads from files.

    Attributes:
        parts: What is trained on, each file's as one part of the mixture; none of a stream.
        watched: What is validated on.
    """

    parts: Sequence[MixturePart]
    watched: Sequence[Record]

    @property
    def trained_on(self) -> list[Record]:
        """The records of all parts."""
        return [record for part in self.parts for record in part.records]


def read_stage(run: StageRun) -> StageRecords:
    """Read and check the records that a stage trains on, and those that it is validated on.

    Raises:
        PanoVLMError: Listing every invalid line of a file.
    """
    sources = () if run.is_stream else run.sources
    parts = [MixturePart(_read(run, each), each.weight) for each in sources]
    validation = run.section.validation
    if validation is not None and validation.share is not None:
        return StageRecords(*set_apart(run.name, parts, validation.share, run.recipe.seed))
    return StageRecords(parts, _read(run, run.watched_source) if run.watched_source else [])


def _read(run: StageRun, source: DataSource) -> list[Record]:
    records = check_source(source, run.needs, run.recipe.seed).of_one_file(source.path)
    if run.needs.text:
        return records
    return [single for record in records for single in record.apart()]  # each trains by itself


def without_held_out(
    run: StageRun, records: StageRecords
) -> tuple[list[MixturePart], list[PictureFile]]:
    """Split off the panoramas that the stage on overlaps is diagnosed on.

    Returns:
        What is left to train on, and the held-out pictures, which other stages have none of.

    Raises:
        PanoVLMError: If nothing would be left.
    """
    share = run.section.overlap_settings.held_out if run.is_on_overlaps else 0.0
    held_out = hold_out(records.trained_on, share, run.recipe.seed)
    return [part.without(held_out) for part in records.parts], held_out


def hold_out(records: Sequence[Record], share: float, seed: int) -> list[PictureFile]:
    """Sample panoramas that are not trained on.

    Args:
        records: All of the stage.
        share: Of the panoramas, [0, 1); at least one is held out unless it is 0.
        seed: Of the sampling.

    Returns:
        The held-out pictures.

    Raises:
        PanoVLMError: If nothing would be left to train on.
    """
    pictures = list(dict.fromkeys(record.shown for record in records))
    count = max(round(share * len(pictures)), 1) if share else 0
    if count >= len(pictures):
        raise PanoVLMError(
            f"found {len(pictures)} panorama(s), of which {count} would be held out, expected some "
            f"to train on; add panoramas, or lower overlap.held_out (0 holds none out)"
        )
    order = np.random.default_rng(seed).permutation(len(pictures))
    held = {pictures[place] for place in order[:count]}
    return sorted((each for each in held if each), key=lambda each: (Path(each), repr(each)))


def set_apart(
    name: str, parts: Sequence[MixturePart], share: float, seed: int
) -> tuple[list[MixturePart], list[Record]]:
    """Split records by their panoramas; which are set apart depends on their names alone.

    So a panorama set apart in one stage is trained on in no other, from whichever file. Texts
    without a picture go by their words. A record of several panoramas is validated on where all of
    them are set apart, and trained on where none is.

    Args:
        name: The stage, for errors.
        parts: All records of the stage.
        share: About which part is set apart, in (0, 1); of panoramas at least one.
        seed: Of the choice.

    Returns:
        The parts to train on, and the records to validate on.

    Raises:
        PanoVLMError: If one of them would be empty.
    """
    apart = _apart([record for part in parts for record in part.records], share, seed)
    trained_on = [
        replace(part, records=[r for r in part.records if apart.isdisjoint(_names(r))])
        for part in parts
    ]
    watched = [r for part in parts for r in part.records if apart.issuperset(_names(r))]
    if watched and any(part.records for part in trained_on):
        return trained_on, watched
    total = sum(len(part.records) for part in parts)
    raise PanoVLMError(
        f"stages.{name}.validation: found no record to {'train' if watched else 'validate'} on "
        f"with share = {share:g} of {total} records, which are set apart by panorama; change "
        f"share, or name a file as stages.{name}.validation.data"
    )


def _apart(records: Sequence[Record], share: float, seed: int) -> set[str]:
    """Return the names that are set apart: those with the smallest digests."""
    places = {name: _place(name, seed) for record in records for name in _names(record)}
    apart = {name for name, place in places.items() if place < share}
    panoramas = {name for record in records if record.paths for name in _names(record)}
    if panoramas and apart.isdisjoint(panoramas):
        apart.add(min(panoramas, key=lambda name: places[name]))
    return apart


def _names(record: Record) -> list[str]:
    """Return what stands for each of a record's panoramas, or for its text.

    Of a path the last two parts: the data may move as a whole.
    """
    if record.paths:
        return ["/".join(path.absolute().parts[-2:]) for path in record.paths]
    return ["\n".join(message.content for message in record.messages)]


def _place(name: str, seed: int) -> float:
    """Return a number in [0, 1) that depends on nothing else."""
    digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
