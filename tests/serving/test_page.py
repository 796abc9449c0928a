"""The page at / is whole, loads nothing from elsewhere and can be read without a key."""

import io
import re
import shutil
import subprocess

import numpy as np
import pytest
from asking import LIMITS, PATH, Ask
from fastapi.testclient import TestClient
from PIL import Image

from panovlm.answering.assistant import Assistant
from panovlm.model.sphere import direction_index
from panovlm.scenes.render import render
from panovlm.serving import examples
from panovlm.serving.app import create_app
from panovlm.serving.site import PAGE, PAGE_FOLDER

NAMED = re.compile(r'(?:href|src|from)[= ]"(?:\./)?([\w.-]+)"')
MOST_LINES = 400


def test_every_file_of_the_page_is_served_without_a_key_and_names_no_other_host(
    assistant: Assistant,
) -> None:
    with TestClient(create_app(assistant, limits=LIMITS, keys=["secret"])) as client:
        page = client.get("/")
        assert page.headers["content-type"].startswith("text/html")
        assert "default-src 'none'" in page.headers["content-security-policy"]
        texts = {name: client.get(name).text for name in PAGE}
        named = {f"/{name}" for text in texts.values() for name in NAMED.findall(text)}
        assert named == set(PAGE) - {"/"}
        for text in texts.values():
            assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
        assert client.get("/page.js").headers["content-type"].startswith("text/javascript")
        assert client.get("/v1/models").status_code == 401
        assert client.get("/v1/views").status_code == 401


def test_the_models_views_are_told(client: TestClient) -> None:
    said = client.get("/v1/views").json()
    assert said["stride_deg"] == 90.0
    assert [view["yaw_deg"] for view in said["views"]] == [0.0, 90.0, 180.0, -90.0]
    assert {view["fov_deg"] for view in said["views"]} == {120.0}
    assert {view["is_global"] for view in said["views"]} == {False}


def test_a_turned_panorama_is_asked_about_and_half_a_stride_is_refused(
    client: TestClient, body: Ask
) -> None:
    def say(turn_deg: float) -> str:
        reply = client.post(PATH, json=body(turned_right_deg=turn_deg)).json()
        return reply["choices"][0]["message"]["content"]

    assert say(0) == say(360) == say(-360) != say(90)
    refused = client.post(PATH, json=body(turned_right_deg=45))
    assert refused.status_code == 400
    assert "whole number of strides" in refused.json()["error"]["message"]
    assert client.post(PATH, json=body(turned_right_deg=361)).status_code == 400
    without = client.post(PATH, json=body("No picture", None, turned_right_deg=90))
    assert without.status_code == 200  # nothing to turn


def test_examples_are_panoramas_with_questions_and_need_no_key(assistant: Assistant) -> None:
    with TestClient(create_app(assistant, limits=LIMITS, keys=["secret"])) as client:
        listed = client.get("/examples").json()
        assert len(listed) == examples.NUM_EXAMPLES
        for example in listed:
            small = Image.open(io.BytesIO(client.get(example["thumbnail"]).content))
            assert small.size == (2 * examples.THUMBNAIL_HEIGHT, examples.THUMBNAIL_HEIGHT)
            assert len(example["questions"]) >= 2
        assert client.get("/examples/99.jpg").status_code == 401


def test_an_example_shows_its_scene_and_the_first_crosses_the_seam() -> None:
    scene = examples.scene_of(0)
    assert any(solid.crosses_seam for solid in scene.solids)
    shown = np.asarray(Image.open(io.BytesIO(examples.picture(0, 64))), float)
    assert np.abs(shown - render(scene, 64)).mean() < 4  # JPEG
    assert {direction_index(solid.yaw_deg) for solid in scene.solids} >= {4}


def test_every_module_is_asked_for_at_once_and_none_waits_for_another() -> None:
    page = (PAGE_FOLDER / "index.html").read_text()
    preloaded = set(re.findall(r'"modulepreload" href="([\w.]+)"', page))
    assert preloaded == {file.name for file in PAGE_FOLDER.glob("*.js")} - {"page.js"}


def test_no_markup_is_made_of_what_the_model_says() -> None:
    for file in PAGE_FOLDER.glob("*.js"):
        for unsafe in ("innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval("):
            assert unsafe not in file.read_text()


def test_the_pages_files_stay_short() -> None:
    for file in PAGE_FOLDER.iterdir():
        assert len(file.read_text().splitlines()) <= MOST_LINES, file.name


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_the_scripts_are_sound_javascript() -> None:
    for file in PAGE_FOLDER.glob("*.js"):
        subprocess.run(
            ["node", "--input-type=module", "--check"],
            check=True,
            capture_output=True,
            input=file.read_bytes(),
        )
