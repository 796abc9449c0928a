"""The page does in Chromium what it should, on rendered scenes whose truth is known."""

import base64
import io
import re
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from oracle import SCENE, region_of, save_render
from PIL import Image
from playwright.sync_api import expect
from visiting import Visit
from xmp_packets import AREA, colours, packet, save_with_xmp

from panovlm.geometry.cutting import cut_views
from panovlm.geometry.layouts import ViewLayout
from panovlm.geometry.sphere import DIRECTIONS, angles_from_rays, panorama_rays
from panovlm.inference.assistant import Question
from panovlm.inference.prompts import about_panorama
from panovlm.inference.views_mattered import PairDrop, ViewsMattered
from panovlm.metrics.angles import yaw_error_deg
from panovlm.metrics.fields_of_view import parse_field_of_view
from panovlm.pictures.panorama import load_panorama
from panovlm.scenes.language import listing

SEAM = 180
"""Half the chart's width: outlines are drawn on it from -180 to 180."""


def numbers(path: str) -> np.ndarray:
    """The points of an SVG path [points, 2]."""
    return np.array(re.findall(r"(-?[\d.]+) (-?[\d.]+)", path), float)


def test_it_loads_in_full_without_complaint_and_asks_no_other_host(visit: Any, shots: Path) -> None:
    page = visit().page
    expect(page.get_by_role("heading", name="Look around, then ask")).to_be_visible()
    page.evaluate("Promise.all([...document.images].map((image) => image.decode()))")
    page.screenshot(path=f"{shots}.png")


@pytest.mark.parametrize("size", [(390, 844), (1280, 800)], ids=["phone", "desk"])
def test_many_examples_are_scrolled_through_below_the_heading(
    visit: Any, size: tuple[int, int]
) -> None:
    page = visit(viewport={"width": size[0], "height": size[1]}).page
    page.evaluate(
        """() => { const list = document.getElementById("examples");
        for (let more = 0; more < 20; more++) list.append(list.firstChild.cloneNode(true)); }"""
    )
    stage, heading = (page.locator(each).bounding_box() for each in ("#stage", "#welcome h2"))
    assert heading["y"] >= stage["y"]
    page.locator("#examples button").last.click()
    expect(page.locator("#welcome")).to_be_visible()  # a copy has no listener, but is reached


def test_a_chosen_picture_is_asked_about_and_the_answer_streams_in(
    visit: Any, picture: Path, shots: Path
) -> None:
    visit = visit()
    visit.open(picture)
    visit.page.evaluate(
        """() => { window.grown = new Set();
        new MutationObserver(() => window.grown.add(
          document.querySelector('.entry:last-child .answer')?.textContent)
        ).observe(document.getElementById('talk'), { childList: true, subtree: true }); }"""
    )
    entry = visit.ask("Where is the green cylinder?")
    assert entry.locator(".answer").inner_text() == "left"
    assert {"l", "le", "lef", "left"} <= set(visit.page.evaluate("[...window.grown]"))
    visit.page.screenshot(path=f"{shots}.png")


def test_a_dropped_picture_is_opened(visit: Any, picture: Path) -> None:
    visit = visit()
    data = base64.b64encode(picture.read_bytes()).decode()
    drop = visit.page.evaluate_handle(
        """(data) => { const given = new DataTransfer();
        const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
        given.items.add(new File([bytes], 'scene.png', { type: 'image/png' }));
        return given; }""",
        data,
    )
    visit.page.dispatch_event("#stage", "drop", {"dataTransfer": drop})
    expect(visit.page.locator("#welcome")).to_be_hidden()
    assert visit.ask("How many?").locator(".answer").inner_text() == "4"


@pytest.mark.parametrize("solid", SCENE.solids, ids=lambda solid: solid.name)
def test_the_camera_turns_to_the_answered_direction(visit: Any, picture: Path, solid: Any) -> None:
    visit = visit()
    visit.open(picture)
    visit.ask(f"Where is the {solid.name}?")
    yaw_deg, _ = visit.direction()
    assert yaw_error_deg(yaw_deg, 45.0 * solid.sector) < 10
    visit.ask(f"Where exactly is the {solid.name}?")
    yaw_deg, pitch_deg = visit.direction()
    assert yaw_error_deg(yaw_deg, solid.yaw_deg) < 10
    assert abs(pitch_deg - SCENE.pitch_deg(solid)) < 10


