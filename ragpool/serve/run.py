"""Run the server: uvicorn with a drain at SIGTERM, and the checks before a port is opened."""

from __future__ import annotations

import logging
from types import FrameType

import uvicorn
from fastapi import FastAPI

from ragpool.errors import SettingsError
from ragpool.sdk import RagPool
from ragpool.serve.app import create_app
from ragpool.serve.keys import KeyRing
from ragpool.serve.options import ServeOptions

log = logging.getLogger("ragpool.serve")


class Server(uvicorn.Server):
    """uvicorn's server that says in /ready that it stops, while it lets the streams end."""

    app: FastAPI

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal drains, the second one ends. Not uvicorn's own: that kills the process after the drain,
        with the store still open."""
        parts = getattr(self.app.state, "services", None)
        if parts is not None:
            parts.draining = True
        if self.should_exit:
            self.force_exit = True
        self.should_exit = True


def make_server(rag: RagPool, options: ServeOptions, *, log_level: str = "info") -> Server:
    """A server that is ready to ``run``. Raises SettingsError when it would be open to others without a key."""
    if not options.loopback and not KeyRing(rag.index.database).active():
        raise SettingsError(
            f"--host {options.host} is reached from other machines and there is no key yet: "
            f"ragpool keys create NAME --store {rag.folder}"
        )
    app = create_app(rag, options)
    config = uvicorn.Config(
        app,
        host=options.host,
        port=options.port,
        log_level=log_level,
        access_log=False,  # addresses hold ids; /metrics has the counts
        server_header=False,
        date_header=True,
        timeout_graceful_shutdown=max(int(options.drain), 1),
        timeout_keep_alive=30,
        h11_max_incomplete_event_size=32_768,
        proxy_headers=False,
        backlog=2048,
    )
    server = Server(config)
    server.app = app
    return server


def serve(rag: RagPool, options: ServeOptions) -> None:
    """Serve until SIGINT or SIGTERM; then finish what is in work, at most ``options.drain`` seconds."""
    server = make_server(rag, options.model_copy(update={"own_process": True}))
    server.run()
