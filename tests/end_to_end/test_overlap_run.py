"""Stage 1 in whole runs: every objective, its figures in the log, a collapse that stops."""

from pathlib import Path
from typing import Any

import pytest
import torch

from panovlm.data.cache import PatchTokenCache
from panovlm.errors import PanoVLMError
from panovlm.evaluation.asking import EvaluationOptions
from panovlm.evaluation.run import evaluate
from panovlm.training import run
from panovlm.training.log import read_log
from panovlm.training.recipe import Recipe
from panovlm.training.sections import OverlapSection

FIGURES = {
    "overlap_cosine",
    "overlap_mse",
    "retrieval",
    "retrieval_chance",
    "latent_std",
    "latent_rank",
    "projected_std",
    "projected_rank",
    "wrap_share",
}


def with_overlap(recipe: Recipe, **settings: Any) -> Recipe:
    section = recipe.stages["vision"].model_copy(update={"overlap": OverlapSection(**settings)})
    return recipe.model_copy(update={"stages": recipe.stages | {"vision": section}})


@pytest.mark.parametrize(
    "settings",
    [
        {"pairing": "rays"},
        {"pairing": "rays", "statistics": "pair"},
        {"pairing": "columns", "objective": "infonce"},
    ],
    ids=str,
)
def test_held_out_figures_are_logged_at_the_first_each_nth_and_last_step(
    recipe: Recipe, settings: dict[str, Any]
) -> None:
    chosen = with_overlap(recipe, diagnose_every=4, **settings)
    run.train(chosen, ["vision"], resume=False)
    log = read_log(chosen.output / "logs" / "vision.jsonl")
    looked = {entry["step"]: entry for entry in log if "retrieval" in entry}
    assert list(looked) == [1, 4, 6]
    assert all(entry.keys() >= FIGURES | {"loss"} for entry in looked.values())
    assert all(entry["wrap_share"] == 0.25 for entry in looked.values())
    assert not any("effective_rank" in entry for entry in log)


def test_no_panorama_is_held_out_where_none_is_asked_for(recipe: Recipe) -> None:
    run.train(with_overlap(recipe, held_out=0), ["vision"], resume=False)
    log = read_log(recipe.output / "logs" / "vision.jsonl")
    assert not any("retrieval" in entry for entry in log)


def test_features_that_become_alike_stop_the_run_with_the_knobs(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PatchTokenCache, "load", lambda self, picture: torch.ones(4, 16, 32))
    resampler = recipe.model.resampler.model_copy(update={"type": "mlp"})
    model = recipe.model.model_copy(update={"resampler": resampler})
    with pytest.raises(PanoVLMError, match=r"collapsed at step 1.*latent_std.*batch_size"):
        run.train(recipe.model_copy(update={"model": model}), ["vision"], resume=False)


def test_a_global_view_goes_through_all_stages(recipe: Recipe, scenes_file: Path) -> None:
    views = recipe.model.views.model_copy(update={"global_view": True})
    model = recipe.model.model_copy(update={"views": views})
    stages = {n: s.model_copy(update={"roll": False}) for n, s in recipe.stages.items()}
    chosen = recipe.model_copy(update={"model": model, "stages": stages})
    chosen = with_overlap(chosen, pairing="rays")
    assert len(run.train(chosen, list(stages), resume=False)) == 3
    folder, out = chosen.output, chosen.output / "report.json"
    with pytest.raises(PanoVLMError, match=r"cannot be yaw-rotated.*--yaw-rotated 0"):
        evaluate(folder, scenes_file, out, limit=2, options=EvaluationOptions(num_yaw_rotated=2))
    report = evaluate(folder, scenes_file, out, limit=2)
    assert report["score"]["count"] == 2
