"""Several conversations in one sequence, with the results of separate ones.

Conversations about the same panorama share a long prefix: the image tokens. It is stored once, and
each conversation continues it as a branch that attends to the prefix and itself, at the positions
it would have alone. Under causal attention every token then has the very same hidden state.
Sequences about different panoramas can follow one another, too: each attends to itself alone.

Shape letters: B sequences of a batch, L tokens of the longest, padded to a multiple of 32.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor

IGNORED = -100
"""Label of a token that is not supervised (the convention of PyTorch's cross entropy)."""
LENGTH_MULTIPLE = 32
"""Batches of few different lengths reuse each other's memory. With each batch of a length of its
own the C library's heap grew without end: 2.3 GB after 60 steps of the demo, 1.0 GB with this."""


@dataclass(frozen=True)
class TokenSequence:
    """One tokenised conversation.

    Attributes:
        ids: Token ids with all image tokens in place.
        labels: The same ids where the token is supervised, else `IGNORED`.
    """

    ids: list[int]
    labels: list[int]


@dataclass(frozen=True)
class PackedSequence:
    """Conversations that share a prefix, one after the other.

    Attributes:
        ids: The prefix, then every branch.
        labels: Supervised ids, in the places of `ids`.
        positions: Place of each token in its own conversation.
        branches: 0 for the prefix, b for the tokens of branch b >= 1.
        examples: Number of the example that each token is of, where several follow one another.
    """

    ids: list[int]
    labels: list[int]
    positions: list[int]
    branches: list[int]
    examples: list[int] = field(default_factory=list)


def pack(conversations: Sequence[TokenSequence]) -> PackedSequence:
    """Pack conversations that begin alike into one sequence.

    The last shared token is repeated at the head of every branch, so that the first token of a
    branch is predicted from it and not from the end of the branch before.
    """
    if len(conversations) == 1:
        ids, labels = conversations[0].ids, conversations[0].labels
        return PackedSequence(ids, labels, list(range(len(ids))), [0] * len(ids))
    places = zip(*(conversation.ids for conversation in conversations), strict=False)
    shared = sum(1 for _ in takewhile(lambda ids: len(set(ids)) == 1, places))
    start = max(shared, 1) - 1
    first = conversations[0]
    ids, labels = first.ids[:start], first.labels[:start]
    positions, branches = list(range(start)), [0] * start
    for branch, conversation in enumerate(conversations, start=1):
        length = len(conversation.ids) - start
        ids = ids + conversation.ids[start:]
        # The repeated token is supervised once, where its predecessor is the prefix itself.
        head = conversation.labels[start] if branch == 1 else IGNORED
        labels = [*labels, head, *conversation.labels[start + 1 :]]
        positions += range(start, start + length)
        branches += [branch] * length
    return PackedSequence(ids, labels, positions, branches)


def join(sequences: Sequence[PackedSequence]) -> PackedSequence:
    """Put the sequences of different examples one after the other.

    The first token of each is not supervised: it would be predicted from another example.
    """
    if len(sequences) == 1:
        return sequences[0]
    numbered = [*enumerate(sequences)]
    return PackedSequence(
        ids=[token for each in sequences for token in each.ids],
        labels=[label for each in sequences for label in (IGNORED, *each.labels[1:])],
        positions=[place for each in sequences for place in each.positions],
        branches=[branch for each in sequences for branch in each.branches],
        examples=[number for number, each in numbered for _ in each.ids],
    )


def collate(sequences: Sequence[PackedSequence], pad_id: int) -> dict[str, Any]:
    """Pad packed sequences on the right and build what the language model needs.

    Args:
        sequences: B packed sequences.
        pad_id: Token id to fill with.

    Returns:
        `input_ids` and `labels`, each [B, L]. If a sequence has branches or several examples, also
        `position_ids`, [B, L], and `attention_mask`, [B, 1, L, L] of bool, True where row attends
        to column. Otherwise causal attention needs neither: padding follows every token. If a
        sequence has several examples, also `packed_examples`: of each sequence the tokens of every
        example, and whether it has branches.
    """
    batch: dict[str, Any] = {
        "input_ids": _pad([s.ids for s in sequences], pad_id),
        "labels": _pad([s.labels for s in sequences], IGNORED),
    }
    branches = _pad([s.branches for s in sequences], -1)
    examples = _pad([s.examples or [0] * len(s.ids) for s in sequences], -1)
    if branches.max() > 0 or examples.max() > 0:
        batch["position_ids"] = _pad([s.positions for s in sequences], 0)
        batch["attention_mask"] = attention_mask(branches, examples)
    if examples.max() > 0:
        batch["packed_examples"] = [packed_examples(s) for s in sequences]
    return batch


def packed_examples(sequence: PackedSequence) -> list[tuple[int, bool]]:
    """Return the tokens of each example of a sequence, and whether it has branches."""
    examples = sequence.examples or [0] * len(sequence.ids)
    places = zip(examples, sequence.branches, strict=True)
    branched = {example for example, branch in places if branch > 0}
    return [(tokens, example in branched) for example, tokens in Counter(examples).items()]


def attention_mask(branches: Tensor, examples: Tensor) -> Tensor:
    """Return the mask with which each token attends to the prefix and its own branch, up to itself.

    Args:
        branches: [B, L], 0 prefix, b >= 1 branches, -1 padding.
        examples: [B, L], the example that each token is of, -1 padding.

    Returns:
        [B, 1, L, L] bool. Padding attends to padding, so that no row of the softmax is empty.
    """
    row, column = branches[:, :, None], branches[:, None, :]
    is_own = examples[:, :, None] == examples[:, None, :]
    is_past = torch.ones(branches.shape[1], branches.shape[1], dtype=torch.bool).tril()
    return (((column == 0) | (row == column)) & is_own & is_past)[:, None]


def padded_length(longest: int) -> int:
    """Return how many tokens a batch is long, by those of its longest sequence."""
    return -(-longest // LENGTH_MULTIPLE) * LENGTH_MULTIPLE


def _pad(rows: Sequence[Sequence[int]], value: int) -> Tensor:
    width = padded_length(max(map(len, rows)))
    return torch.tensor([[*row, *[value] * (width - len(row))] for row in rows])
