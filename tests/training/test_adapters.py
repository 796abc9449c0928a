"""Adapters of every variant train beside a language model that never changes."""

import importlib.util
from contextlib import nullcontext

import pytest
import torch

from panovlm.data.packing import TokenSequence, collate, pack
from panovlm.errors import PanoVLMError
from panovlm.stages import STAGES
from panovlm.training.adapters import (
    is_adapter,
    read_adapters,
    without_input_copies,
    write_adapters,
)
from panovlm.training.sections import LoraSection
from panovlm.training.trainable import apply_stage, hold_frozen, report

FINETUNE = STAGES["finetune"]
ORIGIN = {"language_model": "tiny", "base": "none"}


def base_weights(model):
    """The language model's own weights, by the names they have without adapters."""
    language_model = {**dict(model.model.language_model.named_parameters()), "head": model.lm_head}
    return {
        name.replace(".base_layer", ""): value.weight if name == "head" else value
        for name, value in language_model.items()
        if not is_adapter(name)
    }


def train_a_little(model):
    """Train three steps on one conversation; return the loss before each."""
    sequence = TokenSequence([10, 11, 12, 13, 14, 15], [-100, -100, -100, 13, 14, 15])
    batch = collate([pack([sequence])], pad_id=0)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer, losses = torch.optim.AdamW(trained, lr=1e-2), []
    for _ in range(3):
        loss = model(**batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("variant", ["lora", "dora", "rslora"])
def test_adapters_learn_and_the_language_model_does_not_change(generator, variant):
    before = {name: w.detach().clone() for name, w in base_weights(generator).items()}
    apply_stage(generator, FINETUNE, LoraSection(rank=4, alpha=8, variant=variant))
    losses = train_a_little(generator.train())
    assert losses[-1] < losses[0] - 1e-3
    after = base_weights(generator)
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)


@pytest.mark.parametrize(("variant", "has_copies"), [("lora", False), ("dora", True)])
def test_without_copies_of_inputs_the_gradients_are_the_same(generator, variant, has_copies):
    lora = LoraSection(rank=4, alpha=8, variant=variant)
    apply_stage(generator, FINETUNE, lora)
    hold_frozen(generator.train(), torch.bfloat16)
    batch = collate([pack([TokenSequence([*range(10, 20)], [*range(10, 20)])])], pad_id=0)

    def outcome(context):
        kept = []
        hooks = torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t)
        generator.zero_grad()
        with context, hooks, torch.autocast("cpu", torch.bfloat16):
            loss = generator(**batch).loss
        loss.backward()
        gradients = [p.grad.clone() for p in generator.parameters() if p.grad is not None]
        storages = {each.untyped_storage().data_ptr(): each.nbytes for each in kept}
        return [loss.detach(), *gradients], sum(storages.values())

    expected, bytes_with_copies = outcome(nullcontext())
    found, num_bytes = outcome(without_input_copies(generator, lora))
    assert all(torch.equal(*each) for each in zip(found, expected, strict=True))
    assert (num_bytes < bytes_with_copies) != has_copies


@pytest.mark.parametrize(
    ("variant", "scale", "has_lengths"),
    [("lora", 2.0, False), ("rslora", 4.0, False), ("dora", 2.0, True)],
)
def test_each_variant_is_what_its_name_says(generator, variant, scale, has_lengths):
    apply_stage(generator, FINETUNE, LoraSection(rank=4, alpha=8, variant=variant))
    layer = generator.model.language_model.layers[0].self_attn.q_proj
    assert layer.scaling["default"] == scale
    names = [name for name, _ in generator.named_parameters()]
    assert any("lora_magnitude_vector" in name for name in names) is has_lengths
    rows = {row.module: row for row in report(generator, FINETUNE)}
    assert rows["lora"].num_trained == rows["lora"].num_parameters > 0
    assert rows["language_model"].num_trained == 0


