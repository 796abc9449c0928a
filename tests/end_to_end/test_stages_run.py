"""Three tiny stages end to end: hand-over, resume, interruption, and a model that answers."""

import errno
import gc
import json
import math
import weakref
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoProcessor

from panovlm.data.cache import PatchTokenCache
from panovlm.data.filling import fill
from panovlm.data.token_shards import ENDING, count_pictures
from panovlm.errors import PanoVLMError
from panovlm.inference.answers import SamplingParams
from panovlm.inference.assistant import Assistant
from panovlm.inference.loading import model_folder
from panovlm.training import attention, run
from panovlm.training.log import read_log
from panovlm.training.outputs import STAGE_FACTS
from panovlm.training.recipe import Recipe
from panovlm.training.sections import LearningRates, LoraSection, OverlapSection
from panovlm.training.trainer import StageTrainer

ALL = ["vision", "resampler", "finetune"]


def weights(recipe: Recipe, stage: str) -> dict[str, torch.Tensor]:
    return load_file(recipe.output / stage / "model.safetensors")


def with_section(recipe: Recipe, stage: str, **changes: Any) -> Recipe:
    section = recipe.stages[stage].model_copy(update=changes)
    return recipe.model_copy(update={"stages": recipe.stages | {stage: section}})


def test_three_stages_run_and_the_model_answers(recipe: Recipe, scenes_file: Path) -> None:
    results = run.train(recipe, ALL, resume=False)
    assert [result.stage for result in results] == ALL
    assert all(math.isfinite(result.loss_last) for result in results)
    assert model_folder(recipe.output) == recipe.output / "finetune"
    assistant = Assistant.load(recipe.output)
    panorama = assistant.open(scenes_file.parent / "0.png")
    assert isinstance(
        assistant.ask(panorama, "What is behind me?", SamplingParams(max_tokens=4)), str
    )


