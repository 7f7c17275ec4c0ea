"""Where Prefect runs when the user has no server: a home in the store, and a server that lives as long as the batch.

A user who has a server names it in PREFECT_API_URL; then nothing is started here and their Prefect home is used.
All of this has to be in place before prefect is imported, so nothing here imports it at the top.
"""

from __future__ import annotations

import asyncio
import http.client
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from contextvars import copy_context
from pathlib import Path
from typing import Any, TypeVar

from ragpool.errors import RagpoolError

T = TypeVar("T")

START_TIMEOUT = 180.0  # seconds; with its migrations a first start takes half a minute on a busy machine

_SILENT = {  # no telemetry, whichever server is used
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_TELEMETRY_ENABLE_RESOURCE_METRICS": "false",
}
_QUIET = {"PREFECT_LOGGING_LEVEL": "WARNING", "PREFECT_SERVER_LOGGING_LEVEL": "ERROR"}
_OWN_SERVER = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}
_RUN_LOGGERS = ("prefect.flow_runs", "prefect.task_runs")


def home_of(store: Path) -> Path:
    """Prefect's home for a store: RAGPOOL_PREFECT_HOME, or ``prefect`` in the store."""
    return Path(os.environ.get("RAGPOOL_PREFECT_HOME") or store / "prefect").resolve()


@contextmanager
def prefect_home(store: Path) -> Iterator[Callable[[], None]]:
    """The environment in which a flow may be called: with the user's server, or with one of our own.

    Our own server starts in the background at once, so that models can load meanwhile; call the yielded function
    before the first use of prefect, it waits until the server answers. Raises RagpoolError when it does not. The
    process's environment is as it was when the block ends.
    """
    home = home_of(store)
    with ExitStack() as stack:
        if os.environ.get("PREFECT_API_URL"):
            results = {"PREFECT_LOCAL_STORAGE_PATH": str(home / "storage")}
            stack.enter_context(_environment({**_unset(_QUIET), **_unset(results), **_SILENT}))
            yield lambda: stack.enter_context(_prefect(None, home))
            return
        home.mkdir(parents=True, exist_ok=True)
        values = {
            "PREFECT_HOME": str(home),
            "PREFECT_PROFILES_PATH": str(home / "profiles.toml"),
            "PREFECT_LOCAL_STORAGE_PATH": str(home / "storage"),
            "PREFECT_API_SSL_CERT_FILE": str(_one_certificate(home)),
        }
        stack.enter_context(_environment({**_unset(_QUIET), **_SILENT, **values}, without="PREFECT_PROFILE"))
        server = stack.enter_context(LocalServer(home))
        stack.enter_context(_environment({"PREFECT_API_URL": server.url}))

        def ready() -> None:
            server.wait(START_TIMEOUT)
            stack.enter_context(_prefect(server.url, home))

        yield ready


class LocalServer:
    """A Prefect server over the SQLite file in ``home``; it ends with the block, and with this process.

    ``url`` is known at once, ``wait`` returns when it answers. What it has to say goes to server.log in ``home``.
    """

    def __init__(self, home: Path) -> None:
        self._log_file = home / "server.log"
        script = Path(__file__).with_name("local_server.py")
        with self._log_file.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-P",
                    str(script),
                ],  # -P: no file of the working folder is taken for a module
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, **_OWN_SERVER},
                start_new_session=True,  # Ctrl-C on the terminal is for us alone: the server is needed to the end
            )
        assert self._process.stdout is not None
        port = self._process.stdout.readline().strip()
        self._process.stdout.close()
        if not port:
            self._close()
            raise self._failure()
        self.port = int(port)
        self.url = f"http://127.0.0.1:{self.port}/api"

    def __enter__(self) -> LocalServer:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def wait(self, timeout: float) -> None:
        """Wait until the server answers. Raises RagpoolError when it ends or takes longer than ``timeout`` seconds."""
        end = time.monotonic() + timeout
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > end:
                raise self._failure()
            time.sleep(0.05)

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/api/health")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def _failure(self) -> RagpoolError:
        lines = self._log_file.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        reason = f" ({lines[-1][:200]})" if lines else ""
        return RagpoolError(
            f"Prefect's local server did not start{reason}: see {self._log_file}; deleting {self._log_file.parent} "
            "is safe, answers are kept elsewhere"
        )

    def _close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()  # the server stops when this pipe ends
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextmanager
def _prefect(url: str | None, home: Path) -> Iterator[None]:
    """prefect with our settings, also where it was imported before, and without run logs on the terminal."""
    from prefect import settings

    # the flow's and the tasks' own log lines go to the server; what failed is reported by us, once
    loggers = [logging.getLogger(name) for name in _RUN_LOGGERS]
    before = [logger.propagate for logger in loggers]
    own: dict[Any, Any] = (
        {}
        if url is None
        else {
            settings.PREFECT_API_URL: url,
            settings.PREFECT_HOME: home,
            settings.PREFECT_API_SSL_CERT_FILE: str(_one_certificate(home)),
        }
    )
    with settings.temporary_settings({**own, settings.PREFECT_LOCAL_STORAGE_PATH: home / "storage"}):
        for logger in loggers:
            logger.propagate = False
        try:
            yield
        finally:
            outside_loop(_drain)
            for logger, propagate in zip(loggers, before, strict=True):
                logger.propagate = propagate


def _one_certificate(home: Path) -> Path:
    """A file with one certificate of the usual bundle. Our server speaks plain HTTP and no certificate is ever used,
    but Prefect's client reads the file it is given twice a task, and the whole bundle takes 20 ms each time."""
    import certifi

    file, end = home / "one-certificate.pem", "-----END CERTIFICATE-----"
    if not file.is_file():
        first = certifi.contents().partition(end)[0]
        file.write_text(f"{first[first.index('-----BEGIN') :]}{end}\n", encoding="ascii")
    return file


def _drain() -> None:
    """Send what Prefect's background threads still hold, while there is a server to send it to."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    EventsWorker.drain_all()
    APILogWorker.drain_all()


def outside_loop(function: Callable[[], T]) -> T:
    """Call a function that runs an event loop of its own; in a notebook there is a running one, so in a thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return function()
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(copy_context().run, function).result()


@contextmanager
def _environment(values: Mapping[str, str], without: str = "") -> Iterator[None]:
    before = {name: os.environ.get(name) for name in (*values, *([without] if without else []))}
    os.environ.update(values)
    os.environ.pop(without, None)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _unset(values: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in values.items() if name not in os.environ}
