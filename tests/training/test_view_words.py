"""The words of views are those of the listing's lines, each for its own image tokens."""

import pytest
import torch

from panovlm.data.packing import IGNORED
from panovlm.training.build import build_processor
from panovlm.training.view_words import ViewWords

LISTING = "front: a cube\nright: x\nback: in it\nleft: abc"
SLOTS = 3


@pytest.fixture(scope="module")
def slots_processor(model_section):
    """Of four views, each of which becomes three tokens; a byte is a token of text."""
    return build_processor(model_section.model_copy(update={"pooling": "slots", "slots": SLOTS}))


def conversation(processor, answer):
    messages = [
        {"role": "user", "content": "<image>List what is there."},
        {"role": "assistant", "content": answer},
    ]
    return processor.tokenize(messages)[0]


def words_of(processor, *answers):
    rows = [conversation(processor, answer) for answer in answers]
    longest = max(map(len, rows))
    padded = [row + [processor.tokenizer.pad_token_id] * (longest - len(row)) for row in rows]
    return ViewWords(processor)(torch.tensor(padded))


def test_each_view_has_the_first_words_of_its_line_and_the_last_one_again(slots_processor):
    (words,) = words_of(slots_processor, LISTING).tolist()
    decode = slots_processor.tokenizer.decode
    assert [decode([word]) for word in words] == [*"acu", *"xxx", *"ini", *"abc"]


def test_each_panorama_of_a_sequence_has_its_own_words(slots_processor):
    alone = words_of(slots_processor, LISTING, "right: y")
    assert alone.shape == (2, 4 * SLOTS)
    both = [*conversation(slots_processor, LISTING), *conversation(slots_processor, "right: y")]
    assert torch.equal(ViewWords(slots_processor)(torch.tensor([both])), alone)
    assert (alone[1] != IGNORED).tolist() == [False] * 3 + [True] * 3 + [False] * 6


@pytest.mark.parametrize("answer", ["A cube is in front.", "in-front: cube", ""])
def test_views_of_which_no_line_speaks_have_no_words(slots_processor, answer):
    assert (words_of(slots_processor, answer) == IGNORED).all()
