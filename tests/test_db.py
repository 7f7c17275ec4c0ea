from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

import ragpool.migrations
from ragpool import db
from ragpool.db import SCHEMA_HEAD, Database
from ragpool.errors import SchemaError, SettingsError, StoreError

DOCUMENT = {"id": "d", "title": "", "sha256": "0" * 64, "metadata": {}, "added": 0.0}


def count(database: Database, table: sa.Table) -> int:
    with database.read() as connection:
        return connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()


def test_migrations_end_at_the_metadata(database: Database) -> None:
    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, db.metadata) == []


def test_migrated_sqlite_schema_is_the_metadata_to_the_letter(tmp_path: Path) -> None:
    """Constraints, partial indexes and AUTOINCREMENT too, which Alembic does not compare."""

    def statements(engine: sa.Engine) -> dict[str, list[str]]:
        with engine.connect() as connection:
            rows = connection.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")
            found = {name: sorted(sql.replace(",", "\n").split("\n")) for name, sql in rows}
        return {
            name: [line.strip() for line in lines if line.strip()]
            for name, lines in found.items()
            if not name.startswith(("alembic", "sqlite"))
        }

    migrated = Database.in_folder(tmp_path)
    made = sa.create_engine(f"sqlite:///{tmp_path / 'made.db'}")
    db.metadata.create_all(made)
    assert statements(migrated.engine) == statements(made)
    made.dispose()
    migrated.close()


def test_schema_head_is_the_only_head() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(ragpool.migrations.__file__).parent))
    assert ScriptDirectory.from_config(config).get_heads() == [SCHEMA_HEAD]


def test_opening_again_keeps_the_data(database_url: str) -> None:
    first = Database(database_url)
    with first.write() as connection:
        connection.execute(sa.insert(db.document).values(DOCUMENT))
    first.close()
    second = Database(database_url)
    assert count(second, db.document) == 1
    second.close()


def test_newer_schema_is_refused(database_url: str) -> None:
    first = Database(database_url)
    with first.write() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    first.close()
    with pytest.raises(SchemaError, match=r"9999.*upgrade ragpool"):
        Database(database_url)


def test_sqlite_pragmas(tmp_path: Path) -> None:
    database = Database.in_folder(tmp_path)
    with database.read() as connection:
        values = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    assert values == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 30_000}
    database.close()


def test_a_failed_write_leaves_nothing(database: Database) -> None:
    def fail() -> None:
        with database.write() as connection:
            connection.execute(sa.insert(db.document).values(DOCUMENT))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert count(database, db.document) == 0


def test_a_read_is_one_snapshot(database: Database) -> None:
    total = sa.select(sa.func.count()).select_from(db.document)
    with database.read() as reading:
        assert reading.execute(total).scalar() == 0
        with database.write() as writing:
            writing.execute(sa.insert(db.document).values(DOCUMENT))
        assert reading.execute(total).scalar() == 0
    assert count(database, db.document) == 1


def test_insert_once(database: Database) -> None:
    with database.write() as connection:
        assert database.insert_once(connection, db.document, DOCUMENT)
        assert not database.insert_once(connection, db.document, {**DOCUMENT, "title": "another"})
    assert count(database, db.document) == 1


def test_processes_may_open_an_empty_store_together(database_url: str) -> None:
    script = (
        "import sys; from ragpool.db import Database; sys.stdin.readline(); Database(sys.argv[1]).close()"
    )
    command = [sys.executable, "-c", script, database_url]
    pipe = subprocess.PIPE
    opening = [subprocess.Popen(command, stdin=pipe, stderr=pipe, text=True) for _ in range(2)]
    for process in opening:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    errors = [process.communicate()[1] for process in opening]
    assert [process.returncode for process in opening] == [0, 0], errors
    database = Database(database_url)
    assert count(database, db.document) == 0
    database.close()


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"cannot use the database sqlite.*nowhere"):
        Database.in_folder(tmp_path / "nowhere")


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / db.DATABASE_FILE).write_bytes(b"some notes, kept in the wrong place" * 100)
    with pytest.raises(StoreError, match="not a database"):
        Database.in_folder(tmp_path)


def test_a_server_that_does_not_answer_hides_the_password() -> None:
    with pytest.raises(StoreError) as caught:
        Database("postgresql+psycopg://user:secret@127.0.0.1:1/none")
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("url", ["ragpool.db", "oracle-of-delphi://x", "mysql://user@host/name", ""])
def test_what_is_no_database_url(url: str) -> None:
    with pytest.raises(SettingsError, match="neither sqlite"):
        Database(url)


def test_a_postgres_url_needs_no_driver(postgres_url: str) -> None:
    for scheme in ("postgres:", "postgresql:"):
        database = Database(postgres_url.replace("postgresql+psycopg:", scheme))
        assert count(database, db.document) == 0
        database.close()


@pytest.mark.parametrize("name", ["100 %", "a?b=c", "#1", "a%20b", "d\u00e9j\u00e0 vu"])
def test_any_folder_name_will_do(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    database = Database.in_folder(folder)
    database.close()
    assert (folder / db.DATABASE_FILE).is_file()


def test_threads_open_stores_at_once(tmp_path: Path) -> None:
    folders = [tmp_path / str(i) for i in range(4)]
    for folder in folders:
        folder.mkdir()
    with ThreadPoolExecutor(4) as threads:
        opened = list(threads.map(Database.in_folder, folders))
    for database in opened:
        assert count(database, db.document) == 0
        database.close()
