"""The server's routes, put together."""

import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from panovlm.inference.assistant import Assistant
from panovlm.serving.desk import CLIENT_LEFT, Desk
from panovlm.serving.errors import INTERNAL, RequestError
from panovlm.serving.fetching import Fetcher
from panovlm.serving.gate import Gate
from panovlm.serving.limits import Limits
from panovlm.serving.protocol import ChatRequest, MatteredReply, MatteredRequest, request_body
from panovlm.serving.site import add_page
from panovlm.serving.worker import Worker

logger = logging.getLogger(__name__)
MODEL_NAME = "panovlm"


def create_app(
    assistant: Assistant,
    *,
    limits: Limits | None = None,
    keys: Sequence[str] = (),
    model_name: str = MODEL_NAME,
    fetcher: Fetcher | None = None,
) -> FastAPI:
    """Build the server.

    Args:
        assistant: Who answers; while the server runs nobody else may use it.
        limits: What may be asked for.
        keys: API keys, of which each request must bring one; none for an open server.
        model_name: What clients call the model.
        fetcher: Of pictures on other hosts; None fetches nothing.
    """
    limits = limits or Limits()
    registry = CollectorRegistry()
    worker = Worker(assistant, limits)
    desk = Desk(assistant, worker, limits, model_name, registry, fetcher)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        worker.start()
        yield
        desk.is_draining = True
        worker.stop()

    # No pages about the interface: FastAPI's load their scripts from elsewhere.
    app = FastAPI(title="PanoVLM", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.desk = desk
    app.add_middleware(Gate, keys=keys, registry=registry)
    _add_errors(app)
    _add_routes(app, desk, registry)
    add_page(app, assistant.processor.image_processor.layout)
    return app


def _add_routes(app: FastAPI, desk: Desk, registry: CollectorRegistry) -> None:
    began = int(time.time())

    path = "/v1/chat/completions"

    @app.post(path, openapi_extra=request_body(ChatRequest, path))
    async def complete(http: Request) -> Response:
        return await desk.complete(http)

    path = "/v1/views/mattered"

    @app.post(path, response_model=MatteredReply, openapi_extra=request_body(MatteredRequest, path))
    async def views_mattered(http: Request) -> Response:
        return await desk.views_mattered(http)

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        model = {
            "id": desk.model_name,
            "object": "model",
            "created": began,
            "owned_by": "panovlm",
        }
        return {"object": "list", "data": [model]}

    @app.get("/health")
    async def health() -> Response:
        if desk.is_draining:
            return JSONResponse({"status": "stopping"}, 503)
        return JSONResponse({"status": "ok"})

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(RequestError)
    async def refused(http: Request, error: RequestError) -> Response:
        return error.response()

    @app.exception_handler(HTTPException)
    async def no_route(http: Request, error: HTTPException) -> Response:
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "bad_request")
        refusal = RequestError(error.status_code, code.replace("_", " "), code)
        return refusal.response()

    @app.exception_handler(ClientDisconnect)
    async def left(http: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=CLIENT_LEFT)

    @app.exception_handler(Exception)
    async def failed(http: Request, error: Exception) -> Response:
        return INTERNAL.response()
