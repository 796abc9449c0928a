"""Files that a browser need not load twice: with a tag of their content, and gzipped once."""

import gzip
import hashlib
from dataclasses import dataclass
from functools import cached_property

from fastapi import Request
from fastapi.responses import Response

ASK_AGAIN = "no-cache"
"""Kept, but asked about before each use: an answer without a body if it is the same."""
FOR_EVER = "public, max-age=31536000, immutable"
"""Never asked for again: another content has another path."""
_NEVER = {"q=0", "q=0.0", "q=0.00", "q=0.000"}


@dataclass(frozen=True)
class Asset:
    """A file in memory.

    Attributes:
        body: Its content.
        media_type: What that is.
        caching: `ASK_AGAIN` or `FOR_EVER`.
    """

    body: bytes
    media_type: str
    caching: str

    @cached_property
    def tag(self) -> str:
        """Stands for the content; a weak one, as it is the same gzipped or not."""
        return f'W/"{hashlib.sha256(self.body).hexdigest()[:16]}"'

    @cached_property
    def gzipped(self) -> bytes | None:
        """The content gzipped; None for what is compressed already."""
        is_packed = self.media_type == "image/jpeg"
        return None if is_packed else gzip.compress(self.body, mtime=0)

    def response(self, http: Request, headers: dict[str, str] | None = None) -> Response:
        """Answer a request: with no body where the client has this content.

        Args:
            http: The request.
            headers: Of the answer, beside those about caching.
        """
        headers = {**(headers or {}), "ETag": self.tag, "Cache-Control": self.caching}
        if self.gzipped is not None:
            headers["Vary"] = "Accept-Encoding"
        if self._is_held(http.headers.get("if-none-match", "")):
            return Response(status_code=304, headers=headers)
        body = self.body
        if self.gzipped is not None and takes_gzip(http.headers.get("accept-encoding", "")):
            body, headers["Content-Encoding"] = self.gzipped, "gzip"
        return Response(body, headers=headers, media_type=self.media_type)

    def _is_held(self, tags: str) -> bool:
        strong = self.tag.removeprefix("W/")
        return any(tag.strip().removeprefix("W/") in (strong, "*") for tag in tags.split(","))


def takes_gzip(accept_encoding: str) -> bool:
    """Whether a client says that it takes gzip."""
    for each in accept_encoding.split(","):
        name, _, weight = each.partition(";")
        if name.strip().lower() == "gzip":
            return weight.replace(" ", "") not in _NEVER
    return False
