"""The sheet of annotations: outlines lie where the things are, on both sides of the seam."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from panovlm.data.annotations import Annotation, Sighting, Teacher, ViewCaption
from panovlm.figures import annotation_sheet
from panovlm.figures.annotation_sheet import (
    HEIGHT,
    WIDTH,
    Outline,
    outline_of,
    write_annotation_sheet,
)


def thing(yaw_deg: float, pitch_deg: float = 0.0, label: str = "car") -> Sighting:
    return Sighting(label=label, yaw_deg=yaw_deg, pitch_deg=pitch_deg, width_deg=20, height_deg=10)


def columns(outline: Outline) -> list[float]:
    return [float(x) for x in re.findall(r"[ML](-?[\d.]+) ", outline.path)]


def test_an_outline_is_where_the_thing_is() -> None:
    outline = outline_of(thing(90.0))
    assert outline.copies == (0,)
    middle, half = 0.75 * WIDTH, 10 / 360 * WIDTH
    assert min(columns(outline)) == pytest.approx(middle - half, abs=0.3)
    assert max(columns(outline)) == pytest.approx(middle + half, abs=0.3)
    assert outline.text == "car 1.00 ×1"


@pytest.mark.parametrize("yaw_deg", [180.0, -177.0, 176.0])
def test_a_thing_at_the_seam_shows_at_both_edges(yaw_deg: float) -> None:
    outline = outline_of(thing(yaw_deg))
    places = columns(outline)
    assert max(places) - min(places) < WIDTH / 10
    shown = [(min(places) + shift, max(places) + shift) for shift in outline.copies]
    assert len(shown) == 2
    assert any(low < 0 < high for low, high in shown)
    assert any(low < WIDTH < high for low, high in shown)


def test_a_thing_around_a_pole_goes_all_the_way_across() -> None:
    places = columns(outline_of(thing(0.0, 89.0)))
    assert abs(places[-1] - places[0]) == pytest.approx(WIDTH, abs=1)


def annotation(image: Path, *sightings: Sighting) -> Annotation:
    return Annotation(
        image=image,
        digest="0",
        teacher=Teacher(name="oracle"),
        group="hall",
        sightings=sightings,
        captions=(ViewCaption(yaw_deg=45, pitch_deg=0, text="A <b>hall</b>."),),
        findings=("view at yaw 0°: it is dark",),
    )


def test_a_page_holds_pictures_outlines_captions_and_findings(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((32, 64, 3), np.uint8)).save(tmp_path / "a.png")
    whole = annotation(tmp_path / "a.png", thing(0.0), thing(180.0, label="<door>"))
    num_shown = write_annotation_sheet([whole, annotation(tmp_path / "none.png")], tmp_path / "s")
    page = (tmp_path / "s").read_text()
    assert num_shown == 2
    assert page.count("data:image/jpeg;base64,") == 1
    assert page.count("<path d=") == 3  # one of the two shows at both edges
    assert f'viewBox="0 0 {WIDTH} {HEIGHT}"' in page
    for text in ("&lt;door&gt; 1.00", "A &lt;b&gt;hall", "it is dark", "found no such file"):
        assert text in page
    assert not re.search(r"https?://|<script", page)


def test_of_many_pictures_some_are_shown_evenly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(annotation_sheet, "MAX_PICTURES", 3)
    many = [annotation(tmp_path / f"{number}.png") for number in range(9)]
    assert write_annotation_sheet(many, tmp_path / "s.html") == 3
    page = (tmp_path / "s.html").read_text()
    assert "3 of 9 pictures" in page
    shown = [f"{number}.png" for number in range(9) if f"/{number}.png: found" in page]
    assert shown == ["0.png", "4.png", "8.png"]
