"""Options of a recipe reach the run: optimizer, schedule, projection, attention, compiling."""

import math
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoTokenizer

from panovlm.inference.answers import SamplingParams
from panovlm.inference.assistant import Assistant
from panovlm.training import run
from panovlm.training.attention import compile_layers
from panovlm.training.log import read_log
from panovlm.training.recipe import Recipe
from panovlm.training.sections import LearningRates, OptimizerSection

Weights = dict[str, torch.Tensor]


def trained(
    recipe: Recipe, stage: str = "resampler", **changes: Any
) -> tuple[Weights, list[float]]:
    """Weights and losses of a stage of four steps, trained from the backbones."""
    short = {"steps": 4, "from_backbones": True, "save_steps": None} | changes
    section = recipe.stages[stage].model_copy(update=short)
    changed = recipe.model_copy(update={"stages": {stage: section}})
    run.train(changed, [stage], resume=False)
    losses = [entry["loss"] for entry in read_log(run.log_file(changed, stage))]
    return load_file(changed.output / stage / "model.safetensors"), losses


def equal(found: Weights, expected: Weights) -> bool:
    return found.keys() == expected.keys() and all(
        torch.equal(found[k], expected[k]) for k in found
    )


def test_optimizer_schedule_and_clipping_are_the_recipes(recipe: Recipe) -> None:
    plain, losses = trained(recipe)
    written_out = {
        "optimizer": OptimizerSection(type="adamw_torch", betas=(0.9, 0.999), epsilon=1e-8),
        "schedule": "cosine",
        "warmup": 0.05,
        "max_grad_norm": 1.0,
    }
    assert equal(trained(recipe, **written_out)[0], plain)
    for change in (
        {"optimizer": OptimizerSection(betas=(0.5, 0.9))},
        {"optimizer": OptimizerSection(type="adafactor")},
        {"schedule": "constant"},
        {"schedule": "warmup_stable_decay", "schedule_options": {"num_decay_steps": 2}},
        {"warmup": 3},
        {"max_grad_norm": None, "optimizer": OptimizerSection(epsilon=1.0)},
    ):
        weights, found = trained(recipe, **change)
        assert math.isfinite(found[-1]), change
        assert found[0] == losses[0], change
        assert not equal(weights, plain), change


def test_rates_follow_the_schedule(recipe: Recipe) -> None:
    options = {"schedule": "warmup_stable_decay", "schedule_options": {"num_decay_steps": 2}}
    rates = LearningRates(resampler=1e-3, projection=2e-3)
    section = recipe.stages["resampler"].model_copy(
        update={"from_backbones": True, "warmup": 2, "learning_rate": rates, **options}
    )
    changed = recipe.model_copy(update={"stages": {"resampler": section}})
    run.train(changed, ["resampler"], resume=False)
    log = read_log(run.log_file(changed, "resampler"))
    assert [e["learning_rate/resampler"] for e in log][:5] == [0, 5e-4, 1e-3, 1e-3, 1e-3]
    assert all(e["learning_rate/projection"] == 2 * e["learning_rate/resampler"] for e in log)
    assert log[5]["learning_rate/resampler"] < 1e-3


def test_the_language_model_trains_as_a_whole(recipe: Recipe) -> None:
    weights, losses = trained(recipe, "finetune", train_language_model=True)
    frozen, _ = trained(recipe, "finetune", lora=None)
    changed = {name for name in weights if not torch.equal(weights[name], frozen[name])}
    assert "model.language_model.layers.0.self_attn.q_proj.weight" in changed
    assert "model.language_model.embed_tokens.weight" in changed
    assert not any(name.startswith("model.vision_encoder") for name in changed)
    assert math.isfinite(losses[-1])
    assert not (recipe.output / "finetune" / "adapter").exists()


@pytest.mark.parametrize("projection", ["linear", "mlp"])
@pytest.mark.parametrize("pooling", ["concat", "slots"])
def test_either_projection_trains_and_opens_again(
    recipe: Recipe, projection: str, pooling: str
) -> None:
    changes = {"projection": projection, "pooling": pooling}
    changed = recipe.model_copy(update={"model": recipe.model.model_copy(update=changes)})
    weights, _ = trained(changed)
    assert ("model.projection.widen.weight" in weights) == (projection == "mlp")
    model = AutoModelForImageTextToText.from_pretrained(changed.output / "resampler")
    assert model.config.projection_type == projection
    table = model.model.projection.position_table()
    assert torch.equal(model.model.projection.positions, table)


def test_attention_and_compiled_layers_change_no_result(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, losses = trained(recipe)
    eager = recipe.model_copy(update={"attention": "eager"})
    weights, found = trained(eager)
    assert found == pytest.approx(losses, abs=1e-5)
    # The compiler's own code needs minutes; what it is given to compile is the same without it.
    calls: list[object] = []
    original = torch.nn.Module.compile
    monkeypatch.setattr(
        torch.nn.Module, "compile", lambda m, **o: (calls.append(m), original(m, **o))[1]
    )
    monkeypatch.setattr(run, "compile_layers", partial(compile_layers, backend="eager"))
    weights, found = trained(recipe.model_copy(update={"compile": True}))
    assert found == pytest.approx(losses, abs=1e-5)
    assert weights.keys() == plain.keys()
    assert len(calls) == 3  # a block of the resampler, two layers of the language model


GEMMA = """{{ bos_token }}{% for message in messages %}
{%- set role = 'model' if message['role'] == 'assistant' else message['role'] %}
{{- '<start_of_turn>' + role + '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}
{%- endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"""


def test_a_language_model_trains_and_answers_in_its_own_chat_template(
    recipe: Recipe, scenes_file: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(recipe.model.language_model, tmp_path / "gemma"))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ends = ["<start_of_turn>", "<end_of_turn>"]
    tokenizer.add_special_tokens({"extra_special_tokens": ends}, replace_extra_special_tokens=False)
    tokenizer.bos_token, tokenizer.chat_template = "<|endoftext|>", GEMMA
    tokenizer.save_pretrained(folder)
    changes = {"language_model": str(folder), "chat_template": "own"}
    changed = recipe.model_copy(update={"model": recipe.model.model_copy(update=changes)})
    trained(changed, "finetune")
    assistant = Assistant.load(changed.output / "finetune")
    config = AutoModelForImageTextToText.from_pretrained(changed.output / "finetune")
    end = tokenizer.convert_tokens_to_ids("<end_of_turn>")
    assert end in config.generation_config.eos_token_id
    panorama = assistant.open(scenes_file.parent / "0.png")
    assert isinstance(assistant.ask(panorama, "Where?", SamplingParams(max_tokens=3)), str)
