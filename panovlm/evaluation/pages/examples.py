"""Which answers a page shows with their pictures: best, worst, not scored."""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from statistics import fmean

from panovlm.evaluation.asking import Answers
from panovlm.evaluation.benchmarks.items import Benchmark, Item
from panovlm.evaluation.pages.marked_pictures import Example
from panovlm.evaluation.scoring import Prediction

SHOWN = 6
"""Best answers shown, and as many of the worst."""
UNSCORED_SHOWN = 4
MAX_REFERENCES = 5


def choose_examples(
    benchmark: Benchmark, answers: Answers[Prediction], views: Sequence[str] = ()
) -> dict[str, list[Example]]:
    """Choose answers under their heading, each about another picture, the kinds in equal shares.

    Best are those better than the mean, or perfect; the others are the worst. Among equals, those
    that stay so when yaw-rotated come first.

    Args:
        benchmark: What was asked.
        answers: All answers.
        views: Names of the views that were blanked.
    """
    names = ("Best answers", "Worst answers")
    if benchmark.less_is_better:
        names = ("Smallest errors", "Largest errors")
    sign = -1 if benchmark.less_is_better else 1
    values = {place: p.score.value for place, p in enumerate(answers.seen)}
    scored = {place: sign * value for place, value in values.items() if value is not None}
    mean = fmean(scored.values()) if scored else 0.0
    perfect = 0.0 if benchmark.less_is_better else benchmark.unit.ends[-1]

    def goodness(place: int) -> tuple[float, float]:
        rotated = (p.score.value for p in answers.yaw_rotated.get(place, ()))
        known = [sign * value for value in rotated if value is not None]
        return scored[place], fmean(known or [scored[place]])

    def chosen(places: Iterable[int], most: int) -> list[Example]:
        kept = spread(places, lambda place: answers.seen[place].item, most)
        return [_example(benchmark, answers, place, views) for place in kept]

    good = [place for place, value in scored.items() if value > mean or value == perfect]
    bad = sorted(scored.keys() - {*good}, key=lambda place: (goodness(place), place))
    best = sorted(good, key=goodness, reverse=True)
    unscored = [place for place in values if place not in scored]
    found = (chosen(best, SHOWN), chosen(bad, SHOWN), chosen(unscored, UNSCORED_SHOWN))
    return dict(zip((*names, "Not scored"), found, strict=True))


def spread(places: Iterable[int], item_of: Callable[[int], Item], most: int) -> list[int]:
    """Take places in order, each about another picture, the kinds in equal shares.

    Args:
        places: The first are taken.
        item_of: Returns the item at one.
        most: Room.
    """
    listed = [(place, item_of(place)) for place in places]
    share = -(-most // max(1, len({item.kind for _, item in listed})))
    chosen: list[int] = []
    pictures: set[Hashable] = set()
    kinds: Counter[str] = Counter()
    for place, item in listed:
        if item.image not in pictures and kinds[item.kind] < share and len(chosen) < most:
            chosen.append(place)
            pictures.add(item.image)
            kinds[item.kind] += 1
    return chosen


def _example(
    benchmark: Benchmark, answers: Answers[Prediction], place: int, views: Sequence[str]
) -> Example:
    seen, rotated = answers.seen[place], answers.yaw_rotated.get(place)
    item, value = seen.item, seen.score.value
    is_end = value in (0.0, benchmark.unit.ends[-1]) and not benchmark.less_is_better
    error = "error " if benchmark.less_is_better else ""
    scored = "" if is_end else f"{error}{benchmark.unit.score_text(value)}"
    has_rotations = rotated is not None and not benchmark.less_is_better
    return Example(
        picture=item.picture,
        question=item.question,
        expected=_expected(item),
        answer=seen.answer,
        kind=item.kind,
        is_right=seen.score.value != 0.0 if is_end else None,
        yaw_deg=item.yaw_deg,
        pitch_deg=item.pitch_deg,
        answered_deg=benchmark.point(seen.answer) if benchmark.point else None,
        score=f"none: {seen.score.missing}" if seen.score.missing else scored,
        right_rotations=(sum(p.is_right for p in rotated), len(rotated))
        if rotated and has_rotations
        else None,
        changed_views=_changed_views(views, answers.changed.get(place)),
    )


def _changed_views(views: Sequence[str], changed: Sequence[bool] | None) -> tuple[str, ...] | None:
    """Return the names of the views without which an answer changes; None if it was not asked."""
    if changed is None:
        return None
    return tuple(name for name, is_changed in zip(views, changed, strict=True) if is_changed)


def _expected(item: Item) -> str:
    """Return the right answers, or where the target is if there are none in words."""
    if item.references:
        more = len(item.references) - MAX_REFERENCES
        end = [f"and {more:,} more"] if more > 0 else []
        return "\n".join([*item.references[:MAX_REFERENCES], *end])
    if item.yaw_deg is None:
        return "none given"
    pitch = "" if item.pitch_deg is None else f", pitch {item.pitch_deg:.1f}°"
    return f"yaw {item.yaw_deg:.1f}°{pitch}"
