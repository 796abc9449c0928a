"""Recipes: strict reading, helpful errors, overrides and the schema for editors."""

import json
from contextlib import nullcontext
from pathlib import Path

import pytest
import yaml

from panovlm.errors import PanoVLMError
from panovlm.stages import ABSENT, TRAINED
from panovlm.training.checks import check_schedule
from panovlm.training.recipe import Recipe
from panovlm.training.recipe_file import load_recipe, parse_recipe, recipe_schema
from panovlm.training.stage_run import StageRun

ROOT = Path(__file__).parents[2]
SMALLEST = {
    "output": "runs/a",
    "model": {"vision_encoder": "encoder", "language_model": "llm"},
    "stages": {"vision": {"data": "data.jsonl", "steps": 10}},
}


def changed(path, value):
    """The smallest recipe with one value changed; `...` removes it."""
    data = json.loads(json.dumps(SMALLEST))
    *parents, last = path.split(".")
    section = data
    for parent in parents:
        section = section.setdefault(parent, {})
    if value is ...:
        del section[last]
    else:
        section[last] = value
    return data


@pytest.fixture
def recipe_file(tmp_path):
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(SMALLEST))
    return file


def test_what_a_recipe_leaves_out_has_defaults():
    recipe = parse_recipe(SMALLEST, "recipe")
    assert recipe.model.views.num_views == 8
    assert recipe.model.pooling == "concat"
    assert recipe.stages["vision"].batch_size == 8
    assert recipe.dtype == "auto"


@pytest.mark.parametrize(
    ("stage", "given", "rank"),
    [
        ("finetune", {}, 16),
        ("finetune", {"lora": {"rank": 4}}, 4),
        ("finetune", {"lora": None}, None),
        ("resampler", {}, None),
        ("resampler", {"lora": {"rank": 4}}, 4),
    ],
)
def test_adapters_are_those_of_the_table_or_of_the_recipe(stage, given, rank):
    section = {"data": "x.jsonl", "steps": 1, **given}
    recipe = parse_recipe({**SMALLEST, "stages": {stage: section}}, "recipe")
    run = StageRun(recipe, stage)
    assert (run.lora and run.lora.rank) == rank
    assert run.stage.role("lora") is (ABSENT if rank is None else TRAINED)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("modle", {}, "modle: unknown key; did you mean 'model'?"),
        ("model.poolling", "mean", "model.poolling: unknown key; did you mean 'pooling'?"),
        ("stages.vision.stepps", 3, "stages.vision.stepps: unknown key; did you mean 'steps'?"),
        ("stages.vision.lora", {}, "found lora in vision, which has no language model; leave it"),
        ("stages.vision.word_steps", 1, "found word_steps = 1 in vision which has no text"),
        (
            "stages.vision.views_as_words",
            0.5,
            "found views_as_words = 0.5 in vision, expected a",
        ),
        ("stages.vision.from_run", "x", "found from_run in vision beside a stage that"),
        ("stages.visoin", {}, "stages.visoin: unknown key; did you mean 'vision'?"),
        ("model.views.xyzzy", 3, "model.views.xyzzy: unknown key"),
        ("output", ..., "output: missing, expected a value"),
        ("stages.vision.steps", ..., "found neither steps nor epochs in vision, expected one of"),
        ("stages.vision.epochs", 3, "found both steps and epochs in vision, expected one of them"),
        ("stages.vision.tokens_per_sequence", 64, "found tokens_per_sequence in vision, which tr"),
        ("stages.vision.steps", "many", "stages.vision.steps: found 'many', expected: Input"),
        ("stages.vision.steps", 0, "stages.vision.steps: found 0, expected: Input should be great"),
        ("stages.vision.warmup", -1, "stages.vision.warmup: found -1, expected: Input should be"),
        ("stages.vision.schedule", "cos", "schedule: found 'cos', expected: Input should be 'cosi"),
        ("stages.vision.optimizer.beta", 1, "optimizer.beta: unknown key; did you mean 'betas'?"),
        ("stages.vision.learning_rate.lora", -1, "learning_rate.lora: found -1, expected: Input"),
        ("model.views.fov_deg", 180, "model.views.fov_deg: found 180, expected: Input should be"),
        ("model.pooling", "max", "model.pooling: found 'max', expected: Input should be 'concat'"),
        ("dtype", "fp64", "dtype: found 'fp64', expected: Input should be 'auto', 'bf16'"),
        ("model", 3, "model: found 3, expected: "),
        ("seed", {}, "seed: found a section, expected: Input should be a valid integer"),
    ],
)
def test_every_error_says_where_what_was_found_and_the_fix(path, value, message):
    with pytest.raises(PanoVLMError) as caught:
        parse_recipe(changed(path, value), "recipe.yaml")
    assert "recipe.yaml has" in str(caught.value)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("stage", "pooling", "steps", "message"),
    [
        ("finetune", "slots", 9, "found word_steps = 9 in finetune which has no text, or trains"),
        ("resampler", "concat", 9, "in resampler beside model.pooling: concat, expected slots"),
        ("resampler", "slots", 8, "in resampler of 8 steps, expected no more; raise stages.resamp"),
    ],
)
def test_steps_on_words_are_refused_where_no_words_can_be_learned(stage, pooling, steps, message):
    data = changed("model.pooling", pooling)
    data["stages"] = {stage: {"data": "a.jsonl", "steps": steps, "word_steps": 9}}
    with pytest.raises(PanoVLMError, match=message):
        parse_recipe(data, "recipe.yaml")


