"""The resampler: token grids become smaller grids, and columns stay columns."""

import pytest
import torch
from transformers import LlamaConfig, SiglipVisionConfig

from panovlm.model.configuration import PanoVLMConfig
from panovlm.model.resampler import Resampler

SIDE = 8


def resampler(kind="conv", rows=4, columns=8, layers=1):
    torch.manual_seed(0)
    config = PanoVLMConfig(
        vision_config=SiglipVisionConfig(image_size=32, patch_size=4, hidden_size=24),
        text_config=LlamaConfig(hidden_size=32),
        view_size=32,
        resampler_type=kind,
        resampler_layers=layers,
        token_rows=rows,
        token_columns=columns,
        latent_size=16,
    )
    return Resampler(config)


def changed_tokens(module, row, column):
    """Which latent tokens [h·w] change with the patch token at a place."""
    tokens = torch.randn(1, SIDE * SIDE, 24, generator=torch.Generator().manual_seed(1))
    nudged = tokens.clone()
    nudged[0, SIDE * row + column] += torch.linspace(-1.0, 1.0, 24)
    with torch.no_grad():
        change = (module(nudged) - module(tokens)).abs().amax(dim=-1)[0]
    return (change > 1e-6).nonzero().flatten().tolist()


@pytest.mark.parametrize("kind", ["conv", "mlp"])
@pytest.mark.parametrize(("rows", "columns"), [(8, 8), (4, 8), (2, 4), (1, 1)])
def test_latent_tokens_fill_the_asked_grid(kind, rows, columns):
    latents = resampler(kind, rows, columns)(torch.randn(3, SIDE * SIDE, 24))
    assert latents.shape == (3, rows * columns, 16)


def test_an_mlp_latent_sees_its_own_block_of_patches_alone():
    module = resampler("mlp", rows=4, columns=8)
    for row, column in [(0, 0), (3, 5), (7, 7)]:
        assert changed_tokens(module, row, column) == [8 * (row // 2) + column]


def test_a_conv_latent_sees_its_block_and_one_patch_around_it_for_each_layer():
    module = resampler("conv", rows=8, columns=8)
    around = {8 * row + column for row in (2, 3, 4) for column in (4, 5, 6)}
    assert set(changed_tokens(module, 3, 5)) == around


def test_views_are_resampled_apart():
    module = resampler()
    tokens = torch.randn(3, SIDE * SIDE, 24)
    with torch.no_grad():
        together, alone = module(tokens), module(tokens[1:2])
    torch.testing.assert_close(together[1:2], alone)


def test_the_first_norm_and_linear_map_are_one_function_with_the_gradients_of_two():
    module = resampler()
    with torch.no_grad():
        module.norm_in.weight.uniform_(0.5, 2.0)
        module.norm_in.bias.uniform_(-1.0, 1.0)
    tokens, seen = torch.randn(2, SIDE * SIDE, 24), torch.randn(2, SIDE * SIDE, 16)
    parts = [*module.norm_in.parameters(), *module.narrow_in.parameters()]
    apart, together = module.narrow_in(module.norm_in(tokens)), module._narrowed(tokens)
    torch.testing.assert_close(together, apart, rtol=1e-5, atol=1e-5)
    expected = torch.autograd.grad((apart * seen).sum(), parts)
    found = torch.autograd.grad((together * seen).sum(), parts)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)
