"""Answers many questions about latent tokens: each panorama is read once for all its questions.

A head is a panorama's image tokens and what stands before them. Language models with recurrent
layers read whole prompts instead.

Shapes: V views, T latent tokens of a view, B questions, D_* the width of each part.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, groupby

import torch
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutputWithPooling

from panovlm.data.records import Message
from panovlm.inference.answers import Answer, SamplingParams, end_tokens
from panovlm.inference.batches import Row, generate, keeps_states
from panovlm.inference.prefixes import read_pieces
from panovlm.inference.prompts import Prompt
from panovlm.model.modeling import PanoVLMForConditionalGeneration
from panovlm.model.processing import PanoVLMProcessor

BATCH_SIZE = 64
MAX_HEADS = 32
"""Heads that are read together and whose states are kept at once, so that memory stays small."""
MAX_NEW_TOKENS = 32
"""Where an answer is cut off, unless more is asked for."""
MAX_TOKENISED = 65_536
"""Conversations whose tokens are kept."""


@dataclass(frozen=True, eq=False)
class LatentQuestion:
    """A question about a panorama.

    Attributes:
        latents: Latent tokens [V, T, D_latent], of the resampler.
        messages: The conversation up to the question, the picture's mark in place.
    """

    latents: Tensor
    messages: tuple[Message, ...]


@dataclass(frozen=True, eq=False)
class _Asked:
    """A question whose conversation is tokenised."""

    latents: Tensor
    prompt: Prompt


class Answerer:
    """Generates greedy answers in batches; each equals the answer given alone.

    Args:
        model: In eval mode.
        processor: The model's.
        max_new_tokens: Where an answer is cut off.
    """

    def __init__(
        self,
        model: PanoVLMForConditionalGeneration,
        processor: PanoVLMProcessor,
        max_new_tokens: int = MAX_NEW_TOKENS,
    ) -> None:
        self.model, self.processor = model, processor
        self._sampling = SamplingParams(max_tokens=max_new_tokens)
        # A question is asked again and again: about every picture, and in every way it is shown.
        self._prompt = lru_cache(maxsize=MAX_TOKENISED)(self._tokenised)

    def __call__(
        self, questions: Sequence[LatentQuestion], progress: Callable[[int], None]
    ) -> list[str]:
        """Answer questions in any order of lengths; answers come back in the order given.

        Args:
            questions: Those of one panorama should share one `latents` tensor: it is read once.
            progress: Called with the number of answers after each batch.
        """
        asked = [_Asked(each.latents, self._prompt(each.messages)) for each in questions]
        texts: dict[_Asked, str] = {}
        for heads in _heads(asked):
            rows = self._rows(heads) if keeps_states(self.model) else {}
            group = sorted(chain(*heads), key=lambda each: len(each.prompt.ids))
            for start in range(0, len(group), BATCH_SIZE):
                batch = group[start : start + BATCH_SIZE]
                if rows:
                    generate(self.model, [rows[each] for each in batch])
                    texts |= {each: rows[each].answer.text for each in batch}
                else:
                    texts |= zip(batch, self._from_whole_prompts(batch), strict=True)
                progress(len(batch))
        return [texts[each] for each in asked]

    def _tokenised(self, conversation: tuple[Message, ...]) -> Prompt:
        messages = [{"role": each.role, "content": each.content} for each in conversation]
        ids, _ = self.processor.tokenize(messages, add_generation_prompt=True)
        end = len(ids) - ids[::-1].index(self.processor.image_token_id)
        return Prompt(tuple(ids), (end,))

    def _rows(self, heads: Sequence[Sequence[_Asked]]) -> dict[_Asked, Row]:
        """Read heads together; return a row for each question."""
        firsts = [head[0] for head in heads]
        ids = [each.prompt.pieces[0] for each in firsts]
        prefixes = read_pieces(self.model, ids, self._image_tokens(firsts))
        tokenizer, ends = self.processor.tokenizer, end_tokens(self.model)
        return {
            each: Row(each.prompt, prefix, Answer(tokenizer, ends, self._sampling))
            for head, prefix in zip(heads, prefixes, strict=True)
            for each in head
        }

    @torch.inference_mode()
    def _image_tokens(self, asked: Sequence[_Asked]) -> Tensor:
        """Compute the image tokens of each question [B, image tokens, D_lm]."""
        latents = torch.stack([each.latents for each in asked])
        image_tokens: Tensor = self.model.model.projection(latents.to(self.model.device))
        return image_tokens

    def _from_whole_prompts(self, asked: Sequence[_Asked]) -> list[str]:
        """Answer in the library's own loop: states of recurrent layers cannot be cut back."""
        tokenizer = self.processor.tokenizer
        ids = {"input_ids": [[*each.prompt.ids] for each in asked]}
        inputs = tokenizer.pad(ids, padding_side="left", return_tensors="pt").to(self.model.device)
        images = BaseModelOutputWithPooling(pooler_output=self._image_tokens(asked))
        output = self.model.generate(
            **inputs,
            mm_encoder_outputs={"image": images},
            max_new_tokens=self._sampling.max_tokens,
            do_sample=False,
        )
        answers = output[:, inputs["input_ids"].shape[1] :]
        return [text.strip() for text in tokenizer.batch_decode(answers, skip_special_tokens=True)]


def _heads(asked: Sequence[_Asked]) -> Iterator[list[list[_Asked]]]:
    """Yield questions by their heads: a few heads at a time, of one length."""
    by_head: dict[tuple[int, tuple[int, ...]], list[_Asked]] = defaultdict(list)
    for each in asked:
        by_head[id(each.latents), each.prompt.pieces[0]].append(each)
    in_order = sorted(by_head.values(), key=_head_length)
    for _, same in groupby(in_order, key=_head_length):
        heads = [*same]
        for start in range(0, len(heads), MAX_HEADS):
            yield heads[start : start + MAX_HEADS]


def _head_length(head: Sequence[_Asked]) -> int:
    return head[0].prompt.num_prefix
