"""The losses of models with text: of next tokens, and of the words that image tokens stand for.

Shape letters: B sequences, L their length, K supervised positions, D_lm width of the LM, N
panoramas, T image tokens of each.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize
from transformers import PreTrainedModel

CHUNK = 128
"""Positions scored at once; the logits of as many words fit the caches better than all would."""
TEMPERATURE = 0.025
"""Of the cosines between image tokens and words, where nothing else is said."""


def supervised_loss(
    model: PreTrainedModel,
    hidden: Tensor,
    labels: Tensor,
    num_items: Tensor | int | None,
    *,
    returns_logits: bool,
) -> tuple[Tensor | None, Tensor]:
    """Score only the positions whose next token is supervised: no [L, vocabulary] tensor.

    Of a frozen LM head, not even their logits are all held at once where nobody wants them.

    Args:
        model: Has the `lm_head`, and the library's `loss_function`.
        hidden: [B, L, D_lm].
        labels: [B, L], the token itself where it is supervised, else -100.
        num_items: What the sum of the losses is divided by; None for their number.
        returns_logits: Whether the logits are wanted.

    Returns:
        The logits [K, vocabulary], or None where they are not held, and the loss.
    """
    supervised = labels[:, 1:] != -100
    hidden, targets = hidden[:, :-1][supervised], labels[:, 1:][supervised]
    head = model.lm_head
    if not returns_logits and not any(each.requires_grad for each in head.parameters()):
        count = targets.numel() if num_items is None else num_items
        return None, frozen_head_loss(head, hidden, targets) / count
    logits = head(hidden)
    loss = model.loss_function(
        logits=logits,
        labels=None,
        shift_labels=targets,
        vocab_size=model.config.text_config.vocab_size,
        num_items_in_batch=num_items,
    )
    return logits, loss


def frozen_head_loss(head: nn.Module, hidden: Tensor, targets: Tensor) -> Tensor:
    """Compute the summed cross entropy of a frozen LM head, chunk by chunk.

    The gradient of `hidden` is computed with the loss, while a chunk's logits are at hand, as in
    Hsu et al., Liger Kernel, arXiv:2410.10989, section 3.2. Numbers are those of one pass.

    Args:
        head: From hidden states to logits; none of its parameters gets a gradient.
        hidden: [K, D_lm].
        targets: Next tokens [K].

    Returns:
        The sum over the positions, a scalar in float32.
    """
    if not torch.is_grad_enabled():
        parts = zip(hidden.split(CHUNK), targets.split(CHUNK), strict=True)
        sums = [cross_entropy(head(part).float(), ids, reduction="sum") for part, ids in parts]
        return torch.stack(sums).sum()
    total: Tensor = _FrozenHeadLoss.apply(hidden, targets, head)  # type: ignore[no-untyped-call]
    return total


def words_loss(
    image_tokens: Tensor,
    words: Tensor,
    embedding: nn.Module,
    num_items: Tensor | int | None,
    temperature: float = TEMPERATURE,
) -> Tensor:
    """Compute how far image tokens are from the embeddings of their words.

    Each is told from the batch's other words by its cosine, as in InfoNCE (van den Oord et al.,
    arXiv:1807.03748), and brought to its own word's place: the sum of both losses. A frozen
    language model copies words that it reads so.

    Args:
        image_tokens: [N, T, D_lm].
        words: Token ids [N, T]; -100 where an image token stands for none.
        embedding: The language model's, from token ids to [.., D_lm].
        num_items: What the sum of the losses is divided by; None for their number.
        temperature: Of the cosines. A token's cosines with two words come to differ by it times the
            log of their odds, so that a higher one brings tokens of unsure views nearer to words.

    Returns:
        A scalar in float32.
    """
    has_word = words != -100
    vocabulary, places = words[has_word].unique(return_inverse=True)
    with torch.autocast(image_tokens.device.type, enabled=False):  # bf16 is too coarse for cosines
        tokens = normalize(image_tokens[has_word].float(), dim=-1)
        cosines = tokens @ normalize(embedding(vocabulary).float(), dim=-1).T
        own = cosines.gather(1, places[:, None])
        total = cross_entropy(cosines / temperature, places, reduction="sum") + (1 - own).sum()
    count = has_word.sum() if num_items is None else num_items
    return total / torch.as_tensor(count, device=total.device).clamp(min=1)


class _FrozenHeadLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, targets: Tensor, head: nn.Module) -> Tensor:
        total = torch.zeros((), device=hidden.device)
        gradients = []
        for part, wanted in zip(hidden.split(CHUNK), targets.split(CHUNK), strict=True):
            with torch.enable_grad():
                part = part.detach().requires_grad_()
                loss = cross_entropy(head(part).float(), wanted, reduction="sum")
            gradients += torch.autograd.grad(loss, part)
            total += loss.detach()
        ctx.save_for_backward(torch.cat(gradients) if gradients else torch.zeros_like(hidden))
        return total

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * grad_outputs[0].to(gradient.dtype), None, None
