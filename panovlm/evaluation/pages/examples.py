"""Which questions a report shows with their pictures: the best and the worst cases."""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TypeVar

from panovlm.evaluation.asking import Answers
from panovlm.evaluation.pages.marked_pictures import Example
from panovlm.evaluation.scoring import Prediction
from panovlm.pictures.declaring import PictureFile

T = TypeVar("T")

EXAMPLES = 8
"""Right answers shown, and as many wrong ones."""


def choose_examples(answers: Answers[Prediction], views: Sequence[str]) -> list[Example]:
    """Choose right and wrong answers, each about another picture, the kinds in equal shares.

    Among the right ones, those come first that stay right under more yaw rotations; among the
    wrong ones those that are wrong under more. Questions that were never rotated come last.

    Args:
        answers: All answers.
        views: Names of the views that were blanked.
    """
    num_kinds = len({p.record.kind for p in answers.seen})

    def about(place: int) -> tuple[PictureFile, str | None]:
        record = answers.seen[place].record
        return record.picture, record.kind

    return [
        _example(answers, place, views)
        for is_right in (True, False)
        for place in spread(_most_telling(answers, is_right=is_right), about, num_kinds, EXAMPLES)
    ]


def spread(
    things: Iterable[T], about: Callable[[T], tuple[Hashable, Hashable]], num_kinds: int, most: int
) -> list[T]:
    """Take things in order, each about another picture, the kinds in equal shares.

    Args:
        things: The first are taken.
        about: Returns the picture and the kind of one.
        num_kinds: How many kinds share the room.
        most: Room.
    """
    share = -(-most // max(1, num_kinds))
    chosen: list[T] = []
    pictures: set[Hashable] = set()
    kinds: Counter[Hashable] = Counter()
    for thing in things:
        picture, kind = about(thing)
        if picture not in pictures and kinds[kind] < share and len(chosen) < most:
            chosen.append(thing)
            pictures.add(picture)
            kinds[kind] += 1
    return chosen


def _most_telling(answers: Answers[Prediction], *, is_right: bool) -> list[int]:
    def same_when_rotated(place: int) -> int:
        return sum(p.is_right == is_right for p in answers.yaw_rotated.get(place, []))

    places = [i for i, p in enumerate(answers.seen) if p.is_right == is_right]
    return sorted(places, key=lambda place: (-same_when_rotated(place), place))


def changed_views(views: Sequence[str], changed: Sequence[bool] | None) -> tuple[str, ...] | None:
    """Return the names of the views without which an answer changes; None if it was not asked."""
    if changed is None:
        return None
    return tuple(name for name, is_changed in zip(views, changed, strict=True) if is_changed)


def _example(answers: Answers[Prediction], place: int, views: Sequence[str]) -> Example:
    seen, rotated = answers.seen[place], answers.yaw_rotated.get(place)
    record = seen.record
    return Example(
        picture=record.picture,
        question=record.messages[-2].content,
        expected=seen.expected,
        answer=seen.answer,
        kind=record.kind or "all",
        is_right=seen.is_right,
        yaw_deg=record.yaw_deg,
        right_rotations=(sum(p.is_right for p in rotated), len(rotated)) if rotated else None,
        changed_views=changed_views(views, answers.changed.get(place)),
    )
