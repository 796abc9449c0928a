"""Trained weights alone: a small folder makes the trained model again, and is known by its name."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from panovlm.errors import PanoVLMError
from panovlm.exporting.trained_only import export_trained_only
from panovlm.inference import names, trained_only
from panovlm.inference.answers import SamplingParams
from panovlm.inference.assistant import Assistant
from panovlm.inference.loading import load_model
from panovlm.inference.trained_only import check_digests, write_digests
from panovlm.training import run
from panovlm.training.recipe import Recipe
from panovlm.training.recipe_file import load_recipe, parse_recipe
from panovlm.training.sections import ModelSection
from panovlm.training.trainable import module_of

QUESTIONS = ("What is behind me?", "Where is it?", "How many?")
TEXT_STAGES = ["resampler", "finetune"]
Train = Callable[..., Path]


@pytest.fixture(scope="module")
def train(
    tmp_path_factory: pytest.TempPathFactory, model_section: ModelSection, scenes_file: Path
) -> Iterator[Train]:
    """Trains a stage after the other for two steps; returns the run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PANOVLM_CACHE", str(tmp_path_factory.mktemp("cache")))

        def trained(model: dict[str, Any], **sections: dict[str, Any]) -> Path:
            rates = {"resampler": 1e-2, "projection": 1e-2, "lora": 1e-2, "vision_encoder": 1e-2}
            shared = {"data": str(scenes_file), "steps": 2, "batch_size": 2}
            shared |= {"learning_rate": rates, "warmup": 0}
            stages = {name: shared | sections.get(name, {}) for name in TEXT_STAGES}
            stages["resampler"]["from_backbones"] = True
            recipe = {
                "output": str(tmp_path_factory.mktemp("runs") / "run"),
                "model": model_section.model_dump(mode="json") | model,
                "stages": stages,
                "dtype": "fp32",
            }
            run.train(parse_recipe(recipe, "the test"), TEXT_STAGES, resume=False)
            return Path(recipe["output"])

        yield trained


@pytest.fixture(scope="module")
def plain(train: Train) -> Path:
    """A run with adapters in its last stage."""
    return train({}, finetune={"lora": {"rank": 4, "alpha": 8}})


@pytest.fixture(scope="module")
def written(plain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its trained weights alone."""
    folder = tmp_path_factory.mktemp("written") / "small"
    export_trained_only(plain, folder, "The card.", "output: runs/small")
    return folder


@pytest.fixture
def small(written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of them, as the pretrained model `small`."""
    monkeypatch.setattr(names, "PRETRAINED", tmp_path / "pretrained")
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(written, tmp_path / "pretrained" / "small"))


def change(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("model", "sections"),
    [
        ({}, {"finetune": {"lora": {"rank": 4, "variant": "dora"}, "vision_layers": 1}}),
        ({"tied": True}, {"resampler": {"lora": {"rank": 2}}, "finetune": {"lora": {"rank": 2}}}),
        ({"tied": False}, {"finetune": {"lora": None}}),
    ],
    ids=["dora and a vision layer", "two adapters and a new word", "none and a new word, untied"],
)
def test_the_model_is_made_again_of_every_kind_of_run(
    train: Train,
    language_model_folder: Callable[..., Path],
    tmp_path: Path,
    model: dict[str, Any],
    sections: dict[str, Any],
) -> None:
    if model:  # whose vocabulary has no room for the mark of pictures
        model = {"language_model": str(language_model_folder(**model, vocab_size=259))}
    trained = train(model, **sections)
    export_trained_only(trained, tmp_path / "small", "", "")
    whole, again = (load_model(path, "fp32")[0] for path in (trained, tmp_path / "small"))
    found = again.state_dict()
    assert found.keys() == whole.state_dict().keys()
    for name, expected in whole.state_dict().items():
        error = (found[name] - expected).norm() / expected.norm().clamp(min=1e-9)
        assert error <= 2**-8, name  # what bf16 rounds off, if every weight was rounded
        if module_of(name) in ("resampler", "projection"):
            rounded = expected.bfloat16().float() if expected.dim() > 1 else expected
            assert torch.equal(found[name], rounded)
    assert again.generation_config == whole.generation_config


def test_answers_are_those_of_the_whole_model(plain: Path, small: Path, scenes_file: Path) -> None:
    sampling = SamplingParams(max_tokens=8)
    answers = []
    for model in (plain, "small"):
        assistant = Assistant.load(model, dtype="fp32")
        panorama = assistant.open(scenes_file.parent / "0.png")
        answers.append([assistant.ask(panorama, question, sampling) for question in QUESTIONS])
    assert answers[0] == answers[1] and len({*answers[0]}) > 1


def test_8_bits_answer_alike_within_their_rounding(plain: Path, tmp_path: Path) -> None:
    export_trained_only(plain, tmp_path / "small", "", "", "int8")
    tensors = load_file(tmp_path / "small" / "trained.safetensors")
    assert {tensor.dtype for tensor in tensors.values() if tensor.dim() > 1} == {torch.int8}
    whole, again = (load_model(path, "fp32")[0] for path in (plain, tmp_path / "small"))
    found = again.state_dict()
    for name, expected in whole.state_dict().items():
        if module_of(name) in ("resampler", "projection"):
            largest = expected.flatten(1).abs().amax(1) if expected.dim() > 1 else expected
            step = (largest / 127).view(-1, *[1] * (expected.dim() - 1))
            assert ((found[name] - expected).abs() <= step.abs() * 0.51).all(), name


