"""Pretrained models are whole, small, and made by a recipe of the repository."""

import hashlib
from pathlib import Path

import pytest
import yaml

from panovlm.inference.names import DIGESTS, PRETRAINED, pretrained_names

RECIPES = {"small": "real"}
ROOT = Path(__file__).parents[2]
MOST_BYTES = 20_000_000


def test_each_pretrained_model_is_known_with_its_recipe() -> None:
    assert pretrained_names() == sorted(RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_its_files_are_those_of_its_digests_and_few_bytes(name: str) -> None:
    folder = PRETRAINED / name
    lines = [line.split(maxsplit=1) for line in (folder / DIGESTS).read_text().splitlines()]
    stated = {file.lstrip("*"): digest for digest, file in lines}
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != DIGESTS]
    found = {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }
    for file, digest in stated.items():
        assert found[file] == digest
    assert {file for file in found if file.endswith(".safetensors")} <= stated.keys()
    assert sum(path.stat().st_size for path in files) < MOST_BYTES


@pytest.mark.parametrize("name", RECIPES)
def test_its_recipe_is_that_of_the_repository(name: str) -> None:
    """What the repository's recipe says, it says too; all else are defaults, written out."""
    made_by = yaml.safe_load((PRETRAINED / name / "recipe.yaml").read_text())
    recipe = yaml.safe_load((ROOT / "recipes" / f"{RECIPES[name]}.yaml").read_text())
    assert said_too(recipe["model"], made_by["model"])
    for stage, section in recipe["stages"].items():
        rest = {key: value for key, value in section.items() if key != "data"}
        assert said_too(rest, made_by["stages"][stage])


def said_too(part: object, whole: object) -> bool:
    """Whether all values of a section are in another, which may have more."""
    if isinstance(part, dict) and isinstance(whole, dict):
        return all(key in whole and said_too(value, whole[key]) for key, value in part.items())
    return _number(part) == _number(whole)


def _number(value: object) -> object:
    """YAML reads 1.0e-3 as a number and 5e-05 as text."""
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return value
