"""Answers kept to JSON of a schema: at each token, those that could not go on to it are left out.

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
"""Free to put in any white space, a weak model puts in nothing else."""


class Constraint:
    """What one answer may go on with."""

    def __init__(self, matcher: Any) -> None:
        self._matcher = matcher

    @property
    def is_over(self) -> bool:
        """Whether the JSON is whole and nothing can follow it."""
        over: bool = self._matcher.is_stopped()
        return over

    def keep(self, scores: Tensor) -> Tensor:
        """Give scores [vocabulary] in which only tokens that may follow have a chance."""
        allowed = torch.frombuffer(bytearray(self._matcher.compute_logit_bias()), dtype=torch.uint8)
        return scores.masked_fill(allowed.to(scores.device) == 0, -torch.inf)

    def take(self, token: int) -> None:
        """Go on with a token."""
        self._matcher.consume_token(token)


class Grammars:
    """Makes constraints for one model's tokens. For any thread.

    Args:
        tokenizer: The model's.
        vocabulary: How many scores the model gives.
        end_ids: Tokens that end an answer.
    """

    def __init__(self, tokenizer: Any, vocabulary: int, end_ids: list[int]) -> None:
        self._tokenizer, self._vocabulary, self._end_ids = tokenizer, vocabulary, end_ids
        self._tokens = lru_cache(1)(self._read_tokens)
        self._matcher = lru_cache(NUM_KEPT)(self._compile)

    def constraint(self, schema: str) -> Constraint:
        """Make the constraint to JSON of a schema, for one answer.

        Raises:
            PanoVLMError: If the schema is none, or has what the library cannot keep to; if the
                library is missing.
        """
        return Constraint(self._matcher(schema).deep_copy())

    def _compile(self, schema: str) -> Any:
        tokens = self._tokens()
        from llguidance import LLMatcher

        try:
            grammar = LLMatcher.grammar_from_json_schema(schema, overrides=_COMPACT)
            matcher = LLMatcher(tokens, grammar, log_level=0)
            is_good = not matcher.is_error()
        except ValueError:
            is_good = False
        if not is_good:
            raise PanoVLMError(
                "found a JSON schema that is none, or that answers cannot be kept to; use fewer of "
                "JSON Schema's keywords"
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
