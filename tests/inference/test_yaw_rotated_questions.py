"""A panorama rotated by whole strides is the picture rotated, without being read again."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from panovlm.errors import PanoVLMError
from panovlm.geometry.cutting import cut_views
from panovlm.geometry.layouts import ViewLayout
from panovlm.inference.assistant import Assistant, OpenedPanorama
from panovlm.inference.rotation import stride_deg, yaw_rotated

RING = ViewLayout.ring(num_views=4, fov_deg=100.0, view_size=32)
LAYOUTS = {"ring": RING, "ring and global view": RING.with_global()}


def opened(picture: Image.Image, layout: ViewLayout) -> OpenedPanorama:
    views = cut_views(np.asarray(picture), layout).transpose(0, 3, 1, 2)
    return OpenedPanorama("it", torch.from_numpy(views)[None].float())


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("yaw_shift_deg", [0.0, 90.0, -90.0, 180.0, 450.0])
def test_it_is_what_is_cut_from_the_rotated_picture(
    panorama: Image.Image, name: str, yaw_shift_deg: float
) -> None:
    layout = LAYOUTS[name]
    columns = round(yaw_shift_deg / 360 * panorama.width)
    picture = Image.fromarray(np.roll(np.asarray(panorama), -columns, axis=1))
    right = opened(picture, layout).views
    rotated = yaw_rotated(opened(panorama, layout), layout, yaw_shift_deg).views
    assert (rotated - right).abs().max() <= 1  # of 255: maps are rounded


def test_each_rotation_has_a_prefix_of_its_own(panorama: Image.Image) -> None:
    picture = opened(panorama, RING)
    keys = [yaw_rotated(picture, RING, yaw_shift_deg).key for yaw_shift_deg in (0, 90, 180, 450)]
    assert keys == ["it+0", "it+1", "it+2", "it+1"]


def test_the_models_answer_to_a_rotation_is_its_answer_to_the_rotated_picture(
    assistant: Assistant, scenes_file: Path, tmp_path: Path
) -> None:
    file = scenes_file.parent / "0.png"
    pixels = np.asarray(Image.open(file))
    Image.fromarray(np.roll(pixels, -pixels.shape[1] // 4, axis=1)).save(tmp_path / "rotated.png")
    layout = assistant.processor.image_processor.layout
    rotated = yaw_rotated(assistant.open(file), layout, layout.stride_deg)
    question = "What is behind me?"
    right = assistant.ask(assistant.open(tmp_path / "rotated.png"), question)
    assert assistant.ask(rotated, question) == right
    assert assistant.ask(assistant.open(file), question) != right


@pytest.mark.parametrize(
    ("layout", "stride"),
    [
        (RING, 90.0),
        (RING.with_global(), 90.0),
        (ViewLayout.ring(num_views=3, fov_deg=130.0, view_size=32).with_global(), None),
        (ViewLayout.cubemap(), None),
        (ViewLayout.equirectangular(), None),
        (ViewLayout.ring(num_views=4, pitches_deg=(0.0, -45.0)), 90.0),
    ],
)
def test_rings_and_rows_have_a_stride(layout: ViewLayout, stride: float | None) -> None:
    assert stride_deg(layout) == stride


def test_other_shifts_and_layouts_are_refused_with_what_to_change(panorama: Image.Image) -> None:
    with pytest.raises(PanoVLMError, match="yaw_shift_deg 45, expected a whole number of strides"):
        yaw_rotated(opened(panorama, RING), RING, 45.0)
    cube = ViewLayout.cubemap(view_size=32)
    with pytest.raises(PanoVLMError, match=r"no rotation maps .*leave yaw_shift_deg out"):
        yaw_rotated(opened(panorama, cube), cube, 90.0)