def test_the_viewer_shows_what_a_view_of_the_models_shows(visit: Any, picture: Path) -> None:
    visit = visit("#yaw=178&pitch=20&fov=90", viewport={"width": 900, "height": 700})
    visit.open(picture)
    page = visit.page
    page.evaluate("document.getElementById('stage').style.cssText = 'width:400px;height:400px'")
    assert visit.direction() == (178.0, 20.0)
    pixels = np.asarray(Image.open(picture).convert("RGB"))
    assert difference(page, pixels, (178.0, 20.0, 0.0, 90.0)) < 4


def difference(page: Any, pixels: Any, look: tuple[float, float, float, float]) -> float:
    """The mean difference of what a square viewer shows and a view of a panorama."""
    page.evaluate("document.getElementById('look').hidden = true")
    page.evaluate("document.querySelector('.pnlm-controls-container').hidden = true")
    taken = Image.open(io.BytesIO(page.locator("#view").screenshot()))
    shown = np.asarray(taken.convert("RGB").resize((100, 100)), float)
    right = cut_views(pixels, ViewLayout.free([look], view_size=100))[0].astype(float)
    middle = (slice(10, -10), slice(10, -10))  # the stage has round corners
    return float(np.abs(shown - right)[middle].mean())


@pytest.mark.parametrize("tilt", [{}, {"PosePitchDegrees": 15, "PoseRollDegrees": -20}])
def test_a_crop_is_shown_where_it_lies_and_a_tilted_camera_level(
    visit: Any, tmp_path: Path, tilt: dict[str, float]
) -> None:
    whole = colours(panorama_rays(256, 512))
    area = {name: 4 * each if isinstance(each, int) else each for name, each in AREA.items()}
    path = save_with_xmp(tmp_path / "part.jpg", whole[64:224, 96:336], packet(area | tilt))
    visit = visit("#yaw=-50&pitch=0&fov=60", viewport={"width": 900, "height": 700})
    page = visit.page
    visit.open(path)
    page.evaluate("document.getElementById('stage').style.cssText = 'width:400px;height:400px'")
    assert visit.direction() == (-50.0, 0.0)
    assert difference(page, load_panorama(path), (-50.0, 0.0, 0.0, 60.0)) < 4


def test_each_direction_of_an_answer_has_a_hot_spot_and_a_line_to_copy(
    visit: Any, picture: Path, oracle: Any
) -> None:
    oracle.answer_of = lambda scene, question: listing(scene)
    visit = visit(permissions=["clipboard-read", "clipboard-write"])
    visit.open(picture)
    page, entry = visit.page, visit.ask("List what stands around me.")
    spots, lines = page.locator(".spot"), entry.locator(".places li")
    expect(spots).to_have_count(len(SCENE.solids))
    expect(lines).to_have_count(len(SCENE.solids))
    assert all(solid.name in " ".join(spots.all_text_contents()) for solid in SCENE.solids)
    page.locator(".chip", has_text="to my left").click()
    assert visit.direction()[0] == -90
    page.locator(".spot", has_text="green cylinder").click()
    page.click("#copy")
    expect(page.locator("#copied")).to_have_text("Copied.")
    copied = page.evaluate("navigator.clipboard.readText()").splitlines()
    assert copied[0] == "- List what stands around me."
    assert any(line.startswith("  - green cylinder") and "yaw -90°" in line for line in copied)


def test_several_panoramas_are_a_tour_whose_links_and_answers_stay(
    visit: Any, picture: Path, tmp_path: Path
) -> None:
    visit = visit()
    other = save_render(SCENE.yaw_rotated(90), tmp_path / "other.png")
    visit.page.set_input_files("#file", [picture, other])
    page, choices = visit.page, visit.page.locator("#tour button")
    expect(choices).to_have_count(2)
    visit.ask("How many?")
    page.focus("#view")
    page.keyboard.press("ArrowRight")
    page.select_option("#link-to", label="Panorama 2")
    page.locator(".spot.link", has_text="Panorama 2").click()
    expect(choices.nth(1)).to_have_attribute("aria-current", "true")
    expect(page.locator(".entry")).to_have_count(0)
    expect(page.locator(".spot")).to_have_count(0)
    choices.nth(0).click()
    expect(page.locator(".entry")).to_have_count(1)
    expect(page.locator(".spot.link")).to_have_count(1)
    assert visit.ask("How many?").locator(".answer").inner_text() == "4"


