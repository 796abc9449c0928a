"""Errors in the shape that clients of OpenAI's interface read."""

from dataclasses import dataclass
from typing import Any

from fastapi.responses import JSONResponse

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


INTERNAL = RequestError(500, "the server failed; its log says why", "internal_error")
