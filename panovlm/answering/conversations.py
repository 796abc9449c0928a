"""Conversations about one panorama."""

from collections.abc import Iterator
from typing import Any

from panovlm.answering.answers import Wishes
from panovlm.answering.assistant import Assistant, OpenedPanorama, Question
from panovlm.answering.prompts import about_panorama


class Chat:
    """A conversation about one panorama, in which every question knows what was said before."""

    def __init__(self, assistant: Assistant, panorama: OpenedPanorama, wishes: Wishes) -> None:
        self._assistant, self._panorama, self._wishes = assistant, panorama, wishes
        self._turns: list[dict[str, Any]] = []

    def ask(self, question: str) -> Iterator[str]:
        """Answer the next question piece by piece; a question that fails is forgotten.

        Raises:
            PanoVLMError: If the conversation became longer than the language model reads.
        """
        conversation = [*self._turns, {"role": "user", "content": question}]
        if not self._turns:
            conversation = [dict(turn) for turn in about_panorama(question)]
        said = ""
        for piece in self._assistant.stream_conversation(
            Question(conversation, self._panorama, self._wishes)
        ):
            said += piece
            yield piece
        self._turns = [*conversation, {"role": "assistant", "content": said}]
