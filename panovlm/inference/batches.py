"""Batched answers: prompts with prefixes of their own, one token for each at every step.

The rows are aligned to the right, as transformers pads for generation, so that windows count as in
a row alone. Where one question is longer than another, the other row reads some of its prefix
again: every row then has as many tokens left to read, and the cached part is a rectangle.

A row may join running ones: it reads its prompt by itself, then the shorter cache is padded on the
left, so that all rows stay aligned to the right. Where the longest row ends, the columns that only
it needed are dropped: a batch that never ends does not grow.

Shapes: B rows, C cached tokens, S tokens left to read.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from panovlm.inference.answers import Answer
from panovlm.inference.decoding import SpareCache
from panovlm.inference.prefixes import KeysAndValues, Prefix
from panovlm.inference.prompts import Prompt
from panovlm.model.modeling import PanoVLMForConditionalGeneration


@dataclass(eq=False)
class Row:
    """One prompt of a batch.

    Attributes:
        prompt: The question.
        prefix: Its beginning, read before; None without a picture.
        answer: Takes the generated tokens.
        is_cancelled: Set to leave the batch at its next step.
        error: Why its answer ended without a reason of its own; the others go on.
    """

    prompt: Prompt
    prefix: Prefix | None
    answer: Answer
    is_cancelled: bool = False
    error: Exception | None = None

    @property
    def is_running(self) -> bool:
        """Whether tokens are still missing and wanted."""
        is_over = self.answer.finish_reason or self.error
        return not is_over and not self.is_cancelled

    def take(self, scores: Tensor, likeliest: int) -> tuple[int, str]:
        """Choose the next token by its scores [vocabulary]; return it and the new text."""
        try:
            token = likeliest if self.answer.is_plain else self.answer.choose(scores)
            return token, self.answer.add(token)
        except Exception as error:  # whatever it is, it is this answer's alone
            self.error = error
            return 0, ""


def keeps_states(model: PanoVLMForConditionalGeneration) -> bool:
    """Whether the language model's states can be cut back: attention's can, recurrent ones not."""
    layers = DynamicCache(config=model.config.text_config).layers
    return {type(layer) for layer in layers} <= {DynamicLayer, DynamicSlidingWindowLayer}


def generate(model: PanoVLMForConditionalGeneration, rows: Sequence[Row]) -> None:
    """Generate whole answers in one batch; the error of one that failed is raised."""
    for _ in pieces(model, rows):
        pass


def pieces(model: PanoVLMForConditionalGeneration, rows: Sequence[Row]) -> Iterator[str]:
    """Generate answers in one batch, piece by piece; the error of one that failed is raised."""
    batch = Batch(model, rows)
    while taken := batch.step():
        yield from (piece for _, piece in taken if piece)
    for row in rows:
        if row.error:
            raise row.error


class Batch:
    """Answers in the making, each as if alone."""

    def __init__(self, model: PanoVLMForConditionalGeneration, rows: Sequence[Row] = ()) -> None:
        self._model, self._rows = model, list(rows)
        self._cache: SpareCache | None = None
        self._mask: Tensor  # [B, C], and the last tokens [B]: set with the cache
        self._last: Tensor
        self._suppressed = list(model.generation_config.suppress_tokens or [])

    @torch.inference_mode()
    def step(self) -> list[tuple[Row, str]]:
        """Generate a token in each running row; return its new text. Empty at the end."""
        self._drop_ended()
        if not self._rows:
            return []
        scores = self._prefill() if self._cache is None else self._continue()
        scores[:, self._suppressed] = -torch.inf
        likeliest = scores.argmax(-1).tolist()
        rows = zip(self._rows, scores, likeliest, strict=True)
        taken = [(row, *row.take(own, token)) for row, own, token in rows]
        self._last = torch.tensor([token for _, token, _ in taken], device=self._model.device)
        self._drop_ended()
        return [(row, piece) for row, _, piece in taken]

    @torch.inference_mode()
    def join(self, rows: Sequence[Row]) -> list[tuple[Row, str]]:
        """Generate the first token of rows, which join the others; return its text.

        Running rows pause meanwhile. If this fails, they are as they were.
        """
        self._drop_ended()
        is_idle = self._cache is None
        joining = Batch(self._model, [*self._rows, *rows] if is_idle else rows)
        pieces = joining.step()
        parts = [part for part in (self, joining) if part._cache is not None]
        if parts:
            width = max(part._mask.shape[1] for part in parts)
            layers = zip(*(part._padded(width) for part in parts), strict=True)
            sides = [zip(*each, strict=True) for each in layers]
            joined = [(torch.cat(keys), torch.cat(values)) for keys, values in sides]
            masks = [pad(part._mask, (width - part._mask.shape[1], 0)) for part in parts]
            self._cache, self._mask = SpareCache(joined), torch.cat(masks)
            self._last = torch.cat([part._last for part in parts])
        self._rows = [row for part in parts for row in part._rows]
        return pieces

    def _padded(self, width: int) -> KeysAndValues:
        """Return the cache padded to a number of columns."""
        missing = (0, 0, width - self._mask.shape[1], 0)
        return [(pad(keys, missing), pad(values, missing)) for keys, values in self._states()]

    def _states(self) -> KeysAndValues:
        layers = [] if self._cache is None else self._cache.layers
        return [(layer.keys, layer.values) for layer in layers]

    def _drop_ended(self) -> None:
        """Remove rows that ended, and the columns in which no other row has tokens."""
        running = [place for place, row in enumerate(self._rows) if row.is_running]
        if len(running) == len(self._rows):
            return
        self._rows = [self._rows[place] for place in running]
        if self._cache is None or not running:
            self._cache = None
            return
        places = torch.tensor(running, device=self._model.device)
        self._mask, self._last = self._mask[places], self._last[places]
        first = self._mask.shape[1] - int(self._mask.sum(-1).max())
        self._mask = self._mask[:, first:]
        kept = [(k[places, :, first:], v[places, :, first:]) for k, v in self._states()]
        self._cache = SpareCache(kept)

    def _prefill(self) -> Tensor:
        """Read what the prefixes do not hold; return scores of the first tokens [B, vocab]."""
        lengths = [len(row.prompt.ids) for row in self._rows]
        to_read = max(len(row.prompt.ids) - row.prompt.num_prefix for row in self._rows)
        cached = max(lengths) - to_read
        self._cache = self._cached(cached, [length - to_read for length in lengths])
        embeddings = torch.stack([self._embedded(row, to_read) for row in self._rows])
        columns = torch.arange(max(lengths))
        pads = max(lengths) - torch.tensor(lengths)
        self._mask = (columns >= pads[:, None]).long().to(self._model.device)
        return self._forward(inputs_embeds=embeddings)

    def _cached(self, columns: int, lengths: list[int]) -> SpareCache:
        """Align the last `lengths` (where positive) cached tokens of each row to the right."""
        if columns == 0:
            return SpareCache([])
        some = next(row.prefix for row in self._rows if row.prefix)
        layers = []
        for layer, (keys, values) in enumerate(some.own_states):
            joined = [
                like.new_zeros(len(self._rows), like.shape[1], columns, like.shape[3])
                for like in (keys, values)
            ]
            for place, (row, length) in enumerate(zip(self._rows, lengths, strict=True)):
                if row.prefix and length > 0:
                    for side, own in zip(joined, row.prefix.layer_states(layer), strict=True):
                        side[place, :, columns - length :] = own[0, :, :length]
            layers.append((joined[0], joined[1]))
        return SpareCache(layers)

    def _embedded(self, row: Row, to_read: int) -> Tensor:
        """Embed the last tokens of a row [to_read, D_lm], padded on the left where it is short."""
        ids = torch.tensor(row.prompt.ids[row.prompt.num_prefix :], device=self._model.device)
        words: Tensor = self._model.get_input_embeddings()(ids)
        embedded = torch.cat([row.prefix.embeddings, words]) if row.prefix else words
        missing = max(0, to_read - len(embedded))
        padding = embedded.new_zeros(missing, embedded.shape[1])
        return torch.cat([padding, embedded[-to_read:]])

    def _continue(self) -> Tensor:
        """Read the last tokens; return scores of the next [B, vocab]."""
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(self._rows), 1)], dim=1)
        return self._forward(input_ids=self._last[:, None])

    def _forward(self, **inputs: Tensor) -> Tensor:
        length = next(iter(inputs.values())).shape[1]
        positions = (self._mask.cumsum(-1) - 1).clamp(min=0)[:, -length:]
        outputs = self._model(
            **inputs,
            attention_mask=self._mask,
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        scores: Tensor = outputs.logits[:, -1].float()
        return scores
