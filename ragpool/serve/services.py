"""What the routes share, and who is asking."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, TypeVar

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.concurrency import run_in_threadpool

from ragpool.errors import RagpoolError
from ragpool.sdk import RagPool
from ragpool.serve.conversations import Conversations
from ragpool.serve.engine import Engine
from ragpool.serve.errors import ApiError, log
from ragpool.serve.keys import LOCAL, KeyRing
from ragpool.serve.limits import RateLimit
from ragpool.serve.metrics import Metrics
from ragpool.serve.options import ServeOptions

if TYPE_CHECKING:
    from ragpool.serve.batches import Batches
    from ragpool.serve.documents import Ingest

T = TypeVar("T")


@dataclass(slots=True)
class Services:
    """One server's parts."""

    rag: RagPool
    options: ServeOptions
    keys: KeyRing
    conversations: Conversations
    engine: Engine
    ingest: Ingest
    batches: Batches
    metrics: Metrics
    limiter: RateLimit
    started: int = field(default_factory=lambda: int(time.time()))
    draining: bool = False
    warm: bool = False  # the models are loaded
    failed: str = ""  # why they could not be

    def warm_up(self) -> None:
        """Load the models before the first question does."""
        try:
            _ = self.rag.steps
            if self.rag.index.count()[1]:
                self.rag.search("warm up", k=1)
        except RagpoolError as error:
            log.warning("the models are not loaded: %s", error)
            self.failed = type(error).__name__
        else:
            self.warm = True
        if self.options.own_process:
            gc.collect()  # what is loaded by now stays: looking through it held up every stream for up to 0.3 s
            gc.freeze()

    def needs_key(self) -> bool:
        """Always for callers from other machines; on this one as soon as a key was made, also when it is revoked."""
        return self.options.require_key or not self.options.loopback or self.keys.made()


def services(request: Request) -> Services:
    found: Services = request.app.state.services
    return found


_bearer = HTTPBearer(auto_error=False, description="A key made by 'ragpool keys create NAME'")


async def owner(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> str:
    """The caller's name in scopes. Raises ApiError 401 without a valid key where one is needed, 429 past the rate."""
    parts = services(request)
    if parts.keys.stale:
        await run_in_threadpool(parts.keys.refresh)
    found = LOCAL
    if parts.needs_key():
        token = credentials.credentials if credentials is not None else ""
        known = parts.keys.owner(token)
        if known is None:
            address = request.client.host if request.client is not None else ""
            parts.limiter.check(f"address {address}")
            parts.metrics.rejected.labels("key").inc()
            said = "this key opens nothing" if token else "a key is needed"
            if not parts.keys.active():
                said = "there is no key in use (ragpool keys create NAME)"
            raise ApiError(401, f"{said}: Authorization: Bearer KEY", code="invalid_api_key")
        found = known
    parts.limiter.check(found)
    return found


Owner = Annotated[str, Depends(owner)]
Parts = Annotated[Services, Depends(services)]


async def until_gone(request: Request, work: Callable[[], Awaitable[T]]) -> T:
    """The result of ``work``, which is cancelled when the client hangs up (then nobody sees what is raised)."""

    async def hang_up() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    working, gone = asyncio.ensure_future(work()), asyncio.ensure_future(hang_up())
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ApiError(499, "the client is gone", code="client_gone")
        return working.result()
    finally:
        for task in (working, gone):
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
