"""The stage table: the seed's rows, its variants, and that nothing else knows a stage by name."""

import ast
from pathlib import Path
from typing import get_args

import pytest

import panovlm
from panovlm.stages import (
    ABSENT,
    FROZEN,
    MODULES,
    STAGES,
    TRAINED,
    Objective,
    Supervision,
    stage_rows,
)
from panovlm.training.recipe import Recipe

TABLE = {  #   vision_encoder resampler vicreg_projector projection language_model lora
    "vision": (FROZEN, TRAINED, TRAINED, ABSENT, ABSENT, ABSENT),
    "resampler": (FROZEN, TRAINED, ABSENT, TRAINED, FROZEN, ABSENT),
    "finetune": (FROZEN, TRAINED, ABSENT, TRAINED, FROZEN, TRAINED),
}


def test_the_table_is_the_seeds():
    roles = {name: tuple(map(stage.role, MODULES)) for name, stage in STAGES.items()}
    assert roles == TABLE
    assert list(STAGES) == list(TABLE)


def test_each_stage_starts_from_the_one_before():
    assert [stage.starts_from for stage in STAGES.values()] == [None, "vision", "resampler"]


def test_objectives_and_supervision_are_the_seeds():
    assert [stage.objective for stage in STAGES.values()] == [
        Objective.VICREG_OVERLAP,
        Objective.NEXT_TOKEN,
        Objective.NEXT_TOKEN,
    ]
    assert [stage.supervision for stage in STAGES.values()] == [
        Supervision.NONE,
        Supervision.ALL_TEXT,
        Supervision.RESPONSES,
    ]


def test_expected_losses_are_the_seeds():
    expected = [(stage.expected_first, stage.expected_last) for stage in STAGES.values()]
    assert expected == [((50, 100), (10, 30)), ((8, 12), (2, 4)), ((2, 4), (0.5, 1.5))]


def test_variants_change_one_thing_and_leave_the_table_alone():
    plain = STAGES["finetune"]
    assert plain.without_lora().role("lora") is ABSENT
    assert plain.without_lora().trained_modules == ("resampler", "projection")
    deeper = plain.with_last_vision_layers(2)
    assert deeper.num_vision_layers == 2
    assert deeper.trained_modules == plain.trained_modules == ("resampler", "projection", "lora")
    assert STAGES["finetune"] is plain
    assert plain.num_vision_layers == 0


def test_an_unknown_module_has_no_role():
    with pytest.raises(KeyError):
        STAGES["vision"].role("language")


def test_recipes_name_the_same_stages():
    keys, _ = get_args(Recipe.model_fields["stages"].annotation)
    assert list(get_args(keys)) == list(STAGES)


def test_the_printed_table_has_every_row_and_column():
    header, rows = stage_rows()
    assert header[1:] == list(STAGES)
    assert [row[0] for row in rows] == ["loss", "supervised", *MODULES, "starts from"]
    assert all(len(row) == len(header) for row in rows)
    vision = [row[1] for row in rows[2:]]
    assert vision == ["frozen", "trained", "trained", "–", "–", "–", "backbones"]


def names_in(node):
    """Stage names among the constants of a comparison or pattern."""
    return {n.value for n in ast.walk(node) if isinstance(n, ast.Constant)} & set(STAGES)


def branches_on_stage_names(tree):
    """Comparisons, `match` cases and `startswith` calls with the name of a stage."""
    for node in ast.walk(tree):
        compares = isinstance(node, ast.Compare | ast.MatchValue)
        asks = (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in ("startswith", "endswith", "__eq__")
        )
        if (compares or asks) and names_in(node):
            yield ast.unparse(node)


def test_the_search_for_branches_finds_them():
    codes = (
        "if stage == 'vision': pass",
        "if name in ('finetune', 'x'): pass",
        "match name:\n  case 'vision': pass",
        "name.startswith('resampler')",
    )
    for code in codes:
        assert len(list(branches_on_stage_names(ast.parse(code)))) == 1


def test_no_module_branches_on_a_stage_by_name():
    package = Path(panovlm.__file__).parent
    found = {
        str(file.relative_to(package)): branches
        for file in sorted(package.rglob("*.py"))
        if (branches := list(branches_on_stage_names(ast.parse(file.read_text()))))
    }
    assert found == {}


def test_the_variant_from_the_backbones_continues_no_stage():
    fresh = STAGES["resampler"].from_backbones()
    assert fresh.starts_from is None
    assert fresh.trained_modules == STAGES["resampler"].trained_modules
