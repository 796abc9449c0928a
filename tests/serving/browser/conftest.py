"""A page in headless Chromium, on a server that knows the answers.

Without Playwright, Chromium or the extra `serve` these tests are left out.
"""

import os
import re
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from panovlm.model.modeling import PanoVLMForConditionalGeneration
from panovlm.model.processing import PanoVLMProcessor

NEEDED = ("fastapi", "uvicorn", "prometheus_client", "playwright")
CHROMIUM = os.environ.get("PANOVLM_CHROMIUM") or shutil.which("chromium")
collect_ignore_glob = [] if all(map(find_spec, NEEDED)) and CHROMIUM else ["test_*.py"]


@pytest.fixture(scope="module")  # its event loop must not run on in other modules' tests
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--use-angle=swiftshader"]
        )
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from oracle import SCENE, save_render

    return save_render(SCENE, tmp_path_factory.mktemp("scene") / "scene.png")


@pytest.fixture
def oracle(
    generator: PanoVLMForConditionalGeneration, processor: PanoVLMProcessor, picture: Path
) -> Any:
    from oracle import SCENE, Oracle, answer

    oracle = Oracle(generator, processor)
    oracle.know({picture: SCENE}, answer)
    return oracle


@pytest.fixture
def address(oracle: Any) -> Iterator[str]:
    from asking import listening

    from panovlm.serving.app import create_app
    from panovlm.serving.examples import examples_of

    with listening(create_app(oracle, examples=examples_of("scenes"))) as (address, _):
        yield address


@pytest.fixture
def shots(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Where screenshots are kept: PANOVLM_SCREENSHOTS, or nowhere for long."""
    folder = Path(os.environ.get("PANOVLM_SCREENSHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder / re.sub(r"\W+", "-", request.node.name)


@pytest.fixture
def visit(browser: Any, address: str) -> Iterator[Any]:
    """Returns the page at a size, in a colour scheme; checks for errors at the end."""
    from visiting import Visit

    visits: list[Visit] = []

    def go(link: str = "", **options: Any) -> Visit:
        visits.append(Visit(browser, address, link, **options))
        return visits[-1]

    yield go
    for each in visits:
        each.leave()
