"""Setting a share of a stage's own panoramas apart to validate on, the same ones in every stage."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from panovlm.data.mixture import MixturePart
from panovlm.data.records import Record
from panovlm.errors import PanoVLMError


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
