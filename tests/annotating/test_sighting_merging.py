"""Merging: what an oracle sees in the views of a scene becomes the scene's things, each once."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle_teacher import OracleTeacher, matched

from panovlm.annotating.merging import Acceptance, merge
from panovlm.annotating.picture import Picture, Setup, annotate_panorama
from panovlm.annotating.teachers import Detection
from panovlm.annotating.views import overlapping_views
from panovlm.data.annotations import Sighting
from panovlm.geometry.boxes import ViewBox, region_to_view_box, view_box_to_region
from panovlm.geometry.regions import Region
from panovlm.geometry.sphere import angles_between, rays_from_angles
from panovlm.geometry.views import View
from panovlm.pictures.panorama import Panorama
from panovlm.scenes.world import sample_scene

SIZE = 32
LAYOUT = overlapping_views(view_size=SIZE)
VIEWS = [view for view in LAYOUT.views if isinstance(view, View)]
BLANK = Panorama(np.zeros((32, 64, 3), np.uint8))
ANY = Acceptance(min_score=0.0, min_views=1)


def seen_by_oracle(teacher: OracleTeacher) -> tuple[Sighting, ...]:
    setup = Setup(teacher, LAYOUT)
    return annotate_panorama(BLANK, Picture(Path("p.png"), "p.png"), "0", setup).sightings


def quality(num_scenes: int, error: float, missed: float) -> tuple[float, float]:
    """Precision and recall over scenes; every second one has a solid at the seam."""
    rng = np.random.default_rng(7)
    found = true = right = crossing = 0
    for number in range(num_scenes):
        scene = sample_scene(rng)
        if number % 2:
            scene = scene.yaw_rotated(scene.solids[0].yaw_deg - 178.0)
        teacher = OracleTeacher(scene, error, missed, seed=number)
        sightings = seen_by_oracle(teacher)
        crossing += sum(solid.crosses_seam for solid in scene.solids)
        found, true = found + len(sightings), true + len(teacher.truth)
        right += matched(sightings, teacher.truth)
    assert crossing >= num_scenes // 2
    return right / found, right / true


def test_true_boxes_become_the_true_things_seam_included() -> None:
    precision, recall = quality(30, error=0.0, missed=0.0)
    assert precision >= 0.99
    assert recall >= 0.99


def test_boxes_a_little_wrong_and_some_overlooked_change_little() -> None:
    precision, recall = quality(15, error=0.05, missed=0.1)
    assert precision >= 0.95
    assert recall >= 0.95


@given(st.floats(-180, 180), st.floats(-90, 90))
@settings(max_examples=60, deadline=None)
def test_every_disc_45_degrees_wide_is_whole_in_a_view(yaw_deg: float, pitch_deg: float) -> None:
    around = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    radius = np.tan(np.radians(22.5)) / 2
    rim = View(yaw_deg, pitch_deg, fov_deg=90.0).rays_at(
        0.5 + radius * np.cos(around), 0.5 + radius * np.sin(around)
    )
    assert np.degrees(angles_between(rim[0], rim[32])) == pytest.approx(45)
    assert any(view.sees(rim).all() for view in VIEWS)


def shown_well(region: Region) -> list[tuple[View, ViewBox]]:
    """The views that show more than a corner of a region, and their boxes."""
    boxes = ((view, region_to_view_box(region, view, SIZE)) for view in VIEWS)
    return [
        (view, box)
        for view, box in boxes
        if box and view_box_to_region(box, view, SIZE).solid_angle_sr > region.solid_angle_sr / 3
    ]


@given(st.floats(-180, 180), st.floats(-60, 60), st.floats(8, 30))
@settings(max_examples=15, deadline=None)
def test_a_thing_is_one_wherever_it_is(yaw_deg: float, pitch_deg: float, size: float) -> None:
    region = Region(yaw_deg, pitch_deg, size, size)
    found = [(view, [Detection("box", box)]) for view, box in shown_well(region)]
    (only,) = merge(found, SIZE)
    middles = (rays_from_angles(*np.radians([r.yaw_deg, r.pitch_deg])) for r in (region, only))
    assert np.degrees(angles_between(*middles)) < 0.3 * size
    assert only.num_views == len(found)


def box_at(left: float, top: float, right: float, bottom: float) -> ViewBox:
    """A box in shares of the view's side."""
    return ViewBox(left * SIZE, top * SIZE, (right - left) * SIZE, (bottom - top) * SIZE)


FRONT, RIGHT = View(0.0, fov_deg=90.0), View(45.0, fov_deg=90.0)


def test_what_an_edge_cuts_off_does_not_win_over_the_whole_thing() -> None:
    cut = Detection("car", box_at(0.8, 0.4, 1.0, 0.6), 0.99)
    whole = region_to_view_box(Region(40.0, 0.0, 20.0, 12.0), RIGHT, SIZE)
    assert whole is not None
    (only,) = merge([(FRONT, [cut]), (RIGHT, [Detection("car", whole, 0.6)])], SIZE)
    assert (only.score, only.num_views) == (0.6, 2)
    assert only.width_deg == pytest.approx(20, abs=1)


def test_pieces_of_what_is_whole_nowhere_are_joined() -> None:
    left = Detection("table", box_at(0.4, 0.4, 1.0, 0.6), 0.7)
    right = Detection("table", box_at(0.0, 0.4, 0.8, 0.6), 0.9)
    (only,) = merge([(FRONT, [left]), (RIGHT, [right])], SIZE)
    assert (only.score, only.num_views) == (0.9, 2)
    assert only.width_deg > 70


def test_half_a_line_of_text_is_left_out() -> None:
    cut = Detection("sign", box_at(0.8, 0.4, 1.0, 0.6), 0.99, "EXI")
    assert merge([(FRONT, [cut])], SIZE, ANY) == ()


def test_two_things_that_one_view_shows_apart_stay_two() -> None:
    near, far = box_at(0.3, 0.3, 0.7, 0.7), box_at(0.35, 0.35, 0.45, 0.45)
    shown = [Detection("person", near, 0.9), Detection("person", far, 0.8)]
    assert len(merge([(FRONT, shown)], SIZE, ANY)) == 2
    elsewhere = merge([(FRONT, shown[:1]), (View(1.0, fov_deg=90.0), shown[1:])], SIZE, ANY)
    assert len(elsewhere) == 1


def test_labels_are_merged_apart_and_nothing_is_lost() -> None:
    shown = [Detection(label, box_at(0.4, 0.4, 0.6, 0.6)) for label in ("chair", "couch")]
    assert [each.label for each in merge([(FRONT, shown)], SIZE, ANY)] == ["chair", "couch"]


def test_only_what_is_sure_and_agreed_on_is_reported() -> None:
    box = box_at(0.4, 0.4, 0.6, 0.6)
    twice = [(FRONT, [Detection("cat", box, 0.4)]), (View(0.5), [Detection("cat", box, 0.7)])]
    (only,) = merge(twice, SIZE, Acceptance(0.7, 2))
    assert (only.score, only.num_views) == (0.7, 2)
    assert merge(twice, SIZE, Acceptance(0.71, 2)) == ()
    assert merge(twice, SIZE, Acceptance(0.7, 3)) == ()


def test_a_box_of_no_size_is_nothing() -> None:
    speck = Detection("cat", box_at(0.4, 0.4, 0.4 + 1e-5, 0.6))
    assert merge([(FRONT, [speck])], SIZE, ANY) == ()
