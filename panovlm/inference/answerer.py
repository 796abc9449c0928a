"""Answers many questions quickly: a panorama's tokens are read once for all its questions.

Its image tokens and what stands before them (the head of a prompt) go through the language model
once; every question then continues from the states kept. Language models with sliding windows,
whose kept states forget, read whole prompts instead.

Shape letters: P heads, B questions, L tokens.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer
from transformers.modeling_outputs import BaseModelOutputWithPooling

from panovlm.data.records import Message
from panovlm.model.modeling import PanoVLMForConditionalGeneration
from panovlm.model.processing import PanoVLMProcessor

BATCH_SIZE = 64
MAX_PICTURES = 32
"""Panoramas whose states are kept at once, so that memory stays small."""
MAX_NEW_TOKENS = 32
"""Where an answer is cut off, unless more is asked for."""

MAX_TOKENISED = 65_536
"""Conversations whose tokens are kept."""

_Key = tuple[int, tuple[int, ...]]


@dataclass(frozen=True)
class Prompt:
    """A question about a panorama.

    Attributes:
        latents: Latent tokens [V, T, D_latent], of the resampler.
        messages: The conversation up to the question, the picture's mark in place.
    """

    latents: Tensor
    messages: tuple[Message, ...]


@dataclass(frozen=True)
class _TokenisedPrompt:
    """A prompt's token ids: its head, which other questions share, and the rest."""

    latents: Tensor
    head: tuple[int, ...]
    rest: list[int]

    @property
    def key(self) -> _Key:
        return id(self.latents), self.head


@dataclass(frozen=True)
class _HeadStates:
    """The states of heads that went through the language model, and the index of each."""

    cache: DynamicCache
    places: dict[_Key, int]

    def of(self, prompts: Sequence[_TokenisedPrompt]) -> DynamicCache:
        """Return a cache of its own with the states of each prompt's head."""
        index = torch.tensor([self.places[each.key] for each in prompts])
        return DynamicCache(
            [(layer.keys[index], layer.values[index]) for layer in self.cache.layers]
        )


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
        self.model = model
        self.processor = processor
        self.max_new_tokens = max_new_tokens
        layers = DynamicCache(config=model.config.text_config).layers
        self.keeps_heads = all(type(layer) is DynamicLayer for layer in layers)
        # A question is asked again and again: about every picture, and in every way it is shown.
        self._parts_of = lru_cache(maxsize=MAX_TOKENISED)(self._head_and_rest)

    @torch.inference_mode()
    def __call__(self, prompts: Sequence[Prompt], progress: Callable[[int], None]) -> list[str]:
        """Answer prompts in any order of lengths; answers come back in the order given.

        Args:
            prompts: Those of one panorama should share one `latents` tensor: it is read once.
            progress: Called with the number of answers after each batch.
        """
        tokenised = [
            _TokenisedPrompt(prompt.latents, *self._parts_of(prompt.messages)) for prompt in prompts
        ]
        answers = [""] * len(prompts)
        for group in _groups(tokenised):
            heads = self._read_heads([tokenised[i] for i in group]) if self.keeps_heads else None
            for start in range(0, len(group), BATCH_SIZE):
                batch = group[start : start + BATCH_SIZE]
                texts = self._generate([tokenised[i] for i in batch], heads)
                for place, text in zip(batch, texts, strict=True):
                    answers[place] = text
                progress(len(batch))
        return answers

    def _head_and_rest(self, prompt: tuple[Message, ...]) -> tuple[tuple[int, ...], list[int]]:
        """Tokenise a conversation: its head, which other questions share, and the rest."""
        messages = [{"role": each.role, "content": each.content} for each in prompt]
        ids, _ = self.processor.tokenize(messages, add_generation_prompt=True)
        if not self.keeps_heads:
            return (), ids
        length = len(ids) - ids[::-1].index(self.processor.image_token_id)
        return tuple(ids[:length]), ids[length:]

    def _read_heads(self, prompts: Sequence[_TokenisedPrompt]) -> _HeadStates:
        """Run each distinct head once; all are of one length."""
        distinct = {each.key: each for each in prompts}
        ids = torch.tensor([each.head for each in distinct.values()], device=self.model.device)
        images = {"image": self._image_outputs([*distinct.values()])}
        read = self.model.model(input_ids=ids, mm_encoder_outputs=images, use_cache=True)
        places = {key: place for place, key in enumerate(distinct)}
        return _HeadStates(read.past_key_values, places)

    def _generate(
        self, prompts: Sequence[_TokenisedPrompt], heads: _HeadStates | None
    ) -> list[str]:
        tokenizer, device = self.processor.tokenizer, self.model.device
        rest = {"input_ids": [each.rest for each in prompts]}
        inputs = tokenizer.pad(rest, padding_side="left", return_tensors="pt").to(device)
        # Padding lies between head and question: masked, it takes no place of its own.
        head_ids = torch.tensor([each.head for each in prompts], dtype=torch.long, device=device)
        ids = torch.cat([head_ids, inputs["input_ids"]], dim=1)
        seen = (
            {"past_key_values": heads.of(prompts)}
            if heads
            else {"mm_encoder_outputs": {"image": self._image_outputs(prompts)}}
        )
        output = self.model.generate(
            input_ids=ids,
            attention_mask=torch.cat([torch.ones_like(head_ids), inputs["attention_mask"]], dim=1),
            max_new_tokens=self.max_new_tokens,
            do_sample=False,
            **seen,
        )
        texts: list[str] = tokenizer.batch_decode(
            output[:, ids.shape[1] :], skip_special_tokens=True
        )
        return [text.strip() for text in texts]

    def _image_outputs(self, prompts: Sequence[_TokenisedPrompt]) -> BaseModelOutputWithPooling:
        """Compute the image tokens of each distinct panorama once, and repeat them in place."""
        distinct = {id(each.latents): each.latents for each in prompts}
        places = {key: place for place, key in enumerate(distinct)}
        latents = torch.stack(list(distinct.values())).to(self.model.device)
        tokens = self.model.model.projection(latents)
        index = torch.tensor([places[id(each.latents)] for each in prompts], device=tokens.device)
        return BaseModelOutputWithPooling(pooler_output=tokens[index])


def _groups(prompts: Sequence[_TokenisedPrompt]) -> Iterator[list[int]]:
    """Yield the places of prompts whose heads are of one length and of few pictures, by length."""
    group: list[int] = []
    pictures: set[int] = set()
    for place in sorted(range(len(prompts)), key=lambda i: len(prompts[i].head)):
        picture, length = id(prompts[place].latents), len(prompts[place].head)
        is_full = len(pictures) == MAX_PICTURES and picture not in pictures
        if group and (is_full or length != len(prompts[group[0]].head)):
            yield sorted(group, key=lambda i: (len(prompts[i].rest), i))
            group, pictures = [], set()
        group.append(place)
        pictures.add(picture)
    if group:
        yield sorted(group, key=lambda i: (len(prompts[i].rest), i))
