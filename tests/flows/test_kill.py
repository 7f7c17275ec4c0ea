"""A batch is killed with SIGKILL at random moments and goes on: nothing is lost, nothing is done twice."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest
import scripted
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName
from ragpool.flows.home import prefect_home

from ragpool.db import DATABASE_FILE
from ragpool.models import Embedder

PROGRAM = Path(scripted.__file__)
KILLS = 10
PATIENCE = 300.0


class Forks:
    """``scripted.forks`` in a process of its own."""

    def __init__(self, log: IO[bytes]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(PROGRAM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )

    def start(self, *arguments: str) -> int:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(arguments) + "\n")
        self._process.stdin.flush()
        return int(self._line())

    def ended(self) -> int:
        return int(self._line())

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(PATIENCE)
        self._process.stdout.close()


@pytest.fixture
def forks(server_url: str, tmp_path: Path) -> Iterator[Forks]:
    with (tmp_path / "stderr").open("wb") as log:
        forks = Forks(log)
        yield forks
        forks.close()


def lines(path: Path) -> list[dict[str, Any]]:
    return (
        [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
    )


def same_answers(answers: list[dict[str, Any]], calm: list[dict[str, Any]]) -> None:
    """One line a question, and the lines of an undisturbed batch but for the time and the run's id."""
    assert sorted(a["id"] for a in answers) == sorted(c["id"] for c in calm)
    by_id = {answer["id"]: answer for answer in answers}
    different = {
        (c["id"], key): (by_id[c["id"]][key], value)
        for c in calm
        for key, value in c.items()
        if key not in ("seconds", "run_id") and by_id[c["id"]][key] != value
    }
    assert different == {}


def wait_for_lines(path: Path, count: int, alive: int) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if path.exists() and path.read_bytes().count(b"\n") >= count:
            return
        if not Path(f"/proc/{alive}").exists():
            return
        time.sleep(0.002)
    raise AssertionError(f"no {count} lines in {path.name}")


async def test_killed_ten_times_and_resumed(
    forks: Forks, store: Path, questions: Path, tmp_path: Path
) -> None:
    workers = 2
    calm, calm_calls = tmp_path / "calm.jsonl", tmp_path / "calm_calls"
    forks.start(str(questions), str(store), str(calm), str(calm_calls), str(workers), "0.0")
    assert forks.ended() == 0, (tmp_path / "stderr").read_text()

    rng = random.Random(7)
    out, calls = tmp_path / "answers.jsonl", tmp_path / "calls"
    arguments = (str(questions), str(store), str(out), str(calls), str(workers), "0.03")
    killed = 0
    for _ in range(KILLS):
        before = len(lines(calls))
        pid = forks.start(*arguments)
        wait_for_lines(calls, before + rng.randint(1, 3), pid)
        time.sleep(rng.uniform(0.0, 0.1))
        os.kill(pid, signal.SIGKILL)
        killed += forks.ended() == -signal.SIGKILL
        assert intact(store)
    assert killed == KILLS
    assert len(lines(out)) < 8

    forks.start(*arguments)
    assert forks.ended() == 0, (tmp_path / "stderr").read_text()
    same_answers(lines(out), lines(calm))
    nothing_committed_was_repeated(lines(calls), lines(calm_calls), workers)
    assert intact(store)
    # a run that was killed stays RUNNING until the next one says what became of it
    assert Counter(await states_of(out, store)) == {"CRASHED": KILLS, "COMPLETED": 1}


@pytest.mark.model
def test_the_shipped_models_killed_and_resumed(forks: Forks, tmp_path: Path, embedder: Embedder) -> None:
    store = scripted.build_store(tmp_path / "store", embedder)
    questions = scripted.write_questions(tmp_path / "questions.jsonl", 6)
    calm, calm_calls = tmp_path / "calm.jsonl", tmp_path / "calm_calls"
    forks.start(str(questions), str(store), str(calm), str(calm_calls))
    assert forks.ended() == 0, (tmp_path / "stderr").read_text()

    rng = random.Random(7)
    out, calls = tmp_path / "answers.jsonl", tmp_path / "calls"
    arguments = (str(questions), str(store), str(out), str(calls))
    for _ in range(2):
        pid = forks.start(*arguments)
        wait_for_lines(calls, len(lines(calls)) + rng.randint(2, 5), pid)
        time.sleep(rng.uniform(0.0, 0.5))
        os.kill(pid, signal.SIGKILL)
        assert forks.ended() == -signal.SIGKILL
        assert intact(store)
    forks.start(*arguments)
    assert forks.ended() == 0, (tmp_path / "stderr").read_text()
    same_answers(lines(out), lines(calm))
    assert len(lines(out)) == 6
    nothing_committed_was_repeated(lines(calls), lines(calm_calls), 1)
    assert intact(store)


def nothing_committed_was_repeated(
    calls: list[dict[str, Any]], calm: list[dict[str, Any]], workers: int
) -> None:
    """A thread commits each call before it makes the next one, so only the last call of each thread of a killed
    process can be made again, and no call is made that an undisturbed batch does not make."""
    made = Counter(call["prompt"] for call in calls)
    assert set(made) == {call["prompt"] for call in calm}
    processes = list(dict.fromkeys(call["pid"] for call in calls))
    last: Counter[str] = Counter()
    for pid in processes[:-1]:
        threads = {call["thread"]: call["prompt"] for call in calls if call["pid"] == pid}
        assert len(threads) <= workers
        last.update(threads.values())
    assert all(times - 1 <= last[prompt] for prompt, times in made.items())


def intact(store: Path) -> bool:
    connection = sqlite3.connect(store / DATABASE_FILE)
    try:
        found = (
            connection.execute("PRAGMA integrity_check").fetchall()
            + connection.execute("PRAGMA foreign_key_check").fetchall()
        )
    finally:
        connection.close()
    return found == [("ok",)]


async def states_of(out: Path, store: Path) -> list[str]:
    with prefect_home(store) as ready:
        ready()
        async with get_client() as client:
            named = FlowRunFilter(name=FlowRunFilterName(any_=[str(out)]))
            runs = await client.read_flow_runs(flow_run_filter=named)
    return [str(run.state_type.value) for run in runs if run.state_type]


def test_our_own_server_ends_with_a_killed_batch(tmp_path: Path) -> None:
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom ragpool.flows.home import LocalServer\n"
        "print(LocalServer(Path(sys.argv[1])).port, flush=True)\ntime.sleep(300)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    port = int(process.stdout.readline())
    process.stdout.close()
    process.kill()
    process.wait()
    end = time.monotonic() + PATIENCE
    while taken(port):
        assert time.monotonic() < end, "the server outlives the batch"
        time.sleep(0.1)


def taken(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
        return False