def test_the_folder_holds_no_backbone_and_no_weight_in_more_than_bf16(
    plain: Path, small: Path
) -> None:
    tensors = load_file(small / "trained.safetensors")
    assert {module_of(name) for name in tensors} == {"resampler", "projection"}
    tensors |= load_file(small / "adapters" / "finetune" / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in tensors.values() if tensor.dim() > 1} == {torch.bfloat16}
    facts = json.loads((small / "stage.json").read_text())
    assert facts["backbones"] == {"vision_encoder": None, "language_model": None}


def test_commands_take_a_model_by_its_name(
    small: Path, scenes_file: Path, run_cli: Callable[..., tuple[int, str, str]]
) -> None:
    picture = scenes_file.parent / "0.png"
    code, said, _ = run_cli("ask", "small", picture, QUESTIONS[0], "--max-tokens", 4)
    assert code == 0 and said.strip()
    report = small.parent / "report.json"
    options = ("--data", scenes_file, "--out", report, "--limit", 2)
    code, _, errors = run_cli("evaluate", "small", *options, "--yaw-rotated", 0, "--ablated", 0)
    assert code == 0, errors
    code, _, errors = run_cli("export", "small", small.parent / "whole")
    assert code == 0, errors
    assert Assistant.load(small.parent / "whole", dtype="fp32")


def test_names_are_listed_where_there_is_none_of_that_name(small: Path) -> None:
    with pytest.raises(PanoVLMError, match=r"no answering model in big.*pretrained model: small;"):
        load_model("big")
    (small.parent.parent / "small").mkdir()
    with pytest.raises(PanoVLMError, match="small here hides that of the same name, rename it"):
        load_model("small")


def test_a_folder_in_the_working_directory_comes_before_a_name(small: Path, plain: Path) -> None:
    (small.parent.parent / "small").symlink_to(plain)
    (small / "trained.safetensors").unlink()
    load_model("small")


@pytest.mark.parametrize("file", ["trained.safetensors", "stage.json", "recipe.yaml"])
def test_a_damaged_folder_is_refused(small: Path, file: str) -> None:
    (small / "README.md").write_text("A card may be written on.")
    check_digests(small)
    change(small / file)
    with pytest.raises(PanoVLMError, match=rf"{file} has SHA-256 \w+, expected \w+ by SHA256SUMS"):
        load_model("small")
    (small / file).unlink()
    with pytest.raises(PanoVLMError, match=f"{file} has SHA-256 none: it is missing"):
        load_model("small")


def test_adapters_that_were_added_are_refused(small: Path) -> None:
    (small / "adapters" / "finetune" / "more.bin").write_bytes(b"pickle")
    with pytest.raises(PanoVLMError, match=r"more\.bin has .*expected no such file"):
        load_model("small")


def test_weights_of_another_architecture_are_refused(small: Path) -> None:
    save_file({"model.nowhere": torch.ones(2)}, small / "trained.safetensors")
    write_digests(small)
    with pytest.raises(PanoVLMError, match=r"model\.nowhere does not fit"):
        load_model("small")


def test_backbones_of_another_build_are_refused(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trained_only, "backbone_facts", lambda name: {"conversion": 2})
    with pytest.raises(PanoVLMError, match=r"built from None, this version .*'conversion': 2"):
        load_model("small")


def test_a_language_model_that_changed_otherwise_is_refused(train: Train, tmp_path: Path) -> None:
    trained = train({})
    file = trained / "finetune" / "model.safetensors"
    tensors = load_file(file)
    name = next(name for name in tensors if name.endswith("k_proj.weight"))
    save_file(tensors | {name: tensors[name] + 1e-2}, file, metadata={"format": "pt"})
    with pytest.raises(PanoVLMError, match=r"do not make \(off by .*nothing was written"):
        export_trained_only(trained, tmp_path / "small", "", "")
    assert not (tmp_path / "small").exists()


def test_the_command_writes_card_and_recipe_of_the_run(
    plain: Path, tmp_path: Path, run_cli: Callable[..., tuple[int, str, str]]
) -> None:
    about = tmp_path / "about.md"
    about.write_text("Rendered by hand.")
    out = tmp_path / "tiny"
    options = ("--trained-only", "--dtype", "int8", "--license", "mit", "--about", about)
    code, said, errors = run_cli("export", plain, out, *options)
    assert code == 0, errors
    assert f"MB written to {out}" in said
    card = (out / "README.md").read_text()
    assert "license: mit" in card and "Rendered by hand." in card
    assert "panovlm ask tiny panorama.jpg" in card and "panovlm train recipe.yaml" in card
    assert "panovlm export runs/tiny tiny --trained-only --dtype int8\n" in card
    recipe: Recipe = load_recipe(out / "recipe.yaml")
    assert recipe.output == Path("runs/tiny") and [*recipe.stages] == TEXT_STAGES
    assert recipe.stages["resampler"].lora is None and recipe.stages["finetune"].lora.rank == 4
    for option in (("--license", "mit"), ("--dtype", "int8")):
        code, _, errors = run_cli("export", plain, tmp_path / "other", *option)
        assert code == 2 and "--trained-only" in errors
