"""What goes wrong, in the shape that clients of OpenAI's interface read."""

from typing import Any

from fastapi.responses import JSONResponse

_TYPES = {
    401: "authentication_error",
    404: "not_found_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "server_error",
}


class RequestError(Exception):
    """A request that gets no answer.

    Args:
        status: Of HTTP.
        message: For the client; never holds a path, an address or a library's own words.
        code: The error in one word.
        param: The field at error.
        retry_after_s: When to come back; None where that would not help.
    """

    def __init__(
        self,
        status: int,
        message: str,
        code: str,
        param: str | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param
        self.retry_after_s = retry_after_s

    def body(self) -> dict[str, Any]:
        """Give the JSON that the client gets."""
        return {
            "error": {
                "message": self.message,
                "type": _TYPES.get(self.status, "invalid_request_error"),
                "param": self.param,
                "code": self.code,
            }
        }

    def response(self) -> JSONResponse:
        """Give the whole response."""
        headers = {}
        if self.retry_after_s is not None:
            headers["Retry-After"] = str(self.retry_after_s)
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return JSONResponse(self.body(), self.status, headers)


INTERNAL = RequestError(500, "the server failed; its log says why", "internal_error")
