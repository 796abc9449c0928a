"""Nothing that the server's OpenAPI description allows makes it fail."""

from typing import Any

import pytest
from asking import LIMITS, listening
from hypothesis import HealthCheck, given, settings

from panovlm.inference.assistant import Assistant
from panovlm.serving.app import create_app

MAX_EXAMPLES = 50


def test_requests_sampled_from_the_description_never_fail_the_server(assistant: Assistant) -> None:
    schemathesis = pytest.importorskip("schemathesis")
    seen: set[tuple[str, int]] = set()
    with listening(create_app(assistant, limits=LIMITS)) as (address, _):
        schema = schemathesis.openapi.from_url(f"{address}/openapi.json")
        for found in schema.get_all_operations():

            @settings(
                max_examples=MAX_EXAMPLES,
                deadline=None,
                derandomize=True,
                suppress_health_check=list(HealthCheck),
            )
            @given(case=found.ok().as_strategy())
            def never_fails(case: Any) -> None:
                if isinstance(case.body, dict):
                    case.body |= {"model": "panovlm", "max_tokens": 2}
                reply = case.call(timeout=60)
                assert reply.status_code < 500, reply.text
                seen.add((case.operation.path, reply.status_code))

            never_fails()
    assert {("/v1/chat/completions", 200), ("/v1/chat/completions", 400)} <= seen
    assert ("/v1/views/mattered", 400) in seen
