"""Prefixes, which questions about the same panoramas share and are read once; their store.

A prompt with pictures is read in pieces, each up to the last image token of one picture. Prompts
that begin alike share the pieces they begin with: a further question reads none of them again, and
a further picture is read on from those before it.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Optional

import torch
from torch import Tensor
from transformers import DynamicCache

from panovlm.model.modeling import PanoVLMForConditionalGeneration

KeysAndValues = list[tuple[Tensor, Tensor]]
"""For each layer keys and values, [B, heads, tokens, D_head] each."""
Piece = tuple[str, tuple[int, ...]]
"""Which panorama, and the tokens that end with its image tokens."""
Key = tuple[Piece, ...]
"""All pieces from the beginning of a prompt on, at least one."""


@dataclass(frozen=True)
class Prefix:
    """The beginning of a prompt, up to the end of a picture, as the language model has read it.

    Attributes:
        before: The prefix up to the end of the picture before; None for the first.
        image_tokens: Of its last picture, [1, image tokens, D_lm].
        own_embeddings: Of the tokens since `before`, [tokens, D_lm]: some are read again beside
            longer questions.
        own_states: Their keys and values, with B = 1.
    """

    before: Optional["Prefix"]
    image_tokens: Tensor
    own_embeddings: Tensor
    own_states: KeysAndValues

    @property
    def num_bytes(self) -> int:
        """Memory held beside that of `before`."""
        states = [tensor for layer in self.own_states for tensor in layer]
        return sum(tensor.nbytes for tensor in (self.image_tokens, self.own_embeddings, *states))

    @property
    def embeddings(self) -> Tensor:
        """Of all tokens from the beginning on, [tokens, D_lm]."""
        return torch.cat([prefix.own_embeddings for prefix in self._pieces])

    @property
    def states(self) -> KeysAndValues:
        """The keys and values of all tokens from the beginning on, with B = 1."""
        return [self.layer_states(layer) for layer in range(len(self.own_states))]

    def layer_states(self, layer: int) -> tuple[Tensor, Tensor]:
        """Return a layer's keys and values of all tokens from the beginning on."""
        if self.before is None:
            return self.own_states[layer]
        keys, values = zip(*(prefix.own_states[layer] for prefix in self._pieces), strict=True)
        return torch.cat(keys, dim=2), torch.cat(values, dim=2)

    @property
    def _pieces(self) -> list["Prefix"]:
        return [*(self.before._pieces if self.before else ()), self]


class PrefixStore:
    """Prefixes by their pictures; the least recently used is dropped first. For one thread.

    Args:
        max_count: Most prefixes held; a conversation with several pictures has one for each.
        max_bytes: Most memory held, all together. A prefix above it is used and not kept.
    """

    def __init__(self, max_count: int = 32, max_bytes: int = 1 << 30) -> None:
        self.max_count, self.max_bytes = max_count, max_bytes
        self.num_bytes = 0
        self._held: OrderedDict[Key, Prefix] = OrderedDict()

    def __len__(self) -> int:
        return len(self._held)

    def get(self, key: Key, read: Callable[[Key, Prefix | None], Prefix]) -> Prefix:
        """Return a prefix; `read` reads the last piece of a key, where it is not held."""
        prefix = self._held_or_read(key, read)
        # A prefix counts as used after those that continue it: none is dropped while one that
        # continues it is held, and all memory in use is counted.
        for end in range(len(key), 0, -1):
            self._held.move_to_end(key[:end])
        while len(self) > self.max_count or self.num_bytes > self.max_bytes:
            _, dropped = self._held.popitem(last=False)
            self.num_bytes -= dropped.num_bytes
        return prefix

    def image_tokens(self, panorama: str) -> Tensor | None:
        """Return a panorama's image tokens if any prefix held ends with it, else None."""
        held = (prefix.image_tokens for key, prefix in self._held.items() if key[-1][0] == panorama)
        return next(held, None)

    def _held_or_read(self, key: Key, read: Callable[[Key, Prefix | None], Prefix]) -> Prefix:
        if key not in self._held:
            before = self._held_or_read(key[:-1], read) if len(key) > 1 else None
            prefix = self._held[key] = read(key, before)
            self.num_bytes += prefix.num_bytes
        return self._held[key]


@torch.inference_mode()
def read_views(model: PanoVLMForConditionalGeneration, views: Tensor) -> Tensor:
    """Turn the views of a panorama [1, V, 3, H, W] into image tokens [1, image tokens, D_lm]."""
    features = model.get_image_features(pixel_values=views.to(model.device, model.dtype))
    image_tokens: Tensor = features.pooler_output
    return image_tokens


@torch.inference_mode()
def read_pieces(
    model: PanoVLMForConditionalGeneration,
    ids: Sequence[tuple[int, ...]],
    image_tokens: Tensor,
    before: Prefix | None = None,
) -> list[Prefix]:
    """Read a prompt on up to the end of its next picture, or the beginnings of several prompts.

    Args:
        model: In eval mode.
        ids: Of each of P prompts the tokens since the picture before, up to the last image token
            of this one; equally many.
        image_tokens: Of these pictures, [P, image tokens, D_lm].
        before: The prefix before, of one prompt; None at the beginning.
    """
    input_ids = torch.tensor(ids, device=model.device)
    embeddings = model.get_input_embeddings()(input_ids)
    mask = model.model.get_placeholder_mask(input_ids, embeddings, image_tokens)
    embeddings = embeddings.masked_scatter(
        mask, image_tokens.to(embeddings.device, embeddings.dtype)
    )
    # Without the configuration: layers with a window would forget what they no longer see, and a
    # prefix could not be cut back any more. The library's masks keep the windows all the same.
    cache = DynamicCache(before.states if before else [])
    model.model(inputs_embeds=embeddings, past_key_values=cache, use_cache=True)
    length = input_ids.shape[1]
    # Copies, since a part of a tensor would hold all of it in memory.
    layers = [
        [states[:, :, -length:].clone() for states in (layer.keys, layer.values)]
        for layer in cache.layers
    ]
    return [
        Prefix(
            before,
            image_tokens[place : place + 1],
            embeddings[place],
            [(keys[place : place + 1], values[place : place + 1]) for keys, values in layers],
        )
        for place in range(len(ids))
    ]
