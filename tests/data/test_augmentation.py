"""Colour jitter: other colours, the same change in all views, within what pixels can be."""

import numpy as np
import pytest
import torch

from panovlm.data.augmentation import ColourJitter

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