@torch.no_grad()
def test_adapters_read_again_answer_alike(generator, model_of_stage, tmp_path):
    adapters = apply_stage(generator, FINETUNE, LoraSection(rank=4, alpha=8))
    with torch.enable_grad():
        train_a_little(generator)
    write_adapters(adapters, generator, tmp_path, ORIGIN)
    fresh = model_of_stage("finetune")
    read_adapters(fresh, tmp_path)
    ids = torch.arange(10, 20)[None]
    assert torch.equal(fresh.eval()(ids).logits, generator.eval()(ids).logits)


def test_adapters_of_another_architecture_are_refused(generator, model_of_stage, tmp_path):
    adapters = apply_stage(generator, FINETUNE, LoraSection())
    write_adapters(adapters, generator, tmp_path, ORIGIN)
    other = model_of_stage("finetune")
    other.model.projection.project = torch.nn.Linear(3, 3)
    with pytest.raises(PanoVLMError, match=r"another architecture: model\.projection\.project"):
        read_adapters(other, tmp_path)


def test_four_bits_without_bitsandbytes_say_what_to_install(generator, monkeypatch):
    monkeypatch.setattr("panovlm.training.adapters.find_spec", lambda name: None)
    with pytest.raises(PanoVLMError, match=r"pip install 'panovlm\[quantized\]'"):
        apply_stage(generator, FINETUNE, LoraSection(quantization="4bit"))


@pytest.mark.skipif(not importlib.util.find_spec("bitsandbytes"), reason="needs bitsandbytes")
def test_adapters_learn_beside_a_language_model_in_four_bits(generator):
    exact = generator.eval()(torch.arange(10, 20)[None]).logits.detach()
    apply_stage(generator, FINETUNE, LoraSection(rank=4, alpha=8, quantization="4bit"))
    layer = generator.model.language_model.layers[0].self_attn.q_proj.base_layer
    assert layer.weight.dtype == torch.uint8
    before = layer.weight.clone()
    coarse = generator.eval()(torch.arange(10, 20)[None]).logits
    assert 0 < (coarse - exact).abs().max() < 0.5 * exact.abs().max()
    losses = train_a_little(generator.train())
    assert losses[-1] < losses[0] - 1e-3
    assert torch.equal(layer.weight, before)


def test_only_the_layers_that_are_named_get_adapters(generator):
    apply_stage(generator, FINETUNE, LoraSection(target_modules=["q_proj", "o_proj"]))
    adapted = {name.split(".")[-4] for name, _ in generator.named_parameters() if "lora_A" in name}
    assert adapted == {"q_proj", "o_proj"}


def test_layers_that_do_not_exist_are_named(generator):
    wanted = LoraSection(target_modules=["q_proj", "query_key_value"])
    message = r"target_modules with query_key_value, expected .*: down_proj, .*q_proj"
    with pytest.raises(PanoVLMError, match=message):
        apply_stage(generator, FINETUNE, wanted)


@torch.no_grad()
def test_modules_to_save_train_as_a_whole_and_come_back(generator, model_of_stage, tmp_path):
    before = generator.model.language_model.norm.weight.clone()
    lora = LoraSection(rank=4, alpha=8, modules_to_save=("norm",))
    adapters = apply_stage(generator, FINETUNE, lora)
    with torch.enable_grad():
        train_a_little(generator)
    write_adapters(adapters, generator, tmp_path, ORIGIN)
    ids = torch.arange(10, 20)[None]
    expected = generator.eval()(ids).logits
    fresh = model_of_stage("finetune")
    merged = read_adapters(fresh, tmp_path)
    assert torch.equal(fresh.eval()(ids).logits, expected)
    merged.merge_and_unload()
    torch.testing.assert_close(fresh(ids).logits, expected)
    assert not torch.equal(fresh.model.language_model.norm.weight, before)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("norms", r"found lora\.modules_to_save with norms, expected names.*norm"),
        ("embed_tokens", "found lora.modules_to_save with embed_tokens in a language model whose"),
    ],
)
def test_modules_that_cannot_be_saved_are_refused(generator, name, message):
    with pytest.raises(PanoVLMError, match=message):
        apply_stage(generator, FINETUNE, LoraSection(modules_to_save=(name,)))
