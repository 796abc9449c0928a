"""The page at /: its files, its example panoramas, and what it asks about the model."""

import hashlib
import re
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response

from panovlm.geometry.layouts import ViewLayout
from panovlm.geometry.sphere import DIRECTIONS, direction_index
from panovlm.inference.turning import stride_deg
from panovlm.serving import examples
from panovlm.serving.assets import ASK_AGAIN, FOR_EVER, Asset

PAGE_FOLDER = Path(__file__).with_name("page")
_MEDIA_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


def _page() -> dict[str, Asset]:
    """Read the page: its document asks for all else in a folder named by what is in it.

    The scripts name one another by names alone, and so stay in that folder.
    """
    files = {file.name: file.read_bytes() for file in sorted(PAGE_FOLDER.iterdir())}
    folder = f"page/{hashlib.sha256(b''.join(files.values())).hexdigest()[:12]}"
    document = re.sub(
        r'(href|src)="([\w.]+)"', rf'\1="{folder}/\2"', files.pop("index.html").decode()
    )
    others = {
        f"/{folder}/{name}": Asset(body, _MEDIA_TYPES[Path(name).suffix], FOR_EVER)
        for name, body in files.items()
    }
    return {"/": Asset(document.encode(), "text/html", ASK_AGAIN), **others}


PAGE = _page()
"""The page's paths, and the files they give."""
EXAMPLES: dict[str, tuple[int, int]] = {
    f"/examples/{number + 1}{kind}.jpg": (number, height)
    for number in range(examples.NUM_EXAMPLES)
    for kind, height in (("", examples.HEIGHT), ("-small", examples.THUMBNAIL_HEIGHT))
}
"""Paths of the example panoramas, with their numbers and heights."""
OPEN_PATHS = frozenset({*PAGE, *EXAMPLES, "/examples"})
"""What needs no key: it says nothing about the model."""
PAGE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
"""The page loads nothing from elsewhere, and nothing else may run in it."""


def add_page(app: FastAPI, layout: ViewLayout) -> None:
    """Add the page's routes to a server whose model cuts its panoramas into a layout of views."""

    def give(asset: Asset) -> Callable[[Request], Awaitable[Response]]:
        async def page(http: Request) -> Response:
            return asset.response(http, PAGE_HEADERS)

        return page

    def example(http: Request) -> Response:  # no coroutine: drawing takes a moment
        number, height = EXAMPLES["/examples/" + http.url.path.rpartition("/")[2]]
        asset = Asset(examples.picture(number, height), "image/jpeg", ASK_AGAIN)
        return asset.response(http)

    for path, asset in PAGE.items():
        app.add_route(path, give(asset))
    for path in EXAMPLES:
        app.add_route(path, example)

    @app.get("/examples")
    async def list_examples() -> list[dict[str, Any]]:
        return [
            {
                "picture": f"examples/{number + 1}.jpg",
                "thumbnail": f"examples/{number + 1}-small.jpg",
                "questions": examples.questions(number),
            }
            for number in range(examples.NUM_EXAMPLES)
        ]

    @app.get("/v1/views")
    async def views() -> dict[str, Any]:
        looks = [
            {"name": name, **asdict(view), "is_global": view.is_global}
            for name, view in zip(view_names(layout), layout.views, strict=True)
        ]
        return {"stride_deg": stride_deg(layout), "views": looks}


def view_names(layout: ViewLayout) -> list[str]:
    """Name views by where they look: "front"; by their degrees too where several would be alike."""
    names = [
        "whole picture" if view.is_global else DIRECTIONS[direction_index(view.yaw_deg)]
        for view in layout.views
    ]
    return [
        name if names.count(name) == 1 else f"{name} ({view.yaw_deg:.0f}°, {view.pitch_deg:.0f}°)"
        for name, view in zip(names, layout.views, strict=True)
    ]
