"""Endpoints that speak OpenAI's protocol: a conversation, and a text or a JSON object as answer."""

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

from panovlm.errors import PanoVLMError

Answer = TypeVar("Answer")

MAX_REPLY_BYTES = 1_000_000
MAX_WAIT_S = 60.0
"""Longest wait that an endpoint's `Retry-After` may ask for."""
_NEW_LIMIT = "max_completion_tokens"
_PASSING = (408, 425, 429)
"""Refusals that another try may not meet, as all of a server's own errors (500 and more)."""


class EndpointError(Exception):
    """A request without a usable answer.

    Args:
        reason: What was found, in words that follow "because".
        status: Of an HTTP error; None for any other.
        wait_s: Seconds to wait before another try, where the endpoint says so.
    """

    def __init__(
        self, reason: str, *, status: int | None = None, wait_s: float | None = None
    ) -> None:
        super().__init__(reason)
        self.status = status
        self.wait_s = wait_s

    @property
    def is_passing(self) -> bool:
        """Whether another try may have an answer."""
        return self.status is None or self.status in _PASSING or self.status >= 500


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Refuses to go elsewhere: the key is meant for one address."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirect)


@dataclass(frozen=True)
class Reply:
    """What an endpoint answered.

    Attributes:
        text: The message; empty where there is none.
        prompt_tokens: Tokens read, as the endpoint counts them; 0 where it does not say.
        completion_tokens: Tokens written, the same.
    """

    text: str
    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True)
class Endpoint:
    """Where a model answers.

    Attributes:
        url: Of the API, as in `http://localhost:8000/v1`.
        model: Name of the model there.
        key: Sent as bearer token; None sends none.
        timeout_s: Seconds for one answer.
        tries: Attempts for one answer.
        wait_s: Seconds before the second attempt, twice as many before the next.
        option: The command's option that sets `url`.
        wants_new_limit: Set once the endpoint has refused `max_tokens` for `max_completion_tokens`,
            as OpenAI's reasoning models do, which refuse a temperature, too.

    Raises:
        PanoVLMError: If the address is not of the web.
    """

    url: str
    model: str
    key: str | None = field(default=None, repr=False)
    timeout_s: float = 60.0
    tries: int = 3
    wait_s: float = 1.0
    option: ClassVar[str] = "--endpoint"
    wants_new_limit: threading.Event = field(
        default_factory=threading.Event, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise PanoVLMError(
                f"found the address {self.url!r}, expected one that begins with http:// or "
                f"https://; change {self.option}"
            )

    def patiently(self, request: Callable[[], Answer]) -> Answer:
        """Return what a request returns, trying again after failures that may pass.

        Raises:
            EndpointError: The last one.
        """
        for again in range(self.tries):
            try:
                return request()
            except EndpointError as error:
                if not error.is_passing or again + 1 == self.tries:
                    raise
                time.sleep(min(error.wait_s or self.wait_s * 2**again, MAX_WAIT_S))
        raise ValueError(f"found {self.tries} tries, expected 1 or more")

    def reply(self, messages: Sequence[Mapping[str, Any]], max_tokens: int, **more: Any) -> Reply:
        """Ask once, without randomness where the model allows to say so.

        Args:
            messages: As the protocol has them.
            max_tokens: Longest answer.
            **more: Further fields of the request.

        Raises:
            EndpointError: If there is no answer.
        """
        body = {"model": self.model, "messages": messages} | more
        if not self.wants_new_limit.is_set():
            try:
                return self._reply(body | {"temperature": 0, "max_tokens": max_tokens})
            except EndpointError as error:
                if error.status != 400 or _NEW_LIMIT not in str(error):
                    raise
                self.wants_new_limit.set()
        return self._reply(body | {_NEW_LIMIT: max_tokens})

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
        schema = {"name": name, "strict": True, "schema": object_schema(properties)}
        form = {"type": "json_schema", "json_schema": schema}
        content = self.reply(messages, max_tokens, response_format=form).text
        try:
            answer = json.loads(content)
        except ValueError as error:
            raise EndpointError(f"the answer is no JSON: {content[:80]!r}") from error
        if not isinstance(answer, dict):
            raise EndpointError(f"the answer is no JSON object: {content[:80]!r}")
        return answer

    def _reply(self, body: Mapping[str, Any]) -> Reply:
        headers = {"Content-Type": "application/json"}
        headers |= {"Authorization": f"Bearer {self.key}"} if self.key else {}
        address = f"{self.url.rstrip('/')}/chat/completions"
        request = urllib.request.Request(address, json.dumps(body).encode(), headers)
        try:
            with _OPENER.open(request, timeout=self.timeout_s) as reply:
                return _read(json.loads(reply.read(MAX_REPLY_BYTES)))
        except urllib.error.HTTPError as error:
            raise _http_error(error) from error
        except OSError as error:
            reason = getattr(error, "reason", None) or error
            raise EndpointError(f"it cannot be reached or is too slow ({reason})") from error
        except (AttributeError, ValueError, KeyError, IndexError, TypeError) as error:
            raise EndpointError("its reply is not of OpenAI's protocol") from error


def _read(reply: Any) -> Reply:
    """Read a reply of the protocol; a refusal is an empty text."""
    usage = reply.get("usage") or {}
    tokens = (usage.get(key) for key in ("prompt_tokens", "completion_tokens"))
    text = reply["choices"][0]["message"]["content"]
    if not isinstance(text, str | None):
        raise ValueError(f"found the content {text!r}, expected a text")
    return Reply(text or "", *(count if isinstance(count, int) else 0 for count in tokens))


def _http_error(error: urllib.error.HTTPError) -> EndpointError:
    """Describe an error with what the endpoint says about it."""
    try:
        said = f": {json.loads(error.read(MAX_REPLY_BYTES))['error']['message']}"[:200]
    except (OSError, ValueError, KeyError, TypeError):
        said = ""
    wait = error.headers.get("Retry-After", "")
    wait_s = float(wait) if wait.isdecimal() else None
    return EndpointError(f"it answered HTTP {error.code}{said}", status=error.code, wait_s=wait_s)


def object_schema(properties: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON schema of an object with these fields, all required, and no others."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": [*properties],
        "additionalProperties": False,
    }
