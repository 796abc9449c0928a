"""The picture of an occlusion map: its size, where it glows, what is hatched, its numbers."""

import json
from pathlib import Path

import numpy as np
import pytest

from panovlm.errors import PanoVLMError
from panovlm.figures.occlusion_map import describe_peak, draw_occlusion, save_occlusion
from panovlm.figures.sheets import picture_format, require_folder, save_sheet
from panovlm.geometry.caps import caps_over_views
from panovlm.geometry.layouts import ViewLayout
from panovlm.inference.occlusion import Occlusion

TOP, LEFT = 84, 24


@pytest.fixture
def found() -> Occlusion:
    """An answer that rests on what lies to the right."""
    layout = ViewLayout.ring()
    caps = caps_over_views(layout)
    drops = 2.0 * (caps.centres[:, 0] > np.cos(np.radians(20)))
    return Occlusion("a cube", -0.5, caps, drops, layout)


def test_the_map_glows_at_its_peak_and_is_hatched_where_no_view_looks(
    found: Occlusion, scenes_file: Path
) -> None:
    picture = draw_occlusion(found, "What is it? " * 40, scenes_file.parent / "0.png")
    assert picture.size == (1248, 792)
    drawn = np.asarray(picture, float)[TOP : TOP + 600, LEFT : LEFT + 1200]
    right, left = drawn[270:330, 870:930].mean(axis=(0, 1)), drawn[270:330, 270:330].mean((0, 1))
    assert right[0] > left[0] + 60
    assert right[0] > right[2] + 60
    assert np.unique(drawn[5].mean(axis=-1).round()).size > 1
    without = Occlusion("a cube", -0.5, found.caps, -found.drops, found.layout)
    dark = np.asarray(draw_occlusion(without, "What?", scenes_file.parent / "0.png"), float)
    np.testing.assert_array_equal(dark[TOP + 5, LEFT:-LEFT], drawn[5])
    assert dark[TOP + 300, LEFT + 900, 0] < right[0] - 60
    assert "nowhere" in describe_peak(without)
    assert "(right)" in describe_peak(found)


def test_the_numbers_are_written_whole(found: Occlusion, tmp_path: Path) -> None:
    save_occlusion(found, "What?", tmp_path / "map.json")
    numbers = json.loads((tmp_path / "map.json").read_text())
    assert len(numbers["centres_deg"]) == len(numbers["drops"]) == len(found.caps)
    assert numbers["peak_deg"] == pytest.approx([90, 0], abs=5)
    assert numbers["radius_deg"] == 20
    assert numbers["answer"] == "a cube"
    assert [file.name for file in tmp_path.iterdir()] == ["map.json"]


def test_names_and_folders_that_cannot_be_written_are_refused(
    found: Occlusion, scenes_file: Path, tmp_path: Path
) -> None:
    assert picture_format(tmp_path / "map.JPG") == "JPEG"
    picture = draw_occlusion(found, "What?", scenes_file.parent / "0.png")
    for name in ("map.xyz", "map"):
        with pytest.raises(PanoVLMError, match=r"end the name in \.png or \.jpg"):
            save_sheet(picture, tmp_path / name, "panovlm occlude")
    assert not list(tmp_path.iterdir())
    with pytest.raises(PanoVLMError, match="found no folder"):
        require_folder(tmp_path / "nowhere" / "map.png")
