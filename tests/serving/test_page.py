"""The page at / is complete, loads nothing from other hosts and needs no key."""

import hashlib
import io
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from asking import LIMITS, PATH, Ask, TestClient, data_url
from PIL import Image
from xmp_packets import AREA, PART, packet, save_with_xmp

from panovlm.errors import PanoVLMError
from panovlm.geometry.layouts import ViewLayout
from panovlm.geometry.sphere import direction_index
from panovlm.inference.assistant import Assistant
from panovlm.model.processing import view_words
from panovlm.pictures.panorama import load_panorama
from panovlm.scenes.render import render
from panovlm.serving.app import create_app
from panovlm.serving.examples import (
    MOST_PICTURES,
    NUM_SCENES,
    THUMBNAIL_HEIGHT,
    Example,
    Examples,
    examples_of,
    scene_of,
    scenes,
)
from panovlm.serving.middleware import Access
from panovlm.serving.site import PAGE, PAGE_FOLDER, view_names

NAMED = re.compile(r'(?:href|src)="([\w./]+)"')
IMPORTED = re.compile(r'from "\./([\w.]+)"')
MOST_LINES = 400
OWN_SCRIPTS = [file for file in PAGE_FOLDER.glob("*.js") if file.name != "pannellum.js"]
PANNELLUM_SHA256 = "51b8df674333612adbd807b6f47940d4d7aa07317d949d3f1314f84de965fc3c"


def test_every_file_of_the_page_is_served_without_a_key_and_names_no_other_host(
    assistant: Assistant,
) -> None:
    with TestClient(create_app(assistant, limits=LIMITS, access=Access(keys=["secret"]))) as client:
        page = client.get("/")
        assert page.headers["content-type"].startswith("text/html")
        assert "default-src 'none'" in page.headers["content-security-policy"]
        texts = {name: client.get(name).text for name in PAGE}
        (folder,) = {name.rpartition("/")[0] for name in PAGE if name != "/"}
        asked_for = {f"/{name}" for name in NAMED.findall(page.text)}
        named = {f"{folder}/{name}" for text in texts.values() for name in IMPORTED.findall(text)}
        assert asked_for == set(PAGE) - {"/"}
        assert named < asked_for
        for name, text in texts.items():
            if "pannellum" not in name:  # its comments name its own page
                assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
        script = client.get(f"{folder}/page.js")
        assert script.headers["content-type"].startswith("text/javascript")
        assert client.get("/page/elsewhere/page.js").status_code == 401
        assert client.get("/v1/models").status_code == 401
        assert client.get("/v1/views").status_code == 401


def test_files_with_a_versioned_path_are_kept_and_the_rest_is_revalidated(
    client: TestClient,
) -> None:
    for path in [*PAGE, "/examples/1-small.jpg"]:
        first = client.get(path)
        kept = "immutable" in first.headers["cache-control"]
        assert kept is path.startswith("/page/")
        assert kept or first.headers["cache-control"] == "no-cache"
        tag = first.headers["etag"]
        for held in (tag, f'"other", {tag}', tag.removeprefix("W/"), "*"):
            again = client.get(path, headers={"if-none-match": held})
            assert (again.status_code, again.content) == (304, b"")
            assert again.headers["etag"] == tag
        assert client.get(path, headers={"if-none-match": '"other"'}).status_code == 200


def test_the_pages_text_is_gzipped_where_accepted_and_pictures_and_answers_never_are(
    client: TestClient, body: Ask
) -> None:
    for path in PAGE:
        packed = client.get(path, headers={"accept-encoding": "br, gzip;q=0.8"})
        assert packed.headers["content-encoding"] == "gzip"
        for takes in ("br", "identity"):
            plain = client.get(path, headers={"accept-encoding": takes})
            assert "content-encoding" not in plain.headers
            assert plain.text == packed.text
            assert int(packed.headers["content-length"]) < len(plain.content)
            assert plain.headers["vary"] == "Accept-Encoding"
    packed_only = {"accept-encoding": "gzip"}
    for path in ("/examples/1-small.jpg", "/examples", "/v1/views", "/v1/models", "/openapi.json"):
        assert "content-encoding" not in client.get(path, headers=packed_only).headers
    for asked in (body(), body(stream=True)):
        reply = client.post(PATH, json=asked, headers=packed_only)
        assert reply.status_code == 200
        assert "content-encoding" not in reply.headers


