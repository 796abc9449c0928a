"""Folders of views: written, read back onto the sphere, and refused when damaged."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from panovlm.errors import PanoVLMError
from panovlm.geometry.cutting import cut_views
from panovlm.geometry.layouts import ViewLayout
from panovlm.geometry.sphere import Pixels, panorama_rays
from panovlm.geometry.views import View
from panovlm.pictures.conversion.views_folder import VIEWS_FILE, assemble_folder, write_views

Colours = Callable[[NDArray[np.float64]], NDArray[np.float64]]
LAYOUT = ViewLayout((View(170, 20, 30, 100), View(-90, -60), View(20, 0, 0, 80)), 96)
NAMES = ["a.png", "b.png", "c.png"]


@pytest.fixture
def folder(tmp_path: Path, panorama: Pixels) -> Path:
    write_views(cut_views(panorama, LAYOUT), LAYOUT, NAMES, tmp_path / "views", 95)
    return tmp_path / "views"


def test_views_come_back_where_they_look(folder: Path, colours: Colours) -> None:
    back = assemble_folder(folder)
    assert back.shape == (216, 432, 3)  # 96 px over 80°
    rays = panorama_rays(216, 432)
    seen = np.any([view.sees(rays) for view in LAYOUT.views], axis=0)
    assert np.abs(back - colours(rays))[seen].max() < 5
    assert not back[~seen].any()


def test_the_list_of_views_comes_last(
    folder: Path, panorama: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OSError, match="No space"):
        write_views(cut_views(panorama, LAYOUT), LAYOUT, NAMES, folder, 95)
    assert sorted(path.name for path in folder.iterdir()) == NAMES  # no list: not whole


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"views": []}, "no readable list of views"),
        ({"format": 2}, "no readable list of views"),
        ({"colour": "red"}, "no readable list of views"),
        ({"view_size": 97}, r"a\.png: found 96x96, expected 97x97 as views\.json says"),
        ({"view_size": 0}, r"views\.json: found a view size of 0 px"),
        ({"fov_deg": 190.0}, r"views\.json: found a field of view of 190°"),
        ({"fov_deg": None}, "no readable list of views"),
        ({"yaw_deg": float("nan")}, "no readable list of views"),
        ({"file": "../a.png"}, "no readable list of views"),
        ({"file": "none.png"}, r"none\.png: found no such file"),
    ],
)
def test_a_invalid_list_is_refused(folder: Path, change: dict[str, object], message: str) -> None:
    listed = json.loads((folder / VIEWS_FILE).read_text())
    (key,) = change
    (listed if key in {*listed, "colour"} else listed["views"][0]).update(change)
    (folder / VIEWS_FILE).write_text(json.dumps(listed))
    with pytest.raises(PanoVLMError, match=message):
        assemble_folder(folder)


@pytest.mark.parametrize("text", ["", "[1]", "{", "\0"])
def test_a_list_that_is_no_list_is_refused(folder: Path, text: str) -> None:
    (folder / VIEWS_FILE).write_text(text)
    with pytest.raises(PanoVLMError, match=r"no readable list of views.*write the views again"):
        assemble_folder(folder)
