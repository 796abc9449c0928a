"""A language model as judge, behind any endpoint that speaks OpenAI's protocol.

What it does not grade, for whatever reason, has no score: never the worst grade, and never a mean
one.
"""

import hashlib
import json
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from panovlm.errors import PanoVLMError
from panovlm.evaluation.benchmarks.items import Item, Rubric
from panovlm.metrics.scores import NOT_JUDGED, UNREADABLE, Score

AT_ONCE = 8
"""Answers graded at a time."""
MAX_TOKENS = 256
MAX_REPLY_BYTES = 1_000_000
QUESTION = "Question: {question}\nRight answer: {right}\nAnswer to grade: {answer}"


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Refuses to go elsewhere: the key is meant for one address."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirect)


@dataclass(frozen=True)
class Judge:
    """Where a judge answers.

    Attributes:
        url: Of the API, as in `http://localhost:8000/v1`.
        model: Name of the model there.
        key: Sent as bearer token; None sends none.
        timeout_s: Seconds for one answer.
        tries: Attempts for one answer.

    Raises:
        PanoVLMError: If the address is not of the web.
    """

    url: str
    model: str
    key: str | None = None
    timeout_s: float = 60.0
    tries: int = 3

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise PanoVLMError(
                f"found the judge's address {self.url!r}, expected one that begins with http:// or "
                "https://; change --judge"
            )

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
        for _ in range(self.tries):
            grade = self._ask(rubric, prompt)
            if grade is not None:
                return Score((grade - rubric.lowest) / (rubric.highest - rubric.lowest))
        return NOT_JUDGED

    def _ask(self, rubric: Rubric, prompt: str) -> int | None:
        """Return the grade, or None if the judge fails or replies with anything but a grade."""
        headers = {"Content-Type": "application/json"}
        headers |= {"Authorization": f"Bearer {self.key}"} if self.key else {}
        body = json.dumps(self._request(rubric, prompt)).encode()
        address = f"{self.url.rstrip('/')}/chat/completions"
        try:
            request = urllib.request.Request(address, body, headers)
            with _OPENER.open(request, timeout=self.timeout_s) as reply:
                content = json.loads(reply.read(MAX_REPLY_BYTES))["choices"][0]["message"][
                    "content"
                ]
            grade = json.loads(content)["grade"]
        except (OSError, ValueError, KeyError, IndexError, TypeError):
            return None
        is_grade = isinstance(grade, int) and not isinstance(grade, bool)
        return grade if is_grade and rubric.lowest <= grade <= rubric.highest else None

    def _request(self, rubric: Rubric, prompt: str) -> dict[str, Any]:
        grade = {"type": "integer", "enum": [*range(rubric.lowest, rubric.highest + 1)]}
        schema = {
            "type": "object",
            "properties": {"grade": grade},
            "required": ["grade"],
            "additionalProperties": False,
        }
        form = {"name": "grade", "strict": True, "schema": schema}
        return {
            "model": self.model,
            "temperature": 0,
            "max_tokens": MAX_TOKENS,
            "messages": [
                {
                    "role": "system",
                    "content": f'{rubric.instruction} Answer with JSON alone: {{"grade": number}}.',
                },
                {"role": "user", "content": prompt},
            ],
            "response_format": {"type": "json_schema", "json_schema": form},
        }
