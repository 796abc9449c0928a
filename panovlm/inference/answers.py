"""One answer while it is generated: how its tokens are chosen and when it ends."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from transformers.generation.logits_process import (
    LogitsProcessorList,
    MinNewTokensLengthLogitsProcessor,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from panovlm.inference.grammars import Constraint
from panovlm.model.modeling import PanoVLMForConditionalGeneration

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
        frequency_penalty: Above 0, tokens of the answer become less likely each time they are used.
        presence_penalty: The same once, however often they are used.
        logit_bias: Tokens and what is added to their scores.
        min_tokens: Least tokens of the answer before its end.
        stop_token_ids: Tokens that end it, beside the model's own.
        ignore_eos: Goes on behind the model's own end, to `max_tokens`.
        top_logprobs: For each token, so many of the likeliest ones are noted; None for nothing.
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
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    min_tokens: int = 0
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    top_logprobs: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    json_schema: str | None = None


GREEDY = SamplingParams()
_NO_IDS = torch.empty(1, 0, dtype=torch.long)


@dataclass(frozen=True)
class TokenScore:
    """A token, its log-probability in nats, and the likeliest tokens in its place with theirs."""

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


def end_tokens(model: PanoVLMForConditionalGeneration) -> list[int]:
    """Return the tokens by which a model ends its answers."""
    end = model.generation_config.eos_token_id
    return end if isinstance(end, list) else [] if end is None else [end]


class Answer:
    """An answer in the making: takes one token after the other and returns text that is final.

    The pieces together are the text, without white space around it: what may still turn out to be
    a stop, the end, or half a character is held back.

    Attributes:
        text: All text returned so far.
        finish_reason: None while it is running.
        is_plain: Whether its tokens are the likeliest, by scores that nothing changes or notes.
        num_tokens: Tokens so far, the end token included.
        scores: Of its tokens, where they are wanted.
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
        self.scores: list[TokenScore] = []
        own_ends = () if sampling.ignore_eos else end_ids
        self._tokenizer = tokenizer
        self._end_ids = frozenset([*own_ends, *sampling.stop_token_ids])
        self._ids: list[int] = []
        self._prompt_ids = prompt_ids
        self._process = _processors(sampling, len(prompt_ids), self._end_ids)
        self._warp = _warpers(sampling)
        penalty = sampling.frequency_penalty or sampling.presence_penalty
        is_noted = sampling.top_logprobs is not None
        is_changed = penalty or self._process or constraint or is_noted
        self.is_plain = sampling.temperature < COLD and not is_changed
        seed = secrets.randbits(63) if sampling.seed is None else sampling.seed
        self._random = torch.Generator().manual_seed(seed)

    def choose(self, scores: Tensor) -> int:
        """Choose the next token by its scores [vocabulary]."""
        processed = scores - self._penalties(scores)
        if self._process:
            ids = torch.tensor([[*self._prompt_ids, *self._ids]], device=scores.device)
            processed = self._process(ids, processed[None])[0]
        if self._constraint:
            processed = self._constraint.mask(processed)
        if self.sampling.temperature < COLD:
            token = int(processed.argmax())
        else:
            kept: Tensor = self._warp(_NO_IDS, processed.float().cpu()[None])[0]
            token = int(torch.multinomial(kept.softmax(-1), 1, generator=self._random))
        if self.sampling.top_logprobs is not None and token not in self._end_ids:
            self.scores.append(self._score(token, scores, self.sampling.top_logprobs))
        return token

    def _penalties(self, scores: Tensor) -> Tensor | float:
        """Return what is taken from the scores [vocabulary] of tokens of the answer."""
        frequency, presence = self.sampling.frequency_penalty, self.sampling.presence_penalty
        if not (self._ids and (frequency or presence)):
            return 0.0
        ids = torch.tensor(self._ids, device=scores.device)
        counts = torch.bincount(ids, minlength=len(scores)).to(scores.dtype)
        return frequency * counts + presence * (counts > 0)

    def _score(self, token: int, scores: Tensor, num_top: int) -> TokenScore:
        """Note how likely the model itself found a token, by its scores [vocabulary]."""
        logprobs = scores.float().log_softmax(-1)
        best = logprobs.topk(num_top)
        likeliest = zip(map(self._text, best.indices.tolist()), best.values.tolist(), strict=True)
        return TokenScore(self._text(token), float(logprobs[token]), tuple(likeliest))

    def _text(self, token: int) -> str:
        text: str = self._tokenizer.decode([token])
        return text

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
        beginnings = (stop[:end] for stop in self.sampling.stop for end in range(1, len(stop)))
        held = max((len(each) for each in beginnings if decoded.endswith(each)), default=0)
        return decoded[: len(decoded) - held].rstrip()

    def _end(self, reason: FinishReason, place: int | None = None) -> str:
        self.finish_reason = reason
        return self._extend(self._decoded()[:place].rstrip())

    def _extend(self, final: str) -> str:
        piece = final[len(self.text) :]
        self.text += piece
        return piece


def _processors(
    sampling: SamplingParams, num_prompt: int, end_ids: frozenset[int]
) -> LogitsProcessorList:
    """Return what changes the scores, however the token is chosen by them."""
    processors = LogitsProcessorList()
    if sampling.repetition_penalty != 1.0:
        processors.append(RepetitionPenaltyLogitsProcessor(float(sampling.repetition_penalty)))
    if sampling.logit_bias:
        bias = [[[token], value] for token, value in sampling.logit_bias]
        processors.append(SequenceBiasLogitsProcessor(bias))
    if sampling.min_tokens and end_ids:
        ends = sorted(end_ids)
        processors.append(MinNewTokensLengthLogitsProcessor(num_prompt, sampling.min_tokens, ends))
    return processors


def _warpers(sampling: SamplingParams) -> LogitsProcessorList:
    """Return what leaves the tokens that are sampled from."""
    warpers = LogitsProcessorList([TemperatureLogitsWarper(max(sampling.temperature, COLD))])
    if sampling.top_k:
        warpers.append(TopKLogitsWarper(sampling.top_k))
    if sampling.min_p:
        warpers.append(MinPLogitsWarper(sampling.min_p))
    if sampling.top_p < 1.0:
        warpers.append(TopPLogitsWarper(sampling.top_p))
    return warpers
