"""Setting a share of a stage's own panoramas apart to validate on, the same ones in every stage."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
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
        share: About which part is set apart, in (0, 1).
        seed: Of the choice.

    Returns:
        The parts to train on, and the records to validate on.

    Raises:
        PanoVLMError: If one of them would be empty.
    """
    trained_on = [replace(part, records=_chosen(part, share, seed, _none)) for part in parts]
    watched = [record for part in parts for record in _chosen(part, share, seed, all)]
    if watched and any(part.records for part in trained_on):
        return trained_on, watched
    total = sum(len(part.records) for part in parts)
    raise PanoVLMError(
        f"stages.{name}.validation: found no record to {'train' if watched else 'validate'} on "
        f"with share = {share:g} of {total} records, which are set apart by panorama; change "
        f"share, or name a file as stages.{name}.validation.data"
    )


def _chosen(
    part: MixturePart, share: float, seed: int, choose: Callable[[list[bool]], bool]
) -> list[Record]:
    """Return the records chosen by which of their panoramas are set apart."""
    return [
        record
        for record in part.records
        if choose([_is_apart(each, share, seed) for each in _names(record)])
    ]


def _none(apart: list[bool]) -> bool:
    return not any(apart)


def _names(record: Record) -> Iterable[str]:
    """Return what stands for each of a record's panoramas, or for its text.

    Of a path the last two parts: the data may move as a whole.
    """
    if record.paths:
        return ["/".join(path.absolute().parts[-2:]) for path in record.paths]
    return ["\n".join(message.content for message in record.messages)]


def _is_apart(name: str, share: float, seed: int) -> bool:
    digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64
