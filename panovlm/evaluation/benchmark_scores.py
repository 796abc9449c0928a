"""What the answers to a benchmark's items are worth: scores, baselines, turns and strata."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from panovlm.evaluation.asking import Answers
from panovlm.evaluation.benchmarks.items import (
    Benchmark,
    Item,
    interval_over_panoramas,
    summary_over_panoramas,
)
from panovlm.evaluation.judge import Judge
from panovlm.evaluation.on_seam import turn_to_edge_deg
from panovlm.evaluation.scoring import Prediction, rank
from panovlm.metrics.choices import every_order_right
from panovlm.metrics.intervals import difference_interval
from panovlm.metrics.scores import Score, summarise
from panovlm.metrics.strata import pole_stratum, seam_stratum
from panovlm.runtime.progress import progress_bar


@dataclass(frozen=True)
class Scored:
    """A benchmark's items with their answers and scores.

    Attributes:
        benchmark: Where they are from.
        items: Questions.
        answers: Everything that was asked.
        scores: Of the answers with the whole picture.
        baselines: Of the answers with less to see, by the baseline's name.
        turned: Of some items, by their places, the scores under every turn, unturned first.
        on_seam: Of some items, by their places, the scores with their object on the seam.
    """

    benchmark: Benchmark
    items: Sequence[Item]
    answers: Answers
    scores: list[Score]
    baselines: Mapping[str, list[Score]]
    turned: Mapping[int, list[Score]]
    on_seam: Mapping[int, Score]

    @classmethod
    def of(
        cls, benchmark: Benchmark, items: Sequence[Item], answers: Answers, judge: Judge | None
    ) -> "Scored":
        """Score all answers, by the judge where one is asked for."""
        scores = _score(benchmark, items, _texts(answers.seen), judge)
        baselines = {
            name: _score(benchmark, items, _texts(others), judge)
            for name, others in answers.baselines.items()
        }
        turned = {
            place: [scores[place], *_turned_scores(benchmark, items[place], _texts(given)[1:])]
            for place, given in answers.turned.items()
        }
        on_seam = {
            place: _score_on_seam(benchmark, items[place], given.answer)
            for place, given in answers.on_seam.items()
        }
        return cls(benchmark, items, answers, scores, baselines, turned, on_seam)

    def report(self) -> dict[str, Any]:
        """Sum up the scores: all, with less to see, on turned pictures, and by seed."""
        seen, panoramas = _texts(self.answers.seen), self._panoramas
        better = {
            name: difference_interval(others, self.scores, groups=panoramas)
            for name, others in self.baselines.items()
        }
        return {
            **describe(self.benchmark, self.items, seen, self.scores),
            "baselines": {
                name: describe(self.benchmark, self.items, _texts(others), self.baselines[name])
                for name, others in self.answers.baselines.items()
            },
            "better_than": {name: asdict(gain) if gain else None for name, gain in better.items()},
            **self._turned_facts([*self.turned]),
            **self._on_seam_facts(),
            "seeds": [self._of_seed(seed) for seed in range(len(self.answers.turned_draws))],
        }

    def rows(self) -> list[dict[str, Any]]:
        """Give every item as plain data, with all that was answered to it."""
        return [self._row(place) for place in range(len(self.items))]

    @property
    def _panoramas(self) -> list[str]:
        return [str(item.image) for item in self.items]

    def _turned_facts(self, places: Sequence[int]) -> dict[str, Any]:
        """Sum up the answers on turned pictures to some items; empty if none was asked.

        Returns:
            Under `turned`: `score`, of the answers on turned pictures, the unturned left out;
            `by_turn`, the same by the degrees the camera turned right, from 0; and `right_every`,
            in which an item counts 1 if it is fully right under every turn (not of errors, which
            are never quite right).
        """
        if not places:
            return {}
        by_turn = [*zip(*(self.turned[place] for place in places), strict=True)]
        items = [self.items[place] for place in places]
        apart = [score for scores in by_turn[1:] for score in scores]
        step_deg = 360 / len(by_turn)
        facts = {
            "score": self._summary(items * (len(by_turn) - 1), apart),
            "by_turn": {
                f"{turn * step_deg:g}°": self._summary(items, scores)
                for turn, scores in enumerate(by_turn)
            },
        }
        if not self.benchmark.less_is_better:
            asked = [(place, score) for place in places for score in self.turned[place]]
            every = every_order_right([score for _, score in asked], [place for place, _ in asked])
            kept = [place for place in places if place in every]
            facts["right_every"] = summary_over_panoramas(
                [self.items[place] for place in kept], [every[place] for place in kept]
            )
        return {"turned": facts}

    def _summary(self, items: Sequence[Item], scores: Sequence[Score]) -> dict[str, Any]:
        are_errors = self.benchmark.less_is_better
        return summary_over_panoramas(items, scores, are_errors=are_errors)

    def _on_seam_facts(self) -> dict[str, Any]:
        """Compare the scores of objects on the seam with those of the pictures as they are."""
        if not self.on_seam:
            return {}
        as_it_is, on_seam = [self.scores[p] for p in self.on_seam], [*self.on_seam.values()]
        panoramas = [self._panoramas[place] for place in self.on_seam]
        gain = difference_interval(as_it_is, on_seam, groups=panoramas)
        are_errors = self.benchmark.less_is_better
        facts = {
            "score": asdict(summarise(on_seam, are_errors=are_errors)),
            "as_it_is": asdict(summarise(as_it_is, are_errors=are_errors)),
            "gain": asdict(gain) if gain else None,
        }
        return {"on_seam": facts}

    def _of_seed(self, seed: int) -> dict[str, Any]:
        """Give what one seed alone would have said."""
        ablated = self.answers.ablated_draws[seed]
        changed = [any(self.answers.changed[place]) for place in ablated]
        return {
            "seed": seed,
            "interval": interval_over_panoramas(self.items, self.scores, seed),
            **self._turned_facts(self.answers.turned_draws[seed]),
            **({"changed_by_any": sum(changed) / len(changed)} if changed else {}),
        }

    def _row(self, place: int) -> dict[str, Any]:
        item, score = self.items[place], self.scores[place]
        row: dict[str, Any] = {
            "name": item.name,
            "image": str(item.image),
            "question": item.question,
            "references": [*item.references],
            "answer": self.answers.seen[place].answer,
            "score": score.value,
            "missing": score.missing,
            "kind": item.kind,
            "yaw_deg": item.yaw_deg,
            "pitch_deg": item.pitch_deg,
            "baselines": {
                name: _answered(others[place].answer, self.baselines[name][place])
                for name, others in self.answers.baselines.items()
            },
        }
        if self.benchmark.point is not None:
            row["answered_deg"] = self.benchmark.point(self.answers.seen[place].answer)
        if place in self.turned:
            given = zip(self.answers.turned[place], self.turned[place], strict=True)
            row["turned"] = [_answered(each.answer, score) for each, score in given]
        if place in self.answers.changed:
            row["changed_by_view"] = self.answers.changed[place]
        if place in self.on_seam:
            row["on_seam"] = _answered(self.answers.on_seam[place].answer, self.on_seam[place])
        return row


def describe(
    benchmark: Benchmark, items: Sequence[Item], answers: Sequence[str], scores: Sequence[Score]
) -> dict[str, Any]:
    """Summarise scores: overall with its interval, by kind, by stratum, and the extras."""
    seam = [seam_stratum(item.yaw_deg) for item in items]
    pole = [pole_stratum(item.pitch_deg) for item in items]
    return {
        "score": asdict(summarise(scores, are_errors=benchmark.less_is_better)),
        "interval": interval_over_panoramas(items, scores),
        "by_kind": _grouped(benchmark, items, scores, [item.kind for item in items]),
        "by_distance_from_seam": _grouped(benchmark, items, scores, seam),
        "by_distance_from_pole": _grouped(benchmark, items, scores, pole),
        "extras": benchmark.extras(items, answers, scores),
    }


def _texts(predictions: Sequence[Prediction]) -> list[str]:
    return [prediction.answer for prediction in predictions]


def _score(
    benchmark: Benchmark, items: Sequence[Item], answers: Sequence[str], judge: Judge | None
) -> list[Score]:
    if judge is None or benchmark.rubric is None:
        return benchmark.score(items, answers)
    with progress_bar("judged", len(items)) as advance:
        return judge.grade(benchmark.rubric, items, answers, advance)


def _turned_scores(benchmark: Benchmark, item: Item, answers: Sequence[str]) -> list[Score]:
    """Score the answers to one item after each turn of the camera but none."""
    if benchmark.turned is None:
        raise ValueError("found answers about turned pictures to a benchmark that has none")
    step_deg = 360.0 / (len(answers) + 1)
    turned = [benchmark.turned(item, turn * step_deg) for turn in range(1, len(answers) + 1)]
    return benchmark.score(turned, answers)


def _score_on_seam(benchmark: Benchmark, item: Item, answer: str) -> Score:
    if benchmark.turned is None or item.yaw_deg is None:
        raise ValueError("found an answer about an object on the seam, of no known direction")
    return benchmark.score([benchmark.turned(item, turn_to_edge_deg(item.yaw_deg))], [answer])[0]


def _grouped(
    benchmark: Benchmark,
    items: Sequence[Item],
    scores: Sequence[Score],
    keys: Sequence[str | None],
) -> dict[str, Any]:
    groups: dict[str, list[int]] = {}
    for place, key in enumerate(keys):
        if key is not None:
            groups.setdefault(key, []).append(place)
    return {
        key: summary_over_panoramas(
            [items[place] for place in groups[key]],
            [scores[place] for place in groups[key]],
            are_errors=benchmark.less_is_better,
        )
        for key in sorted(groups, key=rank)
    }


def _answered(answer: str, score: Score) -> dict[str, Any]:
    return {"answer": answer, "score": score.value, "missing": score.missing}
