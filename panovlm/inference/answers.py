"""One answer while it is being said: how its tokens are chosen and when it ends."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from panovlm.inference.grammars import Constraint

COLD = 1e-4
"""Temperatures below it take the likeliest token: dividing by them would overflow."""
FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class SamplingParams:
    """How an answer shall be said.

    Attributes:
        max_tokens: Where it is cut off.
        temperature: 0 takes the likeliest token; above, tokens are drawn.
        top_p: Only the likeliest tokens that together have this probability are drawn, in (0, 1].
        seed: The same seed draws the same answer; None draws another each time.
        stop: Texts before which it ends.
        json_schema: The JSON schema, as JSON, that it shall be of; None for free words.
    """

    max_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    json_schema: str | None = None


GREEDY = SamplingParams()


class Answer:
    """An answer in the making: takes one token after the other and gives text that is certain.

    The pieces together are the text, without white space around it: what may still turn out to be
    a stop, the end, or half a character is held back.

    Attributes:
        text: What was said and given so far.
        finish_reason: None while it goes on.
        num_tokens: Tokens said, the end token included.
    """

    def __init__(
        self,
        tokenizer: Any,
        end_ids: Sequence[int],
        sampling: SamplingParams,
        constraint: Constraint | None = None,
    ) -> None:
        self.sampling, self._constraint = sampling, constraint
        self.text = ""
        self.finish_reason: FinishReason | None = None
        self._tokenizer, self._end_ids = tokenizer, frozenset(end_ids)
        self._ids: list[int] = []
        self.num_tokens = 0
        self._draws = torch.Generator()
        if sampling.seed is None:
            self._draws.seed()
        else:
            self._draws.manual_seed(sampling.seed)

    def choose(self, scores: Tensor) -> int:
        """Choose the next token by its scores [vocabulary]."""
        if self._constraint:
            scores = self._constraint.keep(scores)
        if self.sampling.temperature < COLD:
            return int(scores.argmax())
        chances = (scores.float().cpu() / self.sampling.temperature).softmax(-1)
        ordered, tokens = chances.sort(descending=True)
        # The likeliest token always stays, and so does the one that crosses the limit.
        ordered[ordered.cumsum(-1) - ordered >= self.sampling.top_p] = 0.0
        return int(tokens[torch.multinomial(ordered, 1, generator=self._draws)])

    def add(self, token: int) -> str:
        """Take the next token; give the text that is now certain, often none."""
        self.num_tokens += 1
        if token in self._end_ids:
            return self._end("stop")
        self._ids.append(token)
        if self._constraint:
            self._constraint.take(token)
        said = self._said()
        places = [place for stop in self.sampling.stop if (place := said.find(stop)) >= 0]
        if places:
            return self._end("stop", min(places))
        if self._constraint and self._constraint.is_over:
            return self._end("stop")
        if self.num_tokens >= self.sampling.max_tokens:
            return self._end("length")
        return self._give(self._certain(said))

    def _said(self) -> str:
        text: str = self._tokenizer.decode(self._ids, skip_special_tokens=True)
        return text.lstrip()

    def _certain(self, said: str) -> str:
        said = said.rstrip("\ufffd")  # the first bytes of a character
        for stop in self.sampling.stop:
            for length in range(min(len(stop), len(said)), 0, -1):
                if said.endswith(stop[:length]):
                    said = said[:-length]
                    break
        return said.rstrip()

    def _end(self, reason: FinishReason, place: int | None = None) -> str:
        self.finish_reason = reason
        return self._give(self._said()[:place].rstrip())

    def _give(self, certain: str) -> str:
        piece = certain[len(self.text) :]
        self.text += piece
        return piece
