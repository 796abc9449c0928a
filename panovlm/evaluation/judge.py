"""A language model as judge, behind any endpoint that speaks OpenAI's protocol.

What it does not grade, for whatever reason, has no score: never the worst grade, and never a mean
one.
"""

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar

from panovlm.evaluation.benchmarks.items import Item, Rubric
from panovlm.metrics.scores import NOT_JUDGED, UNREADABLE, Score
from panovlm.runtime.endpoints import Endpoint, EndpointError

AT_ONCE = 8
"""Answers graded at a time."""
MAX_TOKENS = 256
QUESTION = "Question: {question}\nRight answer: {right}\nAnswer to grade: {answer}"


@dataclass(frozen=True)
class Judge(Endpoint):
    """An endpoint whose model grades answers; `Endpoint` has the arguments."""

    option: ClassVar[str] = "--judge"

    def grade(
        self,
        rubric: Rubric,
        items: Sequence[Item],
        answers: Sequence[str],
        progress: Callable[[int], None],
    ) -> list[Score]:
        """Grade answers against the first reference of their items, the best as 1.

        Args:
            rubric: What the judge is instructed to do.
            items: Questions with their references.
            answers: Texts; the judge is not asked about an empty one.
            progress: Called after each answer.
        """

        def one(pair: tuple[Item, str]) -> Score:
            score = self._grade_one(rubric, *pair)
            progress(1)
            return score

        with ThreadPoolExecutor(AT_ONCE) as pool:
            return [*pool.map(one, zip(items, answers, strict=True))]

    def facts(self, rubric: Rubric) -> dict[str, Any]:
        """Return what a report states of its judge."""
        digest = hashlib.sha256((rubric.instruction + QUESTION).encode()).hexdigest()
        today = datetime.now(UTC).date().isoformat()
        return {"model": self.model, "date": today, "temperature": 0, "prompt_sha256": digest}

    def _grade_one(self, rubric: Rubric, item: Item, answer: str) -> Score:
        if not answer.strip() or not item.references:
            return UNREADABLE if item.references else NOT_JUDGED
        prompt = QUESTION.format(question=item.question, right=item.references[0], answer=answer)
        try:
            grade = self.patiently(lambda: self._ask(rubric, prompt))
        except EndpointError:
            return NOT_JUDGED
        return Score((grade - rubric.lowest) / (rubric.highest - rubric.lowest))

    def _ask(self, rubric: Rubric, prompt: str) -> int:
        """Return the grade.

        Raises:
            EndpointError: If the judge fails or replies with anything but a grade.
        """
        instruction = f'{rubric.instruction} Answer with JSON alone: {{"grade": number}}.'
        messages = [
            {"role": "system", "content": instruction},
            {"role": "user", "content": prompt},
        ]
        grades = [*range(rubric.lowest, rubric.highest + 1)]
        schema = {"grade": {"type": "integer", "enum": grades}}
        grade = self.ask(messages, "grade", schema, MAX_TOKENS).get("grade")
        if not isinstance(grade, int) or isinstance(grade, bool) or grade not in grades:
            raise EndpointError(f"the grade is {grade!r}")
        return grade
