"""A global view beside the ring: one more view everywhere, with words and places of its own."""

import numpy as np
import pytest
import torch

from panovlm.geometry.cutting import cut_views
from panovlm.geometry.sphere import angles_from_rays
from panovlm.geometry.views import GlobalView
from panovlm.model.projection import position_features
from panovlm.stages import STAGES
from panovlm.training.build import build_config, build_model, build_processor

PER_VIEW = 8
KEEPING = ["concat", "mean", "stitch"]
"""Poolings with which the language model reads all tokens of a global view."""


@pytest.fixture
def section(model_section):
    views = model_section.views.model_copy(update={"global_view": True})
    return model_section.model_copy(update={"views": views})


def with_pooling(section, pooling):
    return section.model_copy(update={"pooling": pooling})


def test_the_processor_cuts_one_more_view(section, panorama):
    processor = build_processor(section)
    pixels = processor(images=panorama, text="<image>", return_tensors="pt")["pixel_values"]
    assert pixels.shape == (1, 5, 3, 32, 32)
    layout = build_config(section).layout
    assert layout == processor.image_processor.layout
    last = cut_views(np.asarray(panorama), layout)[-1].transpose(2, 0, 1) / 255
    mean, std = (np.array(v)[:, None, None] for v in ([0.5, 0.4, 0.3], [0.2, 0.3, 0.4]))
    np.testing.assert_allclose(pixels[0, -1].numpy(), (last - mean) / std, atol=1e-5)


def test_its_tokens_stand_behind_words_of_their_own(section):
    processor = build_processor(section)
    assert processor.expand_image().endswith(f"left:{'<image>' * PER_VIEW}\n" + around())
    merged = build_processor(with_pooling(section, "mean"))
    assert merged.expand_image() == "<image>" * PER_VIEW + "\n" + around()
    processor.view_words = False
    assert processor.expand_image() == "<image>" * PER_VIEW * 5 + "\n"


def around():
    return f"all around:{'<image>' * PER_VIEW}\n"


@pytest.mark.parametrize("pooling", [*KEEPING, "slots"])
def test_its_tokens_are_counted(section, pooling):
    config = build_config(with_pooling(section, pooling))
    all_tokens = {
        "concat": 5 * PER_VIEW,
        "mean": 2 * PER_VIEW,
        "stitch": 4 * PER_VIEW * 3 // 4 + PER_VIEW,
        "slots": 5 * config.slots,
    }
    assert config.num_image_tokens == all_tokens[pooling]


@pytest.mark.parametrize("pooling", KEEPING)
def test_all_its_tokens_follow_those_of_the_ring(section, pooling):
    projection = build_model(with_pooling(section, pooling), STAGES["resampler"]).model.projection
    latents = torch.randn(2, 5, PER_VIEW, 16)
    pooled = projection._pool(latents)
    assert torch.equal(pooled[:, -PER_VIEW:], latents[:, 4])
    assert torch.equal(pooled[:, :-PER_VIEW], projection._pool(latents[:, :4]))


def test_its_tokens_know_where_they_look(section):
    features = position_features(build_config(section).layout, 2, 4, 1)[-1]
    yaw, pitch = angles_from_rays(GlobalView().rays(2, 4).reshape(-1, 3))
    expected = np.stack([np.sin(yaw), np.cos(yaw), np.sin(pitch), np.cos(pitch)], axis=-1)
    np.testing.assert_allclose(features, expected, atol=1e-6)


def test_text_without_a_picture_still_trains(section):
    model = build_model(section, STAGES["resampler"]).train()
    ids = torch.tensor([[5, 6, 7, 8]])
    model(input_ids=ids, labels=ids).loss.backward()
    assert all(p.grad is not None for p in model.model.projection.parameters())
