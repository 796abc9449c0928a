"""Colour jitter changes all views alike, within what pixels can be; classes are swapped in all."""

import numpy as np
import pytest
import torch

from panovlm.data.augmentation import ClassSwap, ColourJitter
from panovlm.data.records import Record

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


def normalised(pixels):
    return (pixels - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


def pixels_of(views):
    return views * torch.tensor(STD)[:, None, None] + torch.tensor(MEAN)[:, None, None]


@pytest.fixture
def views():
    return normalised(torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0)))


def jitter(views, strength=0.3, seed=0):
    return ColourJitter(strength, MEAN, STD)(views, np.random.default_rng(seed))


def test_the_change_is_of_the_random_state_alone_and_within_what_pixels_can_be(views):
    changed = jitter(views)
    assert torch.equal(jitter(views), changed)
    assert not torch.allclose(jitter(views, seed=1), changed, atol=1e-2)
    pixels = pixels_of(jitter(views, strength=0.9))
    assert pixels.min() > -1e-6
    assert pixels.max() < 1 + 1e-6


def test_no_strength_changes_nothing(views):
    torch.testing.assert_close(jitter(views, strength=0.0), views)


def test_one_pixel_changes_alike_in_every_view_and_place(views):
    views[2, :, 5, 1] = views[0, :, 0, 0]
    changed = jitter(views)
    torch.testing.assert_close(changed[2, :, 5, 1], changed[0, :, 0, 0])


def test_a_grey_picture_stays_grey_and_brightness_and_contrast_stay_near(views):
    grey = normalised(torch.full((2, 3, 4, 4), 0.5))
    found = pixels_of(jitter(grey, strength=0.2))
    assert (found - found[:, :1]).abs().max() < 1e-5
    assert found.min() >= 0.4 - 1e-6
    assert found.max() <= 0.6 + 1e-6


CLASSES = ("person", "car", "potted plant", "umbrella")


def test_names_are_swapped_in_the_form_they_stand_in():
    swap = ClassSwap(0.5, CLASSES)
    text = "A person and a potted plant; two cars, an umbrella.\nfront: car, person\nleft: nothing"
    assert swap.text(text, [3, 2, 1, 0]) == (
        "An umbrella and a car; two potted plants, a person.\n"
        "front: potted plant, umbrella\nleft: nothing"
    )
    assert swap.text("How many people? Cars carry them.", [1, 0, 2, 3]) == (
        "How many cars? People carry them."
    )


def test_parts_of_other_words_are_no_names():
    assert ClassSwap(0.5, CLASSES).text("a carpet, personal", [1, 0, 2, 3]) == "a carpet, personal"


def test_tokens_and_text_are_swapped_alike():
    swap, order = ClassSwap(1.0, CLASSES), [2, 0, 3, 1]
    tokens = torch.eye(4)  # the token of each class says that it is there
    for number, name in enumerate(CLASSES):
        named = swap.text(name, order)
        assert swap.tokens(tokens[number], order).argmax() == CLASSES.index(named)


def test_records_are_swapped_in_all_that_is_said():
    record = Record.model_validate(
        {
            "image": "a.jpg",
            "messages": [
                {"role": "user", "content": "Where is the car?"},
                {"role": "assistant", "content": "beside a person"},
            ],
            "rolled_responses": ["beside a person", None],
        }
    )
    swapped = ClassSwap(1.0, CLASSES).record(record, [3, 2, 1, 0])
    said = [message.content for message in swapped.messages]
    assert said == ["Where is the potted plant?", "beside an umbrella"]
    assert swapped.rolled_responses == ("beside an umbrella", None)
    assert swapped.image == record.image


def test_the_asked_share_of_examples_is_swapped_each_in_its_own_way():
    orders = [ClassSwap(0.75, CLASSES).order((0, 0, index)) for index in range(400)]
    swapped = [order for order in orders if order is not None]
    assert len(swapped) / len(orders) == pytest.approx(0.75, abs=0.06)
    assert len({tuple(order) for order in swapped}) == 24
    assert ClassSwap(0.75, CLASSES).order((0, 0, 7)) == orders[7]
