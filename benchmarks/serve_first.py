"""How soon the page has something to show: a real server with the embedded models, warm, one client.

    python benchmarks/serve_first.py [--quick] [--json FILE]

Questions of the sample corpus go to POST /v1/ask one after the other; for each the seconds from sending the request to
the first `retrieved` (passages are on the screen), `pooled`, `planned`, `judged`, the first `token` and the end. Half of
them are follow-ups in a conversation that holds evidence. The mark is 0.3 s to the first evidence. Beside the time that
passed stands the processor time that the server took for it: on a machine that does other work the second is what the
first would be at least. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import httpx

from ragpool import RagPool
from ragpool.corpus import read_questions

CORPUS = Path(__file__).resolve().parents[1] / "corpora" / "zembrissa"
SHOWN = ("queued", "started", "retrieved", "pooled", "planned", "judged", "token", "answered")


@dataclass
class Times:
    """By event: seconds from the request to the first of its kind, passed and of the server's processor."""

    passed: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    worked: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def summary(self) -> dict[str, dict[str, float]]:
        return {
            name: {
                "median": round(median(self.passed[name]), 3),
                "max": round(max(self.passed[name]), 3),
                "median_cpu": round(median(self.worked[name]), 3),
                "max_cpu": round(max(self.worked[name]), 3),
                "n": len(self.passed[name]),
            }
            for name in SHOWN
            if self.passed[name]
        }


def processor(pid: int) -> float:
    """Seconds of processor time of a process so far, in steps of 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def ask(client: httpx.Client, pid: int, body: dict[str, str], times: Times) -> str:
    """One question. Returns its conversation."""
    begun, before, seen, conversation = time.perf_counter(), processor(pid), set[str](), ""
    with client.stream("POST", "/v1/ask", json=body) as response:
        response.raise_for_status()
        name = ""
        for line in response.iter_lines():
            if line.startswith("event: "):
                name = line[7:]
                if name not in seen:
                    seen.add(name)
                    times.passed[name].append(time.perf_counter() - begun)
                    times.worked[name].append(processor(pid) - before)
            elif line.startswith("data: ") and name == "queued":
                conversation = json.loads(line[6:])["conversation"]
    return conversation


def ready(client: httpx.Client) -> None:
    for _ in range(300):
        try:
            if client.get("/ready").status_code == 200:
                return
        except httpx.TransportError:
            pass  # it has not opened its port yet
        time.sleep(0.2)
    raise SystemExit("the server did not become ready")


def measure(port: int, pid: int, questions: list[str]) -> dict[str, dict[str, dict[str, float]]]:
    first, later = Times(), Times()
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=300) as client:
        ready(client)
        ask(client, pid, {"question": questions[0]}, Times())  # warms up
        for one, other in zip(questions[1::2], questions[2::2], strict=False):
            conversation = ask(client, pid, {"question": one}, first)
            ask(client, pid, {"question": other, "conversation": conversation}, later)
    return {"new": first.summary(), "follow_up": later.summary()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="6 questions in place of 40")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    options = parser.parse_args()
    asked = read_questions(CORPUS / "questions.jsonl")
    count = 6 if options.quick else 40
    questions = [q.question for q in asked[:: len(asked) // (count + 1)]][: count + 1]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="ragpool-first-") as folder:
        with RagPool.open(folder, create=True) as rag:
            rag.add(CORPUS)
        command = [sys.executable, "-c", "from ragpool.cli import main; main()"]
        arguments = ["serve", "--store", folder, "--port", str(port), "--rate", "0"]
        with subprocess.Popen([*command, *arguments], stderr=subprocess.DEVNULL) as process:
            try:
                figures = measure(port, process.pid, questions)
            finally:
                process.terminate()
    for kind, rows in figures.items():
        for name, row in rows.items():
            print(
                f"{kind:9} {name:10} {row['median']:7.3f} s (at most {row['max']:.3f}), processor {row['median_cpu']:.2f}"
            )
    line = json.dumps(figures)
    if options.json:
        options.json.write_text(line + "\n", encoding="utf-8")
    print(line)


if __name__ == "__main__":
    main()
