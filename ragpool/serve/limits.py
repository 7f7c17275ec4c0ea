"""What stands before every route: body size, host and origin checks, security headers, metrics, the rate limit.

Plain ASGI: a wrapper that reads the body or the response would hide a client that hangs up.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ragpool.serve.errors import ApiError, from_error
from ragpool.serve.metrics import Metrics
from ragpool.serve.options import ServeOptions, is_loopback

_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "font-src 'self'",
        "connect-src 'self'",
        "manifest-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "object-src 'none'",
        "require-trusted-types-for 'script'",
    )
)
HEADERS = (
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=(), payment=()"),
)


class Guard:
    """The outermost layer. Refuses what is too large or comes from elsewhere; adds headers; counts."""

    def __init__(self, app: ASGIApp, options: ServeOptions, metrics: Metrics) -> None:
        self._app = app
        self._options = options
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        begun, status, begun_to_answer = time.monotonic(), 500, False
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}

        async def sending(message: Message) -> None:
            nonlocal status, begun_to_answer
            if message["type"] == "http.response.start":
                status, begun_to_answer = message["status"], True
                present = {name.lower() for name, _ in message["headers"]}
                added = [h for h in HEADERS if h[0] not in present]
                if b"cache-control" not in present:
                    added.append((b"cache-control", b"no-store"))
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        try:
            refused = self._refused(headers) or self._too_large(scope["path"], headers)
            if refused is not None:
                self._metrics.rejected.labels(refused.code or "guard").inc()
                await refused.response()(scope, receive, sending)
            else:
                limit = self._limit(scope["path"])
                await self._app(scope, _limited(receive, limit), sending)
        except Exception as error:
            if begun_to_answer:
                raise
            await from_error(error).response()(scope, receive, sending)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self._metrics.requests.labels(route, _method(scope["method"]), str(status)).inc()
            self._metrics.latency.labels(route).observe(time.monotonic() - begun)

    def _limit(self, path: str) -> int:
        return self._options.upload_bytes if path == "/v1/documents" else self._options.body_bytes

    def _too_large(self, path: str, headers: dict[bytes, str]) -> ApiError | None:
        length = headers.get(b"content-length", "0")
        limit = self._limit(path)
        if not length.isdecimal() or int(length) > limit:
            return too_large(limit)
        return None

    def _refused(self, headers: dict[bytes, str]) -> ApiError | None:
        """A name that is not ours is DNS rebinding; an origin that is not ours is a foreign page."""
        host = headers.get(b"host", "")
        name = _host_name(host)
        known = {h.lower() for h in self._options.hosts} | {self._options.host.lower()}
        if self._options.loopback and not (is_loopback(name) or name in known):
            return ApiError(
                403, f"this server is not called {name[:80]!r}: see --allow-host", code="unknown_host"
            )
        origin = headers.get(b"origin")
        if origin is None or origin in self._options.origins:
            return None
        if urlsplit(origin).netloc.lower() != host.lower():
            return ApiError(
                403, "requests from other web pages are off: see --allow-origin", code="foreign_origin"
            )
        return None


def too_large(limit: int) -> ApiError:
    return ApiError(413, f"the body is larger than {limit} bytes: send less", code="too_large")


def _limited(receive: Receive, limit: int) -> Receive:
    """Counts a body that does not say its length."""
    seen = 0

    async def receiving() -> Message:
        nonlocal seen
        message = await receive()
        if message["type"] == "http.request":
            seen += len(message.get("body", b""))
            if seen > limit:  # this kind passes through FastAPI's reading of the body as it is
                raise HTTPException(413, too_large(limit).message)
        return message

    return receiving


def _host_name(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower()


def _method(method: str) -> str:
    return method if method in ("GET", "POST", "DELETE", "OPTIONS", "HEAD") else "other"


class RateLimit:
    """A token bucket a key: ``rate`` requests a minute, in bursts of up to a quarter of that (ten at least)."""

    def __init__(self, rate: int, clock: Callable[[], float] = time.monotonic, keys: int = 10_000) -> None:
        self._rate = rate / 60
        self._burst = float(max(rate // 4, min(rate, 10)))
        self._clock = clock
        self._keys = keys  # the memory is bounded: the key that was not seen for longest is forgotten
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def check(self, owner: str) -> None:
        """Take one request from the bucket. Raises ApiError 429 when it is empty."""
        if not self._rate:
            return
        now = self._clock()
        with self._lock:
            level, then = self._buckets.pop(owner, (self._burst, now))
            level = min(self._burst, level + (now - then) * self._rate)
            self._buckets[owner] = (level - 1 if level >= 1 else level, now)
            if len(self._buckets) > self._keys:
                self._buckets.popitem(last=False)
        if level < 1:
            wait = max(math.ceil((1 - level) / self._rate), 1)
            raise ApiError(
                429, f"too many requests: try again in {wait} s", code="rate_limit", retry_after=wait
            )
