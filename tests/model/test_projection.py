"""The projection: where tokens look, how views are pooled, and the length of image tokens."""

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, SiglipVisionConfig

from panovlm.geometry.layouts import ViewLayout
from panovlm.geometry.sphere import angles_from_rays
from panovlm.model.configuration import PanoVLMConfig
from panovlm.model.projection import Projection, position_features

HARMONICS = 3


def projection(pooling="concat", num_views=8, fov_deg=90.0, rows=2, columns=8, kind="mlp"):
    torch.manual_seed(0)
    config = PanoVLMConfig(
        vision_config=SiglipVisionConfig(image_size=32, patch_size=4, hidden_size=24),
        text_config=LlamaConfig(hidden_size=32),
        num_views=num_views,
        fov_deg=fov_deg,
        view_size=32,
        token_rows=rows,
        token_columns=columns,
        latent_size=16,
        pooling=pooling,
        projection_type=kind,
    )
    return Projection(config)


def test_position_features_are_the_harmonics_of_each_tokens_true_angles():
    layout = ViewLayout.ring(4, 100.0)
    features = position_features(layout, 3, 5, HARMONICS).reshape(4, 3, 5, 2, 2 * HARMONICS)
    angles = np.stack(angles_from_rays(layout.rays(3, 5)), axis=-1)
    for place, harmonic in enumerate((1, 2, 3)):
        np.testing.assert_allclose(features[..., place], np.sin(harmonic * angles), atol=1e-6)
        np.testing.assert_allclose(features[..., 3 + place], np.cos(harmonic * angles), atol=1e-6)


def test_a_rotation_by_one_stride_maps_position_features_to_the_next_views():
    layout = ViewLayout.ring(8, 90.0)
    features = position_features(layout, 3, 5, HARMONICS).reshape(8, 15, 2, 2 * HARMONICS)
    sines, cosines = features.double().chunk(2, dim=-1)
    step = torch.arange(1, HARMONICS + 1) * torch.tensor(np.radians(45.0))
    yaw_sines = sines[:, :, 0] * step.cos() + cosines[:, :, 0] * step.sin()
    yaw_cosines = cosines[:, :, 0] * step.cos() - sines[:, :, 0] * step.sin()
    # The last view becomes the first: the harmonics close on the circle.
    torch.testing.assert_close(yaw_sines, sines[:, :, 0].roll(-1, dims=0), rtol=0, atol=1e-5)
    torch.testing.assert_close(yaw_cosines, cosines[:, :, 0].roll(-1, dims=0), rtol=0, atol=1e-5)
    torch.testing.assert_close(features[:, :, 1], features[:, :, 1].roll(1, dims=0))


def test_two_tokens_that_look_the_same_way_have_the_same_position():
    # At 8 views of 90° with an odd grid, the centre of view 1 is the right edge of view 0 at 45°;
    # two rings of the same stride and start share the rays of their common views.
    narrow = position_features(ViewLayout.ring(4, 90.0), 3, 5, HARMONICS)
    wide = position_features(ViewLayout.ring(8, 90.0), 3, 5, HARMONICS)
    torch.testing.assert_close(narrow, wide[::2])


def test_position_features_made_while_inferring_serve_training():
    position_features.cache_clear()
    module, latents = projection(), torch.randn(1, 8, 16, 16)
    with torch.inference_mode():
        module(latents)
    module(latents).sum().backward()
    assert module.position.weight.grad is not None


def test_equal_latents_of_different_directions_become_different_image_tokens():
    tokens = projection()(torch.ones(1, 8, 16, 16))[0]
    distances = torch.cdist(tokens, tokens) + torch.eye(len(tokens))
    assert distances.min() > 1e-4


@pytest.mark.parametrize(
    ("pooling", "tokens"), [("concat", 128), ("mean", 16), ("stitch", 64), ("slots", 32)]
)
def test_pooling_sets_the_number_of_image_tokens(pooling, tokens):
    module = projection(pooling)
    assert module(torch.randn(2, 8, 16, 16)).shape == (2, tokens, 32)
    assert module.config.num_image_tokens == tokens


