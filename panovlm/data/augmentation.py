"""Random changes of what a stage trains on: of pixels, and of the classes that things have."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from panovlm.data.questions.nouns import plural, with_article
from panovlm.data.records import Record

LUMA = (0.299, 0.587, 0.114)
"""Shares of red, green and blue in the grey of a pixel (ITU-R BT.601)."""


@dataclass(frozen=True)
class ColourJitter:
    """Changes brightness, contrast and saturation, alike in all views of a panorama.

    Attributes:
        strength: s, in [0, 1): each of the three factors is sampled evenly from [1 - s, 1 + s].
        mean: Of each channel, which normalised views have lost.
        std: Of each channel, which they were divided by.

    Source:
        The colour jitter of torchvision, its changes in a fixed order, without that of the hue.
    """

    strength: float
    mean: Sequence[float]
    std: Sequence[float]

    def __call__(self, views: Tensor, rng: np.random.Generator) -> Tensor:
        """Return normalised views [V, 3, S, S] with other colours, of pixels within [0, 1]."""
        low, high = 1 - self.strength, 1 + self.strength
        brightness, contrast, saturation = rng.uniform(low, high, 3).tolist()
        mean, std, luma = (
            torch.tensor(each)[:, None, None] for each in (self.mean, self.std, LUMA)
        )
        pixels = (views * std + mean) * brightness
        middle = (pixels * luma).sum(dim=1).mean()
        pixels = torch.lerp(middle, pixels, contrast)
        grey = (pixels * luma).sum(dim=1, keepdim=True)
        return (torch.lerp(grey, pixels, saturation).clamp(0, 1) - mean) / std


@dataclass(frozen=True)
class ClassSwap:
    """Exchanges the classes of an encoder, in its tokens and in what is said of them.

    What is learned of one class then holds for all: few pictures show few of them. No answer can be
    guessed without the picture either, as none goes with a class more often than with another.

    Attributes:
        share: Of the examples that are changed, in (0, 1].
        names: Of the classes, in the order of a patch token's features.

    Source:
        Arbitrary labels in place of the usual ones make a model read what it is shown: Wei et al.,
        "Symbol tuning", arXiv:2305.08298.
    """

    share: float
    names: tuple[str, ...]

    def order(self, key: tuple[int, ...]) -> list[int] | None:
        """Sample which class each of them becomes; None where an example stays as it is."""
        rng = np.random.default_rng((*key, 4))
        order: list[int] = rng.permutation(len(self.names)).tolist()
        return order if rng.random() < self.share else None

    def tokens(self, tokens: Tensor, order: Sequence[int]) -> Tensor:
        """Return patch tokens [..., classes] in which class c has become class `order[c]`."""
        return tokens[..., torch.tensor(order).argsort()]

    def record(self, record: Record, order: Sequence[int]) -> Record:
        """Return a record whose conversation speaks of class `order[c]` in place of class c."""
        messages = [
            message.model_copy(update={"content": self.text(message.content, order)})
            for message in record.messages
        ]
        rolled = record.rolled_responses and tuple(
            each and self.text(each, order) for each in record.rolled_responses
        )
        return record.model_copy(update={"messages": tuple(messages), "rolled_responses": rolled})

    def text(self, text: str, order: Sequence[int]) -> str:
        """Replace the names of classes, alone or with an article, in the singular or the plural."""

        def other(match: re.Match[str]) -> str:
            number, is_plural = self._forms[match["name"].lower()]
            name = self.names[order[number]]
            name = plural(name) if is_plural else name
            name = with_article(name) if match["article"] else name
            return name.capitalize() if match[0][0].isupper() else name

        return self._pattern.sub(other, text)

    @cached_property
    def _forms(self) -> dict[str, tuple[int, bool]]:
        """By form, the class and whether it is its plural."""
        plurals = {plural(name): (number, True) for number, name in enumerate(self.names)}
        return plurals | {name: (number, False) for number, name in enumerate(self.names)}

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        longest_first = sorted(self._forms, key=len, reverse=True)
        names = "|".join(map(re.escape, longest_first))
        return re.compile(rf"\b(?P<article>an? )?(?P<name>{names})\b", re.IGNORECASE)
