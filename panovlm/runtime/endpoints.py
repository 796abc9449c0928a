"""Endpoints that speak OpenAI's protocol: one question, one JSON object as answer."""

import json
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from panovlm.errors import PanoVLMError

MAX_REPLY_BYTES = 1_000_000
_PASSING = (408, 425, 429)
"""Refusals that another try may not meet, as all of a server's own errors (500 and more)."""


class EndpointError(Exception):
    """A request without a usable answer.

    Args:
        reason: What was found, in words that follow "because".
        is_passing: Whether another try may have one.
    """

    def __init__(self, reason: str, *, is_passing: bool = True) -> None:
        super().__init__(reason)
        self.is_passing = is_passing


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Refuses to go elsewhere: the key is meant for one address."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirect)


@dataclass(frozen=True)
class Endpoint:
    """Where a model answers.

    Attributes:
        url: Of the API, as in `http://localhost:8000/v1`.
        model: Name of the model there.
        key: Sent as bearer token; None sends none.
        timeout_s: Seconds for one answer.
        tries: Attempts for one answer.
        option: The command's option that sets `url`.

    Raises:
        PanoVLMError: If the address is not of the web.
    """

    url: str
    model: str
    key: str | None = field(default=None, repr=False)
    timeout_s: float = 60.0
    tries: int = 3
    option: ClassVar[str] = "--endpoint"

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise PanoVLMError(
                f"found the address {self.url!r}, expected one that begins with http:// or "
                f"https://; change {self.option}"
            )

    def ask(
        self,
        messages: Sequence[Mapping[str, Any]],
        name: str,
        properties: Mapping[str, Any],
        max_tokens: int,
    ) -> dict[str, Any]:
        """Ask once, without randomness; return the JSON object of the answer.

        Args:
            messages: As the protocol has them.
            name: Of the answer's schema.
            properties: Each field's JSON schema; all fields are required.
            max_tokens: Longest answer.

        Raises:
            EndpointError: If there is no such answer.
        """
        body = {
            "model": self.model,
            "temperature": 0,
            "max_tokens": max_tokens,
            "messages": messages,
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": name, "strict": True, "schema": object_schema(properties)},
            },
        }
        content = self._content(json.dumps(body).encode())
        try:
            answer = json.loads(content)
        except (TypeError, ValueError) as error:
            raise EndpointError(f"the answer is no JSON: {str(content)[:80]!r}") from error
        if not isinstance(answer, dict):
            raise EndpointError(f"the answer is no JSON object: {str(content)[:80]!r}")
        return answer

    def _content(self, body: bytes) -> Any:
        """Return the text of the answer to a request."""
        headers = {"Content-Type": "application/json"}
        headers |= {"Authorization": f"Bearer {self.key}"} if self.key else {}
        request = urllib.request.Request(f"{self.url.rstrip('/')}/chat/completions", body, headers)
        try:
            with _OPENER.open(request, timeout=self.timeout_s) as reply:
                return json.loads(reply.read(MAX_REPLY_BYTES))["choices"][0]["message"]["content"]
        except urllib.error.HTTPError as error:
            passing = error.code in _PASSING or error.code >= 500
            raise EndpointError(f"it answered HTTP {error.code}", is_passing=passing) from error
        except OSError as error:
            reason = getattr(error, "reason", None) or error
            raise EndpointError(f"it cannot be reached or is too slow ({reason})") from error
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise EndpointError("its reply is not of OpenAI's protocol") from error


def object_schema(properties: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON schema of an object with these fields, all required, and no others."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": [*properties],
        "additionalProperties": False,
    }