def test_an_unknown_key_like_no_other_gets_no_suggestion():
    with pytest.raises(PanoVLMError) as caught:
        parse_recipe(changed("model.views.xyzzy", 3), "recipe.yaml")
    assert "did you mean" not in str(caught.value)


def test_all_errors_are_reported_at_once():
    data = changed("stages.vision.steps", 0) | {"extra": 1, "seed": -1}
    with pytest.raises(PanoVLMError) as caught:
        parse_recipe(data, "recipe.yaml")
    assert str(caught.value).startswith("recipe.yaml has 3 error(s):")
    assert len(str(caught.value).splitlines()) == 4


@pytest.mark.parametrize("name", ["vision", "resampler"])
def test_the_encoder_trains_in_the_last_stage_alone(name):
    section = {"data": "a", "steps": 1, "vision_layers": 2}
    with pytest.raises(PanoVLMError, match=f"found vision_layers = 2 in {name}.*but finetune"):
        parse_recipe(changed(f"stages.{name}", section), "recipe.yaml")
    recipe = parse_recipe(changed("stages.finetune", section), "recipe.yaml")
    assert recipe.stages["finetune"].vision_layers == 2


def test_fine_steps_need_rotations():
    section = {"data": "a", "steps": 1, "yaw_steps_per_view": 3}
    assert parse_recipe(changed("stages.finetune", section), "recipe.yaml")
    message = "found yaw_steps_per_view = 3 beside roll: false in finetune; set roll: true"
    with pytest.raises(PanoVLMError, match=message):
        parse_recipe(changed("stages.finetune", section | {"roll": False}), "recipe.yaml")


def test_values_do_not_change_after_reading():
    recipe = parse_recipe(SMALLEST, "recipe.yaml")
    with pytest.raises(ValueError, match="frozen"):
        recipe.seed = 3


