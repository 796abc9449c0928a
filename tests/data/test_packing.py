"""Packed conversations are computed exactly as if each stood alone."""

import pytest
import torch

from panovlm.data.packing import (
    IGNORED,
    LENGTH_MULTIPLE,
    TokenSequence,
    attention_mask,
    collate,
    pack,
)

PREFIX = [11, 12, 13, 14, 15, 16]


def conversation(question, response):
    """Ids of prefix, question and response; the response is supervised."""
    ids = PREFIX + question + response
    return TokenSequence(ids, [IGNORED] * (len(PREFIX) + len(question)) + response)


CASES = {
    "two": [conversation([20, 21], [30]), conversation([22], [31, 32])],
    "five of different lengths": [
        conversation([20 + i] * (i + 1), [40 + i] * (5 - i)) for i in range(5)
    ],
    "three that begin with the same question": [
        conversation([20, 21, 22], [30]),
        conversation([20, 21, 23], [30, 31]),
        conversation([20, 24], [32]),
    ],
    "one alone": [conversation([20, 21], [30, 31])],
    "nothing in common": [
        TokenSequence([50, 51, 52], [IGNORED, 51, 52]),
        TokenSequence([60, 61, 62, 63], [IGNORED, IGNORED, 62, 63]),
    ],
    "one token in common": [
        TokenSequence([50, 51, 52], [IGNORED, 51, 52]),
        TokenSequence([50, 61, 62], [IGNORED, 61, 62]),
    ],
}


def scored(model, sequences):
    """Logits of supervised tokens, and the loss, of packed sequences."""
    output = model(**collate(sequences, pad_id=0))
    return output.logits, output.loss


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_supervised_tokens_are_scored_as_if_apart(generator, name):
    conversations = CASES[name]
    packed, loss = scored(generator, [pack(conversations)])
    apart = [scored(generator, [pack([each])])[0] for each in conversations]
    torch.testing.assert_close(packed, torch.cat(apart), rtol=0, atol=1e-5)
    targets = torch.tensor([t for c in conversations for t in c.labels[1:] if t != IGNORED])
    expected = torch.nn.functional.cross_entropy(torch.cat(apart), targets)
    torch.testing.assert_close(loss, expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_padded_batch_is_scored_as_its_rows(generator):
    rows = [pack(conversations) for conversations in CASES.values()]
    together, _ = scored(generator, rows)
    apart = torch.cat([scored(generator, [row])[0] for row in rows])
    torch.testing.assert_close(together, apart, rtol=0, atol=1e-5)


def test_packed_gradients_are_those_of_separate_conversations(generator):
    conversations = CASES["five of different lengths"]
    gradients = []
    for sequences in ([pack(conversations)], [pack([each]) for each in conversations]):
        generator.zero_grad()
        scored(generator, sequences)[1].backward()
        gradients.append(generator.get_input_embeddings().weight.grad.clone())
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-6)


@torch.no_grad()
def test_tokens_that_conversations_share_are_supervised_once(generator):
    """With all text supervised, the shared beginning counts once and not for each branch."""
    plain = CASES["three that begin with the same question"]
    conversations = [TokenSequence(each.ids, list(each.ids)) for each in plain]
    packed, _ = scored(generator, [pack(conversations)])
    apart = [scored(generator, [pack([each])])[0] for each in conversations]
    shared = len(PREFIX) + 1 - 1  # the question's first token; the first of all has no predecessor
    expected = torch.cat([apart[0], *(logits[shared:] for logits in apart[1:])])
    torch.testing.assert_close(packed, expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_identical_conversations_count_once(generator):
    twin = conversation([20, 21], [30, 31])
    packed, loss = scored(generator, [pack([twin, twin])])
    alone, alone_loss = scored(generator, [pack([twin])])
    torch.testing.assert_close(packed, alone, rtol=0, atol=1e-5)
    torch.testing.assert_close(loss, alone_loss)


@torch.no_grad()
def test_a_conversation_may_go_on_where_another_ends(generator):
    short = conversation([20], [30])
    longer = TokenSequence([*short.ids, 40, 41], [*short.labels, IGNORED, 41])
    packed, _ = scored(generator, [pack([short, longer])])
    apart = scored(generator, [pack([longer])])[0]
    torch.testing.assert_close(packed, apart, rtol=0, atol=1e-5)


def test_the_shared_beginning_is_stored_once():
    packed = pack(CASES["two"])
    assert packed.ids == [*PREFIX[:-1], 16, 20, 21, 30, 16, 22, 31, 32]
    assert packed.positions == [0, 1, 2, 3, 4, 5, 6, 7, 8, 5, 6, 7, 8]
    assert packed.branches == [0] * 5 + [1] * 4 + [2] * 4
    assert [label for label in packed.labels if label != IGNORED] == [30, 31, 32]


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@torch.no_grad()
def test_padding_rows_are_numbers(generator, attention):
    generator.set_attn_implementation(attention)
    rows = [pack(CASES["two"]), pack(CASES["five of different lengths"])]
    batch = collate(rows, pad_id=0)
    del batch["labels"]
    assert (batch["input_ids"][0] == 0).any()
    assert generator(**batch).logits.isfinite().all()


@torch.no_grad()
def test_single_conversations_need_no_mask(generator):
    rows = [pack([conversation([20], [30])]), pack([conversation([20, 21], [30])])]
    batch = collate(rows, pad_id=0)
    assert set(batch) == {"input_ids", "labels"}
    assert batch["labels"][0, :9].tolist() == [IGNORED] * 7 + [30, IGNORED]
    lengths = torch.tensor([8, 9])
    masked = {**batch, "attention_mask": (torch.arange(LENGTH_MULTIPLE) < lengths[:, None]).long()}
    torch.testing.assert_close(generator(**batch).loss, generator(**masked).loss)


@pytest.mark.parametrize(("longest", "width"), [(5, 32), (32, 32), (33, 64)])
def test_batches_have_few_lengths_whose_memory_is_used_again(longest, width):
    batch = collate([pack([TokenSequence([7] * longest, [7] * longest)])], pad_id=0)
    assert batch["input_ids"].shape == batch["labels"].shape == (1, width)
    assert (batch["input_ids"][0, longest:] == 0).all()
    assert (batch["labels"][0, longest:] == IGNORED).all()


def test_a_token_sees_the_prefix_and_its_own_branch():
    branches = torch.tensor([[0, 1, 1, 2, -1, -1]])
    mask = attention_mask(branches, branches.clamp(max=0))[0, 0]
    assert mask.int().tolist() == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 0, 0, 1, 0, 0],
        [0, 0, 0, 0, 1, 0],
        [0, 0, 0, 0, 1, 1],
    ]
