"""The words that a listing has for each view, which image tokens learn to stand for.

A listing, as `panovlm questions` and `panovlm scenes` write them, has a line for each direction:
`front: red cube 3 m`. The first slot of the view to the front then stands for "red", the next one
for "cube".
"""

import re
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from panovlm.data.packing import IGNORED
from panovlm.model.processing import PanoVLMProcessor, view_words


@dataclass(frozen=True)
class ViewWords:
    """Finds the words of views in tokenised conversations.

    Attributes:
        processor: Of the model, whose image tokens belong to one view each.
    """

    processor: PanoVLMProcessor

    def __call__(self, input_ids: Tensor) -> Tensor:
        """Return the word of each image token.

        Args:
            input_ids: [B, L], with N panoramas.

        Returns:
            [N, image tokens of a panorama] token ids, -100 where no line speaks of the view.
        """
        rows = [words for row in input_ids.tolist() for words in self._of_sequence(row)]
        return torch.tensor(rows, dtype=torch.long).reshape(len(rows), self._num_image_tokens)

    def _of_sequence(self, ids: list[int]) -> list[list[int]]:
        """Return the words of each of a sequence's panoramas, from the text that follows it."""
        image = self.processor.image_token_id
        places = [place for place, token in enumerate(ids) if token == image]
        ends = [*places[self._num_image_tokens - 1 :: self._num_image_tokens]]
        starts = [*places[self._num_image_tokens :: self._num_image_tokens], len(ids)]
        return [
            self.of_text(self.processor.tokenizer.decode(ids[end + 1 : start]))
            for end, start in zip(ends, starts, strict=True)
        ]

    def of_text(self, text: str) -> list[int]:
        """Return the word of each image token of a panorama whose listing is in a text."""
        tokens = self.processor.image_tokens_per_view
        words: list[int] = []
        for name in view_words(self.processor.layout):
            line = re.search(rf"(?<![\w-]){name}:([^\n<]*)", text)
            words += self._first_words(line[1] if line else "", tokens)
        return words

    def _first_words(self, text: str, count: int) -> list[int]:
        """Return the first tokens of a line that are more than spaces, the last one repeated."""
        decode = self.processor.tokenizer.decode
        ids = self.processor.tokenizer(text, add_special_tokens=False)["input_ids"]
        said = [token for token in ids if decode([token]).strip()][:count] or [IGNORED]
        return said + said[-1:] * (count - len(said))

    @cached_property
    def _num_image_tokens(self) -> int:
        return self.processor.expand_image().count(self.processor.image_token)
