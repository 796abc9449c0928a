"""Conversations about panoramas."""

from collections.abc import Iterator, Sequence
from typing import Any

from panovlm.inference.answers import SamplingParams
from panovlm.inference.assistant import Assistant, OpenedPanorama, Question
from panovlm.inference.prompts import about_panorama


class Chat:
    """A conversation about panoramas, in which every question knows what was said before."""

    def __init__(
        self, assistant: Assistant, panoramas: Sequence[OpenedPanorama], sampling: SamplingParams
    ) -> None:
        self._assistant, self._panoramas, self._sampling = assistant, panoramas, sampling
        self._turns: list[dict[str, Any]] = []

    def ask(self, question: str) -> Iterator[str]:
        """Answer the next question piece by piece; a question that fails is forgotten.

        Raises:
            PanoVLMError: If the conversation became longer than the language model reads.
        """
        conversation = [*self._turns, {"role": "user", "content": question}]
        if not self._turns:
            conversation = [dict(turn) for turn in about_panorama(question, len(self._panoramas))]
        said = ""
        for piece in self._assistant.stream_conversation(
            Question(conversation, self._panoramas, self._sampling)
        ):
            said += piece
            yield piece
        self._turns = [*conversation, {"role": "assistant", "content": said}]
