"""The queue, the deadline, clients that leave, and what the record says of them."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest
from fakes import HashEmbedder
from scripted import CAPITALS, FOUNDERS, build_store, question
from served import Served, StreamingChat, read_events, served

from ragpool.serve.errors import ApiError
from ragpool.serve.limits import RateLimit

ASK = {"question": question("Ardona")}


def test_events_of_a_question_come_in_order(shared: Served) -> None:
    events = shared.events("/v1/ask", ASK)
    names = [name for name, _ in events]
    assert names[:3] == ["queued", "started", "retrieved"]
    assert names[-1] == "answered"
    assert names.index("pooled") < names.index("judged") < names.index("stopped") < names.index("token")
    by_name = dict(events)
    assert by_name["planned"]["plan"] == [["Ardona", "capital", "?1"], ["?1", "founder", "?2"]]
    assert by_name["citation"]["supported"]
    assert by_name["answered"]["content"] == FOUNDERS[CAPITALS["Ardona"]]
    shown = shared.http.get(f"/v1/pools/{by_name['started']['run_id']}").json()
    replayed = [e["event"] for e in shown["events"]]
    assert replayed == [n for n in names if n not in ("queued", "token", "citation")]


def test_a_full_queue_refuses_at_once(store: Path) -> None:
    with served(store, waiting=2) as running:
        running.chat.gate.close()
        done: list[int] = []
        threads = [
            threading.Thread(target=lambda: done.append(running.http.post("/v1/ask", json=ASK).status_code))
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        running.eventually(lambda: running.parts.engine.busy == (1, 2))
        refused = running.http.post("/v1/ask", json=ASK)
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.json()["error"]["code"] == "queue_full"
        body = {"model": "ragpool-low", "messages": [{"role": "user", "content": "x"}]}
        assert running.http.post("/v1/chat/completions", json=body).status_code == 429
        running.chat.gate.open()
        for thread in threads:
            thread.join()
        assert done == [200] * 3
        assert 'ragpool_rejected_total{reason="queue"} 2.0' in running.http.get("/metrics").text


@pytest.mark.parametrize("path", ["/v1/ask", "/v1/chat/completions", "whole"])
def test_a_client_that_leaves_stops_the_work(store: Path, path: str) -> None:
    with served(store) as running:
        running.chat.pause = 0.05
        running.chat.words = " ".join(f"word{n}" for n in range(500))
        messages = [{"role": "user", "content": question("Ardona")}]
        body = ASK if path == "/v1/ask" else {"model": "ragpool-low", "messages": messages}
        if path == "whole":
            with pytest.raises(httpx.ReadTimeout):
                running.http.post("/v1/chat/completions", json=body, timeout=1.5)
        else:
            stream = body if path == "/v1/ask" else {**body, "stream": True}
            with running.http.stream("POST", path, json=stream) as response:
                for line in response.iter_lines():
                    if "word3" in line:
                        break
        running.eventually(lambda: running.parts.engine.busy == (0, 0))
        [run] = running.http.get("/v1/pools").json()["pools"]
        assert run["stop_reason"] == "cancelled"


def test_a_client_that_leaves_during_a_model_call_stops_the_work_after_it(store: Path) -> None:
    with served(store) as running:
        running.chat.gate.close()
        with running.http.stream("POST", "/v1/ask", json=ASK) as response:
            lines = response.iter_lines()
            while "pooled" not in next(lines):
                pass
            running.eventually(lambda: running.chat.gate.calls == 1)  # the planner's
        running.eventually(lambda: all(job._left.is_set() for job in running.parts.engine._running))
        running.chat.gate.open()
        running.eventually(lambda: running.parts.engine.busy == (0, 0))
        assert running.chat.gate.calls == 1
        [run] = running.http.get("/v1/pools").json()["pools"]
        assert run["stop_reason"] == "cancelled"


def test_a_client_that_leaves_the_queue_frees_its_place(store: Path) -> None:
    with served(store) as running:
        running.chat.gate.close()
        with running.http.stream("POST", "/v1/ask", json=ASK):
            running.eventually(lambda: running.parts.engine.busy == (1, 0))
            with running.http.stream("POST", "/v1/ask", json=ASK) as second:
                lines = second.iter_lines()
                next(lines)
                running.eventually(lambda: running.parts.engine.busy == (1, 1))
            running.eventually(lambda: running.parts.engine.busy == (1, 0))
        running.chat.gate.open()
        running.eventually(lambda: running.parts.engine.busy == (0, 0))


def test_a_deadline_ends_the_answer_and_is_recorded(store: Path) -> None:
    with served(store) as running:
        running.chat.pause = 0.05
        running.chat.words = " ".join(f"word{n}" for n in range(500))
        events = running.events("/v1/ask", {**ASK, "deadline": 1.5})
        answered = events[-1][1]
        assert (answered["stop_reason"], answered["status"]) == ("deadline", "partial")
        assert answered["content"].startswith("word0 word1")
        body = {"model": "ragpool-low", "messages": [{"role": "user", "content": question("Ardona")}]}
    with served(store, chat=running.chat, deadline=1.5) as running:
        done = running.http.post("/v1/chat/completions", json=body).json()
        assert done["choices"][0]["finish_reason"] == "length"


def test_a_question_that_waits_past_its_deadline(store: Path) -> None:
    with served(store) as running:
        running.chat.gate.close()
        with running.http.stream("POST", "/v1/ask", json=ASK):
            running.eventually(lambda: running.parts.engine.busy == (1, 0))
            waiting = threading.Thread(
                target=lambda: found.extend(running.events("/v1/ask", {**ASK, "deadline": 0.2}))
            )
            found: list[tuple[str, dict[str, object]]] = []
            waiting.start()
            running.eventually(lambda: running.parts.engine.busy == (1, 1))
            time.sleep(0.3)
        running.chat.gate.open()
        waiting.join()
        assert found[-1][0] == "error"
        assert found[-1][1]["error"]["code"] == "deadline"  # type: ignore[index]


def test_many_clients_that_hang_up_leave_nothing_behind(store: Path) -> None:
    generator = random.Random(7)
    with served(store, workers=4, waiting=200) as running:
        running.chat.pause = 0.01

        def visit(seed: int) -> None:
            lines = generator.randrange(0, 12)
            with running.http.stream("POST", "/v1/ask", json=ASK) as response:
                for n, _ in enumerate(response.iter_lines()):
                    if n >= lines:
                        return

        threads = [threading.Thread(target=visit, args=(n,)) for n in range(60)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        running.eventually(lambda: running.parts.engine.busy == (0, 0))
        runs = running.http.get("/v1/pools?limit=100").json()["pools"]
        assert all(run["stop_reason"] is not None for run in runs)


def test_a_conversation_survives_a_restart(store: Path) -> None:
    with served(store) as running:
        conversation = running.events("/v1/ask", ASK)[0][1]["conversation"]
    with served(store) as running:
        follow = {"question": "Who was the founder of the capital of Ardona?", "conversation": conversation}
        running.events("/v1/ask", follow)
        turns = running.http.get(f"/v1/conversations/{conversation}").json()["turns"]
        assert len(turns) == 2
        assert turns[0]["events"][-1]["data"]["content"] == FOUNDERS[CAPITALS["Ardona"]]
        pooled = [e["data"]["evidence"] for e in turns[1]["events"] if e["event"] == "pooled"]
        known = {
            p["passage_id"]
            for e in turns[0]["events"]
            if e["event"] == "pooled"
            for p in e["data"]["evidence"]
        }
        assert not known & {p["passage_id"] for round_ in pooled for p in round_}  # found once, kept


def test_sigterm_lets_streams_end(store: Path) -> None:
    build_store(store, HashEmbedder())
    program = [sys.executable, str(Path(__file__).parent / "serve_program.py"), str(store), "0.05"]
    with subprocess.Popen(program, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            address = ""
            for line in process.stderr:
                if found := re.search(r"http://[\d.:]+", line):
                    address = found.group()
                    break
            with httpx.stream("POST", f"{address}/v1/ask", json=ASK, timeout=30) as response:
                names = []
                for name, _ in read_events(response):
                    names.append(name)
                    if name == "started":
                        os.kill(process.pid, signal.SIGTERM)
            assert names[-1] == "answered"
            process.stderr.read()
            assert process.wait(20) == 0
        finally:
            process.kill()


def test_rate_limit_is_a_bucket_per_key() -> None:
    now = [0.0]
    limit = RateLimit(60, clock=lambda: now[0])
    for _ in range(15):
        limit.check("a")
    with pytest.raises(ApiError) as raised:
        limit.check("a")
    assert (raised.value.status, raised.value.retry_after) == (429, 1)
    limit.check("b")
    now[0] = 1.0
    limit.check("a")
    with pytest.raises(ApiError):
        limit.check("a")


def test_metrics_count_what_happened(shared: Served) -> None:
    shared.events("/v1/ask", ASK)
    text = shared.http.get("/metrics").text
    for name in (
        "ragpool_answers_total", "ragpool_rounds_count", "ragpool_tokens_total", "ragpool_judge_verdicts_total",
        "ragpool_first_evidence_seconds_count", "ragpool_queue_waiting", "ragpool_http_requests_total",
    ):  # fmt: skip
        assert re.search(rf"^{name}(?:\{{.*\}})? [\d.]+", text, re.MULTILINE), name
    assert 'route="/v1/ask"' in text


def test_ready_says_what_is_wrong(store: Path) -> None:
    with served(store) as running:
        assert running.http.get("/health").json()["status"] == "ok"
        running.eventually(lambda: running.http.get("/ready").json()["ready"])
        running.parts.draining = True
        response = running.http.get("/ready")
        assert (response.status_code, response.json()["checks"]["server"]) == (503, "stopping")


def test_a_chat_model_that_streams_is_heard_while_it_speaks(store: Path) -> None:
    with served(store, chat=StreamingChat(pause=0.05)) as running:
        running.chat.words = f"{FOUNDERS[CAPITALS['Ardona']]} did it [1]"
        times = []
        with running.http.stream("POST", "/v1/ask", json=ASK) as response:
            for name, _ in read_events(response):
                if name == "token":
                    times.append(time.monotonic())
        assert len(times) >= 3
