"""The application: services, routes, the page."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter, FastAPI, Response
from fastapi.middleware.cors import CORSMiddleware
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from sse_starlette.sse import AppStatus
from starlette.concurrency import run_in_threadpool

from ragpool import __version__
from ragpool.errors import RagpoolError
from ragpool.sdk import RagPool
from ragpool.serve import ask, batches, documents, errors, openai, pools, web
from ragpool.serve.conversations import Conversations
from ragpool.serve.engine import Engine
from ragpool.serve.followup import PromptedRewriter, RuleRewriter
from ragpool.serve.keys import FRESH, KeyRing
from ragpool.serve.limits import Guard, RateLimit
from ragpool.serve.metrics import Metrics
from ragpool.serve.options import ServeOptions
from ragpool.serve.services import Owner, Parts, Services

router = APIRouter(tags=["server"])


class Health(BaseModel):
    status: str = "ok"
    version: str = __version__


class Ready(BaseModel):
    """Whether questions can be answered: each check is "ok" or says what is wrong."""

    ready: bool
    checks: dict[str, str]


@router.get("/health")
def health() -> Health:
    """The process lives. Needs no key."""
    return Health()


@router.get("/ready", responses={503: {"model": Ready}})
def ready(parts: Parts) -> Response:
    """The index is open, the models are loaded, the pool can be written. Needs no key."""
    checks = {
        "server": "stopping" if parts.draining else "ok",
        "index": _checked(lambda: parts.rag.index.count()),
        "models": "ok" if parts.warm else parts.failed or "loading",
        "pool": _checked(lambda: _written(parts)),
    }
    fine = all(said == "ok" for said in checks.values())
    return JSONResponse({"ready": fine, "checks": checks}, 200 if fine else 503)


@router.get(
    "/metrics",
    response_class=Response,
    responses={**errors.responses(), 200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
def metrics(parts: Parts, owner: Owner) -> Response:
    """For Prometheus. Needs a key where questions need one."""
    return Response(parts.metrics.text(), media_type=parts.metrics.content_type)


def _checked(check: Any) -> str:
    try:
        check()
    except RagpoolError as error:
        errors.log.warning("not ready: %s", error)
        return type(error).__name__
    return "ok"


def _written(parts: Services) -> None:
    with parts.rag.index.database.write():
        pass  # BEGIN IMMEDIATE and a commit: the database takes writes


def create_app(rag: RagPool, options: ServeOptions | None = None) -> FastAPI:
    """The application over an open store; it does not close the store. One app for one store and event loop."""
    options = options or ServeOptions()
    # uvicorn waits for the streams at SIGTERM; sse-starlette would cut them off at once
    AppStatus.disable_automatic_graceful_drain()  # type: ignore[no-untyped-call]

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.services = parts = _services(rag, options, metrics_)
        warming = asyncio.create_task(run_in_threadpool(parts.warm_up))
        looking = asyncio.create_task(_look_for_keys(parts.keys))
        try:
            yield
        finally:
            parts.draining = True
            looking.cancel()
            await warming
            await run_in_threadpool(parts.engine.close, 10.0)
            await run_in_threadpool(parts.ingest.close, 10.0)
            await run_in_threadpool(parts.batches.close, 5.0)

    metrics_ = Metrics()
    app = FastAPI(
        title="ragpool",
        version=__version__,
        summary="Answers over your documents, from a pool of evidence that is judged before anything is written.",
        lifespan=lifespan,
        docs_url=None,  # its page takes scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
    )
    for part in (
        router,
        openai.router,
        ask.router,
        pools.router,
        documents.router,
        batches.router,
        web.router,
    ):
        app.include_router(part)
    errors.install(app)
    if options.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(options.origins),
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "X-Conversation-Id"],
            expose_headers=["X-Conversation-Id", "Retry-After"],
        )
    app.add_middleware(Guard, options=options, metrics=metrics_)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


async def _look_for_keys(keys: KeyRing) -> None:
    """Keys are made and revoked by other processes."""
    while True:
        try:
            await run_in_threadpool(keys.refresh)
        except RagpoolError as error:  # the database is away: requests will say so
            errors.log.warning("the keys could not be read: %s", error)
        await asyncio.sleep(FRESH)


def _services(rag: RagPool, options: ServeOptions, metrics: Metrics) -> Services:
    conversations = Conversations(rag.index.database, rag.pools)
    rewriter = RuleRewriter() if rag.chat is None else PromptedRewriter(rag.chat)
    return Services(
        rag=rag,
        options=options,
        keys=KeyRing(rag.index.database),
        conversations=conversations,
        engine=Engine(
            rag, conversations, rewriter, metrics, workers=options.workers, waiting=options.waiting
        ),
        ingest=documents.Ingest(
            rag, metrics, waiting=options.waiting_documents, limit=options.upload_bytes
        ),
        batches=batches.Batches(rag),
        metrics=metrics,
        limiter=RateLimit(options.rate),
    )  # fmt: skip


def _openapi(app: FastAPI) -> dict[str, Any]:
    """FastAPI's document, but for the 422 that is a 400 here."""
    if not app.openapi_schema:
        document = get_openapi(
            title=app.title, version=app.version, summary=app.summary, routes=app.routes
        )  # fmt: skip
        for path in document["paths"].values():
            for operation in path.values():
                operation["responses"].pop("422", None)
        for name in ("HTTPValidationError", "ValidationError"):
            document["components"]["schemas"].pop(name, None)
        app.openapi_schema = document
    return app.openapi_schema