def test_overrides_replace_and_add_values(recipe_file):
    overrides = [
        "stages.vision.steps=7",
        "model.views.num_views=6",
        "stages.finetune.data=more.jsonl",
        "stages.finetune.steps=3",
        "stages.finetune.lora=null",
        "stages.vision.learning_rate.resampler=1e-4",
    ]
    recipe = load_recipe(recipe_file, overrides)
    assert recipe.stages["vision"].steps == 7
    assert recipe.model.views.num_views == 6
    assert recipe.stages["finetune"].data == Path("more.jsonl")
    assert recipe.stages["finetune"].lora is None
    assert recipe.stages["vision"].learning_rate.resampler == 1e-4
    assert load_recipe(recipe_file) == parse_recipe(SMALLEST, "recipe")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stages.vision.steps", "found -o stages.vision.steps, expected -o key=value"),
        ("output.folder=3", "-o output.folder=3: output holds a value, expected a section"),
        ("seed=[1", "-o seed=[1: the value is not YAML"),
        ("stages.vision.stpes=1", "stages.vision.stpes: unknown key; did you mean 'steps'?"),
    ],
)
def test_invalid_overrides_are_refused(recipe_file, override, message):
    with pytest.raises(PanoVLMError) as caught:
        load_recipe(recipe_file, [override])
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: [", "is not YAML"),
        (b"- 1\n- 2", "found list, expected keys and values"),
        (b"", "found NoneType, expected keys and values"),
        (b"\xff\xfe\xff", "cannot read the recipe"),
    ],
)
def test_files_that_are_no_recipes_are_refused(tmp_path, content, message):
    file = tmp_path / "recipe.yaml"
    file.write_bytes(content)
    with pytest.raises(PanoVLMError) as caught:
        load_recipe(file)
    assert message in str(caught.value)


def test_a_missing_recipe_is_named(tmp_path):
    with pytest.raises(PanoVLMError, match=r"cannot read the recipe .*nothing\.yaml"):
        load_recipe(tmp_path / "nothing.yaml")


def test_the_schema_file_is_up_to_date():
    assert (ROOT / "recipes" / "recipe.schema.json").read_text(encoding="utf-8") == recipe_schema()


def test_every_key_of_the_schema_is_explained():
    schema = json.loads(recipe_schema())
    for name, section in {"Recipe": schema, **schema["$defs"]}.items():
        unexplained = [
            key
            for key, value in section["properties"].items()
            if "description" not in value and not str(value.get("$ref", "")).startswith("#/$defs/")
        ]
        assert unexplained == [], name


@pytest.mark.parametrize("file", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda f: f.name)
def test_the_recipes_that_come_along_are_valid(file):
    assert isinstance(load_recipe(file), Recipe)


def test_overlap_belongs_to_the_stage_on_overlaps():
    overlap = {"pairing": "rays"}
    stage = {"data": "d.jsonl", "steps": 1, "overlap": overlap}
    recipe = parse_recipe({**SMALLEST, "stages": {"vision": stage}}, "recipe")
    assert recipe.stages["vision"].overlap.pairing == "rays"
    with pytest.raises(PanoVLMError, match=r"found overlap in finetune.*move it to vision"):
        parse_recipe({**SMALLEST, "stages": {"finetune": stage}}, "recipe")


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("finetune", {}, "set stages.finetune.roll: false, or yaw_steps_per_view: 8"),
        ("finetune", {"yaw_steps_per_view": 8}, None),
        ("vision", {}, "set stages.vision.overlap.pairing: rays"),
        ("vision", {"overlap": {"pairing": "rays"}}, None),
        ("finetune", {"roll": False}, None),
    ],
)
def test_a_global_view_is_not_rotated_and_has_no_columns_in_common(name, settings, message):
    model = {**SMALLEST["model"], "views": {"global_view": True}}
    stage = {"data": "d.jsonl", "steps": 1, **settings}
    data = {**SMALLEST, "model": model, "stages": {name: stage}}
    if message is None:
        assert parse_recipe(data, "recipe").model.views.global_view
        return
    with pytest.raises(PanoVLMError, match=message):
        parse_recipe(data, "recipe")


