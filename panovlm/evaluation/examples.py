"""Which questions a report shows with their pictures: the best and the worst cases."""

from collections import Counter
from pathlib import Path

from panovlm.evaluation.asking import Answers
from panovlm.evaluation.marked_pictures import Example
from panovlm.evaluation.scoring import Prediction

EXAMPLES = 8
"""Right answers shown, and as many wrong ones."""


def choose_examples(answers: Answers) -> list[Example]:
    """Choose right and wrong answers, each about another picture, the kinds in equal shares.

    Among the right ones, those come first that stay right under more turns; among the wrong ones
    those that are wrong under more. Questions that were never turned come last.
    """
    share = -(-EXAMPLES // len({p.record.kind for p in answers.seen}))
    chosen: list[int] = []
    for is_right in (True, False):
        pictures: set[Path] = set()
        kinds: Counter[str | None] = Counter()
        for place in _most_telling(answers, is_right=is_right):
            record = answers.seen[place].record
            fresh = record.picture not in pictures and kinds[record.kind] < share
            if fresh and len(pictures) < EXAMPLES:
                chosen.append(place)
                pictures.add(record.picture)
                kinds[record.kind] += 1
    return [_example(answers, place) for place in chosen]


def _most_telling(answers: Answers, *, is_right: bool) -> list[int]:
    def alike_under_turns(place: int) -> int:
        turned = answers.turned.get(place, [])
        return sum(p.is_right == is_right for p in turned)

    places = [i for i, p in enumerate(answers.seen) if p.is_right == is_right]
    return sorted(places, key=lambda place: (-alike_under_turns(place), place))


def _example(answers: Answers, place: int) -> Example:
    seen: Prediction = answers.seen[place]
    record, turned = seen.record, answers.turned.get(place)
    return Example(
        picture=record.picture,
        question=record.messages[-2].content,
        expected=seen.expected,
        answer=seen.answer,
        kind=record.kind or "all",
        yaw_deg=record.yaw_deg,
        right_turns=(sum(p.is_right for p in turned), len(turned)) if turned else None,
        changed_views=tuple(answers.changed.get(place, ())),
    )
