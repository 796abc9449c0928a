"""Pretrained models are whole, small, and made by a recipe of the repository."""

from pathlib import Path

import pytest

from panovlm.inference.names import PRETRAINED, pretrained_names
from panovlm.inference.trained_only import check_digests
from panovlm.training.recipe_file import load_recipe

RECIPES = {"small": "real"}
ROOT = Path(__file__).parents[2]
MOST_BYTES = 20_000_000


def test_each_pretrained_model_is_known_with_its_recipe() -> None:
    assert pretrained_names() == sorted(RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_its_files_are_those_of_its_digests_few_bytes_and_licensed(name: str) -> None:
    folder = PRETRAINED / name
    check_digests(folder)
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < MOST_BYTES
    assert "\nlicense: " in (folder / "README.md").read_text()


@pytest.mark.parametrize("name", RECIPES)
def test_its_recipe_is_that_of_the_repository(name: str) -> None:
    """What the repository's recipe says, it says too; all else are defaults, written out."""
    made_by = load_recipe(PRETRAINED / name / "recipe.yaml", [])
    recipe = load_recipe(ROOT / "recipes" / f"{RECIPES[name]}.yaml", [])
    assert made_by.model == recipe.model
    for stage, section in recipe.stages.items():
        for key in section.model_fields_set - {"data"}:
            assert getattr(made_by.section(stage), key) == getattr(section, key), (stage, key)