@pytest.mark.parametrize(
    ("views", "name", "settings", "message"),
    [
        ({"pitches_deg": [0, 50]}, "finetune", {}, None),
        ({"pitches_deg": [0, 50]}, "vision", {}, "views that are no level ring .*pairing: rays"),
        ({"pitches_deg": [0, 50]}, "vision", {"overlap": {"pairing": "rays"}}, None),
        (
            {"pitches_deg": [0, 50]},
            "vision",
            {"overlap": {"overlap_ratio": 0.5}},
            "overlap_ratio beside views that are no level ring",
        ),
        ({"cubemap": True}, "finetune", {}, "no rotation maps to each other .*roll: false"),
        ({"cubemap": True}, "finetune", {"yaw_steps_per_view": 8}, None),
        ({"cubemap": True}, "vision", {"overlap": {"pairing": "rays"}}, "raise model.views.fov"),
        (
            {"cubemap": True, "fov_deg": 110},
            "vision",
            {"overlap": {"pairing": "rays"}},
            None,
        ),
        ({"cubemap": True, "pitches_deg": [0]}, "vision", {}, "found pitches_deg beside cubemap"),
        ({"angles_deg": [[0, 0, 0]]}, "vision", {}, "at least 4 items"),
        ({"angles_deg": [[0, 0, 0, 190]]}, "vision", {}, "view 0: found a field of view of 190"),
        ({"angles_deg": [[0, 0, 0, 90], [30, 0, 0, 90]]}, "finetune", {"roll": False}, None),
    ],
)
def test_a_layout_is_any_and_the_stages_suit_it(views, name, settings, message):
    model = {**SMALLEST["model"], "views": views}
    stage = {"data": "d.jsonl", "steps": 1, **settings}
    data = {**SMALLEST, "model": model, "stages": {name: stage}}
    if message is None:
        read = parse_recipe(data, "recipe").model.views
        assert read.model_dump().keys() >= views.keys()
        return
    with pytest.raises(PanoVLMError, match=message):
        parse_recipe(data, "recipe")


def test_a_ring_is_written_without_the_keys_of_other_layouts():
    written = parse_recipe(SMALLEST, "recipe").model.model_dump(mode="json")["views"]
    assert written.keys() == {"num_views", "fov_deg", "view_size", "global_view"}


@pytest.mark.parametrize(
    ("name", "roll", "message"),
    [
        ("resampler", True, "one input several answers; set stages.resampler.roll: false"),
        ("finetune", True, "found roll: true in finetune beside model.pooling: mean"),
        ("finetune", False, None),
        ("vision", True, None),
    ],
)
def test_the_mean_of_all_views_is_not_rotated_beside_text(name, roll, message):
    model = {**SMALLEST["model"], "pooling": "mean"}
    stage = {"data": "d.jsonl", "steps": 1, "roll": roll}
    data = {**SMALLEST, "model": model, "stages": {name: stage}}
    if message is None:
        assert parse_recipe(data, "recipe").model.pooling == "mean"
        return
    with pytest.raises(PanoVLMError, match=message):
        parse_recipe(data, "recipe")


def test_an_override_changes_no_other_section_that_shares_an_anchor(tmp_path):
    file = tmp_path / "recipe.yaml"
    stage = {"data": "d.jsonl", "steps": 2, "learning_rate": {"resampler": 1e-4}}
    stages = {"vision": stage, "finetune": stage}
    file.write_text(yaml.safe_dump({**SMALLEST, "stages": stages}))
    assert "&id" in file.read_text()
    recipe = load_recipe(file, ["stages.vision.learning_rate.resampler=1e-3"])
    assert recipe.stages["vision"].learning_rate.resampler == 1e-3
    assert recipe.stages["finetune"].learning_rate.resampler == 1e-4


