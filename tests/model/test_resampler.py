"""The resampler: token grids become smaller grids, and columns stay columns."""

import pytest
import torch
from transformers import LlamaConfig, SiglipVisionConfig

from panovlm.model.configuration import PanoVLMConfig
from panovlm.model.resampler import RESAMPLERS, build_resampler, squared_distances
from panovlm.training.overlap.modeling import PanoVLMForOverlapPretraining

SIDE = 8
KINDS = list(RESAMPLERS)


def config_of(kind="conv", rows=4, columns=8, layers=1):
    return PanoVLMConfig(
        vision_config=SiglipVisionConfig(
            image_size=32, patch_size=4, hidden_size=24, num_attention_heads=2, num_hidden_layers=1
        ),
        text_config=LlamaConfig(hidden_size=32),
        view_size=32,
        resampler_type=kind,
        resampler_layers=layers,
        token_rows=rows,
        token_columns=columns,
        latent_size=16,
    )


def resampler(kind="conv", rows=4, columns=8, layers=1):
    torch.manual_seed(0)
    module = build_resampler(config_of(kind, rows, columns, layers))
    if kind == "perceiver":
        torch.nn.init.normal_(module.queries)
    return module


def changed_tokens(module, row, column):
    """Which latent tokens [h·w] change with the patch token at a place."""
    tokens = torch.randn(1, SIDE * SIDE, 24, generator=torch.Generator().manual_seed(1))
    nudged = tokens.clone()
    nudged[0, SIDE * row + column] += torch.linspace(-1.0, 1.0, 24)
    with torch.no_grad():
        change = (module(nudged) - module(tokens)).abs().amax(dim=-1)[0]
    return (change > 1e-6).nonzero().flatten().tolist()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("rows", "columns"), [(8, 8), (4, 8), (2, 4), (1, 1)])
def test_latent_tokens_fill_the_asked_grid(kind, rows, columns):
    latents = resampler(kind, rows, columns)(torch.randn(3, SIDE * SIDE, 24))
    assert latents.shape == (3, rows * columns, 16)


def test_an_mlp_latent_sees_its_own_block_of_patches_alone():
    module = resampler("mlp", rows=4, columns=8)
    for row, column in [(0, 0), (3, 5), (7, 7)]:
        assert changed_tokens(module, row, column) == [8 * (row // 2) + column]


def test_a_pool_latent_is_the_same_wherever_in_its_block_something_stands():
    module = resampler("pool", rows=4, columns=4)
    tokens = torch.zeros(3, SIDE * SIDE, 24)
    thing = torch.rand(24, generator=torch.Generator().manual_seed(1))
    for row, place in enumerate([(2, 4), (3, 5)]):
        tokens[row, SIDE * place[0] + place[1]] = thing
    with torch.no_grad():
        first, second, none = module(tokens)
    assert torch.equal(first, second)
    assert (first != none).any(dim=-1).nonzero().flatten().tolist() == [4 * 1 + 2]


def test_a_pool_latent_tells_how_large_a_feature_is():
    module = resampler("pool", rows=1, columns=1, layers=0)
    tokens = torch.stack([size * torch.ones(SIDE * SIDE, 24) for size in (0.1, 1.0)])
    with torch.no_grad():
        module.narrow_in.bias.uniform_(-1.0, 1.0)
        small, large = module(tokens)
    assert not torch.allclose(small, large, atol=0.1)


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


@torch.no_grad()
def test_a_perceiver_latent_looks_most_at_its_own_place():
    module = resampler("perceiver", rows=4, columns=8)
    tokens = torch.randn(1, SIDE * SIDE, 24, generator=torch.Generator().manual_seed(1))
    latents = module(tokens)
    for row, column in [(0, 0), (3, 5), (7, 7)]:
        nudged = tokens.clone()
        nudged[0, SIDE * row + column] += torch.linspace(-1.0, 1.0, 24)
        change = (module(nudged) - latents).norm(dim=-1)[0]
        assert change.argmax() == 8 * (row // 2) + column


def test_a_perceiver_takes_grids_that_do_not_divide_the_encoders():
    assert resampler("perceiver", 3, 5)(torch.randn(2, SIDE * SIDE, 24)).shape == (2, 15, 16)


def test_distances_are_counted_in_cells_of_the_latent_grid():
    squared = squared_distances((2, 4), (1, 2)).unflatten(1, (2, 4))
    columns = torch.tensor([0.25, -0.25, -0.75, -1.25]).square()  # of the first latent token
    expected = torch.tensor([0.25, -0.25]).square()[:, None] + columns
    torch.testing.assert_close(squared[0], expected)


@pytest.mark.parametrize("kind", KINDS)
def test_checkpointed_activations_give_the_same_gradients(kind):
    torch.manual_seed(0)
    model = PanoVLMForOverlapPretraining(config_of(kind)).train()
    tokens, runs, gradients = torch.randn(2, 8, SIDE * SIDE, 24), [], []
    model.model.resampler.layers[0].register_forward_hook(lambda *_: runs.append(0))
    widen = next(m for n, m in model.model.resampler.named_modules() if n.endswith("widen"))
    widen.register_forward_hook(lambda *_: runs.append(1))
    for _ in range(2):
        runs.clear()
        model.zero_grad()
        model(patch_tokens=tokens).loss.backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
        model.activation_checkpointing_enable()
    assert runs.count(1) == 2 * runs.count(0) == 2  # the inside of the layer ran once more
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(recomputed, plain)


def test_the_first_norm_and_linear_map_are_one_function_with_the_gradients_of_two():
    module = resampler()
    with torch.no_grad():
        module.norm_in.weight.uniform_(0.5, 2.0)
        module.norm_in.bias.uniform_(-1.0, 1.0)
    tokens, seen = torch.randn(2, SIDE * SIDE, 24), torch.randn(2, SIDE * SIDE, 16)
    parts = [*module.norm_in.parameters(), *module.narrow_in.parameters()]
    apart, together = module.narrow_in(module.norm_in(tokens)), module.narrowed(tokens)
    torch.testing.assert_close(together, apart, rtol=1e-5, atol=1e-5)
    expected = torch.autograd.grad((apart * seen).sum(), parts)
    found = torch.autograd.grad((together * seen).sum(), parts)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)


def test_outside_training_the_linear_map_is_a_layer_that_may_hold_its_weights_in_any_form():
    """Whether gradients are on or not: servers warm up with them on."""
    module, tokens = resampler().eval(), torch.randn(2, SIDE * SIDE, 24)
    expected = module(tokens)
    linear = module.narrow_in
    packed = [linear.weight.clone(), linear.bias.clone()]
    linear.forward = lambda given: torch.nn.functional.linear(given, *packed)
    linear.weight = torch.nn.Parameter(torch.empty(0))
    torch.testing.assert_close(module(tokens), expected)
