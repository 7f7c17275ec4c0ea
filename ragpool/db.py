"""The SQL store: one schema for passages, vectors, pools and runs. The truth; everything else is derived.

SQLite (a file in the store folder) by default, PostgreSQL by URL. Reads and writes go through
``Database.read`` and ``Database.write``; on SQLite a write begins with BEGIN IMMEDIATE, since a deferred
transaction that reads and then writes fails with "database is locked" as soon as two writers meet. Writes of several
threads of a process share a commit (``ragpool.groupcommit``).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.exc import DBAPIError, OperationalError

from ragpool.errors import SchemaError, SettingsError, StoreError
from ragpool.groupcommit import GroupCommit

DATABASE_FILE = "ragpool.db"
SCHEMA_HEAD = "0001"
_BUSY_TIMEOUT_MS = 30_000
_CONNECTIONS = 32  # to an SQLite file that stay open; as many again are opened when they are all in use
_MIGRATING = threading.Lock()  # Alembic keeps the migration that runs in module globals

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# -- the corpus ----------------------------------------------------------------------------------------------

meta = sa.Table(  # embedder, dimension, chunking, corpus version: what the index was built with
    "meta",
    metadata,
    sa.Column("key", sa.String(64), primary_key=True),
    sa.Column("value", sa.JSON, nullable=False),
)

document = sa.Table(
    "document",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("title", sa.Text, nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("metadata", sa.JSON, nullable=False),
    sa.Column("added", sa.Float, nullable=False),  # seconds since the epoch
)

passage = sa.Table(
    "passage",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column(
        "document_id", sa.Text, sa.ForeignKey("document.id", ondelete="CASCADE"), nullable=False, index=True
    ),
    sa.Column("ordinal", sa.Integer, nullable=False),
    sa.Column("title", sa.Text, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("start", sa.Integer, nullable=False),
    sa.Column("metadata", sa.JSON, nullable=False),
    sa.Column("vector", sa.LargeBinary, nullable=True),  # float32, little endian; NULL: not embedded yet
)

# -- the pool ------------------------------------------------------------------------------------------------

run = sa.Table(
    "run",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("scope", sa.Text, nullable=False, index=True),  # whose evidence this run shares
    sa.Column("job", sa.Text, nullable=False),
    sa.Column("question_key", sa.String(64), nullable=False),  # digest of id and text
    sa.Column("question_id", sa.Text, nullable=False),
    sa.Column("question", sa.Text, nullable=False),
    sa.Column("method", sa.Text, nullable=False),
    sa.Column("config_hash", sa.String(64), nullable=False),
    sa.Column("corpus_version", sa.String(64), nullable=False),
    sa.Column("models", sa.JSON, nullable=False),
    sa.Column("prompts", sa.JSON, nullable=False),
    sa.Column("created", sa.Float, nullable=False),
    sa.UniqueConstraint("job", "question_key", "config_hash"),
)

plan = sa.Table(  # the question's triples; written once, since they cost a model call
    "plan",
    metadata,
    sa.Column("run_id", sa.ForeignKey("run.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("question", sa.JSON, nullable=False),
    sa.Column("usage", sa.JSON, nullable=False),
    sa.Column("seconds", sa.Float, nullable=False),
)

query = sa.Table(
    "query",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("run_id", sa.ForeignKey("run.id", ondelete="CASCADE"), nullable=False),
    sa.Column("round", sa.Integer, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("key", sa.String(64), nullable=False),  # digest of the normal form
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("gap", sa.Text, nullable=True),
    sa.UniqueConstraint("run_id", "key"),
)

pool_round = sa.Table(  # a row here says that the round is committed, also when it brought nothing
    "round",
    metadata,
    sa.Column("run_id", sa.ForeignKey("run.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("round", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("usage", sa.JSON, nullable=False),  # planning queries, retrieving and distilling
    sa.Column("seconds", sa.Float, nullable=False),
)

evidence = sa.Table(
    "evidence",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),  # the order of admission
    sa.Column("scope", sa.Text, nullable=False),
    # no foreign key: evidence belongs to its scope and outlives the run that brought it in
    sa.Column("run_id", sa.String(32), nullable=False),
    sa.Column("passage_id", sa.Text, nullable=False),
    sa.Column("document_id", sa.Text, nullable=False),
    sa.Column("title", sa.Text, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("spans", sa.JSON, nullable=False),
    sa.Column("round", sa.Integer, nullable=False),
    sa.Column("query", sa.Text, nullable=False),
    sa.Column("gap", sa.Text, nullable=True),
    sa.Column("score", sa.Float, nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("metadata", sa.JSON, nullable=False),
    # a later row about the same passage; unique, so that the rows of a passage form one chain
    sa.Column("supersedes", sa.ForeignKey("evidence.id", ondelete="CASCADE"), nullable=True, unique=True),
    sa.Index("ix_evidence_scope_id", "scope", "id"),
    sqlite_autoincrement=True,  # ids are never used again: readers ask for the rows after the last they saw
)
_FIRST_ROW = evidence.c.supersedes.is_(None)
sa.Index(  # a passage comes into a scope once
    "uq_evidence_scope_passage_id",
    evidence.c.scope,
    evidence.c.passage_id,
    unique=True,
    sqlite_where=_FIRST_ROW,
    postgresql_where=_FIRST_ROW,
)

judgement = sa.Table(
    "judgement",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("run_id", sa.ForeignKey("run.id", ondelete="CASCADE"), nullable=False),
    sa.Column("round", sa.Integer, nullable=False),
    sa.Column("sufficient", sa.Boolean, nullable=False),
    sa.Column("probability", sa.Float, nullable=False),
    sa.Column("gaps", sa.JSON, nullable=False),
    sa.Column("bindings", sa.JSON, nullable=False),
    sa.Column("judge", sa.Text, nullable=False),
    sa.Column("usage", sa.JSON, nullable=False),  # of judging alone
    sa.Column("seconds", sa.Float, nullable=False),
    sa.UniqueConstraint("run_id", "round"),
)

call = sa.Table(  # model calls inside a round, committed one by one: a resumed run recalls what is paid for
    "call",
    metadata,
    sa.Column("run_id", sa.ForeignKey("run.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("key", sa.String(64), primary_key=True),  # digest of the model's name and the prompt
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("output", sa.JSON, nullable=False),
    sa.Column("usage", sa.JSON, nullable=False),
    sa.Column("seconds", sa.Float, nullable=False),
)

answer = sa.Table(
    "answer",
    metadata,
    sa.Column("run_id", sa.ForeignKey("run.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("answer", sa.Text, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("stop_reason", sa.String(24), nullable=False),
    sa.Column("rounds", sa.Integer, nullable=False),
    sa.Column("citations", sa.JSON, nullable=False),
    sa.Column("given", sa.JSON, nullable=False),  # passage ids in the order in which the generator saw them
    sa.Column("missing", sa.JSON, nullable=False),
    sa.Column("usage", sa.JSON, nullable=False),  # the whole run's
    sa.Column("seconds", sa.Float, nullable=False),
    sa.Column("finished", sa.Float, nullable=False),
    sa.Column("as_of", sa.Integer, nullable=False),  # the scope's last evidence row by then; 0: none
)


class Database:
    """An engine with the schema in place.

    ``url`` is an SQLAlchemy URL (``sqlite:///file`` or ``postgresql://...``). Raises SettingsError for any
    other, StoreError when it cannot be reached or opened, SchemaError when it was written by a newer ragpool.
    Safe to share between threads; each process opens its own.
    """

    def __init__(self, url: str | sa.URL) -> None:
        try:
            place = sa.make_url(url)
            if place.drivername in ("postgres", "postgresql"):
                place = place.set(drivername="postgresql+psycopg")
            if place.drivername.partition("+")[0] not in ("sqlite", "postgresql"):
                raise sa.exc.ArgumentError("another database")
            self.engine = sa.create_engine(place, **_pool_options(place))
        except sa.exc.ArgumentError as error:
            raise SettingsError(
                f"database_url {_scheme(url)!r}... is neither sqlite:///file nor postgresql://user:password@host/name"
            ) from error
        except ModuleNotFoundError as error:
            raise SettingsError(
                f"database_url needs the package {error.name}: pip install 'ragpool[postgres]'"
            ) from error
        self.is_sqlite = self.engine.dialect.name == "sqlite"
        if self.is_sqlite:
            _configure_sqlite(self.engine)
        self._group = GroupCommit(
            lambda: self.engine.connect().execution_options(ragpool_begin="BEGIN IMMEDIATE")
        )
        try:
            self._migrate()
        except (DBAPIError, StoreError) as error:
            self.engine.dispose()
            if isinstance(error, StoreError):
                raise
            raise self._error(error) from error

    @classmethod
    def in_folder(cls, folder: Path, url: str | None = None) -> Database:
        """The database of a store folder: SQLite in it, or ``url`` where one is set."""
        return cls(url or sa.URL.create("sqlite", database=str(folder / DATABASE_FILE)))

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A read transaction: one snapshot, no write lock."""
        with self._reported(), self.engine.connect() as connection:
            if not self.is_sqlite:
                connection = connection.execution_options(isolation_level="REPEATABLE READ")
            with connection.begin():
                yield connection

    def rows(
        self, select: sa.Select[tuple[object, ...]], values: Mapping[str, Any] | None = None
    ) -> list[sa.RowMapping]:
        """The rows of one select. It is its own snapshot, so SQLite is spared a BEGIN and a COMMIT."""
        with self._reported(), self.engine.connect() as connection:
            if self.is_sqlite:
                connection = connection.execution_options(ragpool_begin="")
            return list(connection.execute(select, values or {}).mappings())

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """A write transaction: committed when the block ends, rolled back when it raises. Never one in another."""
        with self._reported():
            if self.is_sqlite:
                with self._group.write() as connection:
                    yield connection
            else:
                with self.engine.begin() as connection:
                    yield connection

    def insert_once(self, connection: sa.Connection, table: sa.Table, values: Mapping[str, Any]) -> bool:
        """Insert a row; False when a unique key of the table is taken and nothing was written."""
        insert = sqlite_insert if self.is_sqlite else postgresql_insert
        statement = insert(table).values(dict(values)).on_conflict_do_nothing()
        # without the option PostgreSQL's count is lost
        return connection.execute(statement.execution_options(preserve_rowcount=True)).rowcount == 1

    @contextmanager
    def _reported(self) -> Iterator[None]:
        # a full disk, a lost server, a lock held too long; a broken constraint is the caller's own affair
        try:
            yield
        except OperationalError as error:
            raise self._error(error) from error

    def _error(self, error: DBAPIError) -> StoreError:
        place = self.engine.url.render_as_string(hide_password=True)
        lines = str(error.orig).strip().splitlines()
        reason = lines[0] if lines else type(error.orig).__name__
        return StoreError(f"cannot use the database {place}: {reason}: does it exist, have space, answer?")

    def close(self) -> None:
        self.engine.dispose()

    def _migrate(self) -> None:
        found = self._schema_version()
        if found == SCHEMA_HEAD:
            return
        from alembic import command
        from alembic.config import Config
        from alembic.script import ScriptDirectory

        config = Config()
        config.set_main_option(
            "script_location", str(Path(__file__).parent / "migrations").replace("%", "%%")
        )
        known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
        if found is not None and found not in known:
            raise SchemaError(
                f"the database has schema {found}, newer than this ragpool ({SCHEMA_HEAD}): upgrade ragpool"
            )
        with _MIGRATING, self.write() as connection:
            # two processes may meet here on an empty store; the loser finds the work done
            if not self.is_sqlite:
                connection.execute(sa.text("SELECT pg_advisory_xact_lock(7263701)"))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    def _schema_version(self) -> str | None:
        with self.read() as connection:
            if not sa.inspect(connection).has_table("alembic_version"):
                return None
            version: str | None = connection.execute(
                sa.text("SELECT version_num FROM alembic_version")
            ).scalar()
            return version


def _scheme(url: str | sa.URL) -> str:
    return str(url).partition(":")[0]  # the rest may hold a password


def _pool_options(place: sa.URL) -> dict[str, Any]:
    if place.drivername != "sqlite":
        return {"pool_pre_ping": True}
    if place.database in (None, "", ":memory:"):
        return {}
    return {"pool_size": _CONNECTIONS, "max_overflow": _CONNECTIONS}


def _configure_sqlite(engine: sa.Engine) -> None:
    @sa.event.listens_for(engine, "connect")
    def _on_connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # transactions are begun below, not by the driver
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={_BUSY_TIMEOUT_MS}")
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.close()

    @sa.event.listens_for(engine, "begin")
    def _on_begin(connection: sa.Connection) -> None:
        begin = connection.get_execution_options().get("ragpool_begin", "BEGIN")
        if begin:
            connection.exec_driver_sql(begin)