def test_data_are_one_path_or_a_list_of_paths_and_sections():
    section = parse_recipe(SMALLEST, "recipe").stages["vision"]
    assert [source.path for source in section.sources] == [Path("data.jsonl")]
    cylinder = {"projection": "cylindrical", "hfov_deg": 180}
    data = ["a.jsonl", {"path": "b.jsonl", "weight": 2, "limit": 5, "declared": cylinder}]
    changes = {"data": data, "declared": {"projection": "cubemap"}}
    stage = {**SMALLEST["stages"]["vision"], **changes}
    section = parse_recipe(changed("stages.vision", stage), "recipe").stages["vision"]
    first, second = section.sources
    assert (first.path, first.weight, first.limit) == (Path("a.jsonl"), 1.0, None)
    assert (second.path, second.weight, second.limit) == (Path("b.jsonl"), 2.0, 5)
    assert [source.declared.projection for source in section.sources] == ["cubemap", "cylindrical"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "stages.vision.data: found [], expected: "),
        (3, "stages.vision.data: found 3, expected: "),
        (["a", "a"], "stages.vision.data: found a twice, expected each once; raise its weight"),
        ([{"weight": 2}], "stages.vision.data.0.path: missing, expected a value"),
        (["a", {"path": "b", "weigth": 2}], "data.1.weigth: unknown key; did you mean 'weight'?"),
        ([{"path": "b", "weight": 0}], "data.0.weight: found 0, expected: "),
        ([{"path": "b", "declared": {"hfov": 3}}], "unknown key; did you mean 'hfov_deg'?"),
    ],
)
def test_invalid_data_are_refused(data, message):
    with pytest.raises(PanoVLMError) as caught:
        parse_recipe(changed("stages.vision.data", data), "recipe.yaml")
    assert message in str(caught.value)


def test_a_recipe_inherits_what_it_does_not_say(tmp_path):
    own = {**SMALLEST, "stages": {"vision": {"data": "d.jsonl", "steps": 10, "batch_size": 4}}}
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "base.yaml").write_text(yaml.safe_dump({**own, "seed": 3}))
    middle = {"base": "shared/base.yaml", "stages": {"vision": {"steps": 20}}}
    (tmp_path / "middle.yaml").write_text(yaml.safe_dump(middle))
    last = {"base": "middle.yaml", "output": "runs/b", "stages": {"vision": {"batch_size": 2}}}
    (tmp_path / "last.yaml").write_text(yaml.safe_dump(last))
    recipe = load_recipe(tmp_path / "last.yaml", ["seed=5"])
    section = recipe.stages["vision"]
    assert (section.data, section.steps, section.batch_size) == (Path("d.jsonl"), 20, 2)
    assert (recipe.output, recipe.seed, recipe.base) == (Path("runs/b"), 5, None)
    assert load_recipe(tmp_path / "middle.yaml").seed == 3


def test_steps_take_the_place_of_epochs_and_a_file_that_of_a_share(tmp_path):
    """Of two keys that exclude each other, the one said last counts."""
    section = {"data": "d.jsonl", "epochs": 3, "validation": {"share": 0.1}}
    (tmp_path / "base.yaml").write_text(yaml.safe_dump({**SMALLEST, "stages": {"vision": section}}))
    own = {"base": "base.yaml", "stages": {"vision": {"steps": 20}}}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(own))
    overrides = ["stages.vision.validation.data=e.jsonl"]
    stage = load_recipe(tmp_path / "own.yaml", overrides).stages["vision"]
    assert (stage.steps, stage.epochs) == (20, None)
    assert (stage.validation.data, stage.validation.share) == (Path("e.jsonl"), None)
    stage = load_recipe(tmp_path / "own.yaml", ["stages.vision.epochs=0.5"]).stages["vision"]
    assert (stage.steps, stage.epochs, stage.data) == (None, 0.5, Path("d.jsonl"))


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ("recipe.yaml", "found recipes that are each other's base"),
        ("nothing.yaml", "cannot read the recipe"),
        (3, "found base: 3, expected the path of a recipe"),
    ],
)
def test_bases_that_lead_nowhere_are_refused(tmp_path, base, message):
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump({**SMALLEST, "base": base}))
    with pytest.raises(PanoVLMError, match=message):
        load_recipe(file)


