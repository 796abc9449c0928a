"""All the answers that a report rests on: to every question, and to some again on changed pictures.

Greedy answers do not depend on a seed. A seed draws the questions that are asked again, on turned
pictures and without a view, and the resamples of the bootstrap.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from panovlm.data.records import Record
from panovlm.errors import PanoVLMError
from panovlm.evaluation.evaluate import Evaluator, drawn
from panovlm.evaluation.on_seam import seam_facts, stays_right
from panovlm.evaluation.rotation import consistent_answers, rotation
from panovlm.evaluation.scoring import Prediction, accuracy, interval
from panovlm.evaluation.view_ablation import changes, view_ablation
from panovlm.inference.views_mattered import view_shares
from panovlm.metrics.strata import seam_distance_deg
from panovlm.training import ranks

BASELINES: dict[str, tuple[str, ...]] = {
    "none": (),
    "blind": ("blind",),
    "all": ("blind", "single_view", "squeezed"),
}
"""What `--baselines` may say, and the baselines it asks."""

Draws = Sequence[Sequence[int]]
"""For each seed, the places of the questions it draws."""


@dataclass(frozen=True)
class EvaluationOptions:
    """How much is asked beyond every question once.

    Attributes:
        baselines: A key of `BASELINES`.
        num_turned: Questions drawn by each seed to be asked again under every turn.
        num_ablated: Questions drawn by each seed to be asked again without each view.
        num_on_seam: Questions drawn by each seed to be asked again with their object on the seam.
        seeds: How many seeds draw, from 0 on.

    Raises:
        PanoVLMError: If the baselines are unknown.
    """

    baselines: str = "blind"
    num_turned: int = 0
    num_ablated: int = 0
    num_on_seam: int = 0
    seeds: int = 1

    def __post_init__(self) -> None:
        if self.baselines not in BASELINES:
            raise PanoVLMError(
                f"found --baselines {self.baselines}, expected {', '.join(BASELINES)}"
            )


@dataclass(frozen=True)
class Answers:
    """Answers to the questions of a data set; questions are known by their places in it.

    Attributes:
        seen: With the whole picture.
        baselines: By name, the same with less of it.
        turned: Of some questions, the answers under every turn, unturned first.
        changed: Of some questions, whether blanking each view changes the answer.
        on_seam: Of some questions, the answer with the object on the seam.
        turned_draws: What was asked again on turned pictures, by seed.
        ablated_draws: What was asked again without a view, by seed.
        on_seam_draws: What was asked again with its object on the seam, by seed.
    """

    seen: list[Prediction]
    baselines: dict[str, list[Prediction]]
    turned: dict[int, list[Prediction]]
    changed: dict[int, list[bool]]
    on_seam: dict[int, Prediction]
    turned_draws: Draws
    ablated_draws: Draws
    on_seam_draws: Draws


def ask_all(
    evaluator: Evaluator, options: EvaluationOptions, turnable: Sequence[int] | None = None
) -> Answers:
    """Ask everything.

    Args:
        evaluator: Asks.
        options: How much.
        turnable: Places of the questions that may be asked about a turned picture; None for those
            whose records know their turned answers.

    Raises:
        PanoVLMError: If pictures shall be turned and the model cannot, or objects shall be put on
            the seam and of none it is known what is right then.
    """
    known = evaluator.turnable() if turnable is None else turnable
    with ranks.synchronized():  # before the questions take their time
        seamable = _seamable(evaluator.records, options, turnable)
        if options.num_turned and known:
            evaluator.check_turnable()
    seen = evaluator.predict("questions")
    ways = {
        "blind": evaluator.predict_blind,
        "single_view": evaluator.predict_single_view,
        "squeezed": evaluator.predict_squeezed,
    }
    others = {name: ways[name](f"questions, {name}") for name in BASELINES[options.baselines]}
    seeds = range(options.seeds)
    turned_draws = [drawn(known, options.num_turned, seed) for seed in seeds]
    ablated_draws = [_ablatable(evaluator, options.num_ablated, seed) for seed in seeds]
    turned = _ask_turned(evaluator, seen, _union(turned_draws))
    changed = _ask_ablated(evaluator, seen, _union(ablated_draws))
    on_seam_draws = [drawn(seamable, options.num_on_seam, seed) for seed in seeds]
    on_seam = _ask_on_seam(evaluator, _union(on_seam_draws))
    draws = turned_draws, ablated_draws, on_seam_draws
    return Answers(seen, others, turned, changed, on_seam, *draws)


def _seamable(
    records: Sequence[Record], options: EvaluationOptions, turnable: Sequence[int] | None
) -> list[int]:
    """Give the places of the questions that may be asked with their object on the seam."""
    if turnable is None:
        found = [place for place, record in enumerate(records) if stays_right(record)]
    else:
        found = [place for place in turnable if records[place].yaw_deg is not None]
    if options.num_on_seam and not found:
        raise PanoVLMError(
            f"found --on-seam {options.num_on_seam}, but no question with a direction (yaw_deg) "
            "and an answer known after any rotation, as where all rolled_responses are one; leave "
            "--on-seam out"
        )
    return found


def _union(draws: Draws) -> list[int]:
    return sorted({place for draw in draws for place in draw})


def _ablatable(evaluator: Evaluator, count: int, seed: int) -> list[int]:
    """Draw questions whose direction is known, or any if none is."""
    known = [i for i, record in enumerate(evaluator.records) if record.yaw_deg is not None]
    return drawn(known or range(len(evaluator.records)), count, seed)


def _ask_turned(
    evaluator: Evaluator, seen: Sequence[Prediction], places: Sequence[int]
) -> dict[int, list[Prediction]]:
    if not places:
        return {}
    records, last = [evaluator.records[place] for place in places], evaluator.num_views - 1
    columns = [[seen[place] for place in places]] + [
        evaluator.predict_turned(f"questions, turned {turn}/{last}", records, turn)
        for turn in range(1, last + 1)
    ]
    return {place: [*row] for place, row in zip(places, zip(*columns, strict=True), strict=True)}


def _ask_ablated(
    evaluator: Evaluator, seen: Sequence[Prediction], places: Sequence[int]
) -> dict[int, list[bool]]:
    if not places:
        return {}
    records, count = [evaluator.records[place] for place in places], evaluator.num_views
    ablated = [
        evaluator.predict_without_view(f"questions, without view {view + 1}/{count}", records, view)
        for view in range(count)
    ]
    rows = changes([seen[place] for place in places], ablated)
    return dict(zip(places, rows, strict=True))


def _ask_on_seam(evaluator: Evaluator, places: Sequence[int]) -> dict[int, Prediction]:
    if not places:
        return {}
    records = [evaluator.records[place] for place in places]
    asked = evaluator.predict_on_seam("questions, object on the seam", records)
    return dict(zip(places, asked, strict=True))


def turned_facts(answers: Answers) -> dict[str, Any]:
    """Sum up the answers on turned pictures, over all that was drawn; empty if none was asked.

    Returns:
        `rotation_consistency`, the share right on turned pictures (the unturned left out), its
        `rotation_count`, and `rotation`, as `rotation()` gives it.
    """
    if not answers.turned:
        return {}
    asked = _really_turned([*answers.turned.values()])
    return {
        "rotation_consistency": accuracy(asked),
        "rotation_interval": interval(asked),
        "rotation_count": len(asked),
        "rotation": rotation([*answers.turned.values()]),
    }


def ablation_facts(answers: Answers, evaluator: Evaluator) -> dict[str, Any]:
    """Sum up the answers without a view, under `view_ablation`; empty if none was asked."""
    if not answers.changed:
        return {}
    whole = [answers.seen[place] for place in answers.changed]
    ring = evaluator.answerer.model.config.ring
    return {"view_ablation": view_ablation(whole, [*answers.changed.values()], ring)}


def on_seam_facts(answers: Answers) -> dict[str, Any]:
    """Sum up the answers with objects on the seam, under `on_seam`; empty if none was asked."""
    if not answers.on_seam:
        return {}
    as_it_is = [answers.seen[place] for place in answers.on_seam]
    return {"on_seam": seam_facts(as_it_is, [*answers.on_seam.values()])}


def by_seed(answers: Answers) -> list[dict[str, Any]]:
    """Give what each seed alone would have said, for its spread."""
    draws = zip(answers.turned_draws, answers.ablated_draws, answers.on_seam_draws, strict=True)
    return [
        {"seed": seed, "accuracy_interval": interval(answers.seen, seed)}
        | _turned_of(answers, turned)
        | _ablated_of(answers, ablated)
        | _on_seam_of(answers, on_seam)
        for seed, (turned, ablated, on_seam) in enumerate(draws)
    ]


def _turned_of(answers: Answers, places: Sequence[int]) -> dict[str, float]:
    if not places:
        return {}
    questions = [answers.turned[place] for place in places]
    summed = rotation(questions)
    shares: dict[str, float] = {
        key: summed[key] for key in ("right_every", "consistent") if key in summed
    }
    return {"rotation_consistency": accuracy(_really_turned(questions)), **shares}


def _ablated_of(answers: Answers, places: Sequence[int]) -> dict[str, float]:
    if not places:
        return {}
    return {"changed_by_any": sum(any(answers.changed[p]) for p in places) / len(places)}


def _on_seam_of(answers: Answers, places: Sequence[int]) -> dict[str, float]:
    return {"on_seam": accuracy([answers.on_seam[place] for place in places])} if places else {}


def _really_turned(questions: Sequence[Sequence[Prediction]]) -> list[Prediction]:
    return [prediction for question in questions for prediction in question[1:]]


def rows(answers: Answers) -> list[dict[str, Any]]:
    """Give every question as plain data, with all that was answered to it."""
    return [_row(answers, place) for place in range(len(answers.seen))]


def _row(answers: Answers, place: int) -> dict[str, Any]:
    seen = answers.seen[place]
    record = seen.record
    row = {
        "image": str(record.image),
        "question": record.messages[-2].content,
        "expected": seen.expected,
        "answer": seen.answer,
        "right": seen.is_right,
        "kind": record.kind,
        "yaw_deg": record.yaw_deg,
        "pitch_deg": record.pitch_deg,
        "seam_distance_deg": None if record.yaw_deg is None else seam_distance_deg(record.yaw_deg),
        "crosses_seam": record.crosses_seam,
        "baselines": {name: ps[place].answer for name, ps in answers.baselines.items()},
    }
    if turned := answers.turned.get(place):
        row["turned"] = [{"answer": p.answer, "right": p.is_right} for p in turned]
        row["turned_back"] = consistent_answers(turned)
    if changed := answers.changed.get(place):
        row["changed_by_view"] = changed
        row["view_shares"] = view_shares(changed)
    if on_seam := answers.on_seam.get(place):
        row["on_seam"] = {"answer": on_seam.answer, "right": on_seam.is_right}
    return row
