"""The model of stage 1: it learns, and its trunk is the answering model's."""

import pytest
import torch

from panovlm.errors import PanoVLMError
from panovlm.model.vision import patch_tokens_of
from panovlm.stages import STAGES
from panovlm.training.build import build_model
from panovlm.training.overlap.modeling import PanoVLMForOverlapPretraining
from panovlm.training.overlap.vicreg import vicreg_loss
from panovlm.training.sections import OverlapSection, VICRegSection
from panovlm.training.trainable import apply_stage

PAPER = VICRegSection()


@pytest.fixture
def overlap_model(model_of_stage):
    return model_of_stage("vision")


@pytest.fixture
def patch_tokens():
    return torch.randn(6, 4, 16, 32, generator=torch.Generator().manual_seed(0))


def test_the_loss_is_vicreg_of_the_projected_overlap(overlap_model, patch_tokens):
    with torch.no_grad():
        output = overlap_model(patch_tokens=patch_tokens)
        latents = overlap_model.model.resampler(patch_tokens.flatten(0, 1))
        grid = overlap_model.vicreg_projector(latents).reshape(6, 4, 2, 4, 24)
        terms = vicreg_loss(grid[:, :, :, -1], grid.roll(-1, dims=1)[:, :, :, 0])
    torch.testing.assert_close(output.loss, terms.loss(PAPER), rtol=1e-6, atol=1e-6)
    for name in ("invariance", "variance", "covariance"):
        torch.testing.assert_close(output[name], getattr(terms, name), rtol=1e-6, atol=1e-6)
    assert output.feature_std > 0


SETTINGS = [
    OverlapSection(pairing="rays"),
    OverlapSection(statistics="pair"),
    OverlapSection(pairing="rays", statistics="pair"),
    OverlapSection(objective="infonce"),
    OverlapSection(pairing="rays", objective="infonce"),
]


@pytest.mark.parametrize("overlap", SETTINGS, ids=str)
def test_every_objective_trains_and_does_not_mind_a_rotation(overlap_model, patch_tokens, overlap):
    overlap_model.overlap = overlap
    rotated = overlap_model(patch_tokens=patch_tokens.roll(1, dims=1)).loss
    first = overlap_model(patch_tokens=patch_tokens).loss
    torch.testing.assert_close(rotated, first, rtol=1e-4, atol=1e-5)
    assert train(overlap_model, patch_tokens)[-1] < 0.9 * first.item()


def test_objectives_differ(overlap_model, patch_tokens):
    losses = set()
    for overlap in SETTINGS:
        overlap_model.overlap = overlap
        losses.add(round(overlap_model(patch_tokens=patch_tokens).loss.item(), 4))
    assert len(losses) == len(SETTINGS)


def test_the_objective_is_no_part_of_the_configuration(overlap_model):
    overlap_model.overlap = OverlapSection(pairing="rays", objective="infonce")
    settings = overlap_model.config.to_dict()
    assert not {"objective", "pairing", "statistics", "temperature"} & settings.keys()


def test_a_recipe_says_the_objective(model_section):
    overlap = OverlapSection(pairing="rays", objective="infonce", temperature=0.5)
    model = build_model(model_section, STAGES["vision"], overlap)
    assert model.overlap is overlap
    assert build_model(model_section, STAGES["vision"]).overlap == OverlapSection()


def test_pixels_give_what_their_patch_tokens_give(overlap_model):
    views = torch.randn(2, 4, 3, 32, 32)
    with torch.no_grad():
        encoded = patch_tokens_of(overlap_model.model.vision_encoder, views, None)
        from_tokens = overlap_model(patch_tokens=encoded).loss
        torch.testing.assert_close(overlap_model(pixel_values=views).loss, from_tokens)


def test_half_precision_patch_tokens_are_welcome(overlap_model, patch_tokens):
    output = overlap_model(patch_tokens=patch_tokens.half())
    assert output.loss.dtype == torch.float32
    assert output.loss.isfinite()


def train(model, patch_tokens):
    """Losses of thirty steps of stage 1."""
    apply_stage(model, STAGES["vision"], None)
    model.train()
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    losses = []
    for _ in range(30):
        loss = model(patch_tokens=patch_tokens).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


def test_training_lowers_the_loss(overlap_model, patch_tokens):
    losses = train(overlap_model, patch_tokens)
    assert all(torch.tensor(losses).isfinite())
    assert losses[-1] < 0.8 * losses[0]


def test_rotating_the_panorama_by_a_stride_changes_nothing(overlap_model, patch_tokens):
    with torch.no_grad():
        plain = overlap_model(patch_tokens=patch_tokens)
        rotated = overlap_model(patch_tokens=patch_tokens.roll(1, dims=1))
    torch.testing.assert_close(rotated.loss, plain.loss)


def test_the_trunk_has_the_answering_models_keys(overlap_model, generator):
    def trunk(model):
        parts = ("model.vision_encoder.", "model.resampler.")
        return {k: v.shape for k, v in model.state_dict().items() if k.startswith(parts)}

    assert trunk(overlap_model) == trunk(generator)
    rest = overlap_model.state_dict().keys() - trunk(overlap_model).keys()
    assert all(key.startswith("vicreg_projector.") for key in rest)


def test_views_that_share_no_column_are_refused_before_training(model_section):
    views = model_section.views.model_copy(update={"fov_deg": 90.0})
    apart = model_section.model_copy(update={"views": views})
    with pytest.raises(PanoVLMError, match=r"no whole column of 4.*raise num_views"):
        build_model(apart, STAGES["vision"])
    with pytest.raises(PanoVLMError, match=r"no token that two views see"):
        build_model(apart, STAGES["vision"], OverlapSection(pairing="rays"))


def test_a_saved_model_comes_back(overlap_model, patch_tokens, tmp_path):
    overlap_model.save_pretrained(tmp_path)
    read = PanoVLMForOverlapPretraining.from_pretrained(tmp_path)
    with torch.no_grad():
        assert read(patch_tokens=patch_tokens).loss == overlap_model(patch_tokens=patch_tokens).loss
