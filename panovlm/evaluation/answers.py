"""Answers many questions quickly: each panorama is encoded once, questions run in batches."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutputWithPooling

from panovlm.data.records import Turn
from panovlm.model.modeling import PanoVLMForConditionalGeneration
from panovlm.model.processing import PanoVLMProcessor

BATCH_SIZE = 64
MAX_NEW_TOKENS = 32


@dataclass(frozen=True)
class Prompt:
    """A question about a panorama.

    Attributes:
        views: Patch tokens [V, S, D_vision], as the frozen encoder gives them.
        turns: The conversation up to the question, the picture's mark in place.
    """

    views: Tensor
    turns: tuple[Turn, ...]


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

    @torch.inference_mode()
    def __call__(self, prompts: Sequence[Prompt], progress: Callable[[int], None]) -> list[str]:
        """Answer prompts in any order of lengths; answers come back in the order given.

        Args:
            prompts: Those of one panorama should share one `views` tensor: it is encoded once.
            progress: Told how many answers are done after each batch.
        """
        ids = [self._ids(prompt) for prompt in prompts]
        order = sorted(range(len(prompts)), key=lambda i: (len(ids[i]), i))
        answers = [""] * len(prompts)
        for start in range(0, len(order), BATCH_SIZE):
            batch = order[start : start + BATCH_SIZE]
            texts = self._generate([prompts[i] for i in batch], [ids[i] for i in batch])
            for place, text in zip(batch, texts, strict=True):
                answers[place] = text
            progress(len(batch))
        return answers

    def _ids(self, prompt: Prompt) -> list[int]:
        messages = [{"role": turn.role, "content": turn.content} for turn in prompt.turns]
        ids, _ = self.processor.tokenize(messages, add_generation_prompt=True)
        return ids

    def _generate(self, prompts: Sequence[Prompt], ids: Sequence[list[int]]) -> list[str]:
        tokenizer = self.processor.tokenizer
        inputs = tokenizer.pad({"input_ids": list(ids)}, padding_side="left", return_tensors="pt")
        output = self.model.generate(
            input_ids=inputs["input_ids"].to(self.model.device),
            attention_mask=inputs["attention_mask"].to(self.model.device),
            mm_encoder_outputs={"image": self._image_outputs(prompts)},
            max_new_tokens=self.max_new_tokens,
            do_sample=False,
        )
        said = output[:, inputs["input_ids"].shape[1] :]
        texts: list[str] = tokenizer.batch_decode(said, skip_special_tokens=True)
        return [text.strip() for text in texts]

    def _image_outputs(self, prompts: Sequence[Prompt]) -> BaseModelOutputWithPooling:
        """Compute the image tokens of each distinct panorama once, and repeat them in place."""
        distinct = {id(prompt.views): prompt.views for prompt in prompts}
        places = {key: place for place, key in enumerate(distinct)}
        views = torch.stack(list(distinct.values())).to(self.model.device)
        tokens = self.model.get_image_features(patch_tokens=views).pooler_output
        index = torch.tensor([places[id(prompt.views)] for prompt in prompts], device=tokens.device)
        return BaseModelOutputWithPooling(pooler_output=tokens[index])