def test_the_page_is_in_korean_where_it_is_chosen_or_the_browser_is(
    visit: Any, picture: Path
) -> None:
    page = visit(locale="ko-KR").page
    expect(page.locator("#ask")).to_have_text("묻기")
    assert page.evaluate("document.documentElement.lang") == "ko"
    visit = visit()
    visit.open(picture)
    visit.ask("Where is the red sphere?")
    visit.page.select_option("#language", "ko")
    expect(visit.page.locator("#ask")).to_have_text("묻기")
    expect(visit.page.locator("#look")).to_contain_text("앞 · 피치")
    visit.page.select_option("#language", "en")
    expect(visit.page.locator("#ask")).to_have_text("Ask")
    expect(visit.page.get_by_role("button", name="All rotations")).to_have_count(1)


def test_an_outline_across_the_seam_is_whole_in_the_viewer_and_on_the_map(
    visit: Any, picture: Path, shots: Path
) -> None:
    visit = visit()
    visit.open(picture)
    visit.ask("Where exactly is the yellow cone?")
    visit.page.check("#views")
    visit.direction()
    (seen,) = visit.paths("#outlines", "stated")
    points = numbers(seen)
    assert seen.count("M") == 1  # in one piece
    assert np.abs(points).max() < 0.6  # before the camera
    assert np.allclose(points[0], points[-1])
    (charted,) = visit.paths("#chart", "stated")
    pieces = [numbers(piece)[:, 0] for piece in charted.split("M")[1:]]
    widths = [np.ptp(piece) for piece in pieces]
    region = parse_field_of_view(region_of(SCENE.solids[2]))
    yaws_deg = np.degrees(angles_from_rays(region.outline(24))[0])
    assert np.allclose(widths, np.ptp(yaws_deg % 360), atol=0.1)  # no jump from edge to edge
    assert any((piece < SEAM).any() and (piece > SEAM).any() for piece in pieces)
    assert any((piece < -SEAM).any() and (piece > -SEAM).any() for piece in pieces)
    visit.page.screenshot(path=f"{shots}.png")


def test_the_map_shows_the_frame_of_the_view_and_a_click_on_it_looks_there(
    visit: Any, picture: Path
) -> None:
    visit = visit()
    visit.open(picture)
    strip = visit.page.locator("#strip")
    box = strip.bounding_box()
    strip.click(position={"x": box["width"] * 0.75, "y": box["height"] * 0.4})
    yaw_deg, pitch_deg = visit.direction()
    assert abs(yaw_deg - 90) < 2
    assert abs(pitch_deg - 18) < 2
    (frame,) = visit.paths("#chart", "now")
    middle = numbers(frame.split("M")[2])[:, 0]
    assert abs((middle.min() + middle.max()) / 2 - 90) < 2
    strip.click(position={"x": 2, "y": box["height"] / 2})
    (frame,) = visit.paths("#chart", "now")
    visit.direction()
    (frame,) = visit.paths("#chart", "now")
    crossing = [numbers(piece)[:, 0] for piece in frame.split("M")[1:]]
    assert sum(piece.min() < SEAM < piece.max() for piece in crossing) == 1
    assert sum(piece.min() < -SEAM < piece.max() for piece in crossing) == 1


def test_dragging_moves_the_picture_with_the_hand(visit: Any, picture: Path) -> None:
    visit = visit()
    visit.open(picture)
    box = visit.page.locator("#view").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    visit.page.mouse.move(x, y)
    visit.page.mouse.down()
    visit.page.mouse.move(x - box["width"] / 3, y + 50, steps=4)
    visit.page.mouse.up()
    yaw_deg, pitch_deg = visit.direction()
    assert 20 < yaw_deg < 50
    assert pitch_deg > 2
    visit.page.mouse.wheel(0, -300)
    zoomed = re.search(r"fov=(\d+)", _link_at_rest(visit))
    assert zoomed and 20 <= int(zoomed[1]) < 90


def _link_at_rest(visit: Visit) -> str:
    """The address once the camera, which coasts after a drag, has stood still."""
    link, before = "", None
    while not link or link != before:
        before = link
        visit.page.wait_for_timeout(600)
        link = visit.page.evaluate("location.hash")
    return link


