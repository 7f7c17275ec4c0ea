"""Many writers at once, and writers that are killed."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pools
from pools import open_run, write_rounds

from ragpool.db import Database
from ragpool.pool import Pool, PoolStore
from ragpool.types import Usage

ROUNDS = 4


def start(url: str, question_id: str, rounds: int) -> subprocess.Popen[str]:
    command = [sys.executable, str(Path(pools.__file__)), url, question_id, str(rounds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def check_whole(pool: Pool, rounds: int) -> None:
    """The run has exactly these rounds, with everything that belongs to them."""
    name = pool.question_id
    own = [(e.passage_id, e.round) for e in pool.evidence if e.passage_id.startswith(f"{name}-")]
    assert own == [(f"{name}-{number}-{part}", number) for number in range(rounds) for part in "ab"]
    assert [query.text for query in pool.queries] == [f"{name} {number}" for number in range(rounds)]
    assert pool.last_round == rounds - 1
    assert {f"common-{number}" for number in range(rounds)} <= pool.passage_ids


def check_database(database: Database) -> None:
    if database.is_sqlite:
        with database.read() as connection:
            assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
            assert connection.exec_driver_sql("PRAGMA foreign_key_check").all() == []


def test_threads_share_a_scope(database: Database) -> None:
    store = PoolStore(database)

    def work(question_id: str) -> Pool:
        pool = open_run(store, question_id=question_id, scope="shared")
        write_rounds(pool, ROUNDS)
        return pool

    with ThreadPoolExecutor(8) as threads:
        done = list(threads.map(work, [f"t{i}" for i in range(8)]))
    assert len(done[0].history) == 8 * ROUNDS * 2 + ROUNDS
    for pool in done:
        check_whole(pool, ROUNDS)
        assert pool.evidence == done[0].evidence
        assert pool.usage == Usage(llm_calls=ROUNDS, retrievals=ROUNDS)


def test_processes_share_a_scope(database: Database, database_url: str) -> None:
    working = [start(database_url, f"p{i}", ROUNDS) for i in range(3)]
    errors = [process.communicate()[1] for process in working]
    assert [process.returncode for process in working] == [0, 0, 0], errors
    store = PoolStore(database)
    for i in range(3):
        check_whole(open_run(store, question_id=f"p{i}", scope="shared"), ROUNDS)
    assert len(store.runs()) == 3


def test_a_run_that_many_open_is_one_run(database: Database) -> None:
    store = PoolStore(database)

    def work(_: int) -> Pool:
        pool = open_run(store, question_id="same", scope="shared")
        write_rounds(pool, ROUNDS)
        return pool

    with ThreadPoolExecutor(8) as threads:
        done = list(threads.map(work, range(8)))
    assert len({pool.run_id for pool in done}) == 1
    check_whole(store.pool(done[0].run_id), ROUNDS)
    assert store.pool(done[0].run_id).usage == Usage(llm_calls=ROUNDS, retrievals=ROUNDS)


def test_a_killed_writer_loses_nothing_that_was_acknowledged(database_url: str) -> None:
    chance = random.Random(7)
    acknowledged = 0
    for _ in range(4):
        writer = start(database_url, "killed", 10_000)
        assert writer.stdout is not None
        assert int(writer.stdout.readline()) == acknowledged  # it goes on where the last one was killed
        time.sleep(chance.uniform(0, 0.15))
        writer.kill()
        rest = writer.stdout.read()  # communicate() would not see what readline() has taken in already
        writer.communicate()
        complete = [line for line in rest.splitlines(keepends=True) if line.endswith("\n")]
        last = int(complete[-1]) if complete else acknowledged
        database = Database(database_url)
        pool = open_run(PoolStore(database), question_id="killed", scope="shared")
        # the kill may fall between the commit of a round and its acknowledgement
        assert pool.last_round - last in (0, 1)
        check_whole(pool, pool.last_round + 1)
        check_database(database)
        acknowledged = pool.last_round + 1
        database.close()
    assert acknowledged >= 4
