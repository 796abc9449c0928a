"""Answers constrained to JSON of a schema: at each token, those that cannot follow are masked.

Needs the extra `structured`.
"""

import json
import re
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from panovlm.errors import PanoVLMError

NUM_KEPT = 32
"""Schemas whose grammars are kept."""
MAX_CHARACTERS, MAX_DEPTH = 120_000, 64
"""Of a schema as JSON; braces and brackets inside one another."""
_TRIED_TOKENS = 64
"""Tokens that a new grammar is tried on: some grow too large only behind the first."""
_COMPACT: Any = {"whitespace_flexible": False}
"""Where any white space is allowed, a weak model writes nothing else."""
_ALLOWED = b"\xc8"
"""Mark of a token that may follow, in llguidance's masks of one byte a token."""


class Constraint:
    """Masks the tokens that one answer cannot go on with; PanoVLMError where its grammar fails."""

    def __init__(self, matcher: Any) -> None:
        self._matcher = matcher

    @property
    def is_complete(self) -> bool:
        """Whether the JSON is whole and nothing can follow it."""
        return bool(self._matcher.is_stopped()) and not self._matcher.is_error()

    def allowed(self) -> bytes:
        """Return for each token a byte, which is 0 where it cannot follow."""
        allowed: bytes = self._matcher.compute_logit_bias()
        if self._matcher.is_error() or _ALLOWED not in allowed:
            raise self._error()
        return allowed

    def mask(self, scores: Tensor) -> Tensor:
        """Return scores [vocabulary] that are -inf for tokens that cannot follow."""
        allowed = torch.frombuffer(bytearray(self.allowed()), dtype=torch.uint8)
        return scores.masked_fill(allowed.to(scores.device) == 0, -torch.inf)

    def accept(self, token: int) -> None:
        """Go on with a token."""
        if not self._matcher.consume_token(token):
            raise self._error()

    def attempt(self) -> None:
        """Go on with any tokens that are allowed, for a while."""
        for _ in range(_TRIED_TOKENS):
            if self.is_complete:
                break
            self.accept(self.allowed().index(_ALLOWED))

    def _error(self) -> PanoVLMError:
        keywords = re.match(r"Unimplemented keys: \[(.*)\]", self._matcher.get_error())
        found = f"with {keywords[1]}, which are" if keywords else "that is invalid, too large or"
        return PanoVLMError(
            f"found a JSON schema {found} not supported, expected one of JSON Schema; use fewer "
            "of its keywords, or fewer alternatives"
        )


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

        depth = _depth(json.loads(schema))
        if len(schema) > MAX_CHARACTERS or depth > MAX_DEPTH:
            raise PanoVLMError(
                f"found a JSON schema of {len(schema)} characters and {depth} levels, expected at "
                f"most {MAX_CHARACTERS} and {MAX_DEPTH}; make it smaller"
            )
        try:
            grammar = LLMatcher.grammar_from_json_schema(schema, overrides=_COMPACT)
        except ValueError as error:
            raise PanoVLMError(
                "found a JSON schema that is no object, expected one of JSON Schema; write "
                '{"type": ...}'
            ) from error
        matcher = LLMatcher(tokens, grammar, log_level=0)
        Constraint(matcher.deep_copy()).attempt()
        return matcher

    def _read_tokens(self) -> Any:
        try:
            from llguidance import LLTokenizer, TokenizerWrapper
            from llguidance.hf import from_tokenizer
        except ImportError as error:
            raise PanoVLMError(
                "found no module llguidance, which JSON as an answer needs; run: pip install "
                "'panovlm[structured]'"
            ) from error
        try:
            tokens = from_tokenizer(self._tokenizer, self._vocabulary, self._end_ids or None)
            return LLTokenizer(TokenizerWrapper(_Spelling(tokens)))
        except ValueError as error:
            raise PanoVLMError(
                "found a tokenizer whose tokens have no bytes, expected a fast one with a decoder; "
                "leave response_format out"
            ) from error


class _Spelling:
    """The tokens of a tokenizer, and how it spells a text with them, also behind others.

    A grammar knows the next bytes and asks how they are spelled. A tokenizer that puts a space
    before what it is given answers with other bytes, and no token could follow.
    """

    def __init__(self, tokens: Any) -> None:
        self._tokens = tokens
        self.eos_token_id, self.bos_token_id = tokens.eos_token, None
        every = range(tokens.vocab_size)
        self.tokens = [tokens.decode_bytes([token]) for token in every]
        self.special_token_ids = list(filter(tokens.is_special_token, every))
        texts = set(every) - set(self.special_token_ids)
        self._token_of = {self.tokens[token]: token for token in texts}
        self._longest = max(map(len, self._token_of), default=0)

    def __call__(self, text: bytes) -> list[int]:
        own: list[int] = self._tokens.tokenize_bytes(text)
        return own if self._tokens.decode_bytes(own) == text else self._longest_first(text)

    def _longest_first(self, text: bytes) -> list[int]:
        tokens: list[int] = []
        while text:
            ends = range(min(len(text), self._longest), 0, -1)
            end = next((end for end in ends if text[:end] in self._token_of), 0)
            if not end:
                break
            tokens.append(self._token_of[text[:end]])
            text = text[end:]
        return tokens


def _depth(value: Any) -> int:
    """Count the levels of a value of JSON."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return int(isinstance(value, dict | list)) + max(map(_depth, inner), default=0)
