"""A model's folder is data: whatever stands in it, none of it is run."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from panovlm.inference.answers import SamplingParams
from panovlm.inference.assistant import Assistant
from panovlm.inference.loading import load_model


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return (Path.write_text, (self.file, "sprung"))


@pytest.fixture
def folder(assistant: Assistant, tmp_path: Path) -> Path:
    """A good model's folder, and code beside it that writes a file when it is run."""
    folder = tmp_path / "model"
    assistant.model.save_pretrained(folder)
    assistant.processor.save_pretrained(folder)
    code = f"from pathlib import Path\nPath({str(tmp_path / 'sprung')!r}).write_text('')\n"
    classes = "\n".join(f"class {name}:\n    pass\n" for name in ("Config", "Model", "Other"))
    (folder / "evil.py").write_text(code + classes)
    return folder


def change(file: Path, act: Callable[[dict[str, Any]], None]) -> None:
    stored = json.loads(file.read_text())
    act(stored)
    file.write_text(json.dumps(stored))


def names_code(stored: dict[str, Any]) -> None:
    """Name code of the folder wherever transformers looks for it."""
    auto = ("AutoConfig", "AutoModel", "AutoModelForCausalLM", "AutoModelForImageTextToText")
    more = ("AutoProcessor", "AutoImageProcessor", "AutoTokenizer")
    stored["auto_map"] = {name: "evil.Config" for name in auto} | dict.fromkeys(more, "evil.Other")
    stored["auto_map"]["AutoTokenizer"] = ["evil.Other", None]
    stored["trust_remote_code"] = True


def load(folder: Path) -> None:
    """Load it, or refuse to: both are well."""
    try:
        load_model(folder)
    except Exception as error:
        assert "sprung" not in str(error)


@pytest.mark.parametrize(
    "name", ["config.json", "processor_config.json", "tokenizer_config.json", "all"]
)
def test_code_that_a_configuration_names_is_not_run(
    folder: Path, tmp_path: Path, name: str
) -> None:
    for file in folder.glob("*.json") if name == "all" else [folder / name]:
        change(file, names_code)
    load(folder)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("inner", ["vision_config", "text_config"])
def test_code_that_an_inner_configuration_names_is_not_run(
    folder: Path, tmp_path: Path, inner: str
) -> None:
    for kind in (None, "evil"):

        def act(stored: dict[str, Any], kind: str | None = kind) -> None:
            names_code(stored[inner])
            stored[inner]["model_type"] = kind or stored[inner]["model_type"]

        change(folder / "config.json", act)
        load(folder)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors", "training_args.bin"])
def test_pickles_are_not_read(folder: Path, tmp_path: Path, name: str) -> None:
    if name != "training_args.bin":
        (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    pickle.loads((folder / name).read_bytes())
    (tmp_path / "sprung").unlink()  # the trap works
    load(folder)
    assert not (tmp_path / "sprung").exists()
    if name != "training_args.bin":
        with pytest.raises(Exception, match=r"safetensors|header"):
            load_model(folder)


def test_a_language_model_in_bf16_answers_about_as_in_fp32(
    folder: Path, panorama: Image.Image, tmp_path: Path
) -> None:
    panorama.save(tmp_path / "panorama.png")
    scores = []
    for dtype in ("fp32", "bf16"):
        assistant = Assistant.load(folder, dtype=dtype)
        found = {each.dtype for each in assistant.model.model.language_model.parameters()}
        assert found == {torch.bfloat16 if dtype == "bf16" else torch.float32}
        assert assistant.model.model.resampler.narrow_in.weight.dtype == torch.float32
        opened = assistant.open(tmp_path / "panorama.png")
        assert isinstance(assistant.ask(opened, "Where?", SamplingParams(max_tokens=3)), str)
        inputs = assistant.processor(images=panorama, text="<image>Where?", return_tensors="pt")
        with torch.no_grad():
            scores.append(assistant.model(**inputs).logits.float())
    whole, halved = scores
    assert 0 < (halved - whole).norm() / whole.norm() < 0.02
