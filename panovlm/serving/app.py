"""The server's routes, put together."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect

from panovlm.inference.assistant import Assistant
from panovlm.serving.errors import INTERNAL, RequestError
from panovlm.serving.fetching import Fetcher
from panovlm.serving.handler import CLIENT_LEFT, ChatHandler
from panovlm.serving.limits import Limits
from panovlm.serving.middleware import Access, AccessMiddleware
from panovlm.serving.protocol import (
    MODEL_NAME,
    ChatRequest,
    ViewsMatteredRequest,
    ViewsMatteredResponse,
    request_body,
    require_model,
)
from panovlm.serving.site import add_page
from panovlm.serving.worker import Worker


def create_app(
    assistant: Assistant,
    *,
    limits: Limits | None = None,
    access: Access | None = None,
    fetcher: Fetcher | None = None,
) -> FastAPI:
    """Build the server.

    Args:
        assistant: Answers; while the server runs, no other code may use it.
        limits: Bounds on requests.
        access: Who may ask; by default all on this machine, but no pages of other origins.
        fetcher: Fetches pictures from other hosts; None fetches nothing.
    """
    limits = limits or Limits()
    registry = CollectorRegistry()
    worker = Worker(assistant, limits)
    handler = ChatHandler(assistant, worker, limits, registry, fetcher)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        worker.start()
        yield
        handler.is_draining = True
        worker.stop()

    # Without FastAPI's pages about the interface, which load scripts from other hosts.
    app = FastAPI(title="PanoVLM", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.handler = handler
    access = access or Access()
    app.add_middleware(AccessMiddleware, access=access, registry=registry)
    if access.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=access.origins,
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            expose_headers=["x-request-id", "retry-after"],
        )
    _add_errors(app)
    _add_routes(app, handler, registry)
    add_page(app, assistant.processor.image_processor.layout)
    return app


def _add_routes(app: FastAPI, handler: ChatHandler, registry: CollectorRegistry) -> None:
    created = int(time.time())
    path = "/v1/chat/completions"
    app.post(
        path,
        description="Answer the last message of a conversation, as OpenAI's interface does.",
        openapi_extra=request_body(ChatRequest, path),
    )(handler.complete)
    path = "/v1/views/mattered"
    app.post(
        path,
        description="Compute how much each view contributed to an answer.",
        response_model=ViewsMatteredResponse,
        openapi_extra=request_body(ViewsMatteredRequest, path),
    )(handler.views_mattered)

    model = {"id": MODEL_NAME, "object": "model", "created": created, "owned_by": "panovlm"}

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [model]}

    @app.get("/v1/models/{name:path}")
    async def model_named(name: str) -> dict[str, Any]:
        require_model(name)
        return model

    @app.get("/health")
    async def health() -> Response:
        if handler.is_draining:
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
        return RequestError(error.status_code, code.replace("_", " "), code).response()

    @app.exception_handler(ClientDisconnect)
    async def left(http: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=CLIENT_LEFT)

    @app.exception_handler(Exception)
    async def failed(http: Request, error: Exception) -> Response:
        return INTERNAL.response()
