"""Regions of an answer on its panorama: outlined where they are, across the seam too."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from panovlm.figures.grounded_regions import HEIGHT, MARKED, WIDTH, draw_regions
from panovlm.inference.grounding import GroundedRegion


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    Image.fromarray(np.full((400, 800, 3), 60, np.uint8)).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def columns_marked(photo: Path, *regions: GroundedRegion) -> set[int]:
    """Columns of the horizon's row in which a border was drawn."""
    drawn = np.asarray(draw_regions(photo, regions)).astype(int)
    assert drawn.shape == (HEIGHT, WIDTH, 3)
    return set(np.nonzero(np.abs(drawn[HEIGHT // 2] - MARKED).sum(axis=-1) < 30)[0].tolist())


@pytest.mark.parametrize("yaw_deg", [0.0, 100.0, 180.0, -170.0])
def test_both_sides_of_a_region_are_drawn_where_they_are(photo: Path, yaw_deg: float) -> None:
    found = columns_marked(photo, GroundedRegion(None, yaw_deg, 0.0, 40.0, 40.0, "direction"))
    for side_deg in (yaw_deg - 20, yaw_deg + 20):
        column = round(((side_deg + 180) % 360) / 360 * WIDTH)
        assert found & set(range(column - 3, column + 4)), side_deg
    assert len(found) < 16  # the two sides and nothing else


def test_a_label_is_written_and_nothing_is_drawn_for_nothing(photo: Path) -> None:
    assert not columns_marked(photo)
    region = GroundedRegion("car", 0.0, 0.0, 60.0, 60.0, "listing")
    without = np.asarray(
        draw_regions(photo, [GroundedRegion(None, 0.0, 0.0, 60.0, 60.0, "listing")])
    )
    assert (np.asarray(draw_regions(photo, [region])) != without).any()
