"""`panovlm merge`: base and adapters become one model that answers as both did."""

import json

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from panovlm.errors import PanoVLMError
from panovlm.exporting.merging import merge

VARIANTS = ["lora", "dora", "rslora"]


def inputs_of(processor, panorama):
    return processor(images=[panorama], text=["<image>Where is it?"], return_tensors="pt")


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_the_merged_model_answers_as_base_and_adapters_did(
    base, adapter, processor, panorama, tmp_path, variant
):
    folder, trained = adapter(variant=variant)
    report = merge(base, folder, tmp_path / "merged")
    assert report.difference <= 1e-5
    merged = AutoModelForImageTextToText.from_pretrained(tmp_path / "merged")
    assert "lora" not in " ".join(merged.state_dict())
    inputs = inputs_of(AutoProcessor.from_pretrained(tmp_path / "merged"), panorama)
    expected = trained(**inputs).logits
    torch.testing.assert_close(merged(**inputs).logits, expected, rtol=1e-4, atol=1e-4)


def test_the_report_counts_what_changed_in_each_module(base, adapter, tmp_path):
    rows = merge(base, adapter()[0], tmp_path / "merged").rows
    counts = {name: (weights, changed) for name, weights, changed in rows}
    assert list(counts) == ["vision_encoder", "resampler", "projection", "language_model"]
    assert counts["vision_encoder"][1] == "0"
    assert counts["resampler"][0] == counts["resampler"][1]
    assert int(counts["language_model"][1].replace(",", "")) > 0
    assert counts["language_model"][1] != counts["language_model"][0]  # embeddings stay


def test_adapters_of_another_base_are_refused(base, adapter, tmp_path):
    folder, _ = adapter()
    (base / "stage.json").write_text(json.dumps({"model": {}, "seed": 1}))
    with pytest.raises(PanoVLMError, match=r"trained from another model than.*same run"):
        merge(base, folder, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_a_folder_without_adapters_is_refused(base, tmp_path):
    with pytest.raises(PanoVLMError, match=r"found no adapter_config\.json.*inside a stage"):
        merge(base, base, tmp_path / "merged")


def test_nothing_is_overwritten(base, adapter):
    with pytest.raises(PanoVLMError, match="expected a new folder"):
        merge(base, adapter()[0], base)