def test_a_stage_begins_with_nothing_left_of_the_one_before(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    models: list[weakref.ref[torch.nn.Module]] = []
    left: list[int] = []
    original = StageTrainer.train

    def train(trainer: StageTrainer, **kwargs: Any) -> Any:
        left.append(sum(model() is not None for model in models))
        models.append(weakref.ref(trainer.model))
        return original(trainer, **kwargs)

    monkeypatch.setattr(StageTrainer, "train", train)
    gc.disable()
    try:
        run.train(recipe, ALL, resume=False)
    finally:
        gc.enable()
    assert left == [0, 0, 0]


def test_each_stage_continues_what_the_one_before_trained(recipe: Recipe) -> None:
    run.train(recipe, ["vision"], resume=False)
    frozen = with_section(
        recipe, "resampler", learning_rate=recipe.stages["resampler"].learning_rate, steps=1
    )
    before = weights(recipe, "vision")
    model = run._load_model(run.StageRun(frozen, "resampler"))
    own = model.state_dict()
    handed = [name for name in before if ".resampler." in name]
    assert handed
    assert all(torch.equal(own[name], before[name]) for name in handed)


LISTING = "front: red cube\nright: nothing\nback: nothing\nleft: blue cone"


@pytest.fixture
def recipe_with_words(recipe: Recipe, scenes_file: Path) -> Recipe:
    """Stage resampler on listings, of which the first three steps are on their words."""
    data = recipe.output.parent / "listings.jsonl"
    messages = [{"role": "user", "content": "What?"}, {"role": "assistant", "content": LISTING}]
    pictures = [str(scenes_file.parent / f"{number}.png") for number in range(3)]
    lines = [json.dumps({"image": picture, "messages": messages}) for picture in pictures]
    data.write_text("\n".join(lines))
    model = recipe.model.model_copy(update={"pooling": "slots", "slots": 3})
    changes = {"data": data, "from_backbones": True, "word_steps": 3, "roll": False}
    return with_section(recipe.model_copy(update={"model": model}), "resampler", **changes)


def test_steps_on_words_bring_image_tokens_to_them_and_then_the_text_is_learned(
    recipe_with_words: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[set[str]] = []
    original = StageTrainer.compute_loss

    def compute_loss(trainer: StageTrainer, model: Any, inputs: Any, **kwargs: Any) -> Any:
        seen.append(set(inputs))
        return original(trainer, model, inputs, **kwargs)

    monkeypatch.setattr(StageTrainer, "compute_loss", compute_loss)
    rates = {"resampler": 0.03, "projection": 0.03}
    long = {"steps": 44, "word_steps": 40, "learning_rate": LearningRates(**rates)}
    recipe = with_section(recipe_with_words, "resampler", **long)
    run.train(recipe, ["resampler"], resume=False)
    assert ["input_ids" in each for each in seen] == [False] * 40 + [True] * 4
    log = read_log(recipe.output / "logs" / "resampler.jsonl")
    losses = {entry["step"]: entry["loss"] for entry in log if "loss" in entry}
    assert losses[40] < 0.5 * losses[1]


def test_all_steps_may_be_on_words_at_another_temperature(
    recipe_with_words: Recipe, tmp_path: Path
) -> None:
    all_steps, first = {"steps": 4, "word_steps": 4, "save_steps": None}, []
    for temperature in (0.025, 0.1):
        output = tmp_path / str(temperature)
        recipe = recipe_with_words.model_copy(update={"output": output})
        recipe = with_section(recipe, "resampler", word_temperature=temperature, **all_steps)
        run.train(recipe, ["resampler"], resume=False)
        losses = [e for e in read_log(output / "logs" / "resampler.jsonl") if "loss" in e]
        assert losses[-1]["step"] == 4
        first.append(losses[0]["loss"])
    assert first[0] > 1.5 * first[1]  # the same tokens, told apart less sharply


def test_a_stage_stopped_in_its_steps_on_words_resumes_bit_for_bit(
    recipe_with_words: Recipe, tmp_path: Path, train_until: Callable[..., None]
) -> None:
    run.train(recipe_with_words, ["resampler"], resume=False)
    whole = weights(recipe_with_words, "resampler")
    again = recipe_with_words.model_copy(update={"output": tmp_path / "again"})
    train_until(again, "resampler", 3)
    run.train(again, ["resampler"], resume=True)
    resumed = weights(again, "resampler")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_steps_on_words_need_listings(recipe_with_words: Recipe, scenes_file: Path) -> None:
    recipe = with_section(recipe_with_words, "resampler", data=scenes_file)
    with pytest.raises(PanoVLMError, match="found word_steps = 3 and no line as `front: chair`"):
        run.train(recipe, ["resampler"], resume=False)


def test_a_stage_continues_the_stage_before_of_another_run(recipe: Recipe, tmp_path: Path) -> None:
    run.train(recipe, ["vision", "resampler"], resume=False)
    elsewhere = recipe.model_copy(update={"output": tmp_path / "elsewhere"})
    elsewhere = with_section(elsewhere, "resampler", from_run=recipe.output)
    run.train(elsewhere, ["resampler"], resume=False)
    own, other = weights(recipe, "resampler"), weights(elsewhere, "resampler")
    assert all(torch.equal(own[name], other[name]) for name in own)
    assert not (elsewhere.output / "vision").exists()


def test_adapters_of_one_stage_are_in_the_model_that_the_next_continues(recipe: Recipe) -> None:
    lora = LoraSection(rank=2, target_modules=["q_proj", "v_proj"])
    recipe = with_section(recipe, "resampler", lora=lora, from_backbones=True)
    layer = "model.language_model.layers.0.self_attn.{}.weight".format
    before = run._load_model(run.StageRun(recipe, "resampler")).state_dict()
    run.train(recipe, ["resampler"], resume=False)
    written = weights(recipe, "resampler")
    assert not torch.equal(written[layer("q_proj")], before[layer("q_proj")])
    assert torch.equal(written[layer("k_proj")], before[layer("k_proj")])
    continued = run._load_model(run.StageRun(recipe, "finetune")).state_dict()
    assert all(torch.equal(continued[name], each) for name, each in written.items())


@pytest.mark.parametrize("stage", ["resampler", "finetune"])
def test_what_is_frozen_trains_in_bf16_and_is_written_whole(
    recipe: Recipe, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe.model_copy(update={"dtype": "bf16"})
    recipe = with_section(recipe, stage, from_backbones=True, steps=2)
    built = run._build(run.StageRun(recipe, stage))[0].state_dict()
    seen: dict[str, torch.Tensor] = {}
    original = StageTrainer.train

    def train(trainer: StageTrainer, **kwargs: Any) -> Any:
        seen.update(trainer.model.named_parameters())
        return original(trainer, **kwargs)

    monkeypatch.setattr(StageTrainer, "train", train)
    run.train(recipe, [stage], resume=False)
    frozen = {name for name, each in seen.items() if not each.requires_grad and each.numel()}
    assert {name for name, each in seen.items() if each.dtype == torch.bfloat16} == frozen
    written, key = weights(recipe, stage), "model.language_model.embed_tokens.weight"
    assert torch.equal(written[key], built[key])
    assert not torch.equal(written[key], built[key].bfloat16().float())
    layer = "model.language_model.layers.0.mlp.up_proj"
    before = built.get(f"{layer}.weight", built.get(f"{layer}.base_layer.weight"))
    assert torch.equal(written[f"{layer}.weight"], before) == (stage == "resampler")


def test_frozen_encoder_runs_once_for_all_stages(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled: list[int] = []

    def record(cache: PatchTokenCache, pictures: Any, *args: Any) -> list[str]:
        filled.append(len(pictures))
        return fill(cache, pictures, *args)

    monkeypatch.setattr("panovlm.training.sources.fill", record)
    run.train(recipe, ALL, resume=False)
    assert filled == [3]


@pytest.mark.parametrize("stage", ALL)
def test_resumed_run_equals_the_uninterrupted_one_bit_for_bit(
    recipe: Recipe, stage: str, tmp_path: Path, train_until: Callable[..., None]
) -> None:
    before = ALL[: ALL.index(stage)]
    run.train(recipe, before, resume=False)
    run.train(recipe, [stage], resume=False)
    whole, log = weights(recipe, stage), read_log(run.log_file(recipe, stage))
    train_until(recipe, stage, 3)
    (recipe.output / stage / "stage.json").unlink()
    run.train(recipe, [stage], resume=True)
    resumed = weights(recipe, stage)
    assert resumed.keys() == whole.keys()
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)
    assert [e["loss"] for e in read_log(run.log_file(recipe, stage))] == [e["loss"] for e in log]


def test_a_resumed_run_keeps_the_attention_that_was_faster_when_it_began(
    recipe: Recipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    train_until: Callable[..., None],
) -> None:
    recipe = with_section(recipe, "finetune", from_backbones=True)

    def outcome(longest: int, *, stopped_before: int | None = None) -> dict[str, torch.Tensor]:
        output = tmp_path / f"{longest} {stopped_before}"
        own = recipe.model_copy(update={"dtype": "bf16", "output": output})
        if stopped_before is not None:
            monkeypatch.setattr(attention, "longest_plain", lambda _: stopped_before)
            train_until(own, "finetune", 3)
        monkeypatch.setattr(attention, "longest_plain", lambda _: longest)
        run.train(own, ["finetune"], resume=stopped_before is not None)
        return weights(own, "finetune")

    fused, plain = outcome(0), outcome(1024)
    resumed = outcome(1024, stopped_before=0)
    assert all(torch.equal(resumed[name], fused[name]) for name in fused)
    assert not all(torch.equal(plain[name], fused[name]) for name in fused)


def test_workers_and_layers_computed_again_change_no_result(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = ["vision", "resampler"]
    run.train(recipe, chosen, resume=False)
    plain = weights(recipe, "resampler")
    other = recipe.model_copy(update={"workers": 1, "activation_checkpointing": True})
    run.train(other, chosen, resume=False)
    found = weights(other, "resampler")
    assert all(torch.allclose(found[name], plain[name], atol=1e-6) for name in plain)


def test_interrupted_stage_leaves_the_earlier_result_whole(
    recipe: Recipe, train_until: Callable[..., None]
) -> None:
    run.train(recipe, ["vision"], resume=False)
    before = weights(recipe, "vision")
    train_until(recipe, "vision", 2)
    after = weights(recipe, "vision")
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_finished_stage_is_skipped_on_resume_and_redone_with_other_settings(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.train(recipe, ["vision"], resume=False)
    built: list[str] = []
    original = run._load_model
    monkeypatch.setattr(
        run, "_load_model", lambda *args: (built.append(args[0].name), original(*args))[1]
    )
    run.train(recipe, ["vision"], resume=True)
    assert built == []
    run.train(with_section(recipe, "vision", steps=7), ["vision"], resume=True)
    assert built == ["vision"]


def test_stage_is_redone_when_the_one_before_was(recipe: Recipe) -> None:
    run.train(recipe, ["vision", "resampler"], resume=False)
    before = weights(recipe, "resampler")
    run.train(with_section(recipe, "vision", steps=7), ["vision", "resampler"], resume=True)
    after = weights(recipe, "resampler")
    assert any(not torch.equal(after[name], before[name]) for name in before)


def test_other_views_than_the_stage_before_are_refused(recipe: Recipe) -> None:
    run.train(recipe, ["vision"], resume=False)
    views = recipe.model.views.model_copy(update={"fov_deg": 140.0})
    other = recipe.model_copy(update={"model": recipe.model.model_copy(update={"views": views})})
    with pytest.raises(PanoVLMError, match=r"model\.views"):
        run.train(other, ["resampler"], resume=False)


def test_checkpoint_cut_short_is_passed_over(
    recipe: Recipe, train_until: Callable[..., None]
) -> None:
    run.train(recipe, ["vision"], resume=False)
    whole = weights(recipe, "vision")
    train_until(recipe, "vision", 5)
    (recipe.output / "checkpoints" / "vision" / "checkpoint-4" / "trainer_state.json").unlink()
    (recipe.output / "vision" / "stage.json").unlink()
    run.train(recipe, ["vision"], resume=True)
    resumed = weights(recipe, "vision")
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)


def test_full_disk_while_writing_a_checkpoint_says_what_to_do(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any, **kwargs: Any) -> None:
        raise SafetensorError("No space left on device (os error 28)")

    monkeypatch.setattr("panovlm.training.trainer.save_file", full)
    with pytest.raises(PanoVLMError, match=r"cannot write a checkpoint.*--resume"):
        run.train(recipe, ["vision"], resume=False)


@pytest.mark.parametrize("change", [{"pooling": "mean"}, {"view_words": False}])
def test_other_forms_of_the_prompt_train_as_well(recipe: Recipe, change: dict[str, Any]) -> None:
    other = recipe.model_copy(update={"model": recipe.model.model_copy(update=change)})
    assert len(run.train(other, ["vision", "resampler"], resume=False)) == 2


def test_full_disk_while_saving_leaves_the_earlier_output_whole(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.train(recipe, ["vision"], resume=False)
    before = weights(recipe, "vision")

    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("panovlm.model.processing.PanoVLMProcessor.save_pretrained", full)
    with pytest.raises(PanoVLMError, match=r"cannot write the finished stage.*No space.*--resume"):
        run.train(recipe, ["vision"], resume=False)
    after = weights(recipe, "vision")
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_stage_without_its_predecessor_is_refused(recipe: Recipe) -> None:
    with pytest.raises(PanoVLMError, match=r"starts from stage 'vision'.*--stage vision"):
        run.train(recipe, ["resampler"], resume=False)


def test_stage_missing_from_the_recipe_is_refused(recipe: Recipe) -> None:
    lacking = recipe.model_copy(update={"stages": {"vision": recipe.stages["vision"]}})
    with pytest.raises(PanoVLMError, match=r"no section stages\.finetune"):
        run.train(lacking, ["finetune"], resume=False)


def test_checkpoint_of_other_settings_is_refused(
    recipe: Recipe, train_until: Callable[..., None]
) -> None:
    train_until(recipe, "vision", 3)
    resampler = recipe.model.resampler.model_copy(update={"latent_size": 20})
    other = recipe.model_copy(
        update={"model": recipe.model.model_copy(update={"resampler": resampler})}
    )
    expected = r"with other settings \(model\.resampler\.latent_size\); continue"
    with pytest.raises(PanoVLMError, match=expected):
        run.train(other, ["vision"], resume=True)


def test_an_unfinished_later_stage_is_found_before_any_trains(
    recipe: Recipe, train_until: Callable[..., None]
) -> None:
    run.train(recipe, ["vision"], resume=False)
    train_until(recipe, "resampler", 3)
    finished = (recipe.output / "vision" / STAGE_FACTS).read_bytes()
    for changes, message in (({}, "add --resume"), ({"weight_decay": 0.1}, "section.weight_decay")):
        section = recipe.stages["resampler"].model_copy(update=changes)
        changed = recipe.model_copy(update={"stages": recipe.stages | {"resampler": section}})
        with pytest.raises(PanoVLMError, match=message):
            run.train(changed, ["vision", "resampler"], resume=False)
    assert (recipe.output / "vision" / STAGE_FACTS).read_bytes() == finished


def test_unfinished_run_is_not_begun_anew_by_mistake(
    recipe: Recipe, train_until: Callable[..., None]
) -> None:
    train_until(recipe, "vision", 3)
    with pytest.raises(PanoVLMError, match="add --resume to continue it"):
        run.train(recipe, ["vision"], resume=False)


def test_invalid_pictures_are_listed_together_before_training(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "square.png")
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    names = ["square.png", "broken.jpg"]
    data = tmp_path / "invalid.jsonl"
    data.write_text("".join(json.dumps({"image": name}) + "\n" for name in names))
    monkeypatch.setattr(StageTrainer, "train", lambda *a, **k: pytest.fail("training began"))
    with pytest.raises(PanoVLMError) as caught:
        run.train(with_section(recipe, "vision", data=data), ALL, resume=False)
    assert all(name in str(caught.value) for name in names)


def test_missing_pictures_are_listed_before_training(recipe: Recipe, tmp_path: Path) -> None:
    data = tmp_path / "missing.jsonl"
    data.write_text(json.dumps({"image": "nowhere.png"}) + "\n")
    with pytest.raises(PanoVLMError, match=r"nowhere\.png"):
        run.train(with_section(recipe, "vision", data=data), ["vision"], resume=False)


def in_fine_steps(scenes_file: Path, out: Path, num_pictures: int) -> Path:
    """The same records, those of the first pictures with a response for each of 24 rotations."""
    lines = [json.loads(line) for line in scenes_file.read_text().splitlines()]
    for line in lines:
        if int(Path(line["image"]).stem) < num_pictures:
            line["rolled_responses"] = [r for r in line["rolled_responses"] for _ in range(3)]
        line["image"] = str(scenes_file.parent / line["image"])
    out.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return out


@pytest.mark.parametrize("known", [3, 1])
def test_fine_steps_encode_each_picture_with_responses_for_them_once_more(
    recipe: Recipe, scenes_file: Path, tmp_path: Path, known: int
) -> None:
    data = in_fine_steps(scenes_file, tmp_path / "fine.jsonl", known)
    changes = {"data": data, "yaw_steps_per_view": 3, "from_backbones": True}
    recipe = with_section(recipe, "resampler", **changes)
    [result] = run.train(recipe, ["resampler"], resume=False)
    assert math.isfinite(result.loss_last)
    counts: Counter[str] = Counter()
    for file in (tmp_path / "cache").rglob(f"*{ENDING}"):
        counts[file.parent.name.partition("-")[2]] += count_pictures([file])
    assert counts == {"": 3, "yaw-30": known, "yaw-60": known}


def test_fine_steps_without_responses_for_them_are_refused(recipe: Recipe) -> None:
    changes = {"yaw_steps_per_view": 5, "from_backbones": True}
    with pytest.raises(PanoVLMError, match=r"yaw_steps_per_view = 5, but no record.* of 20 rotati"):
        run.train(with_section(recipe, "resampler", **changes), ["resampler"], resume=False)


def test_too_long_conversations_are_listed_before_training(
    recipe: Recipe, tmp_path: Path, scenes_file: Path
) -> None:
    run.train(recipe, ["vision"], resume=False)
    record = json.loads(scenes_file.read_text().splitlines()[0])
    record["image"] = str(scenes_file.parent / record["image"])
    record["messages"][1]["content"] = "long " * 400
    del record["rolled_responses"]
    data = tmp_path / "long.jsonl"
    data.write_text(json.dumps(record) + "\n")
    with pytest.raises(PanoVLMError, match="tokens too many for 1024"):
        run.train(with_section(recipe, "resampler", data=data), ["resampler"], resume=False)


def test_loss_that_is_no_number_stops_with_the_fix(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        PatchTokenCache, "load", lambda self, picture: torch.full((4, 16, 32), math.nan)
    )
    undiagnosed = with_section(recipe, "vision", overlap=OverlapSection(held_out=0))
    with pytest.raises(PanoVLMError, match=r"loss became nan by step 1.*learning rates"):
        run.train(undiagnosed, ["vision"], resume=False)
    assert not list((recipe.output / "checkpoints" / "vision").glob("checkpoint-*"))


def test_last_vision_layers_train_on_what_those_below_gave_once(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.train(recipe, ["vision", "resampler"], resume=False)
    unfrozen = with_section(recipe, "finetune", vision_layers=1)
    keys: list[str] = []

    def record(cache: PatchTokenCache, pictures: Any, *args: Any) -> list[str]:
        keys.append(cache.key)
        return fill(cache, pictures, *args)

    monkeypatch.setattr("panovlm.training.sources.fill", record)
    run.train(unfrozen, ["finetune"], resume=False)
    assert keys == ["lower_states"]
    before, after = weights(recipe, "resampler"), weights(unfrozen, "finetune")
    layer = "model.vision_encoder.encoder.layers.{}.mlp.fc1.weight"
    assert torch.equal(before[layer.format(0)], after[layer.format(0)])
    assert not torch.equal(before[layer.format(1)], after[layer.format(1)])


def test_an_encoder_that_cannot_be_cut_trains_from_the_pictures_themselves(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run.train(recipe, ["vision", "resampler"], resume=False)
    monkeypatch.setattr("panovlm.data.cache.can_be_cut", lambda *args: False)
    run.train(with_section(recipe, "finetune", vision_layers=1), ["finetune"], resume=False)
    assert "cannot be cut below the layers that train" in capsys.readouterr().out


def test_output_opens_through_the_auto_classes(recipe: Recipe) -> None:
    run.train(recipe, ["vision", "resampler"], resume=False)
    folder = recipe.output / "resampler"
    assert AutoProcessor.from_pretrained(folder).image_tokens_per_view == 8
    assert AutoModelForImageTextToText.from_pretrained(folder).config.num_views == 4


@pytest.mark.parametrize("stage", ["resampler", "finetune"])
def test_accumulated_batches_train_as_one_large_batch(recipe: Recipe, stage: str) -> None:
    run.train(recipe, ALL[: ALL.index(stage)], resume=False)
    curves = []
    for batch_size, accumulation in ((2, 1), (1, 2)):
        shared = {"batch_size": batch_size, "accumulation": accumulation}
        run.train(with_section(recipe, stage, **shared), [stage], resume=False)
        curves.append([entry["loss"] for entry in read_log(run.log_file(recipe, stage))])
    assert curves[1] == pytest.approx(curves[0], abs=1e-5)


def test_classes_are_swapped_for_encoders_of_named_classes_alone(recipe: Recipe) -> None:
    with pytest.raises(PanoVLMError, match=r"found class_swap = 0\.5 beside an encoder"):
        run.train(with_section(recipe, "vision", class_swap=0.5), ["vision"], resume=False)
    stages = ["vision", "resampler", "finetune"]
    layers = with_section(recipe, "finetune", class_swap=0.5, vision_layers=1)
    with pytest.raises(PanoVLMError, match=r"class_swap = 0\.5 beside vision_layers; set "):
        run.train(layers, stages, resume=False)
