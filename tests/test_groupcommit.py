from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from ragpool import db
from ragpool.db import Database
from ragpool.errors import StoreError
from ragpool.groupcommit import MOST


@pytest.fixture
def file(tmp_path: Path) -> sa.URL:
    return sa.URL.create("sqlite", database=str(tmp_path / "ragpool.db"))


def put(connection: sa.Connection, key: str, size: int = 10) -> None:
    connection.execute(sa.insert(db.meta).values(key=key, value="x" * size))


def keys(database: Database) -> set[str]:
    with database.read() as connection:
        return set(connection.execute(sa.select(db.meta.c.key)).scalars())


def together(database: Database, *blocks: Callable[[sa.Connection], None]) -> list[BaseException | None]:
    """Run the blocks in threads of their own, so that they stand in line for one commit; what each raised."""
    raised: list[BaseException | None] = [None] * len(blocks)
    first = threading.Event()

    def work(n: int) -> None:
        try:
            with database.write() as connection:
                if n == 0:
                    first.set()
                    while database._group._waiting < len(blocks) - 1:
                        pass
                blocks[n](connection)
        except BaseException as error:  # noqa: BLE001 - it is what the test looks at
            raised[n] = error

    threads = [threading.Thread(target=work, args=(n,)) for n in range(len(blocks))]
    for n, thread in enumerate(threads):
        thread.start()
        if n == 0:
            first.wait()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    return raised


def commits(database: Database) -> list[int]:
    """One entry for each commit from now on."""
    counted: list[int] = []
    sa.event.listen(database.engine, "commit", lambda _: counted.append(1))
    return counted


def test_blocks_that_wait_share_a_commit(file: sa.URL) -> None:
    database = Database(file)
    counted = commits(database)
    blocks = 2 * MOST
    raised = together(database, *[lambda c, n=n: put(c, str(n)) for n in range(blocks)])  # type: ignore[misc]
    assert raised == [None] * blocks
    assert len(counted) == 2
    assert keys(database) >= {str(n) for n in range(blocks)}
    database.close()


def test_a_block_is_on_disk_when_it_ends(file: sa.URL) -> None:
    database, other = Database(file), Database(file)
    missing: list[str] = []

    def work(n: int) -> None:
        for m in range(10):
            with database.write() as connection:
                put(connection, f"{n}.{m}")
            if f"{n}.{m}" not in keys(other):
                missing.append(f"{n}.{m}")

    threads = [threading.Thread(target=work, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert missing == []
    other.close()
    database.close()


def test_a_block_that_raises_undoes_only_its_own_part(file: sa.URL) -> None:
    database = Database(file)

    def fail(connection: sa.Connection) -> None:
        put(connection, "bad")
        raise ZeroDivisionError

    for blocks in (
        [fail],
        [fail, lambda c: put(c, "a"), lambda c: put(c, "b")],
        [lambda c: put(c, "c"), fail],
    ):
        raised = together(database, *blocks)
        assert [type(error) for error in raised] == [
            ZeroDivisionError if block is fail else type(None) for block in blocks
        ]
    assert {"a", "b", "c"} <= keys(database)
    assert "bad" not in keys(database)
    database.close()


def test_a_full_disk_fails_the_whole_group_and_the_next_write_goes_on(file: sa.URL) -> None:
    database = Database(file)
    with database.write() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()

    def fill(connection: sa.Connection) -> None:
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages + 2}")
        try:
            put(connection, "large", 1_000_000)
        finally:
            connection.exec_driver_sql("PRAGMA max_page_count=1000000")

    raised = together(database, lambda c: put(c, "a"), fill, lambda c: put(c, "b"))
    assert isinstance(raised[1], StoreError)
    written = keys(database)
    assert "large" not in written
    for key, error in (("a", raised[0]), ("b", raised[2])):
        assert (key in written) == (error is None)  # said to be written, or an error, and never both
    with database.write() as connection:
        put(connection, "later")
    assert "later" in keys(database)
    database.close()


def test_a_commit_that_fails_is_everybodys(file: sa.URL) -> None:
    database = Database(file)

    def dangling(connection: sa.Connection) -> None:
        connection.exec_driver_sql("PRAGMA defer_foreign_keys=ON")
        row = {"run_id": "0" * 32, "round": 0, "usage": {}, "seconds": 0.0}
        connection.execute(sa.insert(db.pool_round).values(row))

    raised = together(database, lambda c: put(c, "a"), dangling, lambda c: put(c, "b"))
    assert all(isinstance(error, sa.exc.IntegrityError) for error in raised)
    assert not {"a", "b"} & keys(database)
    with database.write() as connection:
        put(connection, "later")
    assert "later" in keys(database)
    database.close()


def test_a_thread_that_leaves_the_line_strands_nobody(file: sa.URL) -> None:
    database = Database(file)
    group = database._group

    def first(connection: sa.Connection) -> None:
        put(connection, "a")
        group._waiting += 1  # as if one stood in line, and were interrupted there

    assert together(database, first) == [None]
    assert "a" in keys(database)
    database.close()
