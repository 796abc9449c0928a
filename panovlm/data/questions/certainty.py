"""Which answers are certain: those that nothing in doubt could change.

An answer counts as certain if it stays the same when doubtful things are there too, and when all
directions are off by a small angle either way. What stands near the border of two directions has
no certain word then.
"""

from dataclasses import dataclass
from functools import cached_property

from panovlm.data.questions.asking import Question
from panovlm.data.questions.evidence import Evidence
from panovlm.data.questions.surroundings import Surroundings
from panovlm.metrics.listings import NOTHING

MARGIN_DEG = 4.0
"""By how much directions may be off."""


@dataclass(frozen=True)
class Rotations:
    """A picture under every yaw rotation, with all that may be the case.

    Attributes:
        evidence: What is known about it.
        sure: The sure things.
        count: Rotations all around, evenly spaced.
    """

    evidence: Evidence
    sure: Surroundings
    count: int

    @cached_property
    def _possible(self) -> list[list[Surroundings]]:
        """All that may be the case, for each rotation; first what is sure."""
        doubtful = [thing for thing, _ in self.evidence.doubtful]
        cases = [self.sure]
        if doubtful:
            cases.append(Surroundings.of([*self.sure.things, *doubtful], self.sure.vocabulary))
        yaws_deg = (360.0 * step / self.count for step in range(self.count))
        margins_deg = (0.0, -MARGIN_DEG, MARGIN_DEG)
        return [
            [case.yaw_rotated(yaw_deg + margin) for case in cases for margin in margins_deg]
            for yaw_deg in yaws_deg
        ]

    def certain_answers(self, question: Question[Surroundings]) -> list[str | None]:
        """Return the answer under each rotation, None where it is not certain."""
        return [self._certain(question, cases) for cases in self._possible]

    def answers(self, question: Question[Surroundings]) -> list[str]:
        """Return the answer under each rotation as it follows from what is sure."""
        return [question.answer(cases[0]) for cases in self._possible]

    def _certain(self, question: Question[Surroundings], cases: list[Surroundings]) -> str | None:
        answers = {question.answer(case) for case in cases}
        answer = answers.pop()
        if answers or (answer.endswith(NOTHING) and self.sure.vocabulary is None):
            return None
        return answer or None