def test_a_question_about_what_is_seen_names_the_direction_looked_at(
    visit: Any, picture: Path, oracle: Any
) -> None:
    visit = visit()
    visit.open(picture)
    visit.page.focus("#view")
    for _ in range(18):
        visit.page.keyboard.press("ArrowRight")
    visit.page.click("#here")
    assert visit.answered(1).locator(".answer").inner_text() == "blue cube"
    visit.page.fill("#question", "How big is it?")
    visit.page.click("#here")
    visit.answered(2)
    assert oracle.asked == ["What is to my right?", "How big is it to my right?"]


def test_the_views_that_see_the_answer_stand_out_and_are_named(visit: Any, picture: Path) -> None:
    visit = visit()
    visit.open(picture)
    visit.page.check("#views")
    assert len(visit.paths("#chart", "view")) == 4
    entry = visit.ask("Where exactly is the blue cube?")
    assert "in view 2 of 4" in entry.inner_text()
    assert len(visit.paths("#chart", "seeing")) == 1
    entry = visit.ask("Where is it exactly, the [45, 0, 10, 10]?")
    assert len(visit.paths("#chart", "view")) == 4


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_which_views_mattered_is_written_and_shaded_on_a_phone_by_keyboard_alone(
    visit: Any, picture: Path, oracle: Any, scheme: str, shots: Path
) -> None:
    visit = visit(color_scheme=scheme, viewport={"width": 390, "height": 844})
    visit.open(picture)
    page, extra = visit.page, visit.page.locator(".extra")
    entry = visit.ask("Where is the red sphere?")
    assert extra.count() == 0  # not requested
    page.focus("#views")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "mattered"
    page.keyboard.press("Space")
    expect(entry.locator(".extra")).to_contain_text("Views that mattered: ")
    question = Question(about_panorama("Where is the red sphere?"), [oracle.open(picture)])
    shares = oracle.views_mattered(question, "front").shares
    said = dict(re.findall(r"(front|right|back|left): (\d+)\s%", extra.inner_text()))
    names = ("front", "right", "back", "left")
    for name, share in zip(names, shares, strict=True):
        assert abs(float(said.get(name, 0)) - 100 * share) <= 0.51
    filled = page.locator("#chart path.carrying").all()
    opacity = np.array([float(path.get_attribute("fill-opacity")) for path in filled])
    assert np.allclose(opacity / opacity.sum(), shares, atol=0.01)
    assert page.evaluate(CONTRAST, ".extra") >= 4.5
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.screenshot(path=f"{shots}.png", full_page=True)
    page.uncheck("#mattered")
    expect(page.locator("#chart path.carrying")).to_have_count(0)


def studies(found: Iterable[ViewsMattered]) -> Any:
    """A study of which views mattered, each time with the next result."""
    results = iter(found)

    def study(*_: Any) -> Iterator[ViewsMattered | None]:
        yield None
        yield next(results)

    return study


def test_shares_follow_each_new_answer_and_belong_to_one_rotation(
    visit: Any, picture: Path, oracle: Any
) -> None:
    drops = [(0.1, 0.4, 0.0, 0.0), (0.0, 0.0, 0.0, 0.0), (0.3, 0.0, 0.0, 0.1)]
    oracle.view_study = studies(ViewsMattered(-1.0, each, ()) for each in drops)
    visit = visit()
    visit.open(picture)
    visit.page.check("#mattered")
    visit.ask("Where is the red sphere?")
    carrying, extra = visit.page.locator("#chart path.carrying"), visit.page.locator(".extra")
    expect(carrying).to_have_count(4)
    expect(extra).to_contain_text("Views that mattered: ")
    visit.ask("Where is the blue cube?")
    expect(extra.last).to_contain_text("No view mattered alone")
    expect(carrying).to_have_count(0)
    visit.ask("Where is the yellow cone?")
    expect(extra).to_have_count(3)
    expect(carrying).to_have_count(4)
    visit.page.evaluate(
        """() => { const slider = document.getElementById('yaw-shift'); slider.value = 1;
        slider.dispatchEvent(new Event('input')); }"""
    )
    expect(carrying).to_have_count(0)


