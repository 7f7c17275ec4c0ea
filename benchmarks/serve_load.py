"""What the server bears: many streams at once, and many clients that hang up.

    python benchmarks/serve_load.py [--quick] [--json FILE]

A real server in a process of its own, on loopback, over a small store and with a scripted model that takes 20 ms a
token. 64 streams at a time for 60 s: every answer must be whole; the time to the first event is the server's own, since
no model is asked before it. Then 1,000 clients that leave at random: afterwards nothing may be in work. The last line is
one JSON object. --quick: 10 s and 200 clients.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
STREAMS = 64
TOKEN_SECONDS = 0.02
TOKENS = 200
WORDS = " ".join(f"word{n}" for n in range(TOKENS))
_TOKEN = re.compile(rb'event: token\ndata: \{"text": "([^"]*)"\}')


@dataclass
class Seen:
    """What the clients saw; times are seconds from sending the request."""

    first: list[float] = field(default_factory=list)  # the first event
    started: list[float] = field(default_factory=list)  # the run is recorded and its question read
    evidence: list[float] = field(default_factory=list)
    answers: int = 0
    events: int = 0
    errors: list[str] = field(default_factory=list)


async def ask(port: int, seen: Seen, *, leave_after: float | None = None) -> None:
    """One question over a connection of its own; with ``leave_after`` seconds it hangs up."""
    body = json.dumps({"question": "Who was the founder of the capital of Ardona?"}).encode()
    head = f"POST /v1/ask HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    begun = time.monotonic()
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    except OSError as error:
        seen.errors.append(repr(error))
        return
    try:
        writer.write(head.encode() + body)
        if leave_after is not None:
            await asyncio.sleep(leave_after)
            return
        raw, marks = (
            bytearray(),
            {
                b"event: queued": seen.first,
                b"event: started": seen.started,
                b"event: retrieved": seen.evidence,
            },
        )
        while piece := await reader.read(1 << 16):
            raw += piece
            for mark in [m for m in marks if m in piece]:
                marks.pop(mark).append(time.monotonic() - begun)
        check(bytes(raw), seen)
    except OSError as error:
        seen.errors.append(repr(error))
    finally:
        writer.close()


def check(raw: bytes, seen: Seen) -> None:
    """The whole answer must be there, every event once."""
    events = re.sub(rb"\r\n[0-9a-f]+\r\n", b"", raw)  # chunk sizes
    text = b"".join(_TOKEN.findall(events)).decode().removesuffix(" [unverified]")
    if b"event: answered" not in events or text.strip() != WORDS:
        seen.errors.append(f"{len(text)} of {len(WORDS)} characters; ends {events[-80:]!r}")
        return
    seen.answers += 1
    seen.events += events.count(b"event: ")


async def load(port: int, seconds: float, seen: Seen, memory: list[float], pid: int) -> None:
    end = time.monotonic() + seconds

    async def client(n: int) -> None:
        await asyncio.sleep(n * TOKENS * TOKEN_SECONDS / STREAMS)  # they do not all begin at once
        while time.monotonic() < end:
            await ask(port, seen)

    async def watch() -> None:
        while True:
            memory.append(rss(pid))
            await asyncio.sleep(1)

    watching = asyncio.create_task(watch())
    await asyncio.gather(*(client(n) for n in range(STREAMS)))
    watching.cancel()


async def hang_up(port: int, clients: int) -> Seen:
    seen, room = Seen(), asyncio.Semaphore(STREAMS)

    async def one() -> None:
        async with room:
            await ask(port, seen, leave_after=random.expovariate(1 / 0.4))

    await asyncio.gather(*(one() for _ in range(clients)))
    return seen


def rss(pid: int) -> float:
    """Resident memory in MB."""
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(found.group(1)) / 1024 if found else 0.0


def metric(port: int, name: str) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as response:
        return float(re.search(rf"^{name} ([\d.e+-]+)$", response.read().decode(), re.MULTILINE).group(1))  # type: ignore[union-attr]


def until_idle(port: int, seconds: float) -> float | None:
    """Seconds until nothing is in work or waits; None when something still is."""
    begun = time.monotonic()
    while time.monotonic() - begun < seconds:
        if not metric(port, "ragpool_queue_running") and not metric(port, "ragpool_queue_waiting"):
            return time.monotonic() - begun
        time.sleep(0.05)
    return None


def percentile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(int(len(values) * share), len(values) - 1)] if values else float("nan")


def serve(store: str, port: str) -> None:
    """The server's process, as in ``ragpool serve``."""
    sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "flows"), str(ROOT / "tests" / "serve")]
    from fakes import HashEmbedder
    from scripted import build_store, open_rag
    from served import StreamingChat

    from ragpool.serve.options import ServeOptions
    from ragpool.serve.run import serve as run

    embedder = HashEmbedder()
    build_store(Path(store), embedder)
    chat = StreamingChat(pause=TOKEN_SECONDS, words=WORDS)
    with open_rag(Path(store), chat, embedder) as rag:
        options = ServeOptions(port=int(port), workers=STREAMS, waiting=2000, rate=0)
        run(rag, options)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="10 s and 200 clients")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    options = parser.parse_args()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="ragpool-load-") as folder:
        program = [sys.executable, __file__, "serve", f"{folder}/store", str(port)]
        with subprocess.Popen(program) as process:
            try:
                figures = measure(
                    port, process.pid, 10 if options.quick else 60, 200 if options.quick else 1000
                )
            finally:
                process.terminate()
                try:
                    code = process.wait(40)
                except subprocess.TimeoutExpired:
                    process.kill()
                    code = -9
    figures["exit_code"] = code
    print(json.dumps(figures))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def measure(port: int, pid: int, seconds: float, clients: int) -> dict[str, Any]:
    for _ in range(600):
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1):
                break
        except OSError:
            time.sleep(0.1)
    asyncio.run(ask(port, warm := Seen()))
    print(f"warm: {warm.answers} answer, {warm.errors}")
    seen, memory = Seen(), list[float]()
    asyncio.run(load(port, seconds, seen, memory, pid))
    settled = memory[min(5, len(memory) // 3) :]
    print(
        f"{seen.answers} answers, {len(seen.errors)} errors; first event p95 {percentile(seen.first, 0.95) * 1000:.1f} ms"
    )
    left = asyncio.run(hang_up(port, clients))
    idle = until_idle(port, 20)
    print(f"{clients} clients left; idle after {idle} s")
    return {
        "streams": STREAMS,
        "seconds": seconds,
        "token_ms": TOKEN_SECONDS * 1000,
        "answers": seen.answers,
        "events": seen.events,
        "errors": len(seen.errors),
        "first_errors": seen.errors[:3],
        "first_event_ms": {p: round(percentile(seen.first, p / 100) * 1000, 1) for p in (50, 95, 99)},
        "started_ms": {p: round(percentile(seen.started, p / 100) * 1000, 1) for p in (50, 95, 99)},
        "first_evidence_ms": {p: round(percentile(seen.evidence, p / 100) * 1000, 1) for p in (50, 95, 99)},
        "memory_mb": {
            "settled": round(settled[0], 1),
            "end": round(settled[-1], 1),
            "peak": round(max(memory), 1),
        },
        "hung_up": clients,
        "refused": len(left.errors),
        "idle_after_seconds": None if idle is None else round(idle, 2),
        "memory_after_mb": round(rss(pid), 1),
    }


if __name__ == "__main__":
    serve(*sys.argv[2:]) if sys.argv[1:2] == ["serve"] else main()
