"""One answer while it is generated: how its tokens are chosen and when it ends."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from transformers.generation.logits_process import RepetitionPenaltyLogitsProcessor

from panovlm.inference.grammars import Constraint

COLD = 1e-4
"""Temperatures below it take the likeliest token: dividing by them would overflow."""
FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class SamplingParams:
    """How an answer is generated.

    Attributes:
        max_tokens: Most tokens of the answer.
        temperature: 0 takes the likeliest token; above, tokens are sampled.
        top_p: Only the likeliest tokens that together have this probability are sampled, in (0, 1].
        top_k: Only so many of the likeliest tokens are sampled; 0 for all.
        min_p: Only tokens with at least this share of the likeliest one's probability are sampled.
        repetition_penalty: Above 1, tokens of the conversation and the answer become less likely.
        seed: The same seed samples the same answer; None samples another each time.
        stop: Texts before which it ends.
        json_schema: The JSON schema of the answer, as JSON; None for any text.
    """

    max_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    json_schema: str | None = None


GREEDY = SamplingParams()


class Answer:
    """An answer in the making: takes one token after the other and returns text that is final.

    The pieces together are the text, without white space around it: what may still turn out to be
    a stop, the end, or half a character is held back.

    Attributes:
        text: All text returned so far.
        finish_reason: None while it is running.
        num_tokens: Tokens so far, the end token included.
    """

    def __init__(
        self,
        tokenizer: Any,
        end_ids: Sequence[int],
        sampling: SamplingParams,
        constraint: Constraint | None = None,
        prompt_ids: Sequence[int] = (),
    ) -> None:
        self.sampling, self._constraint = sampling, constraint
        self.text = ""
        self.finish_reason: FinishReason | None = None
        self.num_tokens = 0
        self._tokenizer, self._end_ids = tokenizer, frozenset(end_ids)
        self._ids: list[int] = []
        self._prompt_ids = prompt_ids
        self._penalise = RepetitionPenaltyLogitsProcessor(float(sampling.repetition_penalty))
        self._random = torch.Generator()
        if sampling.seed is None:
            self._random.seed()
        else:
            self._random.manual_seed(sampling.seed)

    def choose(self, scores: Tensor) -> int:
        """Choose the next token by its scores [vocabulary]."""
        if self.sampling.repetition_penalty != 1.0:
            scores = self._penalised(scores)
        if self._constraint:
            scores = self._constraint.mask(scores)
        if self.sampling.temperature < COLD:
            return int(scores.argmax())
        probabilities = self._kept(scores.float().cpu() / self.sampling.temperature).softmax(-1)
        ordered, tokens = probabilities.sort(descending=True)
        # The likeliest token always stays, and so does the one that crosses the limit.
        ordered[ordered.cumsum(-1) - ordered >= self.sampling.top_p] = 0.0
        return int(tokens[torch.multinomial(ordered, 1, generator=self._random)])

    def _penalised(self, scores: Tensor) -> Tensor:
        """Lower the scores [vocabulary] of tokens that were there before."""
        ids = torch.tensor([[*self._prompt_ids, *self._ids]], device=scores.device)
        penalised: Tensor = self._penalise(ids, scores[None])[0]
        return penalised

    def _kept(self, scores: Tensor) -> Tensor:
        """Leave the scores [vocabulary] of the likeliest tokens, by `top_k` and then `min_p`."""
        if self.sampling.top_k:
            limit = scores.topk(min(self.sampling.top_k, len(scores))).values[-1]
            scores = scores.masked_fill(scores < limit, -torch.inf)
        if self.sampling.min_p:
            scores = scores.masked_fill(
                scores < scores.max() + math.log(self.sampling.min_p), -torch.inf
            )
        return scores

    def add(self, token: int) -> str:
        """Add the next token; return the text that is now final, often none."""
        self.num_tokens += 1
        if token in self._end_ids:
            return self._end("stop")
        self._ids.append(token)
        if self._constraint:
            self._constraint.accept(token)
        decoded = self._decoded()
        places = [place for stop in self.sampling.stop if (place := decoded.find(stop)) >= 0]
        if places:
            return self._end("stop", min(places))
        if self._constraint and self._constraint.is_complete:
            return self._end("stop")
        if self.num_tokens >= self.sampling.max_tokens:
            return self._end("length")
        return self._extend(self._final(decoded))

    def _decoded(self) -> str:
        text: str = self._tokenizer.decode(self._ids, skip_special_tokens=True)
        return text.lstrip()

    def _final(self, decoded: str) -> str:
        """Return the part of a running answer that no further token can change."""
        decoded = decoded.rstrip("\ufffd")  # the first bytes of a character
        for stop in self.sampling.stop:
            for length in range(min(len(stop), len(decoded)), 0, -1):
                if decoded.endswith(stop[:length]):
                    decoded = decoded[:-length]
                    break
        return decoded.rstrip()

    def _end(self, reason: FinishReason, place: int | None = None) -> str:
        self.finish_reason = reason
        return self._extend(self._decoded()[:place].rstrip())

    def _extend(self, final: str) -> str:
        piece = final[len(self.text) :]
        self.text += piece
        return piece
