"""The server's routes, put together."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
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
from panovlm.serving.examples import Examples
from panovlm.serving.fetching import Fetcher
from panovlm.serving.handler import CLIENT_LEFT, ChatHandler
from panovlm.serving.limits import Limits
from panovlm.serving.metrics import Metrics
from panovlm.serving.middleware import Access, AccessMiddleware
from panovlm.serving.protocol import (
    MODEL_NAME,
    ChatRequest,
    CompletionRequest,
    PanoramaRequest,
    ResponsesRequest,
    ViewsMatteredRequest,
    ViewsMatteredResponse,
    parse,
    request_body,
    require_model,
)
from panovlm.serving.site import add_page
from panovlm.serving.worker import Worker
from panovlm.serving.writers import ChatWriter, CompletionWriter, ResponseWriter

ANSWERING: dict[str, tuple[type[Any], type[ChatWriter]]] = {
    "/v1/chat/completions": (ChatRequest, ChatWriter),
    "/v1/completions": (CompletionRequest, CompletionWriter),
    "/v1/responses": (ResponsesRequest, ResponseWriter),
}
"""What is asked and answered at each path."""


def create_app(
    assistant: Assistant,
    *,
    limits: Limits | None = None,
    access: Access | None = None,
    fetcher: Fetcher | None = None,
    model_name: str = MODEL_NAME,
    examples: Examples | None = None,
) -> FastAPI:
    """Build the server.

    Args:
        assistant: Answers; while the server runs, no other code may use it.
        limits: Bounds on requests.
        access: Who may ask; by default all on this machine, but no pages of other origins.
        fetcher: Fetches pictures from other hosts; None fetches nothing.
        model_name: By which clients call the model.
        examples: Panoramas to try the page with; None for none.
    """
    limits = limits or Limits()
    registry = CollectorRegistry()
    worker = Worker(assistant, limits)
    metrics = Metrics(registry, model_name)
    handler = ChatHandler(assistant, worker, limits, metrics, fetcher)

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
    _add_routes(app, handler, model_name)
    _add_state(app, handler, worker, registry)
    add_page(app, assistant.processor.image_processor.layout, examples or Examples([]))
    return app


def _add_routes(app: FastAPI, handler: ChatHandler, model_name: str) -> None:
    for path, (asked, written) in ANSWERING.items():
        app.post(
            path,
            description="Answer as OpenAI's interface does.",
            openapi_extra=request_body(asked, path),
        )(_answering(handler, asked, written, model_name))
    path = "/v1/views/mattered"

    @app.post(
        path,
        description="Compute how much each view contributed to an answer.",
        response_model=ViewsMatteredResponse,
        openapi_extra=request_body(ViewsMatteredRequest, path),
    )
    async def views_mattered(http: Request) -> Response:
        return await handler.views_mattered(
            http, lambda body: parse(ViewsMatteredRequest, model_name, body).asked()
        )

    path = "/v1/panorama"

    @app.post(
        path,
        description="Return a picture as a level full sphere, as the model reads it.",
        responses={200: {"content": {"image/jpeg": {}}}, 204: {"description": "It is one."}},
        openapi_extra=request_body(PanoramaRequest, path),
    )
    async def level(http: Request) -> Response:
        return await handler.level(
            http, lambda body: parse(PanoramaRequest, model_name, body).asked()
        )

    model = {"id": model_name, "object": "model", "created": int(time.time())}
    model["owned_by"] = "panovlm"

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [model]}

    @app.get("/v1/models/{name:path}")
    async def model_named(name: str) -> dict[str, Any]:
        require_model(name, model_name)
        return model


def _answering(
    handler: ChatHandler, asked: type[Any], written: type[ChatWriter], model_name: str
) -> Callable[[Request], Awaitable[Response]]:
    async def answer(http: Request) -> Response:
        return await handler.answer(
            http, lambda body: parse(asked, model_name, body).asked(), written
        )

    return answer


def _add_state(
    app: FastAPI, handler: ChatHandler, worker: Worker, registry: CollectorRegistry
) -> None:
    @app.get("/health")
    async def health() -> Response:
        if handler.is_draining:
            return JSONResponse({"status": "stopping"}, 503)
        if not worker.is_well():
            return JSONResponse({"status": "failed"}, 503)
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