def test_shares_and_pairs_are_put_into_words(visit: Any) -> None:
    said = visit().of_script(
        "mattered.js",
        """({ inWords }) => [
        { shares: null, together: null },
        { shares: null, together: { views: [7, 0], drop: 0.5 } },
        { shares: [0, 0.004, 0.996, 0, 0, 0, 0, 0], together: null },
        ].map((found) => inWords(found, [..."abcdefgh"].map((name) => ({ name }))))""",
    )
    said = [text.replace("\xa0", " ") for text in said]
    assert said[0].startswith("No view mattered alone, nor two neighbours together")
    pair = "No view mattered alone, but h and a together did: with both blank"
    assert said[1].startswith(f"{pair}, this answer gets 39 % less likely. ")
    assert said[2].startswith("Views that mattered: c: 100 %, others: 0 %. ")


def test_two_neighbours_that_mattered_together_are_named_and_shaded(
    visit: Any, picture: Path, oracle: Any
) -> None:
    drops = {(0, 1): 0.0, (1, 2): 0.0, (2, 3): 0.1, (3, 0): 0.5}
    pairs = tuple(PairDrop(views, drop) for views, drop in drops.items())
    found = ViewsMattered(-1.0, (0.0, 0.01, 0.0, 0.0), pairs)
    oracle.view_study = studies([found])
    visit = visit()
    visit.open(picture)
    visit.page.check("#mattered")
    entry = visit.ask("Where is the red sphere?")
    expect(entry.locator(".extra")).to_contain_text("but left and front together did")
    filled = visit.page.locator("#chart path.carrying").all()
    assert [path.get_attribute("fill-opacity") for path in filled] == [
        "0.400", "0.000", "0.000", "0.400",
    ]  # fmt: skip


def test_an_answer_that_holds_under_all_rotations_is_reported(
    visit: Any, picture: Path, oracle: Any, shots: Path
) -> None:
    visit = visit()
    visit.open(picture)
    visit.ask("Where is the yellow cone?")
    visit.page.click("#all")
    expect(visit.page.locator("#verdict")).to_have_text("4 of 4 rotations agree")
    words = [entry.inner_text() for entry in visit.page.locator(".answer").all()]
    assert words == [DIRECTIONS[index] for index in (4, 2, 0, 6)]
    visit.page.screenshot(path=f"{shots}.png")


def test_an_answer_that_does_not_rotate_with_the_picture_is_reported(
    visit: Any, picture: Path, oracle: Any
) -> None:
    oracle.answer_of = lambda scene, question: "behind"
    visit = visit()
    visit.open(picture)
    visit.ask("Where is the yellow cone?")
    visit.page.focus("#yaw-shift")
    visit.page.keyboard.press("ArrowRight")
    expect(visit.page.locator("#verdict")).to_have_text("1 of 2 rotations agree")
    assert "90° apart" in visit.page.locator("#rotations .false").inner_text()


def test_another_object_in_the_same_direction_is_no_agreement_and_listings_are_open(
    visit: Any, picture: Path, oracle: Any
) -> None:
    visit = visit()
    compare = """({ compare }, texts) => {
      const [first, again] = texts.map(([text, yaw]) => ({ text, yaw }));
      return compare(first, again).agrees;
    }"""
    for first, again, agrees in (
        (["left to back: red cone", 180], ["front to left: red cone", 180], True),
        (["left to back: red cone", 180], ["front to left: blue cube", 180], False),
        (["left to back: red cone", 180], ["front to left: red cone", 90], False),
        (["back", 180], ["left", -150], True),
        (["front", 0], ["nothing", None], False),
        (["Yes.", None], [" yes.", None], True),
        (["front: a\nback: b", None], ["left: a\nright: b", None], None),
    ):
        assert visit.of_script("rotations.js", compare, [first, again]) is agrees, (first, again)


def test_a_question_that_names_a_direction_is_rotated_with_the_picture(
    visit: Any, picture: Path, oracle: Any
) -> None:
    visit = visit()
    visit.open(picture)
    visit.ask("What is to my right?")
    visit.page.focus("#yaw-shift")
    visit.page.keyboard.press("ArrowRight")
    expect(visit.page.locator("#verdict")).to_have_text("2 of 2 rotations agree")
    assert oracle.asked == ["What is to my right?", "What is in front of me?"]