def test_views_have_the_names_that_the_model_has_for_them(
    client: TestClient,
) -> None:
    listed = client.get("/v1/views").json()
    assert listed["stride_deg"] == 90.0
    assert [view["name"] for view in listed["views"]] == view_words(ViewLayout.ring(4))
    assert [view["yaw_deg"] for view in listed["views"]] == [0.0, 90.0, 180.0, -90.0]
    assert {view["fov_deg"] for view in listed["views"]} == {120.0}
    assert {view["is_global"] for view in listed["views"]} == {False}


def test_a_global_view_is_named_after_those_of_the_ring() -> None:
    for num_views in (2, 3, 8):
        layout = ViewLayout.ring(num_views, view_size=8)
        assert view_names(layout) == view_words(layout)
        assert view_names(layout.with_global()) == [*view_words(layout), "all around"]


def test_a_panorama_is_rotated_by_strides_and_half_a_stride_is_refused(
    client: TestClient, body: Ask
) -> None:
    def complete(yaw_shift_deg: float) -> str:
        reply = client.post(PATH, json=body(yaw_shift_deg=yaw_shift_deg)).json()
        return reply["choices"][0]["message"]["content"]

    assert complete(0) == complete(360) == complete(-360) != complete(90)
    refused = client.post(PATH, json=body(yaw_shift_deg=45))
    assert refused.status_code == 400
    assert "whole number of strides" in refused.json()["error"]["message"]
    assert client.post(PATH, json=body(yaw_shift_deg=361)).status_code == 400
    without = client.post(PATH, json=body("No picture", None, yaw_shift_deg=90))
    assert without.status_code == 200  # nothing to rotate


def test_a_picture_is_given_level_as_the_model_reads_it_and_one_that_is_level_is_not_sent_back(
    client: TestClient, picture_url: str, tmp_path: Path
) -> None:
    def post(url: str) -> Any:
        return client.post("/v1/panorama", json={"model": "panovlm", "image_url": url})

    plain = post(picture_url)
    assert (plain.status_code, plain.content) == (204, b"")
    tilt = {"PosePitchDegrees": 15, "PoseRollDegrees": -20}
    path = save_with_xmp(tmp_path / "part.png", PART, packet(AREA | tilt))
    reply = post(data_url(path.read_bytes()))
    assert reply.headers["content-type"] == "image/jpeg"
    assert np.abs(opened(reply.content) - load_panorama(path)).mean() < 4  # JPEG
    error = post(data_url(b"no picture")).json()["error"]
    assert (error["code"], error["param"]) == ("invalid_image", "image_url")


def test_examples_are_panoramas_with_questions_and_need_no_key(assistant: Assistant) -> None:
    access, offered = Access(keys=["secret"]), examples_of("scenes")
    app = create_app(assistant, limits=LIMITS, access=access, examples=offered)
    with TestClient(app) as client:
        listed = client.get("/examples").json()
        assert len(listed) == NUM_SCENES
        for example in listed:
            small = Image.open(io.BytesIO(client.get(example["thumbnail"]).content))
            assert small.size == (2 * THUMBNAIL_HEIGHT, THUMBNAIL_HEIGHT)
            assert len(example["questions"]) >= 2
            assert example["picture"] == f"examples/{listed.index(example) + 1}.jpg"  # link.js
        assert client.get("/examples/99.jpg").status_code == 404


def test_an_example_shows_its_scene_and_the_first_crosses_the_seam() -> None:
    scene = scene_of(0)
    assert any(solid.crosses_seam for solid in scene.solids)
    shown = opened(Examples(scenes()).picture("/examples/1-small.jpg"))
    assert np.abs(shown - render(scene, THUMBNAIL_HEIGHT)).mean() < 4  # JPEG
    assert {direction_index(solid.yaw_deg) for solid in scene.solids} >= {4}


def test_every_module_is_requested_at_once_and_none_waits_for_another() -> None:
    page = (PAGE_FOLDER / "index.html").read_text()
    preloaded = set(re.findall(r'"modulepreload" href="([\w.]+)"', page))
    assert preloaded == {file.name for file in OWN_SCRIPTS} - {"page.js"}


