"""What all questions about one panorama share, computed once: its prefix, and a store of them."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import DynamicCache

from panovlm.model.modeling import PanoVLMForConditionalGeneration

KeysAndValues = list[tuple[Tensor, Tensor]]
"""For each layer keys and values, [B, heads, tokens, D_head] each."""
Key = tuple[str, tuple[int, ...]]
"""Which panorama, and the tokens up to the end of its image tokens."""


@dataclass(frozen=True)
class Prefix:
    """The beginning of a prompt as the language model has read it.

    Attributes:
        embeddings: What it read, [tokens, D_lm]: some of it is read again beside longer questions.
        states: The keys and values it made of it, with B = 1.
    """

    embeddings: Tensor
    states: KeysAndValues

    @property
    def num_bytes(self) -> int:
        """Memory held."""
        tensors = [self.embeddings, *(tensor for layer in self.states for tensor in layer)]
        return sum(tensor.nbytes for tensor in tensors)


class PrefixStore:
    """Prefixes by panorama; the one unused longest leaves first. For one thread.

    Args:
        max_count: Most prefixes held.
        max_bytes: Most memory held, all together. A prefix above it is used and not kept.
    """

    def __init__(self, max_count: int = 32, max_bytes: int = 1 << 30) -> None:
        self.max_count, self.max_bytes = max_count, max_bytes
        self.num_bytes = 0
        self._held: OrderedDict[Key, Prefix] = OrderedDict()

    def __len__(self) -> int:
        return len(self._held)

    def get(self, key: Key, compute: Callable[[], Prefix]) -> Prefix:
        """Give a prefix, computed if it is not held."""
        if key in self._held:
            self._held.move_to_end(key)
            return self._held[key]
        prefix = self._held[key] = compute()
        self.num_bytes += prefix.num_bytes
        while len(self) > self.max_count or self.num_bytes > self.max_bytes:
            _, gone = self._held.popitem(last=False)
            self.num_bytes -= gone.num_bytes
        return prefix


@torch.inference_mode()
def read_prefix(
    model: PanoVLMForConditionalGeneration, ids: tuple[int, ...], pixel_values: Tensor
) -> Prefix:
    """Let the model read the beginning of a prompt.

    Args:
        model: In eval mode.
        ids: Tokens up to the last image token.
        pixel_values: Views of the panorama [1, V, 3, H, W].
    """
    input_ids = torch.tensor([ids], device=model.device)
    # Without the configuration: layers with a window would forget what they no longer see, and a
    # prefix could not be cut back any more. The library's masks keep the windows all the same.
    cache = DynamicCache()
    outputs = model.model(
        input_ids=input_ids,
        pixel_values=pixel_values.to(model.device, model.dtype),
        past_key_values=cache,
        use_cache=True,
    )
    embeddings = model.get_input_embeddings()(input_ids)
    mask = model.model.get_placeholder_mask(input_ids, embeddings, outputs.image_hidden_states)
    embeddings = embeddings.masked_scatter(mask, outputs.image_hidden_states.to(embeddings.dtype))
    return Prefix(embeddings[0], [(layer.keys, layer.values) for layer in cache.layers])
