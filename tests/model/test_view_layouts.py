"""Layouts beside the plain ring: counted, named, placed and saved as it is."""

from itertools import product

import pytest
import torch
from huggingface_hub.errors import StrictDataclassClassValidationError
from transformers import AutoModelForImageTextToText, AutoProcessor

from panovlm.model.processing import view_words
from panovlm.stages import STAGES
from panovlm.training.build import build_config, build_model, build_processor
from panovlm.training.sections import ViewsSection

FREE = [[0.0, 0.0, 0.0, 120.0], [100.0, -40.0, 20.0, 90.0], [-90.0, 60.0, 0.0, 100.0]]
LAYOUTS = {
    "rows": ({"num_views": 4, "fov_deg": 120.0, "pitches_deg": [0.0, 50.0]}, 8),
    "cube": ({"cubemap": True, "fov_deg": 110.0}, 6),
    "free": ({"angles_deg": FREE}, 3),
    "free and global": ({"angles_deg": FREE, "global_view": True}, 4),
}
"""Settings, and the number of views."""
RING = ({"num_views": 4, "fov_deg": 120.0, "global_view": True}, 5)
OF_RINGS = [("ring and global", each) for each in ("concat", "mean", "stitch", "slots")]


@pytest.fixture(params=LAYOUTS)
def chosen(request, model_section):
    """A model section with a layout, of a pooling if one is named, and its number of views."""
    name, pooling = request.param if isinstance(request.param, tuple) else (request.param, "concat")
    settings, num_views = LAYOUTS.get(name, RING)
    views = ViewsSection(**settings, view_size=32)
    return model_section.model_copy(update={"views": views, "pooling": pooling}), num_views


def prompt(processor, panorama):
    return processor(images=panorama, text="<image>\nWhat is above?", return_tensors="pt")


@pytest.mark.parametrize(
    "chosen", [*product(LAYOUTS, ["concat", "mean", "slots"]), *OF_RINGS], indirect=True
)
def test_processor_configuration_and_model_count_the_same(chosen, panorama):
    section, num_views = chosen
    processor, config = build_processor(section), build_config(section)
    assert processor.image_processor.layout == config.layout
    inputs = prompt(processor, panorama)
    assert inputs["pixel_values"].shape[:2] == (1, num_views)
    assert (inputs["input_ids"] == processor.image_token_id).sum() == config.num_image_tokens
    counted = processor._get_num_multimodal_tokens(image_sizes=[(100, 200)])
    assert counted["num_image_tokens"] == [config.num_image_tokens]
    with torch.no_grad():
        model = build_model(section, STAGES["resampler"]).eval()
        features = model.get_image_features(inputs["pixel_values"]).pooler_output
    assert features.shape == (1, config.num_image_tokens, 32)


@pytest.mark.parametrize("chosen", [*LAYOUTS, *OF_RINGS], indirect=True)
def test_a_saved_model_answers_alike(chosen, panorama, tmp_path):
    section, _ = chosen
    torch.manual_seed(0)
    model, processor = build_model(section, STAGES["resampler"]).eval(), build_processor(section)
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    inputs = prompt(processor, panorama)
    said = model.generate(**inputs, max_new_tokens=4, do_sample=False)
    assert said.shape[1] > inputs["input_ids"].shape[1]
    read = AutoModelForImageTextToText.from_pretrained(tmp_path).eval()
    assert read.config.layout == model.config.layout
    again = prompt(AutoProcessor.from_pretrained(tmp_path), panorama)
    assert torch.equal(again["pixel_values"], inputs["pixel_values"])
    assert torch.equal(read.generate(**again, max_new_tokens=4, do_sample=False), said)


def test_every_view_has_a_name_of_its_own(chosen):
    section, num_views = chosen
    processor = build_processor(section)
    words = view_words(processor.image_processor.layout)
    assert len({*words}) == len(words) == num_views - section.views.global_view
    text = processor.expand_image()
    assert all(f"{word}:<image>" in text for word in words)


def test_stitched_views_are_a_ring(chosen):
    section, _ = chosen
    with pytest.raises(Exception, match="no even ring") as caught:
        build_config(section.model_copy(update={"pooling": "stitch"}))
    assert not isinstance(caught.value, StrictDataclassClassValidationError)