def test_the_viewer_comes_with_its_licence_as_it_was_published() -> None:
    viewer, licence = (PAGE_FOLDER / f"pannellum.{kind}" for kind in ("js", "LICENSE"))
    assert "2.5.7" in viewer.read_text()[:40]
    assert hashlib.sha256(viewer.read_bytes()).hexdigest() == PANNELLUM_SHA256
    assert "Permission is hereby granted, free of charge" in licence.read_text()


def test_every_text_of_the_page_has_its_korean() -> None:
    texts = (PAGE_FOLDER / "texts.js").read_text()
    said = re.compile(r'say\(\s*"((?:[^"\\]|\\.)+)"')
    english = {each for file in OWN_SCRIPTS for each in said.findall(file.read_text())}
    page = (PAGE_FOLDER / "index.html").read_text()
    shown = re.findall(r">([^<>\n]*[a-z][^<>\n]*)<", page.partition("<body")[2])
    shown += re.findall(r'(?:aria-label|data-empty|aria-roledescription)="([^"]+)"', page)
    english |= {each.strip() for each in shown} - {"PanoVLM", "English"}
    assert len(english) > 40
    assert {each for each in english if f'"{each}' not in texts} == set()


def test_no_markup_is_made_of_answers() -> None:
    for file in OWN_SCRIPTS:
        for unsafe in ("innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval("):
            assert unsafe not in file.read_text()


def test_the_pages_files_stay_short() -> None:
    for file in [*OWN_SCRIPTS, PAGE_FOLDER / "index.html", PAGE_FOLDER / "page.css"]:
        assert len(file.read_text().splitlines()) <= MOST_LINES, file.name


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_the_scripts_are_valid_javascript() -> None:
    for file in OWN_SCRIPTS:
        subprocess.run(
            ["node", "--input-type=module", "--check"],
            check=True,
            capture_output=True,
            input=file.read_bytes(),
        )


def test_examples_are_rendered_once_for_any_number_of_requests() -> None:
    rendered: list[int] = []

    def pixels(height: int) -> Any:
        rendered.append(height)
        return render(scene_of(0), height)

    examples = Examples([Example(pixels, height=64)])
    with ThreadPoolExecutor(4) as threads:
        pictures = [threads.submit(examples.picture, "/examples/1.jpg") for _ in range(4)]
        assert len({each.result() for each in pictures}) == 1
    assert rendered == [64]


def test_pictures_of_a_folder_are_offered_as_they_are_read_and_none_where_none_is_wanted(
    assistant: Assistant, tmp_path: Path
) -> None:
    for name, height in (("b.png", 80), ("a.jpg", 128)):
        Image.fromarray(render(scene_of(1), height)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("No picture.")
    app = create_app(assistant, limits=LIMITS, examples=examples_of(str(tmp_path)))
    with TestClient(app) as client:
        first, second = client.get("/examples").json()
        assert (first["questions"], second["questions"]) == ([], [])
        shown, small = (
            opened(client.get(each).content) for each in (first["picture"], second["thumbnail"])
        )
    assert np.abs(shown - render(scene_of(1), 128)).mean() < 4
    assert small.shape == (80, 160, 3)  # not enlarged
    for none in (None, examples_of("none")):
        with TestClient(create_app(assistant, examples=none)) as client:
            assert client.get("/examples").json() == []


def test_a_folder_that_cannot_be_offered_is_refused_before_the_server_runs(tmp_path: Path) -> None:
    with pytest.raises(PanoVLMError, match=r"found no folder .*nowhere, expected .*--examples"):
        examples_of(str(tmp_path / "nowhere"))
    with pytest.raises(PanoVLMError, match=r"found no picture in .*expected panoramas"):
        examples_of(str(tmp_path))
    good = tmp_path / "0.png"
    Image.fromarray(render(scene_of(1), 16)).save(good)
    damaged = tmp_path / "damaged.png"
    damaged.write_bytes(good.read_bytes()[:-40])
    with pytest.raises(PanoVLMError, match=r"damaged\.png"):
        examples_of(str(tmp_path))
    damaged.unlink()
    for number in range(2 * MOST_PICTURES):
        shutil.copy(good, tmp_path / f"copy-{number}.png")
    assert 0 < len(examples_of(str(tmp_path)).listed()) <= MOST_PICTURES


def opened(data: bytes) -> Any:
    """Return the pixels of a picture's file, as floats."""
    return np.asarray(Image.open(io.BytesIO(data)), float)
