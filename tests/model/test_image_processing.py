"""The image processor: pictures of every kind to pixel values, by transformers' protocol."""

import json
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from xmp_packets import AREA, PART, SPHERE, packet, save_with_xmp

from panovlm.errors import PanoVLMError
from panovlm.geometry.cutting import cut_mask, cut_views
from panovlm.geometry.layouts import ViewLayout
from panovlm.model.image_processing import PanoVLMImageProcessor


@pytest.fixture
def panorama():
    return np.random.default_rng(0).integers(0, 256, (64, 128, 3), dtype=np.uint8)


@pytest.fixture
def processor():
    return PanoVLMImageProcessor(num_views=4, fov_deg=100.0, size={"height": 16, "width": 16})


def test_pixel_values_are_the_normalised_views(panorama, processor):
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
    found = processor(panorama, image_mean=mean, image_std=std)["pixel_values"]
    views = cut_views(panorama, ViewLayout.ring(4, 100.0, 16))
    expected = ((views / 255.0 - mean) / std).transpose(0, 3, 1, 2)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected[None], atol=1e-5)


def test_every_kind_of_picture_gives_the_same_views(panorama, processor, tmp_path):
    Image.fromarray(panorama).save(tmp_path / "panorama.png")
    kinds = [
        panorama,
        Image.fromarray(panorama),
        torch.from_numpy(panorama).permute(2, 0, 1),
        panorama.transpose(2, 0, 1),
        tmp_path / "panorama.png",
        str(tmp_path / "panorama.png"),
    ]
    batch = processor(kinds, return_tensors="pt")["pixel_values"]
    assert batch.shape == (6, 4, 3, 16, 16)
    assert batch.dtype == torch.float32
    for pixel_values in batch:
        torch.testing.assert_close(pixel_values, batch[0], rtol=0, atol=0)


def test_batches_may_be_nested_or_stacked(panorama, processor):
    assert processor([[panorama], [panorama]])["pixel_values"].shape[0] == 2
    assert processor(np.stack([panorama] * 3))["pixel_values"].shape[0] == 3
    stacked = torch.from_numpy(np.stack([panorama] * 3)).permute(0, 3, 1, 2)
    assert processor(stacked)["pixel_values"].shape[0] == 3


def test_defaults_are_a_ring_of_eight():
    processor = PanoVLMImageProcessor()
    assert processor.layout == ViewLayout.ring(8, 90.0, 224)
    assert processor.model_input_names == ["pixel_values"]


def test_a_call_may_override_the_layout(panorama, processor):
    found = processor(panorama, num_views=6, fov_deg=90, size=8)["pixel_values"]
    assert found.shape == (1, 6, 3, 8, 8)
    assert processor.layout.num_views == 4


@pytest.mark.parametrize("num_columns", [1, 8, 21, 32, 100])
def test_views_of_a_rotated_panorama_are_views_cut_after_a_yaw_shift(
    panorama, processor, num_columns
):
    rotated = np.roll(panorama, -num_columns, axis=1)
    yaw_shift_deg = 360.0 * num_columns / panorama.shape[1]
    found = processor(panorama, yaw_shift_deg=yaw_shift_deg)["pixel_values"]
    np.testing.assert_allclose(found, processor(rotated)["pixel_values"], atol=1e-6)
    np.testing.assert_array_equal(
        processor(panorama, yaw_shift_deg=0.0)["pixel_values"], processor(panorama)["pixel_values"]
    )


def test_rescaling_and_normalising_can_be_left_out(panorama, processor):
    raw = processor(panorama, do_rescale=False, do_normalize=False)["pixel_values"]
    views = cut_views(panorama, processor.layout).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(raw[0], views)


def test_saved_and_loaded_it_does_the_same(panorama, processor, tmp_path):
    processor.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "preprocessor_config.json").read_text())
    assert (saved["num_views"], saved["fov_deg"]) == (4, 100.0)
    assert saved["image_processor_type"] == "PanoVLMImageProcessor"
    loaded = PanoVLMImageProcessor.from_pretrained(tmp_path)
    assert loaded.layout == processor.layout
    assert loaded.to_dict() == processor.to_dict()
    found, expected = loaded(panorama), processor(panorama)
    np.testing.assert_array_equal(found["pixel_values"], expected["pixel_values"])


def test_unknown_keywords_are_refused(panorama, processor):
    with pytest.raises(TypeError, match="num_view"):
        processor(panorama, num_view=6)


def test_a_square_picture_is_stretched_with_one_warning(processor):
    square = Image.new("RGB", (40, 40), (255, 255, 255))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        found = [processor(square)["pixel_values"] for _ in range(3)]
    assert [str(warning.message).split(",")[0] for warning in caught] == [
        "found a picture of 40x40"
    ]
    np.testing.assert_allclose(found, 1.0, atol=1e-6)


def test_strict_aspect_refuses_a_square_picture(processor, tmp_path):
    square = Image.new("RGB", (40, 40))
    square.save(tmp_path / "square.png")
    for picture in (square, tmp_path / "square.png"):
        with pytest.raises(PanoVLMError, match="found 40x40, expected width = 2 x height"):
            processor(picture, strict_aspect=True)


def test_an_unequal_view_size_is_refused(panorama, processor):
    with pytest.raises(PanoVLMError, match="expected equal height and width; change size"):
        processor(panorama, size={"height": 16, "width": 32})


@pytest.mark.parametrize("url", ["https://example.org/p.jpg", "data:image/png;base64,AAAA"])
def test_urls_are_not_fetched(processor, url):
    with pytest.raises(PanoVLMError, match=r"found the URL.*download it first"):
        processor(url)


def test_other_objects_are_refused(processor):
    with pytest.raises(TypeError, match="found a picture of type int"):
        processor(3)


def test_fetching_reads_paths_and_keeps_the_nesting(panorama, processor, tmp_path):
    Image.fromarray(panorama).save(tmp_path / "panorama.png")
    image = Image.fromarray(panorama)
    fetched = processor.fetch_images([[str(tmp_path / "panorama.png")], [image]])
    np.testing.assert_array_equal(fetched[0][0], panorama)
    assert fetched[1][0] is image


def partial_panorama():
    """The pixels that a file of `PART` is read as, and where they are known."""
    known = np.zeros(SPHERE.shape[:2], bool)
    known[16:56, 24:84] = True
    return np.where(known[..., None], SPHERE, 0).astype(np.uint8), known


def test_of_a_partial_panorama_the_mask_says_what_is_known(processor, tmp_path):
    path = save_with_xmp(tmp_path / "part.png", PART, packet(AREA))
    pixels, known = partial_panorama()
    transparent = np.dstack([pixels, known.astype(np.uint8) * 255])
    found = processor([path, transparent, pixels], return_mask=True)
    expected = cut_mask(known, processor.layout)
    assert 0.05 < expected.mean() < 0.95
    assert found["view_mask"].dtype == bool
    np.testing.assert_array_equal(found["view_mask"], [expected, expected, expected | True])
    for pixel_values in found["pixel_values"]:
        np.testing.assert_array_equal(pixel_values, processor(pixels)["pixel_values"][0])
    assert "view_mask" not in processor(path)


def test_fetching_a_partial_panorama_keeps_what_is_known(processor, tmp_path):
    path = save_with_xmp(tmp_path / "part.png", PART, packet(AREA))
    [fetched] = processor.fetch_images([path])
    assert fetched.shape == (64, 128, 4)
    again, at_once = (processor(each, return_mask=True) for each in (fetched, path))
    for key in ("pixel_values", "view_mask"):
        np.testing.assert_array_equal(again[key], at_once[key])
