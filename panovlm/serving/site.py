"""The page at /: its files, panoramas to try, and the views of the model."""

import hashlib
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import Route, request_response
from starlette.staticfiles import StaticFiles

from panovlm.geometry.layouts import ViewLayout
from panovlm.inference.rotation import stride_deg
from panovlm.model.processing import GLOBAL_WORDS, view_words
from panovlm.serving.examples import Examples

PAGE_FOLDER = Path(__file__).with_name("page")
_FILES = {file.name: file.read_bytes() for file in sorted(PAGE_FOLDER.iterdir())}
# Scripts name one another by names alone, and so stay in a folder named by the page's content.
_FOLDER = f"/page/{hashlib.sha256(b''.join(_FILES.values())).hexdigest()[:12]}"
_DOCUMENT = re.sub(
    r'(href|src)="([\w.]+)"', rf'\1="{_FOLDER[1:]}/\2"', _FILES.pop("index.html").decode()
)
PAGE = frozenset({"/", *(f"{_FOLDER}/{name}" for name in _FILES)})
"""The paths of the page's files."""
PAGE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self' blob:; "
        "img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
"""The page loads nothing from other hosts, and no other page can frame it."""


class PageFiles(StaticFiles):
    """The page's scripts and styles; browsers keep them: other content has another path."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        """Return a file, or status 304, with the page's headers."""
        response = super().file_response(*args, **kwargs)
        caching = {"Cache-Control": "public, max-age=31536000, immutable"}
        response.headers.update(PAGE_HEADERS | caching)
        return response


def add_page(app: FastAPI, layout: ViewLayout, examples: Examples) -> None:
    """Add the page's routes to a server whose model cuts panoramas into a layout of views."""

    async def document(http: Request) -> Response:
        return revalidated(http, _DOCUMENT.encode(), "text/html", PAGE_HEADERS)

    def example(http: Request) -> Response:  # in a thread: making one takes a moment
        return revalidated(http, examples.picture(http.url.path), "image/jpeg")

    # Only the page is compressed: nothing a client sends is in it, so its size reveals nothing.
    gzipped = GZipMiddleware(request_response(document), minimum_size=1)
    app.router.routes.append(Route("/", gzipped, methods=["GET"]))
    app.mount(_FOLDER, GZipMiddleware(PageFiles(directory=PAGE_FOLDER), minimum_size=1))
    for path in examples.paths:
        app.add_route(path, example)

    @app.get("/examples")
    async def list_examples() -> list[dict[str, Any]]:
        return examples.listed()

    @app.get("/v1/views")
    async def views() -> dict[str, Any]:
        named = [
            {"name": name, **asdict(view), "is_global": view.is_global}
            for name, view in zip(view_names(layout), layout.views, strict=True)
        ]
        return {"stride_deg": stride_deg(layout), "views": named}


def revalidated(
    http: Request, body: bytes, media_type: str, headers: dict[str, str] | None = None
) -> Response:
    """Return a body that browsers keep and ask about; status 304 where they hold this content."""
    tag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
    headers = {**(headers or {}), "ETag": tag, "Cache-Control": "no-cache"}
    held = http.headers.get("if-none-match", "").replace("W/", "").split(",")
    if {each.strip() for each in held} & {tag, "*"}:
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type=media_type)


def view_names(layout: ViewLayout) -> list[str]:
    """Return the words that the model has for its views: of each direction, then the global one."""
    num_global = sum(view.is_global for view in layout.views)
    return [*view_words(layout), *[GLOBAL_WORDS] * num_global]