def test_the_slider_rotates_picture_map_and_outline_together(visit: Any, picture: Path) -> None:
    visit = visit()
    visit.open(picture)
    visit.ask("Where exactly is the blue cube?")
    visit.page.focus("#yaw-shift")
    visit.page.keyboard.press("ArrowRight")
    visit.answered(2)
    yaw_deg, _ = visit.direction()
    assert yaw_error_deg(yaw_deg, SCENE.solids[1].yaw_deg - 90) < 2
    visit.page.evaluate("document.getElementById('chart').style.display = 'none'")
    taken = Image.open(io.BytesIO(visit.page.locator("#strip").screenshot())).convert("RGB")
    pixel = taken.getpixel((taken.width * (0.5 + 5 / 360), taken.height * (0.5 + 18 / 180)))
    assert pixel[2] > 1.5 * max(pixel[:2])  # the blue cube is in front on the map too


def test_everything_is_done_with_the_keyboard_alone(visit: Any, picture: Path, shots: Path) -> None:
    visit = visit()
    page = visit.page
    reached: list[str] = []
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
        if reached[-1] == "ask":
            break
    assert {"view", "file", "question", "ask"} <= set(reached)
    assert reached.count("BUTTON") >= 4  # the examples
    visit.open(picture)
    assert page.evaluate("document.activeElement.id") == "question"
    page.keyboard.type("Where is the red sphere?")
    page.keyboard.press("Enter")
    assert visit.answered(1).locator(".answer").inner_text() == "front"
    page.locator("#view").focus()
    page.screenshot(path=f"{shots}.png")
    for key in ("ArrowLeft", "ArrowLeft", "ArrowUp"):
        page.keyboard.press(key)
    assert visit.direction() == (-10.0, 5.0)
    expect(page.locator("#announcement")).to_have_text(re.compile("Looking −10°, in front of me"))
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "strip"
    page.keyboard.press("ArrowRight")
    assert visit.direction() == (5.0, 5.0)
    assert page.get_attribute("#strip", "aria-valuetext") == "5°, in front of me"


def test_roles_and_names_are_there_for_screen_readers(visit: Any, picture: Path) -> None:
    visit = visit()
    visit.open(picture)
    visit.ask("Where is the red sphere?")
    page = visit.page
    for role, name in (
        ("application", re.compile("Panorama, looking in front of me")),
        ("slider", re.compile("Where you look")),
        ("slider", re.compile("Rotate the panorama")),
        ("textbox", "Question"),
        ("button", "Ask"),
        ("button", re.compile("Look there: 0°, in front of me")),
        ("checkbox", "Views the model reads"),
        ("log", "Questions and answers"),
    ):
        expect(page.get_by_role(role, name=name, exact=True)).to_have_count(1)
    unnamed = page.evaluate(
        """[...document.querySelectorAll('button, input, img')].filter((each) =>
        !(each.textContent || each.ariaLabel || each.labels?.length || each.hasAttribute('alt')
          || each.querySelector('img[alt]'))).map((each) => each.outerHTML)"""
    )
    assert unnamed == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    "width, locale", [(390, "ko-KR"), (390, "en-US"), (820, "en-US"), (1440, "ko-KR")]
)
def test_phones_tablets_and_desks_show_it_all_without_scrolling_sideways(
    visit: Any, picture: Path, scheme: str, width: int, locale: str, shots: Path
) -> None:
    device = {"viewport": {"width": width, "height": 844}, "has_touch": True, "is_mobile": True}
    visit = visit(color_scheme=scheme, locale=locale, device_scale_factor=2, **device)
    visit.page.screenshot(path=f"{shots}-welcome.png")
    visit.open(picture)
    visit.ask("Where exactly is the yellow cone?")
    visit.ask("What stands where I cannot see it without turning round? " + "long" * 40)
    assert visit.page.evaluate("document.documentElement.scrollWidth") == width
    visit.page.screenshot(path=f"{shots}.png", full_page=True)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_light_and_dark(
    visit: Any, picture: Path, scheme: str, shots: Path
) -> None:
    visit = visit(color_scheme=scheme)
    visit.open(picture)
    visit.ask("What is behind me?")
    visit.ask("Where is the red sphere?")
    for selector in (".question", ".answer", ".chip", ".note", "#ask", "#here", "#ideas button"):
        assert visit.page.evaluate(CONTRAST, selector) >= 4.5, selector
    visit.page.screenshot(path=f"{shots}.png")


