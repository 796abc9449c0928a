"""Pages in headless Chromium: text of 12 px and more, and nothing over anything else.

Without Playwright or Chromium these tests are left out; screenshots are kept where
PANOVLM_SCREENSHOTS names a folder.
"""

import os
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from made_reports import STAGE, made
from PIL import Image

from panovlm.evaluation.compare import write_comparison

CHROMIUM = os.environ.get("PANOVLM_CHROMIUM") or shutil.which("chromium")
if not (find_spec("playwright") and CHROMIUM):
    pytest.skip("needs Playwright and Chromium", allow_module_level=True)

LEAST_PX = 12
WIDTHS = (390, 800, 1400)
KINDS = {"direction": 0.1, "how far away the nearest one is": -0.05, "count": 0.0}
BOXES = """() => {
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const text = node.textContent.trim(), parent = node.parentElement;
    if (!text || parent.closest("title, style, details:not([open]) > :not(summary)")) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    const matrix = parent.getScreenCTM ? parent.getScreenCTM() : null;
    const grown = matrix ? Math.hypot(matrix.a, matrix.b) : 1;
    const size = parseFloat(getComputedStyle(parent).fontSize) * grown;
    for (const box of range.getClientRects()) {
      if (box.width < 1 || box.height < 1) continue;
      found.push({text, size, left: box.left, right: box.right, top: box.top + scrollY,
                  bottom: box.bottom + scrollY});
    }
  }
  return {found, overflow: document.documentElement.scrollWidth - innerWidth};
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A report of records and one of directions with all sections, and a comparison."""
    folder = tmp_path_factory.mktemp("pages")
    pictures = [folder / f"{place}.jpg" for place in range(8)]
    for place, path in enumerate(pictures):
        Image.new("RGB", (256, 128), (30 * place, 90, 200 - 20 * place)).save(path)
    records = made(
        "records",
        pictures,
        ("a sky", "a sky", "a wall", ""),
        blind=("a wall",) * 4,
        rotated=["a sky"] * 5 + ["a wall"] * 3,
        changed=(True, False, False, False),
        seam=("a sky", "a wall"),
        pole=("a wall",) * 4,
    )
    entries = [{"step": i, "loss": 90 / i, "feature_std": 0.9} for i in range(1, 90)]
    records.logs = {"vision": entries}
    said = ("front", "yaw 80, pitch 10", "yaw -80, pitch 10", "no idea")
    directions = made("directions", pictures, said, blind=("back",) * 4, rotated=["front"] * 8)
    records.with_facts(stages={"vision": STAGE}).page(
        folder / "records", Image.new("RGB", (800, 300))
    )
    usage = {"answers": 8, "refused": 1, "prompt_tokens": 12_345_678, "completion_tokens": 4321}
    directions.with_facts(usage=usage | {"dollars": 30.9}).page(folder / "directions")
    write_comparison(comparison(), folder / "compare.html")
    return {
        "records": folder / "records" / "new" / "report.html",
        "directions": folder / "directions" / "new" / "report.html",
        "compare": folder / "compare.html",
    }


def comparison() -> dict[str, Any]:
    def facts(difference: float) -> dict[str, Any]:
        ends = {"low": difference - 0.04, "high": difference + 0.04}
        shares = {"first": 0.5, "second": 0.5 + difference, "difference": difference, **ends}
        covered = {"coverage_first": 1.0, "coverage_second": 0.97}
        return {**shares, **covered, "count": 400, "panoramas": 90, "gained": 40, "lost": 12}

    return {
        "first": "runs/demo/report.json",
        "second": "runs/a-rather-long-name-of-a-run/report.json",
        "models": [
            "runs/demo (--show views)",
            f"openai:https://here/v1#{'long' * 12} (--show view)",
        ],
        "benchmark": "labels",
        "metric": "share",
        "unit": "share",
        "less_is_better": False,
        "shared": 400,
        "only_first": 3,
        "only_second": 0,
        "overall": facts(0.05),
        "by_kind": {kind: facts(difference) for kind, difference in KINDS.items()},
    }


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["records", "directions", "compare"])
def test_text_is_large_enough_and_nothing_overlaps(
    browser: Any, pages: dict[str, Path], tmp_path: Path, name: str, width: int, scheme: str
) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.goto(pages[name].as_uri())
    shots = Path(os.environ.get("PANOVLM_SCREENSHOTS") or tmp_path)
    shots.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=shots / f"{name}-{width}-{scheme}.png", full_page=True)
    seen = page.evaluate(BOXES)
    page.close()
    assert seen["overflow"] <= 0
    small = {(box["text"], round(box["size"], 1)) for box in seen["found"]}
    assert not {each for each in small if each[1] < LEAST_PX}
    assert not [*overlapping(seen["found"])]


def overlapping(boxes: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """Texts of which one lies over another by more than a pixel's rounding."""
    ordered = sorted(boxes, key=lambda box: box["top"])
    for place, one in enumerate(ordered):
        for other in ordered[place + 1 :]:
            if other["top"] >= one["bottom"] - 2:
                break
            across = min(one["right"], other["right"]) - max(one["left"], other["left"])
            down = min(one["bottom"], other["bottom"]) - max(one["top"], other["top"])
            if across > 2 and down > 2:
                yield one["text"], other["text"]
