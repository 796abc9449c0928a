"""A stage trains the modules of its row and changes no bit of any other."""

import pytest
import torch
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from panovlm.errors import PanoVLMError
from panovlm.stages import ABSENT, FROZEN, MODULES, STAGES, TRAINED
from panovlm.training.build import build_model
from panovlm.training.sections import LoraSection, ResamplerSection
from panovlm.training.trainable import apply_stage, module_of, report

LORA = LoraSection(rank=2, alpha=4.0)


def batch_for(model):
    generator = torch.Generator().manual_seed(0)
    batch = {"patch_tokens": torch.randn(2, 4, 16, 32, generator=generator)}
    if hasattr(model, "lm_head"):
        ids = torch.randint(3, 250, (2, 40), generator=generator)
        ids[:, 2:34] = model.config.image_token_id
        batch |= {"input_ids": ids, "labels": ids.masked_fill(ids == ids[0, 2], -100)}
    return batch


def take_step(model, batch):
    """Take one optimiser step; return the columns of the table in which a bit has changed."""
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    buffers = {name: b.clone() for name, b in model.named_buffers()}
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    model.train()
    model(**batch).loss.backward()
    optimiser.step()
    assert all(torch.equal(b, buffers[name]) for name, b in model.named_buffers())
    return {
        module_of(name)
        for name, parameter in model.named_parameters()
        if not torch.equal(parameter, before[name])
    }


@pytest.mark.parametrize("name", STAGES)
def test_one_step_changes_exactly_the_trained_columns(model_of_stage, name):
    stage, model = STAGES[name], model_of_stage(name)
    apply_stage(model, stage, LORA)
    assert take_step(model, batch_for(model)) == set(stage.trained_modules)


@pytest.mark.parametrize("name", STAGES)
def test_every_trained_parameter_gets_a_gradient_and_no_other(model_of_stage, name):
    stage, model = STAGES[name], model_of_stage(name)
    apply_stage(model, stage, LORA)
    model.train()(**batch_for(model)).loss.backward()
    for parameter_name, parameter in model.named_parameters():
        trains = stage.role(module_of(parameter_name)) is TRAINED
        assert (parameter.grad is not None) == trains, parameter_name


@pytest.mark.parametrize("name", STAGES)
def test_absent_modules_are_not_in_memory(model_of_stage, name):
    stage, model = STAGES[name], model_of_stage(name)
    apply_stage(model, stage, LORA)
    present = {module_of(parameter_name) for parameter_name, _ in model.named_parameters()}
    assert present == {module for module in MODULES if stage.role(module) is not ABSENT}


@pytest.mark.parametrize("name", STAGES)
def test_the_report_counts_every_parameter_in_one_column(model_of_stage, name):
    stage, model = STAGES[name], model_of_stage(name)
    apply_stage(model, stage, LORA)
    entries = report(model, stage)
    assert [entry.module for entry in entries] == list(MODULES)
    assert sum(entry.num_parameters for entry in entries) == model.num_parameters()
    for entry in entries:
        assert entry.role is stage.role(entry.module)
        expected = {TRAINED: entry.num_parameters, FROZEN: 0, ABSENT: 0}[entry.role]
        assert entry.num_trained == expected
        assert (entry.num_parameters == 0) == (entry.role is ABSENT)


def test_adapters_are_in_the_language_models_layers_alone(generator):
    apply_stage(generator, STAGES["finetune"], LORA)
    adapted = {n for n, _ in generator.named_parameters() if "lora_" in n}
    assert all(name.startswith("model.language_model.layers.") for name in adapted)
    linear = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    assert len(adapted) == 2 * 2 * len(linear)  # two layers, two matrices each
    assert all(any(f".{kind}.lora_" in name for name in adapted) for kind in linear)


@torch.no_grad()
def test_fresh_adapters_change_no_answer(generator):
    batch = batch_for(generator)
    expected = generator(**batch).loss
    apply_stage(generator, STAGES["finetune"], LORA)
    assert generator.eval()(**batch).loss == expected


def test_merged_adapters_leave_a_plain_model_with_the_same_answers(generator):
    keys = generator.state_dict().keys()
    batch = batch_for(generator)
    adapters = apply_stage(generator, STAGES["finetune"], LORA)
    take_step(generator, batch)
    with torch.no_grad():
        expected = generator.eval()(**batch).logits
        adapters.merge_and_unload()
        torch.testing.assert_close(generator(**batch).logits, expected, rtol=0, atol=1e-4)
    assert generator.state_dict().keys() == keys


def test_the_variant_without_adapters_has_none(generator):
    assert apply_stage(generator, STAGES["finetune"].without_lora(), LORA) is None
    assert not any("lora_" in name for name, _ in generator.named_parameters())


@pytest.mark.parametrize("kind", ["siglip", "siglip2", "clip", "dinov2", "efficientnet_lite"])
def test_the_last_vision_layers_train_in_the_variant_that_says_so(
    model_section, encoder_folder, kind
):
    views = model_section.views.model_copy(update={"view_size": 64 if "net" in kind else 32})
    resampler = ResamplerSection(num_layers=1, latent_size=16, token_rows=2, token_columns=2)
    changes = {"vision_encoder": str(encoder_folder(kind)), "views": views, "resampler": resampler}
    stage = STAGES["finetune"].without_lora().with_last_vision_layers(1)
    model = build_model(model_section.model_copy(update=changes), stage)
    apply_stage(model, stage, None)
    encoder = model.model.vision_encoder
    trained = {name for name, p in encoder.named_parameters() if p.requires_grad}
    last = max(
        (stack for stack in encoder.modules() if isinstance(stack, torch.nn.ModuleList)), key=len
    )[-1]
    expected = {
        name for name, p in encoder.named_parameters() if any(p is q for q in last.parameters())
    }
    assert trained == expected
    assert 0 < len(trained) < len(list(encoder.parameters()))


def test_an_encoder_that_trains_a_layer_changes_in_that_layer_alone(generator):
    apply_stage(generator, STAGES["finetune"].without_lora().with_last_vision_layers(1), None)
    batch = batch_for(generator)
    del batch["patch_tokens"]
    before = {n: p.detach().clone() for n, p in generator.model.vision_encoder.named_parameters()}
    take_step(generator, batch | {"pixel_values": torch.randn(2, 4, 3, 32, 32)})
    after = dict(generator.model.vision_encoder.named_parameters())
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved
    assert all(name.startswith("encoder.layers.1.") for name in moved)


def test_more_vision_layers_than_there_are_is_refused(generator):
    stage = STAGES["finetune"].without_lora().with_last_vision_layers(3)
    with pytest.raises(PanoVLMError, match="found vision_layers = 3, expected at most 2"):
        apply_stage(generator, stage, None)


@pytest.mark.parametrize("name", STAGES)
def test_layers_computed_again_give_the_same_gradients(model_of_stage, name):
    stage, model = STAGES[name], model_of_stage(name)
    apply_stage(model, stage, LORA)
    batch, runs = batch_for(model), []
    for layer in model.modules():
        if isinstance(layer, LlamaDecoderLayer):
            layer.mlp.register_forward_pre_hook(lambda *args: runs.append(1))

    def gradients():
        runs.clear()
        model.zero_grad()
        model.train()
        model(**batch).loss.backward()
        return {n: p.grad.clone() for n, p in model.named_parameters() if p.requires_grad}

    plain, num_plain = gradients(), len(runs)
    model.activation_checkpointing_enable()
    again, num_again = gradients(), len(runs)
    torch.testing.assert_close(again, plain)
    assert num_again == 2 * num_plain
