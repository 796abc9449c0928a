"""The page at /: its files, its example panoramas, and what it asks about the model."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, Response

from panovlm.answering.turning import stride_deg
from panovlm.model.layouts import ViewLayout
from panovlm.serving import examples

PAGE_FOLDER = Path(__file__).with_name("page")
PAGE = {
    "/": "index.html",
    **{f"/{file.name}": file.name for file in PAGE_FOLDER.iterdir() if file.suffix != ".html"},
}
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

    async def page(http: Request) -> Response:
        name = PAGE["/" + http.url.path.rpartition("/")[2]]
        return FileResponse(PAGE_FOLDER / name, headers=PAGE_HEADERS)

    def example(http: Request) -> Response:  # no coroutine: drawing takes a moment
        number, height = EXAMPLES["/examples/" + http.url.path.rpartition("/")[2]]
        return Response(examples.picture(number, height), media_type="image/jpeg")

    for path in PAGE:
        app.add_route(path, page)
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
        looks = [asdict(view) | {"is_global": view.is_global} for view in layout.views]
        return {"stride_deg": stride_deg(layout), "views": looks}
