"""The page at / is whole, loads nothing from elsewhere and can be read without a key."""

import re
import shutil
import subprocess

import pytest
from asking import LIMITS
from fastapi.testclient import TestClient

from panovlm.answering.assistant import Assistant
from panovlm.serving.app import PAGE_FOLDER, create_app
from panovlm.serving.gate import PAGE


def test_every_file_of_the_page_is_served_without_a_key_and_names_no_other_host(
    assistant: Assistant,
) -> None:
    with TestClient(create_app(assistant, limits=LIMITS, keys=["secret"])) as client:
        page = client.get("/")
        assert page.headers["content-type"].startswith("text/html")
        assert "default-src 'none'" in page.headers["content-security-policy"]
        named = re.findall(r'(?:href|src)="([^"]+)"', page.text)
        assert {f"/{name}" for name in named} == set(PAGE) - {"/"}
        for name in named:
            reply = client.get(f"/{name}")
            assert reply.status_code == 200
            assert "http" not in reply.text
        assert client.get("/v1/models").status_code == 401


def test_no_markup_is_made_of_what_the_model_says() -> None:
    for file in PAGE_FOLDER.glob("*.js"):
        for unsafe in ("innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval("):
            assert unsafe not in file.read_text()


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_the_scripts_are_sound_javascript() -> None:
    for file in PAGE_FOLDER.glob("*.js"):
        subprocess.run(["node", "--check", file], check=True, capture_output=True)
