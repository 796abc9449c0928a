"""Conversions show the same world, go on where they stopped, and survive invalid inputs."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from odd_pictures import dual_fisheye
from PIL import Image
from xmp_packets import colours as odd_colours

from panovlm.errors import PanoVLMError
from panovlm.geometry.layouts import ViewLayout
from panovlm.geometry.sphere import Pixels, panorama_rays
from panovlm.geometry.views import View
from panovlm.pictures.conversion import run
from panovlm.pictures.conversion.run import Conversion, convert
from panovlm.pictures.conversion.settings import ConversionSettings
from panovlm.pictures.cubemaps import split_cubemap
from panovlm.pictures.declaring import Declaration
from panovlm.pictures.panorama import load_panorama

Colours = Callable[[NDArray[np.float64]], NDArray[np.float64]]
ROTATION = (100.0, 25.0, -40.0)


def settings(to: str, **options: object) -> ConversionSettings:
    """Small settings without loss."""
    small = {"face_size": 64, "view_size": 64, "format": "png"}
    return ConversionSettings(to=to, **{**small, **options})  # type: ignore[arg-type]


def read(path: Path) -> Pixels:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def times(out: Path) -> dict[str, int]:
    """When each picture below a folder was written."""
    return {
        str(path.relative_to(out)): path.stat().st_mtime_ns
        for path in sorted(out.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("rotation", [(0.0, 0.0, 0.0), (45.0, 0.0, 0.0), ROTATION])
@pytest.mark.parametrize("width", [None, 200, 600])
def test_a_panorama_is_rotated_and_resized(
    picture: Path, tmp_path: Path, colours: Colours, rotation: tuple[float, ...], width: int | None
) -> None:
    out = tmp_path / "out.png"
    done = convert(picture, out, settings("equirectangular", rotation_deg=rotation, width=width))
    assert done == Conversion(1, 0, ())
    pixels = read(out)
    assert pixels.shape == ((width or 512) // 2, width or 512, 3)
    rays = panorama_rays(*pixels.shape[:2]) @ View(*rotation).axes().T
    assert np.abs(pixels - colours(rays)).max() < 2


@pytest.mark.parametrize("rotation", [(0.0, 0.0, 0.0), ROTATION])
@pytest.mark.parametrize("arrangement", ["strip", "dice", "files"])
def test_a_cubemap_shows_the_world_and_comes_back(
    picture: Path, tmp_path: Path, colours: Colours, arrangement: str, rotation: tuple[float, ...]
) -> None:
    chosen = settings("cubemap", arrangement=arrangement, rotation_deg=rotation)
    assert convert(picture, tmp_path / "cube", chosen) == Conversion(1, 0, ())
    cube, camera = tmp_path / "cube" / "world", View(*rotation).axes()
    if arrangement == "files":
        names = ("front", "right", "back", "left", "up", "down")
        faces = np.stack([read(cube / f"{name}.png") for name in names])
    else:
        cube = cube.with_suffix(".png")
        faces = split_cubemap(read(cube))
    rays = ViewLayout.cubemap(64).rays(64, 64)
    assert np.abs(faces - colours(rays @ camera.T)).max() < 2
    back = tmp_path / "back.png"
    assert convert(cube, back, settings("equirectangular", width=128)).num_written == 1
    assert np.abs(read(back) - colours(panorama_rays(64, 128) @ camera.T)).max() < 4


def test_views_show_the_world_and_come_back_where_they_looked(
    picture: Path, tmp_path: Path, colours: Colours
) -> None:
    chosen = settings(
        "views", num_views=4, fov_deg=110.0, pitches_deg=(-45.0, 45.0), rotation_deg=ROTATION
    )
    convert(picture, tmp_path / "views", chosen)
    folder, camera = tmp_path / "views" / "world", View(*ROTATION).axes()
    layout = ViewLayout.ring(4, 110.0, 64, (-45.0, 45.0))
    views = np.stack([read(folder / f"view_{index:02d}.png") for index in range(8)])
    assert np.abs(views - colours(layout.rays(64, 64) @ camera.T)).max() < 2
    assert convert(tmp_path / "views", tmp_path / "back", settings("equirectangular"))
    back = read(tmp_path / "back" / "world.png")
    assert back.shape == (105, 210, 3)  # 64 px over 110°
    assert np.abs(back - colours(panorama_rays(105, 210) @ camera.T)).max() < 5


def test_a_cubemap_becomes_views(picture: Path, tmp_path: Path, colours: Colours) -> None:
    convert(picture, tmp_path / "cube.png", settings("cubemap", face_size=128))
    convert(tmp_path / "cube.png", tmp_path / "views", settings("views", num_views=3))
    view = read(tmp_path / "views" / "cube" / "view_01.png")
    assert np.abs(view - colours(View(120.0).rays(64, 64))).max() < 4


def test_a_second_run_writes_only_what_is_missing_or_older(album: Path, tmp_path: Path) -> None:
    out, chosen = tmp_path / "out", settings("equirectangular", width=32)
    assert convert(album, out, chosen, workers=1) == Conversion(3, 0, ())
    before = times(out)
    (out / "a.png").unlink()
    later_ns = 1 + max(before.values())
    os.utime(album / "attic" / "b.v2.JPG", ns=(later_ns, later_ns))
    assert convert(album, out, chosen, workers=1) == Conversion(2, 1, ())
    after = times(out)
    assert before.keys() == after.keys()
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"a.png", "attic/b.v2.png"}


def test_a_folder_of_views_that_is_not_whole_is_written_again(album: Path, tmp_path: Path) -> None:
    out, chosen = tmp_path / "out", settings("views", num_views=2, view_size=8)
    convert(album, out, chosen, workers=1)
    before = times(out)
    (out / "a" / "views.json").unlink()
    (out / "a" / "view_01.png").unlink()
    assert convert(album, out, chosen, workers=1) == Conversion(1, 2, ())
    after = times(out)
    assert before.keys() == after.keys()
    assert {name.split("/")[0] for name in before if before[name] != after[name]} == {"a"}


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_a_stop_leaves_whole_files_and_a_second_run_goes_on(
    album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    out, chosen = tmp_path / "out", settings("equirectangular", width=32)
    save, calls = Image.Image.save, []

    def stopped(image: Image.Image, path: Path, **options: object) -> None:
        save(image, path, **options)
        calls.append(path)
        if len(calls) == 2:
            raise error

    monkeypatch.setattr(Image.Image, "save", stopped)
    with pytest.raises(type(error)):
        convert(album, out, chosen, workers=1)
    assert times(out).keys() == {"conversion.json", "a.png"}
    assert convert(album, out, chosen, workers=1) == Conversion(2, 1, ())


def test_an_overwrite_that_was_stopped_goes_on_with_the_new_settings(
    album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    convert(album, out, settings("equirectangular", width=32), workers=1)
    wider = settings("equirectangular", width=48)
    with pytest.raises(PanoVLMError, match="outputs of other settings: width 32"):
        convert(album, out, wider, workers=1)

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(run, "_convert_one", stopped)
        convert(album, out, wider, workers=1, overwrite=True)
    assert convert(album, out, wider, workers=1) == Conversion(3, 0, ())
    assert all(read(path).shape[1] == 48 for path in out.rglob("*.png"))


def test_invalid_inputs_are_listed_and_the_others_converted(
    album: Path, tmp_path: Path, panorama: Pixels
) -> None:
    (album / "text.jpg").write_text("no picture")
    (album / "cut.png").write_bytes((album / "a.png").read_bytes()[:300])
    Image.new("RGB", (90, 60)).save(album / "photo.png")
    (album / "views").mkdir()
    (album / "views" / "views.json").write_text("{}")
    done = convert(album, tmp_path / "out", settings("equirectangular", width=32), workers=1)
    assert done.num_written == 3
    errors = sorted(done.errors)
    assert "cut.png: found a truncated or damaged file" in errors[0]
    assert "photo.png: found 90x60" in errors[1]
    assert "text.jpg: found no readable picture" in errors[2]
    assert "views.json: found no readable list of views" in errors[3]
    again = convert(album, tmp_path / "out", settings("equirectangular", width=32), workers=1)
    assert (again.num_written, again.num_present, len(again.errors)) == (0, 3, 4)


def test_too_little_memory_for_one_picture_is_its_error_alone(
    album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scarce(path: Path, min_width: int | None) -> Pixels:
        if path.name == "a.png":
            raise MemoryError
        return load_panorama(path, min_width)

    monkeypatch.setattr(run, "load_panorama", scarce)
    done = convert(album, tmp_path / "out", settings("equirectangular"), workers=1)
    assert done.num_written == 2
    assert "a.png: found too little memory" in done.errors[0]


def test_a_single_output_is_replaced_on_request_alone(picture: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "out.jpg"
    convert(picture, out, ConversionSettings(to="equirectangular"))
    before = out.read_bytes()
    small = ConversionSettings(to="equirectangular", width=32)
    with pytest.raises(PanoVLMError, match=r"out\.jpg: found a file there already.*--overwrite"):
        convert(picture, out, small)
    assert out.read_bytes() == before
    convert(picture, out, small, overwrite=True)
    assert read(out).shape == (16, 32, 3)
    assert {path.name for path in out.parent.iterdir()} == {"out.jpg"}


def test_an_input_is_never_written_over(picture: Path, tmp_path: Path) -> None:
    before = picture.read_bytes()
    small = settings("equirectangular", width=32)
    link = tmp_path / "link.png"
    link.symlink_to(picture)
    for out in (picture, link):
        with pytest.raises(PanoVLMError, match=r"found the input itself|found a link"):
            convert(picture, out, small, overwrite=True)
    done = convert(picture, tmp_path, small, overwrite=True)
    assert "found the input" in done.errors[0]
    with pytest.raises(PanoVLMError, match="found the folder that is read"):
        convert(tmp_path, tmp_path / "x" / "..", small, overwrite=True)
    assert picture.read_bytes() == before


@pytest.mark.parametrize(
    ("out", "options", "message"),
    [
        ("out.jpg", {"format": "png"}, "found --format png and the name .*out.jpg"),
        ("world.png", {"to": "views"}, r"world\.png: found a file, expected a folder to write"),
        ("out", {"workers": 0}, "found 0 workers, expected 1 or more"),
    ],
)
def test_mistakes_are_named(
    picture: Path, tmp_path: Path, out: str, options: dict[str, object], message: str
) -> None:
    workers = options.pop("workers", 1)
    chosen = settings(**{"to": "equirectangular", **options})  # type: ignore[arg-type]
    with pytest.raises(PanoVLMError, match=message):
        convert(picture, tmp_path / out, chosen, workers=workers)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_processes_do_the_same_work(album: Path, tmp_path: Path) -> None:
    (album / "text.jpg").write_text("no picture")
    chosen = settings("equirectangular", width=32)
    one = convert(album, tmp_path / "one", chosen, workers=1)
    assert convert(album, tmp_path / "two", chosen, workers=2) == one
    for path in (tmp_path / "one").rglob("*.png"):
        twin = tmp_path / "two" / path.relative_to(tmp_path / "one")
        assert twin.read_bytes() == path.read_bytes()


def test_a_process_that_dies_is_reported(
    album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "_begin_worker", os.abort)
    with pytest.raises(PanoVLMError, match=r"a process that ended early.*below 2 as --workers"):
        convert(album, tmp_path / "out", settings("equirectangular"), workers=2)


def test_what_inputs_are_can_be_declared(tmp_path: Path, panorama: Pixels) -> None:
    strip = panorama[88:168, 64:448]  # 270 degrees of what a phone turned around sees
    Image.fromarray(strip).save(tmp_path / "strip.png")
    out = tmp_path / "out.png"
    declared = Declaration(projection="equirectangular", hfov_deg=270.0)
    told = settings("equirectangular", declared=declared)
    assert convert(tmp_path / "strip.png", out, told).errors == ()
    np.testing.assert_array_equal(read(out)[88:168, 64:448], strip)
    assert not read(out)[:88].any()
    refused = convert(tmp_path / "strip.png", tmp_path / "other.png", settings("equirectangular"))
    assert 'projection="cylindrical" with hfov_deg' in refused.errors[0]


def test_what_is_declared_is_part_of_the_settings_kept(tmp_path: Path, panorama: Pixels) -> None:
    (tmp_path / "in").mkdir()
    Image.fromarray(panorama).save(tmp_path / "in" / "a.png")
    out = tmp_path / "out"
    declared = Declaration(projection="equirectangular")
    convert(tmp_path / "in", out, settings("equirectangular", declared=declared))
    with pytest.raises(PanoVLMError, match=r"of other settings: declared .*equirectangular"):
        convert(tmp_path / "in", out, settings("equirectangular"))


def test_a_dual_fisheye_becomes_a_sphere_and_views(tmp_path: Path) -> None:
    raw = tmp_path / "raw.insp"
    Image.fromarray(dual_fisheye(256, 200.0)).save(raw, "PNG")
    told = {"raw_projection": "dual-fisheye", "lens_fov_deg": 200.0}
    out = tmp_path / "out.png"
    assert convert(raw, out, settings("equirectangular", width=400, **told)).errors == ()
    rays = panorama_rays(200, 400)
    away = np.abs(rays[..., 2]) > 0.1
    off = np.abs(read(out) - odd_colours(rays).astype(float))
    assert off[away].max() <= 3 and off.max() <= 5
    convert(raw, tmp_path / "views", settings("views", num_views=3, **told))
    view = read(tmp_path / "views" / "raw" / "view_02.png")  # behind on the left
    assert np.abs(view - odd_colours(View(240.0).rays(64, 64)).astype(float)).max() <= 6
    refused = convert(raw, tmp_path / "other.png", settings("equirectangular"))
    assert "found a dual fisheye" in refused.errors[0]
    assert "panovlm convert --projection" in refused.errors[0]
    with pytest.raises(PanoVLMError, match=r"other settings: .*lens_fov_deg 200\.0"):
        convert(raw, tmp_path / "views", settings("views", num_views=3))


@pytest.mark.parametrize("arrangement", ["over-under", "side-by-side"])
def test_of_two_eyes_the_left_one_is_converted(
    tmp_path: Path, panorama: Pixels, arrangement: str
) -> None:
    axis = 0 if arrangement == "over-under" else 1
    both = np.concatenate([panorama, np.roll(panorama, 9, axis=1)], axis)
    Image.fromarray(both).save(tmp_path / "eyes.png")
    told = settings("equirectangular", raw_projection=f"stereo-{arrangement}")
    assert convert(tmp_path / "eyes.png", tmp_path / "left.png", told).errors == ()
    np.testing.assert_array_equal(read(tmp_path / "left.png"), panorama)
    refused = convert(tmp_path / "eyes.png", tmp_path / "x.png", settings("equirectangular"))
    assert "panoramas for two eyes" in refused.errors[0]


def test_of_180_degrees_the_left_eye_is_placed_ahead(tmp_path: Path, panorama: Pixels) -> None:
    half = panorama[:, 128:384]
    Image.fromarray(np.concatenate([half, 255 - half], axis=1)).save(tmp_path / "vr180.png")
    told = settings(
        "equirectangular",
        raw_projection="stereo-side-by-side",
        declared=Declaration(projection="equirectangular", hfov_deg=180.0),
    )
    convert(tmp_path / "vr180.png", tmp_path / "left.png", told)
    pixels = read(tmp_path / "left.png")
    np.testing.assert_array_equal(pixels[:, 128:384], half)
    assert not pixels[:, :128].any() and not pixels[:, 384:].any()


def test_invalid_pictures_of_declared_kinds_are_listed(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    Image.new("RGB", (90, 60)).save(tmp_path / "in" / "photo.png")
    (tmp_path / "in" / "text.jpg").write_text("no picture")
    told = settings("equirectangular", raw_projection="dual-fisheye", lens_fov_deg=200.0)
    errors = convert(tmp_path / "in", tmp_path / "out", told, workers=1).errors
    assert "photo.png: found 90x60, expected two fisheye circles" in errors[0]
    assert "text.jpg: found no readable picture" in errors[1]
    told = settings("equirectangular", raw_projection="stereo-over-under")
    errors = convert(tmp_path / "in", tmp_path / "out2", told, workers=1).errors
    assert "photo.png: found 90x30, expected width = 2 x height" in errors[0]
