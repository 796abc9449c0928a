"""Errors in the shape that clients of OpenAI's interface read."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from fastapi.responses import JSONResponse

from panovlm.errors import PanoVLMError

_TYPES = {
    401: "authentication_error",
    404: "not_found_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "server_error",
}


@dataclass(eq=False)
class RequestError(Exception):
    """A request that gets no answer.

    Attributes:
        status: Of HTTP.
        message: For the client; never holds a path, an address or a library's own message.
        code: Machine-readable name of the error.
        param: The invalid field.
        retry_after_s: When to try again; None where that would not help.
    """

    status: int
    message: str
    code: str
    param: str | None = None
    retry_after_s: int | None = None

    def body(self) -> dict[str, Any]:
        """Return the JSON of the response."""
        kind = _TYPES.get(self.status, "invalid_request_error")
        error = {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        return {"error": error}

    def response(self) -> JSONResponse:
        """Return the whole response."""
        headers = {"WWW-Authenticate": "Bearer"} if self.status == 401 else {}
        if self.retry_after_s is not None:
            headers["Retry-After"] = str(self.retry_after_s)
        return JSONResponse(self.body(), self.status, headers)


@contextmanager
def refusing(code: str, param: str | None) -> Iterator[None]:
    """Raise mistakes of the user's in this context as errors of a field of the request."""
    try:
        yield
    except PanoVLMError as error:
        raise RequestError(400, str(error), code, param) from error


@contextmanager
def of_field(param: str) -> Iterator[None]:
    """Raise the errors of requests in this context as those of a field."""
    try:
        yield
    except RequestError as error:
        error.param = param
        raise


INTERNAL = RequestError(500, "the server failed; its log says why", "internal_error")
