"""Reads a recipe's YAML file, with errors that name the key and the fix."""

import difflib
import json
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic import ValidationError

from panovlm.errors import PanoVLMError
from panovlm.pictures.declaring import Declaration
from panovlm.stages import STAGES
from panovlm.training.data_sources import TAGS, DataSource
from panovlm.training.recipe import Recipe
from panovlm.training.sections import Section

INSTEAD_OF = {"steps": "epochs", "epochs": "steps", "data": "share", "share": "data"}
"""Keys that take each other's place, in a recipe over its base and on the command line."""


def load_recipe(path: Path, overrides: list[str] | None = None) -> Recipe:
    """Read a recipe and apply `key=value` overrides.

    Args:
        path: YAML file.
        overrides: As in `stages.vision.steps=10`; values are YAML.

    Raises:
        PanoVLMError: With every error of the recipe in one message.
    """
    data = _read_inherited(path)
    for override in overrides or []:
        _apply_override(data, override)
    return parse_recipe(data, str(path))


def _read_inherited(path: Path, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Read a recipe's file over the one it names as its `base`, and that over its own."""
    if path.resolve() in above:
        chain = " → ".join(str(each) for each in (*above, path.resolve()))
        raise PanoVLMError(f"found recipes that are each other's base ({chain}), expected an end")
    data = _read_keys(path)
    base = data.pop("base", None)
    if base is None:
        return data
    if not isinstance(base, str):
        raise PanoVLMError(f"{path}: found base: {base!r}, expected the path of a recipe")
    return _merged(_read_inherited(path.parent / base, (*above, path.resolve())), data)


def _read_keys(path: Path) -> dict[str, Any]:
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise PanoVLMError(f"cannot read the recipe {path}: {error}") from error
    except yaml.YAMLError as error:
        raise PanoVLMError(f"{path} is not YAML: {error}") from error
    if not isinstance(data, dict):
        raise PanoVLMError(f"{path}: found {type(data).__name__}, expected keys and values")
    return data


def _merged(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Return a section with its own values over those of its base; lists are replaced."""
    both = [key for key in own if isinstance(own[key], dict) and isinstance(base.get(key), dict)]
    kept = {key: value for key, value in base.items() if INSTEAD_OF.get(key) not in own}
    return {**kept, **own, **{key: _merged(base[key], own[key]) for key in both}}


def parse_recipe(data: dict[str, Any], source: str) -> Recipe:
    """Check plain data as a recipe; `source` names it in errors."""
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        lines = [_explain(error) for error in error.errors()]
        raise PanoVLMError(
            f"{source} has {len(lines)} error(s):\n  " + "\n  ".join(lines)
        ) from None


def recipe_schema() -> str:
    """Return the JSON schema that lets editors complete and check recipes.

    A recipe may have any key from its base, so that editors require none; reading does.
    """
    schema = Recipe.model_json_schema()
    for section in (schema, *schema["$defs"].values()):
        section.pop("required", None)
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _apply_override(data: dict[str, Any], override: str) -> None:
    key, found, value = override.partition("=")
    if not found:
        raise PanoVLMError(f"found -o {override}, expected -o key=value")
    *parents, last = key.split(".")
    for parent in parents:
        section = data.get(parent, {})
        if not isinstance(section, dict):
            raise PanoVLMError(f"-o {override}: {parent} holds a value, expected a section")
        data[parent] = data = dict(section)  # a copy: YAML's anchors share one among several keys
    data.pop(INSTEAD_OF.get(last, ""), None)
    try:
        data[last] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise PanoVLMError(f"-o {override}: the value is not YAML: {error}") from error


def _explain(error: Any) -> str:
    """Return one of pydantic's errors as a line with the fix."""
    place = [str(part) for part in error["loc"] if part not in TAGS]
    if place[-1] == "[key]" or error["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        keys = [part for part in place if part != "[key]"]
        return f"{'.'.join(keys)}: unknown key{_nearest(keys)}"
    where = ".".join(place)
    if error["type"] == "value_error":
        return f"{where}: {error['ctx']['error']}"
    if error["type"] == "missing":
        return f"{where}: missing, expected a value"
    found = error["input"]
    shown = f"found {found!r}" if not isinstance(found, dict) else "found a section"
    return f"{where}: {shown}, expected: {error['msg']}"


def _nearest(path: list[str]) -> str:
    close = difflib.get_close_matches(path[-1], _known_keys(path[:-1]), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _known_keys(path: list[str]) -> list[str]:
    """Return the keys that the section at a path may have."""
    kind: Any = Recipe
    for key in path:
        if get_origin(kind) is dict:
            kind = get_args(kind)[1]
        elif key.isdigit():  # no other list has sections
            kind = DataSource
        else:
            kind = kind.model_fields[key].annotation
            if get_origin(kind) is not dict:  # an optional section
                kind = next((part for part in get_args(kind) if _has_keys(part)), kind)
    return list(STAGES) if get_origin(kind) is dict else list(_fields(kind))


def _fields(kind: Any) -> Any:
    return kind.__dataclass_fields__ if kind is Declaration else kind.model_fields


def _has_keys(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Section | Declaration)
