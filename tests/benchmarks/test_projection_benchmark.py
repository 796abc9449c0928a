"""The benchmark's own pieces are right, and the scripts run without any peer installed."""

import json

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

import methods
import pictures
import projection
import projection_cost
import reporting
from measuring import ENTROPY, summarised, timed
from panovlm.geometry.cutting import cut_views, required_width
from panovlm.geometry.layouts import ViewLayout
from panovlm.geometry.sphere import panorama_rays
from panovlm.geometry.views import View
from panovlm.pictures.panorama import load_panorama
from quality import HALF_INTEGER, Grid, end_point_grid, psnr_db, reference, ssim

MARKERS = "<!-- {0}: written by the script -->\nold\n<!-- {0}: end -->\n"


def colours(rays):
    """A colour for every direction, 0..255, smooth enough to be read exactly between pixels."""
    return 127.5 + 120 * np.asarray(rays)


def smooth_panorama(width):
    return np.rint(colours(panorama_rays(width // 2, width))).astype(np.uint8)


def noise(size, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)


@pytest.fixture
def no_peers(monkeypatch):
    """Makes every peer unimportable, installed or not, and brings the thread counts back."""
    for name in ("py360convert", "equilib", "pytorch360convert"):
        monkeypatch.setitem(__import__("sys").modules, name, None)
    for name in projection.THREAD_VARIABLES:
        monkeypatch.setenv(name, "1")
    threads = torch.get_num_threads(), cv2.getNumThreads()
    yield
    torch.set_num_threads(threads[0])
    cv2.setNumThreads(threads[1])


@pytest.fixture
def folder(tmp_path):
    """Two tiny panoramas as JPEG, and a picture that is none."""
    place = tmp_path / "panoramas"
    place.mkdir()
    for number in range(2):
        Image.fromarray(smooth_panorama(256)).save(place / f"{number}.jpg", quality=95)
    Image.fromarray(noise(64)).save(place / "square.jpg")
    return place


@pytest.mark.parametrize("view", [View(0), View(180), View(-135, 30, 20, 70), View(10, -90)])
@pytest.mark.parametrize(
    "grid", [HALF_INTEGER, end_point_grid(24), Grid(shift_px=-0.5)], ids=["half", "end", "shifted"]
)
def test_reference_shows_the_mean_colour_of_each_pixel(view, grid):
    size, rays = 24, 32
    centres = (np.arange(size * rays) + 0.5) / (size * rays)
    places = 0.5 + (centres - 0.5) * grid.scale + grid.shift_px / size
    fine = colours(view.rays_at(places[None, :], places[:, None]))
    expected = fine.reshape(size, rays, size, rays, 3).mean(axis=(1, 3))
    seen = reference(smooth_panorama(2048), view, size, grid)
    assert np.abs(seen - expected).max() < 0.6  # the panorama itself is rounded to whole numbers
    assert abs((seen - expected).mean()) < 0.05


def test_reference_of_a_grid_read_one_pixel_on_is_that_of_a_panorama_moved_back():
    panorama, view = smooth_panorama(512), View(180)
    moved = np.roll(panorama, (-1, -1), axis=(0, 1))
    expected = reference(moved, view, 16)
    assert np.allclose(reference(panorama, view, 16, Grid(panorama_shift_px=1)), expected)


def test_psnr_is_the_textbook_formula():
    truth = np.zeros((4, 4, 3))
    assert psnr_db(truth + 255, truth) == pytest.approx(0.0)
    assert psnr_db(truth + 2.55, truth) == pytest.approx(40.0)
    assert psnr_db(truth, truth) == float("inf")


def test_ssim_is_one_for_equal_pictures_and_falls_with_noise():
    picture = noise(32).astype(float)
    disturbed = [ssim(picture + amount * noise(32, 1), picture) for amount in (0.05, 0.2, 1.0)]
    assert ssim(picture, picture) == pytest.approx(1.0)
    assert 1.0 > disturbed[0] > disturbed[1] > disturbed[2]


def test_ssim_of_flat_pictures_is_the_luminance_term():
    flat, brighter = np.full((16, 16, 3), 100.0), np.full((16, 16, 3), 120.0)
    c1 = (0.01 * 255) ** 2
    expected = (2 * 100 * 120 + c1) / (100**2 + 120**2 + c1)
    assert ssim(flat, brighter) == pytest.approx(expected)


def test_ssim_of_one_window_is_the_formula_by_hand():
    a, b = noise(11).astype(float), noise(11, 1).astype(float)
    across = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))
    weights = np.outer(across, across)[..., None]
    weights = weights / weights.sum()
    mean_a, mean_b = (weights * a).sum((0, 1)), (weights * b).sum((0, 1))
    var_a, var_b = (
        (weights * (a - mean_a) ** 2).sum((0, 1)),
        (weights * (b - mean_b) ** 2).sum((0, 1)),
    )
    covariance = (weights * (a - mean_a) * (b - mean_b)).sum((0, 1))
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    above = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    expected = above / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    assert ssim(a, b) == pytest.approx(expected.mean())


def test_our_entries_are_cut_views_on_the_reduced_panorama(folder, no_peers):
    layout, path = ViewLayout.ring(8, 90.0, 24), folder / "0.jpg"
    found, missing = methods.methods(layout)
    processor, bare = (each for each in found if each.kind == methods.OURS)
    expected = cut_views(load_panorama(path, required_width(layout)), layout)
    assert np.array_equal(bare.project(bare.decode(path)), expected)
    assert torch.allclose(bare.end_to_end(path), processor.end_to_end(path), atol=1e-6)
    assert set(missing) == set(methods.PACKAGES)


def test_every_method_that_runs_here_looks_the_same_way(folder):
    layout, path = ViewLayout.ring(8, 90.0, 32), folder / "0.jpg"
    found, _ = methods.methods(layout)
    panorama = methods.pillow_decode(path)
    for method in found:
        views = methods.as_pixels(method.project(method.decode(path)))
        truth = np.stack([reference(panorama, view, 32, method.grid) for view in layout.views])
        # Away from the outermost pixels, where some peers show the seam.
        assert psnr_db(views[:3], truth[:3]) > 38, method.name


def test_timings_are_taken_for_each_round_and_summed_up_by_quartiles():
    calls = []
    samples = timed({name: lambda n=name: calls.append(n) for name in "abc"}, 8)
    rounds = ["".join(calls[start : start + 3]) for start in range(0, len(calls), 3)]
    assert rounds[0] == "abc"  # untimed, to fill caches
    assert {"".join(sorted(each)) for each in rounds} == {"abc"}
    assert len(set(rounds)) > 2  # each round in its own order
    assert [len(each) for each in samples.values()] == [8, 8, 8]
    assert summarised([4, 1, 3, 2, 5]) == {
        "median": 3,
        "first_quartile": 2,
        "third_quartile": 4,
        "interquartile_range": 2,
    }


def test_pictures_are_never_scaled_up(folder, tmp_path):
    same = pictures.prepare(folder, 256, 3, tmp_path)
    assert [each.made for each in same] == ["as it is"] * 2
    smaller = pictures.prepare(folder, 128, 1, tmp_path)
    assert Image.open(smaller[0].path).size == (128, 64)
    widest = pictures.prepare(folder, 1024, 3, tmp_path)
    assert [each.width for each in widest] == [256, 256]


def test_a_mosaic_keeps_the_pixels_of_its_pictures(folder, tmp_path):
    found = pictures.prepare(folder, 512, 2, tmp_path, mosaic=True)
    assert [each.made for each in found] == ["mosaic of 2 x 2 of 256 px"] * 2
    pixels = methods.pillow_decode(found[0].path).astype(float)
    tile = methods.pillow_decode(folder / "1.jpg").astype(float)
    assert pixels.shape == (256, 512, 3)
    assert psnr_db(pixels[128:, 256:], tile) > 30


def test_a_folder_without_panoramas_is_refused(tmp_path):
    with pytest.raises(SystemExit, match="found no JPEG with width = 2 x height"):
        pictures.prepare(tmp_path, 256, 1, tmp_path)


def test_a_page_without_markers_is_refused(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("nothing")
    with pytest.raises(SystemExit, match="found no markers"):
        reporting.put_between_markers(page, "cost", "text")


def test_the_script_writes_its_report_and_page_without_peers(folder, tmp_path, no_peers, capsys):
    report_file, page = tmp_path / "out" / "report.json", tmp_path / "page.md"
    page.write_text("before\n" + MARKERS.format("comparison") + "after\n")
    arguments = ["--panoramas", folder, "--json", report_file, "--docs", page, "--assert"]
    options = ["--repeats", 1, "--files", 1, "--view-size", 24, "--widths", 256, 4096]
    assert projection.main([str(each) for each in [*arguments, *options]]) == 1
    report = json.loads(report_file.read_text())
    narrow, fallen_back = report["widths"]
    assert (narrow["width"], fallen_back["width"]) == (256, 256)
    assert ENTROPY not in narrow["end_to_end_ms"]
    assert narrow["end_to_end_ms"][methods.PROCESSOR]["ratio"] == 1
    assert set(report["missing"]) == set(methods.PACKAGES)
    unmeasured = [each for each in report["criteria"] if each["width"] == 4096]
    assert [each["met"] for each in unmeasured] == [None] * 5
    assert "py360convert: not installed" in capsys.readouterr().out
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
    assert "instead of 4096 px" in text


@pytest.mark.parametrize(("found", "met"), [(4.1, True), (3.9, False)])
def test_a_wanted_ratio_is_met_from_its_bound_on(found, met):
    ends = {"library": {"ratio": found}, methods.OPENCV: {"ratio": 1.3}}
    result = {
        "wanted_width": 4096,
        "width": 4096,
        "end_to_end_ms": ends,
        "projection_ms": {"library": {"ratio": 16.0}},
        "quality": {methods.LOAD_AND_CUT: {"psnr_db": 41.0}},
        "ours_to_entropy_decoding": 1.4,
    }
    library = methods.Method("library", methods.LIBRARY, None, None)
    rows = reporting.criteria([result], [library])
    assert [each["met"] for each in rows] == [met, True, True, True, True]


def test_the_cost_script_writes_a_row_for_every_setting(folder, tmp_path, no_peers, capsys):
    report_file, page = tmp_path / "cost.json", tmp_path / "page.md"
    page.write_text(MARKERS.format("cost"))
    arguments = ["--panoramas", folder, "--json", report_file, "--docs", page]
    options = ["--repeats", 1, "--files", 1, "--widths", 128, 256, "--base-width", 256]
    assert projection_cost.main([str(each) for each in [*arguments, *options]]) == 0
    rows = json.loads(report_file.read_text())["rows"]
    assert [(row["width"], row["num_views"], row["view_size"]) for row in rows] == [
        (128, 8, 224),
        (256, 8, 224),
        (256, 4, 224),
        (256, 16, 224),
        (256, 8, 336),
        (256, 8, 512),
    ]
    assert "| 256 |" in page.read_text()
    assert "| 256 |" in capsys.readouterr().out


def test_the_plot_draws_every_series(tmp_path):
    pytest.importorskip("matplotlib")
    timings = {f"{step}_ms": {"median": 1.0} for step in projection_cost.STEPS}
    settings = [(1024, 8, 224), (4096, 8, 224), (4096, 4, 224), (4096, 8, 512)]
    names = ("width", "num_views", "view_size")
    rows = [dict(zip(names, each, strict=True)) | timings for each in settings]
    projection_cost.plot({"rows": rows}, tmp_path / "cost.svg")
    drawing = (tmp_path / "cost.svg").read_text()
    assert all(f">{label}<" in drawing for label in (1024, 4096, 4, 8, 224, 512))


@pytest.mark.parametrize("script", [projection, projection_cost])
def test_the_cpu_clock_is_refused_for_several_threads(script, tmp_path, capsys):
    arguments = ["--panoramas", tmp_path, "--json", tmp_path / "x", "--clock", "cpu"]
    with pytest.raises(SystemExit):
        script.main([str(each) for each in [*arguments, "--threads", "2"]])
    assert "use it with --threads 1" in capsys.readouterr().err
