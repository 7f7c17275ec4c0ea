"""Write transactions of many threads that share one commit.

SQLite has one writer, and each commit waits for the disk; threads that find it busy sleep and poll, in no order, so that
with 64 of them one may wait for seconds. Here they take turns on one connection, each in a savepoint of its own, and the
last one of those that stand in line commits for all. Nobody goes on before that: when a block ends, what it wrote is on
disk, as with a transaction of its own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import sqlalchemy as sa

# Blocks in one commit. Their threads go on together when it is done, and all want the interpreter at that moment: with
# 64 of them a server's event loop waited twice as long for it as with 8, and the disk is no faster for it.
MOST = 8
_LOST = 0.2  # seconds after which a member looks whether the thread that was to commit is gone


@dataclass(slots=True, eq=False)
class _Group:
    """The blocks that one commit is for."""

    connection: sa.Connection
    transaction: sa.RootTransaction
    blocks: int = 0
    error: BaseException | None = None  # nothing of the group is written
    ended: threading.Event = field(default_factory=threading.Event)


class GroupCommit:
    """``write`` for the threads of one process; ``connect`` gives a connection whose transactions take writes.

    A block that raises undoes its own part. When the commit fails, or the database gives the transaction up (a full
    disk), every block of the group raises that.
    """

    def __init__(self, connect: Callable[[], sa.Connection]) -> None:
        self._connect = connect
        self._turn = threading.Lock()  # held by the thread whose block runs
        self._open: _Group | None = None  # belongs to whoever has the turn
        self._counting = threading.Lock()
        self._waiting = 0  # threads that stand in line for the turn

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        with self._in_turn():
            group = self._open or self._begin()
            try:
                with group.connection.begin_nested():
                    yield group.connection
            except BaseException as error:
                if not _alive(group.connection):
                    group.error = error
                raise
            finally:
                group.blocks += 1
                if group.error is not None or not self._waiting or group.blocks >= MOST:
                    self._end(group)
        while not group.ended.wait(_LOST):
            with self._turn:
                if self._open is group:  # who stood in line was interrupted there
                    self._end(group)
        if group.error is not None:
            raise group.error

    @contextmanager
    def _in_turn(self) -> Iterator[None]:
        with self._counting:
            self._waiting += 1
        try:
            self._turn.acquire()
        finally:
            with self._counting:
                self._waiting -= 1
        try:
            yield
        finally:
            self._turn.release()

    def _begin(self) -> _Group:
        connection = self._connect()
        try:
            self._open = _Group(connection, connection.begin())
        except BaseException:
            connection.close()
            raise
        return self._open

    def _end(self, group: _Group) -> None:
        self._open = None
        try:
            if group.error is None:
                group.transaction.commit()
        except BaseException as error:  # noqa: BLE001 - each member raises it, this thread too
            group.error = error
        finally:
            if group.error is not None:
                group.connection.invalidate()  # a commit that failed leaves its transaction open on the connection
            group.connection.close()
            group.ended.set()


def _alive(connection: sa.Connection) -> bool:
    """Whether the database still holds the transaction: some errors end it without being asked."""
    raw = connection.connection.driver_connection
    return raw is not None and bool(raw.in_transaction)
