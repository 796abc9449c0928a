"""Records as a benchmark, to be exported like the published ones: an answer is right or wrong."""

from pathlib import Path

from panovlm.data.records import IMAGE_MARK, Needs, Record, read_records
from panovlm.errors import PanoVLMError
from panovlm.evaluation.benchmarks.items import Benchmark, Item, each
from panovlm.evaluation.scoring import normalised
from panovlm.metrics.scores import UNREADABLE, Score


def read(path: Path, images: Path) -> list[Item]:
    """Read records of one question and one answer each.

    Args:
        path: The records.
        images: Not looked at: pictures are relative to the file.

    Raises:
        PanoVLMError: If a record is invalid or a longer conversation.
    """
    records = read_records(path, Needs(text=True, image=True))
    return [_item(record, number) for number, record in enumerate(records, start=1)]


def _item(record: Record, number: int) -> Item:
    roles = [turn.role for turn in record.messages]
    if roles != ["user", "assistant"]:
        raise PanoVLMError(
            f"record {number}: found the turns {roles}, expected one question and one answer, "
            "which is all that other tools ask; leave longer conversations out"
        )
    return Item(
        name=str(number),
        image=record.picture,
        question=record.messages[0].content.replace(IMAGE_MARK, "").strip(),
        references=(record.response,),
        kind=record.kind or "all",
        yaw_deg=record.yaw_deg,
        pitch_deg=record.pitch_deg,
    )


def _score_one(item: Item, answer: str) -> Score:
    if not normalised(answer):
        return UNREADABLE
    return Score(float(normalised(answer) == normalised(item.references[0])))


RECORDS = Benchmark(
    read=read,
    score=each(_score_one),
    metric="share of exact matches, up to case, outer space and a final stop",
    source="the records",
)
