"""Claims about the second renderer: it shows the same solids at the same places, its own way."""

import json
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from second_renderer import render_otherwise, trace, write_second_set

from panovlm.data.record_files import read_records
from panovlm.data.records import Needs
from panovlm.scenes.generate import write_scenes
from panovlm.scenes.look import sample_look
from panovlm.scenes.render import render
from panovlm.scenes.world import SHAPES, Scene, Solid, sample_scene

HEIGHT = 512
Mask = NDArray[np.bool_]


def is_sharp(seed: int) -> bool:
    look = sample_look(seed)
    return not (look.noise or look.blur or look.haze_per_m)


PLAIN = next(seed for seed in count() if is_sharp(seed))


def in_the_package(solid: Solid, camera_m: float) -> Mask:
    """The pixels that show a solid: cyan has green, and the background has none."""
    background = np.full((HEIGHT, 2 * HEIGHT, 3), (255, 0, 255), np.uint8)
    return render(Scene((solid,), PLAIN, camera_m), HEIGHT, background)[..., 1] > 90


def in_the_second(solid: Solid, camera_m: float) -> Mask:
    ids = trace(Scene((solid,), PLAIN, camera_m), HEIGHT).ids
    return np.asarray(ids.reshape(HEIGHT, 2 * HEIGHT) == 0)


def overlap(first: Mask, second: Mask) -> float:
    return float((first & second).sum() / (first | second).sum())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("yaw_deg", "distance_m", "spin_deg"),
    [(0.0, 3, 0.0), (40.0, 2, 20.0), (-100.0, 5, 45.0), (177.0, 3, 65.0), (180.0, 2, 30.0)],
)
def test_both_renderers_show_a_solid_at_the_same_place(
    shape: str, yaw_deg: float, distance_m: int, spin_deg: float
) -> None:
    solid = Solid(shape, "cyan", yaw_deg, distance_m, 1.3, spin_deg)
    for camera_m in (1.45, 1.75):
        first, second = in_the_package(solid, camera_m), in_the_second(solid, camera_m)
        assert overlap(first, second) > 0.95
        assert second[:, [0, -1]].any() == solid.crosses_seam


@pytest.mark.parametrize("shape", SHAPES)
def test_both_renderers_agree_at_the_largest_distance(shape: str) -> None:
    solid = Solid(shape, "cyan", 63.0, 7, 1.4, 10.0)
    assert overlap(in_the_package(solid, 1.6), in_the_second(solid, 1.6)) > 0.95


def test_a_cube_spun_the_other_way_does_not_overlap_as_well() -> None:
    solid, other = (Solid("cube", "cyan", 20.0, 2, 1.4, spin_deg) for spin_deg in (25.0, 65.0))
    mask = in_the_package(solid, 1.6)
    assert (
        overlap(mask, in_the_second(solid, 1.6)) > overlap(mask, in_the_second(other, 1.6)) + 0.02
    )


def test_the_nearer_solid_hides_the_farther() -> None:
    far, near = Solid("cube", "red", 5.0, 5, 1.2), Solid("sphere", "cyan", 5.0, 2, 1.2)
    ids = trace(Scene((far, near), 0), HEIGHT).ids.reshape(HEIGHT, 2 * HEIGHT)
    assert (ids[in_the_second(near, 1.6)] == 1).all()


def test_the_picture_is_uint8_rgb_and_the_same_each_time() -> None:
    scene = sample_scene(np.random.default_rng(2))
    picture = render_otherwise(scene, 64)
    assert (picture.shape, picture.dtype) == ((64, 128, 3), np.uint8)
    assert np.array_equal(picture, render_otherwise(scene, 64))


def test_solids_cast_hard_shadows_on_the_ground() -> None:
    solid = Solid("cube", "red", 0.0, 3, 1.4)
    sizes = []
    for seed in range(4):  # some suns hide the shadow behind the solid
        picture, empty = (render_otherwise(Scene(s, seed), 128) for s in ((solid,), ()))
        changed = np.abs(picture.astype(int) - empty).max(axis=-1) > 15
        assert not changed[:64].any()
        sizes.append(changed.sum())
    alone = trace(Scene((solid,), 0), 128).ids == 0
    assert max(sizes) > 1.3 * alone.sum()


def test_a_set_has_the_records_of_its_scenes_and_its_own_pictures(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    settings = {"test_count": 3, "height": 32, "workers": 1, "progress": lambda _: None}
    write_scenes(first, 1, 3, **settings)
    write_second_set(first, second, count=2, height=32)
    names = sorted(path.name for path in (second / "pictures" / "test").iterdir())
    assert names == ["000000.jpg", "000001.jpg"]
    for name in ("test.jsonl", "test_listings.jsonl"):
        records = read_records(second / name, Needs(text=True, image=True))
        assert {record.image.name for record in records} == set(names)
        before = [json.loads(line) for line in (first / name).read_text().splitlines()]
        after = [json.loads(line) for line in (second / name).read_text().splitlines()]
        assert after == [r for r in before if "000002" not in r["image"]]
    shown, other = (np.asarray(Image.open(d / "pictures/test/000000.jpg")) for d in (first, second))
    assert not np.array_equal(shown, other)
