"""The picture of stage 1's features: true colours, the true beginning, the whole sphere."""

import numpy as np
import pytest
import torch
from PIL import Image

from panovlm.errors import PanoVLMError
from panovlm.figures import feature_colours
from panovlm.figures.feature_colours import colours_of, draw_feature_colours, overlap_folder
from panovlm.training import run
from panovlm.training.overlap.modeling import PanoVLMForOverlapPretraining
from panovlm.training.recipe import Recipe, StageSection


@pytest.fixture(scope="module")
def finished(tmp_path_factory, model_section, scenes_file):
    """A run whose stage 1 took two steps, and the weights it began with."""
    folder = tmp_path_factory.mktemp("run")
    section = StageSection(data=scenes_file, steps=2, batch_size=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PANOVLM_CACHE", str(folder / "cache"))
        began = []
        original = run._load_model

        def prepare(*args):
            model = original(*args)
            began.append({k: v.clone() for k, v in model.state_dict().items()})
            return model

        patch.setattr(run, "_load_model", prepare)
        recipe = Recipe(
            output=folder / "run",
            model=model_section,
            stages={"vision": section},
            seed=5,
            dtype="fp32",
        )
        run.train(recipe, ["vision"], resume=False)
    return recipe.output, began[0]


def test_the_beginning_is_the_one_the_run_had(finished):
    folder, began = finished
    trained = PanoVLMForOverlapPretraining.from_pretrained(folder / "vision")
    initial = feature_colours._initial(trained, folder / "vision").state_dict()
    ours = [name for name in began if "vision_encoder" not in name]
    assert ours
    assert all(torch.equal(initial[name], began[name]) for name in ours)
    trained = trained.state_dict()
    assert any(not torch.equal(trained[name], began[name]) for name in ours)


def test_three_panoramas_are_drawn_one_under_the_other(finished, scenes_file):
    picture = draw_feature_colours(finished[0], scenes_file.parent / "0.png")
    assert picture.size == (768, 3 * (384 + 26))
    _, before, after = (np.asarray(picture)[row * 410 + 26 : (row + 1) * 410] for row in range(3))
    for drawn in (before, after):
        assert (drawn[192].max(axis=-1) > 0).all()  # all around at mid height
        assert drawn.std() > 10
    assert (before != after).any()


def test_one_analysis_colours_both():
    generator = np.random.default_rng(0)
    first = generator.normal(size=(4, 2, 3, 8)).astype(np.float32)
    colours = colours_of([first, first[::-1] + 100])  # another resampler's own mean
    np.testing.assert_allclose(colours[0], colours[1][::-1], atol=1e-3)
    assert colours[0].shape == (4, 2, 3, 3)
    assert colours[0].min() == pytest.approx(0, abs=1e-3)
    assert colours[0].max() == pytest.approx(1, abs=1e-3)


def test_like_features_have_like_colours():
    grid = np.zeros((2, 3, 5), np.float32)
    grid[0] = [1, 2, 3, 4, 5]
    (colours,) = colours_of([grid])
    np.testing.assert_allclose(colours[0], np.broadcast_to(colours[0, :1], (3, 3)), atol=1e-5)
    assert np.abs(colours[0] - colours[1]).max() > 0.9


def test_tokens_are_repeated_to_squares():
    squared = feature_colours._repeat_to_square(
        np.arange(12, dtype=np.float32).reshape(1, 2, 2, 3)[:, :1]
    )
    assert squared.shape == (1, 2, 2, 3)
    assert (squared[0, 0] == squared[0, 1]).all()


def test_a_folder_without_stage_one_is_refused(tmp_path, finished):
    with pytest.raises(PanoVLMError, match=r"no finished stage vision in .*--stage vision"):
        overlap_folder(tmp_path)
    assert overlap_folder(finished[0]) == overlap_folder(finished[0] / "vision")


def test_a_picture_that_is_no_panorama_is_refused(finished, tmp_path):
    Image.new("RGB", (64, 64)).save(tmp_path / "square.png")
    with pytest.raises(PanoVLMError, match="64x64"):
        draw_feature_colours(finished[0], tmp_path / "square.png")
