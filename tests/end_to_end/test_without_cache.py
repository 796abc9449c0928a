"""Runs whose frozen encoder is not cached: by the recipe, or for want of room."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from panovlm.data.token_shards import ENDING, count_pictures
from panovlm.errors import PanoVLMError
from panovlm.training import run
from panovlm.training.outputs import STAGE_FACTS
from panovlm.training.recipe import Recipe, StageSection

LIMIT = "PANOVLM_CACHE_LIMIT_GB"


@pytest.fixture
def one_stage(recipe: Recipe) -> Recipe:
    changes = {"from_backbones": True, "steps": 4}
    section = StageSection(**recipe.stages["resampler"].model_dump() | changes)
    return recipe.model_copy(update={"stages": {"resampler": section}})


def with_cache(recipe: Recipe, cache: str, output: Path) -> Recipe:
    return recipe.model_copy(update={"cache": cache, "output": output})


def kept(tmp_path: Path) -> int:
    return count_pictures((tmp_path / "cache").rglob(f"*{ENDING}"))


def weights(recipe: Recipe) -> dict[str, torch.Tensor]:
    return load_file(recipe.output / "resampler" / "model.safetensors")


def test_without_a_cache_the_same_is_learned_and_nothing_is_kept(
    one_stage: Recipe, tmp_path: Path
) -> None:
    runs = {cache: with_cache(one_stage, cache, tmp_path / cache) for cache in ("off", "on")}
    [off] = run.train(runs["off"], ["resampler"], resume=False)
    assert kept(tmp_path) == 0
    [on] = run.train(runs["on"], ["resampler"], resume=False)
    assert kept(tmp_path) == 3
    assert off.loss_first == pytest.approx(on.loss_first, abs=2e-3)  # float16 rounds
    assert off.loss_last == pytest.approx(on.loss_last, abs=2e-2)
    encoder = [name for name in weights(runs["off"]) if "vision_encoder" in name]
    assert encoder
    assert all(torch.equal(weights(runs["on"])[n], weights(runs["off"])[n]) for n in encoder)


def test_where_outputs_do_not_fit_the_run_goes_on_without_and_resumes_so(
    one_stage: Recipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    train_until: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    off = with_cache(one_stage, "off", tmp_path / "off")
    run.train(off, ["resampler"], resume=False)
    auto = with_cache(one_stage, "auto", tmp_path / "auto")
    monkeypatch.setenv(LIMIT, "1e-6")
    with pytest.raises(PanoVLMError, match=f"{LIMIT} allows .* set cache: off"):
        run.train(with_cache(one_stage, "on", tmp_path / "on"), ["resampler"], resume=False)
    train_until(auto, "resampler", 3)
    assert "the encoder runs in every step" in " ".join(capsys.readouterr().out.split())
    monkeypatch.delenv(LIMIT)  # there is room now, but the bits stay those of the beginning
    run.train(auto, ["resampler"], resume=True)
    assert kept(tmp_path) == 0
    facts = json.loads((auto.output / "resampler" / STAGE_FACTS).read_text())
    assert facts["cache"] == "off"
    assert all(torch.equal(weights(auto)[name], each) for name, each in weights(off).items())


def test_colours_change_in_every_epoch_where_pixels_are_read_and_resume_bit_for_bit(
    one_stage: Recipe, tmp_path: Path, train_until: Callable[..., None]
) -> None:
    plain = with_cache(one_stage, "off", tmp_path / "plain")
    section = one_stage.stages["resampler"].model_copy(update={"colour_jitter": 0.4})
    jittered = plain.model_copy(update={"stages": {"resampler": section}})
    [before] = run.train(plain, ["resampler"], resume=False)
    whole, stopped = (
        jittered.model_copy(update={"output": tmp_path / name}) for name in ("whole", "stopped")
    )
    [after] = run.train(whole, ["resampler"], resume=False)
    assert before.loss_first != after.loss_first
    train_until(stopped, "resampler", 3)
    run.train(stopped, ["resampler"], resume=True)
    found = weights(stopped)
    assert all(torch.equal(found[name], each) for name, each in weights(whole).items())


@pytest.mark.parametrize("cache", ["auto", "on"])
def test_changes_of_colours_are_refused_where_features_may_be_kept(
    one_stage: Recipe, cache: str
) -> None:
    data = one_stage.model_dump() | {"cache": cache}
    data["stages"]["resampler"]["colour_jitter"] = 0.2
    with pytest.raises(ValueError, match=f"found {cache} beside .*colour_jitter.* set cache: off"):
        Recipe.model_validate(data)