CONTRAST = """(selector) => {
  const parts = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = (rgb) => rgb.slice(0, 3).map((c) => c / 255)
    .map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const element = document.querySelector(selector);
  let ground = element;
  while (ground.parentElement && (parts(getComputedStyle(ground).backgroundColor)[3] ?? 1) === 0)
    ground = ground.parentElement;
  const both = [getComputedStyle(element).color, getComputedStyle(ground).backgroundColor];
  const [low, high] = both.map((text) => light(parts(text))).sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
}"""
"""WCAG's contrast of an element's text with what lies behind it."""


def test_a_link_carries_the_example_the_view_and_the_question(visit: Any) -> None:
    visit = visit("#example=1&yaw=120&pitch=-5&fov=60&q=What+is+behind+me%3F")
    expect(visit.page.locator("#look")).to_be_visible()  # once it is drawn
    assert visit.direction() == (120.0, -5.0)
    assert visit.page.input_value("#question") == "What is behind me?"
    visit.page.focus("#view")
    visit.page.keyboard.press("ArrowRight")
    link = _link_at_rest(visit)
    assert link == "#yaw=125&pitch=-5&fov=60&q=What+is+behind+me%3F&example=1"


def test_an_example_that_is_linked_to_hides_the_others_and_a_bad_link_shows_them(
    visit: Any,
) -> None:
    linked = visit("#example=2").page
    expect(linked.locator("#look")).to_be_visible()
    expect(linked.locator("#welcome")).to_be_hidden()
    small = "performance.getEntriesByType('resource').filter((part) => /-small/.test(part.name))"
    assert linked.evaluate(f"{small}.length") == 0  # nobody sees them
    linked.click("#other")
    expect(linked.locator("#welcome")).to_be_visible()
    linked.evaluate(
        """Promise.all([...document.querySelectorAll('#examples img')].map((image) =>
        image.complete || new Promise((resolve) => image.addEventListener('load', resolve))))"""
    )
    assert linked.evaluate(f"{small}.length") == 4
    expect(visit("#example=none").page.locator("#welcome")).to_be_visible()


def test_a_second_visit_loads_the_pages_files_from_the_cache(visit: Any) -> None:
    first = visit("#example=1")
    first.direction()
    again = first.context.new_page()
    again.goto(f"{first.address}/#example=1")
    expect(again.locator("#look")).to_contain_text("pitch")
    taken = again.evaluate(
        """performance.getEntriesByType('resource').map((part) => [part.name, part.transferSize])"""
    )
    files = [size for name, size in taken if "/page/" in name]
    assert len(files) > 10
    assert sum(files) == 0
    (size,) = [size for name, size in taken if name.endswith("/examples/1.jpg")]
    assert size < 1000  # revalidated, and the same


def test_a_running_answer_is_stopped_by_the_button(visit: Any, picture: Path, oracle: Any) -> None:
    visit = visit()
    visit.open(picture)
    step = oracle.model.lm_head.register_forward_hook(lambda *_: time.sleep(0.1))
    oracle.answer_of = lambda scene, question: "on and on " * 10
    visit.page.fill("#question", "How many?")
    visit.page.keyboard.press("Enter")
    expect(visit.page.locator("#ask")).to_have_text("Stop")
    visit.page.click("#ask")
    expect(visit.page.locator(".error")).to_have_text("Stopped.")
    expect(visit.page.locator("#ask")).to_have_text("Ask")
    step.remove()


def test_a_picture_that_cannot_be_opened_is_reported(visit: Any, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no picture")
    visit = visit()
    visit.page.set_input_files("#file", bad)
    expect(visit.page.locator(".error")).to_contain_text("cannot be opened: the picture: found")
    visit.errors.clear()  # the browser's own line about status 400


def test_text_of_an_answer_is_never_markup(visit: Any, picture: Path, oracle: Any) -> None:
    oracle.answer_of = lambda scene, question: "<img src=x onerror=alert(1)><b>bold</b>"
    visit = visit()
    visit.open(picture)
    entry = visit.ask("How many?")
    assert entry.locator(".answer").inner_text() == oracle.answer_of(SCENE, "")
    assert entry.locator("img, b").count() == 0


def test_the_pages_words_for_directions_are_the_scenes(visit: Any) -> None:
    from panovlm.data.questions.asking import PLACES

    assert tuple(visit().of_script("words.js", "({ PLACES }) => PLACES")) == PLACES
