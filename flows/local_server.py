"""A Prefect server that ends with the process that started it. Run as a script by ``home.LocalServer``.

Prefect's own temporary server outlives a parent that is killed, and then two servers write one SQLite file. This
one reads its standard input, a pipe from the parent, and stops when the pipe breaks. The first line it writes is
the port that it listens on.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from typing import Any


def main() -> None:
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    sys.stdout.write(f"{listening.getsockname()[1]}\n")
    sys.stdout.flush()
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever is written from here on goes to the log

    import uvicorn

    server = uvicorn.Server(
        uvicorn.Config(
            "prefect.server.api.server:create_app",
            factory=True,
            log_level="error",
            lifespan="on",
            access_log=False,
        )
    )
    threading.Thread(target=_stop_with_parent, args=(server,), daemon=True).start()
    server.run(sockets=[listening])


def _stop_with_parent(server: Any) -> None:
    sys.stdin.buffer.read()
    server.should_exit = True
    time.sleep(5)
    os._exit(0)


if __name__ == "__main__":
    main()