@pytest.mark.parametrize(("ratio", "fits"), [(0.5, True), (0.502, True), (0.3, False)])
def test_the_overlap_ratio_is_checked_against_the_views(ratio, fits):
    stage = {"data": "d.jsonl", "steps": 1, "overlap": {"overlap_ratio": ratio}}
    data = {**SMALLEST, "stages": {"vision": stage}}
    if fits:
        assert parse_recipe(data, "recipe")
        return
    with pytest.raises(PanoVLMError, match=r"8 views of 90° share 0\.5 of a view.*fov_deg: 64\.28"):
        parse_recipe(data, "recipe")
    views = {"fov_deg": 64.286}
    fitting = {**data, "model": {**SMALLEST["model"], "views": views}}
    assert parse_recipe(fitting, "recipe").model.views.fov_deg == 64.286


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("finetune", {}, None),
        ("finetune", {"lora": None}, None),
        ("finetune", {"lora": {"rank": 4}}, "beside lora in finetune; leave one of them out"),
        ("resampler", {}, "found train_language_model: true in resampler, expected it in finetune"),
    ],
)
def test_the_language_model_trains_as_a_whole_instead_of_its_adapters(name, settings, message):
    section = {"data": "x.jsonl", "steps": 1, "train_language_model": True, **settings}
    data = {**SMALLEST, "stages": {name: section}}
    if message is not None:
        with pytest.raises(PanoVLMError, match=message):
            parse_recipe(data, "recipe")
        return
    run = StageRun(parse_recipe(data, "recipe"), name)
    assert run.lora is None
    assert run.stage.role("language_model") is TRAINED
    assert run.stage.role("lora") is ABSENT
    assert "language_model" in run.stage.changed_modules


@pytest.mark.parametrize(
    ("validation", "message"),
    [
        ({"answers": 5}, "validation.answers in vision, which has no text"),
        ({"metric": "accuracy"}, "metric: accuracy without answers"),
        ({"share": 0.1}, "found both data and share in stages.vision.validation"),
        ({"data": None}, "found neither data nor share .*set stages.vision.validation.share: 0.05"),
        ({"data": None, "share": 1}, "validation.share: found 1, expected: Input should be less"),
    ],
)
def test_validations_without_what_they_need_are_refused(validation, message):
    section = {"data": "a", "steps": 1, "validation": {"data": "b", **validation}}
    with pytest.raises(PanoVLMError, match=message):
        parse_recipe({**SMALLEST, "stages": {"vision": section}}, "recipe")


@pytest.mark.parametrize(("warmup", "steps"), [(0.05, 5), (0, 0), (1, 1), (12, 12)])
def test_the_warm_up_is_a_share_or_a_number_of_steps(warmup, steps):
    section = {"data": "a", "steps": 100, "warmup": warmup}
    run = StageRun(parse_recipe({**SMALLEST, "stages": {"vision": section}}, "recipe"), "vision")
    assert run.warmup_steps == steps


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, None),
        ({"schedule": "warmup_stable_decay", "schedule_options": {"num_decay_steps": 20}}, None),
        ({"schedule": "cosine_with_min_lr", "schedule_options": {"min_lr_rate": 0.1}}, None),
        ({"schedule": "warmup_stable_decay"}, "does not take schedule_options = {}"),
        ({"schedule_options": {"speed": 3}}, "cosine does not take schedule_options"),
        ({"warmup": 200}, "warmup = 200, more steps than the stage has"),
    ],
)
def test_schedules_are_checked_before_they_are_followed(settings, message):
    section = {"data": "a", "steps": 100, **settings}
    run = StageRun(parse_recipe({**SMALLEST, "stages": {"vision": section}}, "recipe"), "vision")
    with pytest.raises(PanoVLMError, match=message) if message else nullcontext():
        check_schedule(run)


@pytest.mark.parametrize("word", ["auto", "on", "off"])
def test_the_cache_is_switched_in_yamls_own_words(recipe_file, word):
    recipe_file.write_text(recipe_file.read_text() + f"cache: {word}\n")
    assert load_recipe(recipe_file).cache == word
    assert load_recipe(recipe_file, [f"cache={word}"]).cache == word
