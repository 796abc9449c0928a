"""Views that are no level ring go through all stages, and are asked, exported and evaluated."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from panovlm.evaluation.run import EvaluationOptions, evaluate
from panovlm.exporting.export import export
from panovlm.inference.answers import SamplingParams
from panovlm.inference.assistant import Assistant
from panovlm.inference.rotation import stride_deg, yaw_rotated
from panovlm.model.processing import view_words
from panovlm.training import run
from panovlm.training.plan import plan
from panovlm.training.recipe import Recipe
from panovlm.training.sections import OverlapSection, ViewsSection
from panovlm.training.sources import fine_yaws_deg
from panovlm.training.stage_run import StageRun

AROUND = [[float(yaw), 0.0, 0.0, 100.0] for yaw in (0, 90, 180, -90)]
POLES = [[0.0, 90.0, 0.0, 110.0], [0.0, -90.0, 0.0, 110.0]]
LAYOUTS: dict[str, dict[str, Any]] = {
    "rows": {"num_views": 4, "fov_deg": 120.0, "pitches_deg": [0.0, 60.0, -60.0]},
    "cube": {"cubemap": True, "fov_deg": 110.0},
    "free": {"angles_deg": [*AROUND, *POLES]},
}


def with_layout(recipe: Recipe, name: str, **changes: Any) -> Recipe:
    """Two steps a stage on another layout, pairs by rays, rotated by strides or by encoding."""
    views = ViewsSection(**LAYOUTS[name], view_size=32)
    fine = 1 if views.layout.num_strides > 1 else 4
    stages = {}
    for stage, section in recipe.stages.items():
        own: dict[str, Any] = {"steps": 2, "save_steps": None} | changes
        own |= {"overlap": OverlapSection(pairing="rays")} if stage == "vision" else {}
        own |= {} if stage == "vision" else {"yaw_steps_per_view": fine}
        stages[stage] = section.model_copy(update=own)
    model = recipe.model.model_copy(update={"views": views})
    return recipe.model_copy(update={"model": model, "stages": stages})


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_of_the_whole_sphere_goes_through_all(
    recipe: Recipe, scenes_file: Path, tmp_path: Path, name: str
) -> None:
    chosen = with_layout(recipe, name, tokens_per_sequence=None)
    layout = chosen.model.views.layout
    assert layout.coverage(90) == 1.0
    assert [each.batch.length > 0 for each in plan(chosen)] == [False, True, True]
    assert len(run.train(chosen, list(chosen.stages), resume=False)) == 3

    options = EvaluationOptions(num_yaw_rotated=2 * (layout.num_strides > 1), num_ablated=1)
    report = evaluate(
        chosen.output, scenes_file, tmp_path / "report.json", limit=3, options=options
    )
    assert report["score"]["count"] == 3
    assert report["view_ablation"]["views"] == view_words(layout)
    assert ("yaw_rotated" in report) == (layout.num_strides > 1)

    assistant = Assistant.load(chosen.output)
    panorama = assistant.open(scenes_file.parent / "0.png")
    answer = assistant.ask(panorama, "Where?", SamplingParams(max_tokens=3))
    if stride := stride_deg(layout):
        rotated = yaw_rotated(panorama, layout, 3 * stride)
        order = list(layout.order_after(3))
        assert torch.equal(rotated.views, panorama.views[:, order])
    export(chosen.output, tmp_path / "exported")
    again = Assistant.load(tmp_path / "exported")
    reopened = again.open(scenes_file.parent / "0.png")
    assert again.ask(reopened, "Where?", SamplingParams(max_tokens=3)) == answer
    assert layout.describe() in (tmp_path / "exported" / "README.md").read_text()


def test_cached_and_encoded_in_every_step_are_one(recipe: Recipe) -> None:
    chosen = with_layout(recipe, "rows", from_backbones=True, tokens_per_sequence=800)
    stages = {"resampler": chosen.stages["resampler"]}
    weights = []
    for cache in ("on", "off"):
        changes = {"stages": stages, "cache": cache, "output": recipe.output.with_name(cache)}
        run.train(chosen.model_copy(update=changes), ["resampler"], resume=False)
        file = recipe.output.with_name(cache) / "resampler" / "model.safetensors"
        weights.append(load_file(file))
    for key, tensor in weights[0].items():
        torch.testing.assert_close(weights[1][key], tensor, rtol=0, atol=1e-3, msg=key)


def test_a_global_view_is_rotated_by_encoding_it_again(recipe: Recipe) -> None:
    views = recipe.model.views.model_copy(update={"global_view": True})
    changes = {"yaw_steps_per_view": 4, "from_backbones": True, "steps": 2}
    section = recipe.stages["resampler"].model_copy(update=changes)
    model = recipe.model.model_copy(update={"views": views})
    chosen = recipe.model_copy(update={"model": model, "stages": {"resampler": section}})
    assert fine_yaws_deg(StageRun(chosen, "resampler")) == [0, 90, 180, 270]
    (result,) = run.train(chosen, ["resampler"], resume=False)
    assert math.isfinite(result.loss_last)
