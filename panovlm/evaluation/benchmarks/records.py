"""Records as a benchmark: an answer is correct or not, by exact match."""

from dataclasses import replace
from pathlib import Path

from panovlm.data.record_files import read_records
from panovlm.data.records import IMAGE_MARK, Needs, Record
from panovlm.errors import PanoVLMError
from panovlm.evaluation.benchmarks.items import Benchmark, Item, each
from panovlm.metrics.exact_match import normalised
from panovlm.metrics.scores import UNREADABLE, Score


def read(path: Path, images: Path) -> list[Item]:
    """Read records of one question and one answer each, to be exported.

    Args:
        path: The records.
        images: Not used: pictures are relative to the file. An export takes those in it alone.
    """
    records = read_records(path, Needs(text=True, image=True))
    for number, record in enumerate(records, start=1):
        if record.declared:
            raise PanoVLMError(
                f"record {number}: found `declared` of its picture, which other tools do not know, "
                "expected full spheres; make them with `panovlm convert`"
            )
        roles = [message.role for message in record.messages]
        if roles != ["user", "assistant"]:
            raise PanoVLMError(
                f"record {number}: found the messages {roles}, expected one question and one "
                "answer, which is all that other tools ask; leave longer conversations out"
            )
    return [item_of(record, number) for number, record in enumerate(records, start=1)]


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
        facts={"rolled_responses": list(record.rolled_responses or (record.response,))},
    )


def rotated(item: Item, yaw_shift_deg: float) -> Item:
    """Return the question after the camera has turned right, to the nearest known response."""
    responses = item.facts["rolled_responses"]
    step = round(yaw_shift_deg / 360 * len(responses)) % len(responses)
    return replace(item, references=(responses[step],))


def exact_match(item: Item, answer: str) -> Score:
    """Score 1 for the reference, up to case, outer space and a final stop, and 0 for another."""
    given, reference = normalised(answer), normalised(item.references[0])
    return Score(float(given == reference)) if given else UNREADABLE


RECORDS = Benchmark(
    read=read,
    score=each(exact_match),
    metric="share of exact matches, up to case, outer space and a final stop",
    source="the records",
    rotate=rotated,
)
