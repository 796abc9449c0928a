"""`panovlm export`: the folder loads where panovlm is missing, and where it is installed."""

import json
import os
import subprocess
import sys

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from panovlm.exporting.export import export
from panovlm.model.configuration import PanoVLMConfig
from panovlm.stages import STAGES
from panovlm.training.build import build_model, build_processor

HIDE = """
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "panovlm":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Hidden())
"""
READ = """
import sys, torch
from PIL import Image
from transformers import AutoModel, AutoModelForImageTextToText, AutoProcessor
torch.set_num_threads(1)  # as here: sums depend on how threads share them
folder, picture, out = sys.argv[1:]
model = AutoModelForImageTextToText.from_pretrained(folder, trust_remote_code=True).eval()
base = AutoModel.from_pretrained(folder, trust_remote_code=True)
assert type(base).__name__ == "PanoVLMModel", type(base)
processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
inputs = processor(images=[Image.open(picture)], text=["<image>Where?"], return_tensors="pt")
with torch.no_grad():
    torch.save(model(**inputs).logits, out)
assert "panovlm" not in sys.modules
"""


def logits_elsewhere(folder, picture, tmp_path):
    """Logits of the exported model in a process that cannot import panovlm."""
    code, out = HIDE + READ, tmp_path / "logits.pt"
    environment = {**os.environ, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1"}
    environment.pop("PYTHONPATH", None)
    command = [sys.executable, "-c", code, str(folder), str(picture), str(out)]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return torch.load(out, weights_only=True)


@pytest.fixture
def picture(panorama, tmp_path):
    panorama.save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


def expected_logits(model, processor, panorama):
    inputs = processor(images=[panorama], text=["<image>Where?"], return_tensors="pt")
    with torch.no_grad():
        return model(**inputs).logits


def test_the_exported_folder_loads_without_panovlm(
    base, generator, processor, panorama, picture, tmp_path
):
    export(base, tmp_path / "out")
    found = logits_elsewhere(tmp_path / "out", picture, tmp_path)
    expected = expected_logits(generator, processor, panorama)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_an_export_in_bf16_takes_half_the_room(base, picture, tmp_path):
    for dtype in ("fp32", "bf16"):
        export(base, tmp_path / dtype, dtype)
    sizes = [(tmp_path / d / "model.safetensors").stat().st_size for d in ("bf16", "fp32")]
    assert sizes[0] < 0.6 * sizes[1]
    found, expected = (logits_elsewhere(tmp_path / d, picture, tmp_path) for d in ("bf16", "fp32"))
    assert (found.float() - expected).norm() / expected.norm() < 0.03


def test_an_encoder_that_the_library_does_not_have_travels_too(
    encoder_folder, model_section, panorama, picture, tmp_path
):
    grid = {"token_rows": 1, "token_columns": 2, "type": "perceiver"}
    changes = {
        "vision_encoder": str(encoder_folder("efficientnet_lite")),
        "resampler": model_section.resampler.model_copy(update=grid),
    }
    section = model_section.model_copy(update=changes)
    model, processor = build_model(section, STAGES["resampler"]).eval(), build_processor(section)
    model.save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    export(tmp_path / "model", tmp_path / "out")
    found = logits_elsewhere(tmp_path / "out", picture, tmp_path)
    expected = expected_logits(model, processor, panorama)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_where_panovlm_is_installed_no_remote_code_is_needed(
    base, generator, processor, panorama, tmp_path
):
    export(base, tmp_path / "out")
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "out")
    assert type(model.config) is PanoVLMConfig
    read = AutoProcessor.from_pretrained(tmp_path / "out")
    expected = expected_logits(generator, processor, panorama)
    assert torch.equal(expected_logits(model.eval(), read, panorama), expected)


def test_exporting_leaves_the_classes_of_this_process_as_they_are(base, generator, tmp_path):
    export(base, tmp_path / "out")
    generator.save_pretrained(tmp_path / "again")
    assert "auto_map" not in json.loads((tmp_path / "again" / "config.json").read_text())
    assert not list((tmp_path / "again").glob("*.py"))


def test_the_card_names_the_backbones_and_no_path(base, tmp_path):
    export(base, tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "- Vision encoder: siglip-tiny (siglip_vision_model)" in card
    assert "- Language model: llama-tiny (llama)" in card
    assert "- Views: ring of 4 views of 32 px, 120° wide, 90° apart" in card
    assert str(tmp_path) not in card
