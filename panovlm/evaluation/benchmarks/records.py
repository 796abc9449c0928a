"""Records as a benchmark: an answer is correct or not, by exact match."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from panovlm.data.record_files import raise_errors, read_records
from panovlm.data.records import IMAGE_MARK, Needs, Record
from panovlm.evaluation.benchmarks.files import is_there
from panovlm.evaluation.benchmarks.items import Benchmark, Figures, Item, each
from panovlm.metrics.exact_match import normalised
from panovlm.metrics.listings import is_listing, listing_scores
from panovlm.metrics.scores import UNREADABLE, Score


def read(path: Path, images: Path) -> list[Item]:
    """Read records.

    Args:
        path: The records.
        images: Not used: pictures are relative to the file.
    """
    records = read_records(path, Needs(text=True, image=True))
    items = [item_of(record, number) for number, record in enumerate(records, start=1)]
    missing = dict.fromkeys(item.image for item in items if not is_there(item.image))
    raise_errors(
        str(path), (f"{each}: no such picture; correct `image` or restore it" for each in missing)
    )
    return items


def item_of(record: Record, number: int) -> Item:
    """Return the last question of a record, with its response as the reference."""
    return Item(
        name=str(number),
        image=Path(record.picture),
        question=record.messages[-2].content.replace(IMAGE_MARK, "").strip(),
        references=(record.response,),
        kind=record.kind or "all",
        yaw_deg=record.yaw_deg,
        pitch_deg=record.pitch_deg,
        facts={
            "rolled_responses": list(record.rolled_responses or ()),
            "crosses_seam": record.crosses_seam,
        },
        conversation=record.prompt,
        declared=record.declared,
    )


def rotated(item: Item, yaw_shift_deg: float) -> Item | None:
    """Return the question after the camera has turned right.

    A response is known after whole steps of the record's own, and after any rotation where all of
    them have the same one.
    """
    responses = item.facts["rolled_responses"]
    step = yaw_shift_deg / 360 * len(responses)
    if not responses or (len({*responses}) > 1 and abs(step - round(step)) > 1e-9):
        return None
    response = responses[round(step) % len(responses)]
    return None if response is None else replace(item, references=(response,))


def tilted(item: Item, pitch_deg: float) -> Item | None:
    """Return the question with its target at another pitch, where no rotation changes its answer.

    Only of questions about a target whose pitch is known: others may mean what is up or down.
    """
    is_same = len({*item.facts["rolled_responses"]} - {None}) == 1
    is_known = is_same and None not in item.facts["rolled_responses"] and item.pitch_deg is not None
    return replace(item, pitch_deg=pitch_deg) if is_known else None


def exact_match(item: Item, answer: str) -> Score:
    """Score 1 for the reference, up to case, outer space and a final stop, and 0 for another."""
    given, reference = normalised(answer), normalised(item.references[0])
    return Score(float(given == reference)) if given else UNREADABLE


def extras(items: Sequence[Item], answers: Sequence[str], scores: Sequence[Score]) -> Figures:
    """Score listings by direction and label: hardly one is correct as a whole."""
    asked = zip(items, answers, strict=True)
    listings = [(item, answer) for item, answer in asked if is_listing(item.references[0])]
    if not listings:
        return {}
    pairs = [(item.references[0], answer) for item, answer in listings]
    return {"listings": listing_scores(pairs, [str(item.image) for item, _ in listings])}


RECORDS = Benchmark(
    read=read,
    score=each(exact_match),
    metric="share of exact matches, up to case, outer space and a final stop",
    source="the records",
    max_new_tokens=None,
    extras=extras,
    rotate=rotated,
    tilt=tilted,
)