def test_mean_pooling_averages_the_views():
    latents = torch.randn(2, 8, 16, 16)
    module = projection("mean")
    torch.testing.assert_close(module._pool(latents), latents.mean(dim=1))


def test_a_slot_reads_its_whole_view_and_no_other():
    module, latents = projection("slots"), torch.randn(1, 8, 16, 16)
    tokens = module(latents).unflatten(1, (8, 4))
    for token in (0, 15):
        changed = latents.clone()
        changed[0, 3, token] += 1.0
        differs = (module(changed).unflatten(1, (8, 4)) != tokens).any(-1)[0]
        assert differs[3].all()
        assert not differs[[0, 1, 2, 4, 5, 6, 7]].any()


def test_concat_pooling_keeps_views_in_order():
    latents = torch.randn(2, 8, 16, 16)
    assert torch.equal(projection("concat")._pool(latents), latents.flatten(1, 2))


@pytest.mark.parametrize(("num_views", "fov_deg"), [(8, 90.0), (4, 120.0), (6, 80.0), (8, 75.0)])
def test_stitched_columns_go_once_around_without_a_gap(num_views, fov_deg):
    module = projection("stitch", num_views, fov_deg, rows=2)
    layout = module.config.layout
    yaws_rad, _ = angles_from_rays(layout.rays(2, 8))
    latents = torch.from_numpy(yaws_rad).reshape(1, num_views, 16, 1)
    kept = module._pool(latents).reshape(num_views, 2, module.config.kept_columns)
    for row in (0, 1):
        around_deg = np.degrees(kept[:, row].flatten().numpy())
        steps_deg = (np.diff(around_deg, append=around_deg[0]) + 180.0) % 360.0 - 180.0
        assert (steps_deg > 0).all()  # always further to the right
        assert steps_deg.sum() == pytest.approx(360.0)  # once around
        assert steps_deg.max() < 2 * fov_deg / 8  # and nothing is left out


def test_stitching_drops_the_columns_shared_with_the_left_neighbour():
    columns = torch.arange(8.0).repeat(2).reshape(1, 1, 16, 1).expand(1, 8, 16, 1)
    kept = projection("stitch")._pool(columns).reshape(8, 2, 4)
    assert torch.equal(kept, torch.tensor([4.0, 5.0, 6.0, 7.0]).expand(8, 2, 4))


def test_image_tokens_have_the_length_of_the_language_models_embeddings():
    module = projection()
    embedding = 0.02 * torch.randn(300, 32)
    module.match_scale(embedding)
    lengths = module(torch.randn(2, 8, 16, 16)).pow(2).mean(dim=-1).sqrt()
    torch.testing.assert_close(lengths, embedding.pow(2).mean().sqrt().expand_as(lengths))


@pytest.mark.parametrize("pooling", ["concat", "mean", "stitch", "slots"])
def test_the_linear_projection_is_one_linear_map_of_placed_tokens(pooling):
    """It adds up: f(a + b) + f(0) = f(a) + f(b), and its form is that of the other one."""
    linear, mlp = projection(pooling, kind="linear"), projection(pooling)
    torch.nn.init.normal_(linear.position.weight)
    a, b = torch.randn(2, 3, 8, 16, 16)
    zero = linear(torch.zeros_like(a))
    torch.testing.assert_close(linear(a + b) + zero, linear(a) + linear(b), rtol=1e-4, atol=1e-4)
    assert linear(a).shape == mlp(a).shape
    layers = [each for each in linear.modules() if isinstance(each, torch.nn.Linear)]
    assert layers == [linear.position, linear.project]
    assert not torch.allclose(zero[:, 0], zero[:, -1])  # each token has its direction


def test_tables_of_positions_are_buffers_that_no_checkpoint_holds():
    built = projection()
    assert "positions" in dict(built.named_buffers())
    assert "positions" not in built.state_dict()
