"""Answers constrained to JSON of a schema: at each token, those that cannot follow are masked.

Needs the extra `structured`.
"""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from panovlm.errors import PanoVLMError

NUM_KEPT = 32
"""Schemas whose grammars are kept."""
_COMPACT: Any = {"whitespace_flexible": False}
"""Where any white space is allowed, a weak model writes nothing else."""


class Constraint:
    """Masks the tokens that one answer cannot go on with."""

    def __init__(self, matcher: Any) -> None:
        self._matcher = matcher

    @property
    def is_complete(self) -> bool:
        """Whether the JSON is whole and nothing can follow it."""
        return bool(self._matcher.is_stopped())

    def mask(self, scores: Tensor) -> Tensor:
        """Return scores [vocabulary] that are -inf for tokens that cannot follow."""
        allowed = torch.frombuffer(bytearray(self._matcher.compute_logit_bias()), dtype=torch.uint8)
        return scores.masked_fill(allowed.to(scores.device) == 0, -torch.inf)

    def accept(self, token: int) -> None:
        """Go on with a token."""
        self._matcher.consume_token(token)


class Grammars:
    """Makes constraints for a model's tokenizer, scores and end tokens. For any thread."""

    def __init__(self, tokenizer: Any, vocabulary: int, end_ids: list[int]) -> None:
        self._tokenizer, self._vocabulary, self._end_ids = tokenizer, vocabulary, end_ids
        self._tokens = lru_cache(1)(self._read_tokens)
        self._matcher = lru_cache(NUM_KEPT)(self._compile)

    def constraint(self, schema: str) -> Constraint:
        """Make the constraint to JSON of a schema, for one answer; refuse schemas not supported."""
        return Constraint(self._matcher(schema).deep_copy())

    def _compile(self, schema: str) -> Any:
        tokens = self._tokens()
        from llguidance import LLMatcher

        try:
            grammar = LLMatcher.grammar_from_json_schema(schema, overrides=_COMPACT)
            matcher = LLMatcher(tokens, grammar, log_level=0)
            is_valid = not matcher.is_error()
        except ValueError:
            is_valid = False
        if not is_valid:
            raise PanoVLMError(
                "found a JSON schema that is invalid or not supported, expected one of JSON "
                "Schema; use fewer of its keywords"
            )
        return matcher

    def _read_tokens(self) -> Any:
        try:
            from llguidance.hf import from_tokenizer
        except ImportError as error:
            raise PanoVLMError(
                "found no module llguidance, which JSON as an answer needs; run: pip install "
                "'panovlm[structured]'"
            ) from error
        end = self._end_ids[0] if self._end_ids else None
        return from_tokenizer(self._tokenizer, self._vocabulary, end)
