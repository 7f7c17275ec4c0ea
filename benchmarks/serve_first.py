"""How soon the page has something to show: a real server with the embedded models, warm, one client.

    python benchmarks/serve_first.py [--quick] [--json FILE]

Questions of the sample corpus go to POST /v1/ask one after the other; for each the seconds from sending the request to
the first `retrieved` (passages are on the screen), `pooled`, `planned`, `judged`, the first `token` and the end. Half of
them are follow-ups in a conversation that holds evidence. The mark is 0.3 s to the first evidence. The last line is one
JSON object.
"""

from __future__ import annotations

import argparse
import json
import socket
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from statistics import median

import httpx

from ragpool import RagPool
from ragpool.corpus import read_questions

CORPUS = Path(__file__).resolve().parents[1] / "corpora" / "zembrissa"
SHOWN = ("queued", "started", "retrieved", "pooled", "planned", "judged", "token", "answered")

Times = dict[str, list[float]]


def ask(client: httpx.Client, body: dict[str, str], times: Times) -> str:
    """One question; adds the seconds to the first event of each kind. Returns its conversation."""
    begun, seen, conversation = time.perf_counter(), set[str](), ""
    with client.stream("POST", "/v1/ask", json=body) as response:
        response.raise_for_status()
        name = ""
        for line in response.iter_lines():
            if line.startswith("event: "):
                name = line[7:]
                if name not in seen:
                    seen.add(name)
                    times[name].append(time.perf_counter() - begun)
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


def measure(port: int, questions: list[str]) -> dict[str, dict[str, dict[str, float]]]:
    first, later = defaultdict[str, list[float]](list), defaultdict[str, list[float]](list)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120) as client:
        ready(client)
        ask(client, {"question": questions[0]}, defaultdict(list))  # warms up
        for one, other in zip(questions[1::2], questions[2::2], strict=False):
            conversation = ask(client, {"question": one}, first)
            ask(client, {"question": other, "conversation": conversation}, later)
    return {"new": summary(first), "follow_up": summary(later)}


def summary(times: Times) -> dict[str, dict[str, float]]:
    return {
        name: {
            "median": round(median(times[name]), 3),
            "max": round(max(times[name]), 3),
            "n": len(times[name]),
        }
        for name in SHOWN
        if times.get(name)
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="8 questions in place of 40")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    options = parser.parse_args()
    asked = read_questions(CORPUS / "questions.jsonl")
    count = 8 if options.quick else 40
    questions = [q.question for q in asked[:: len(asked) // count]][: count + 1]
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
                figures = measure(port, questions)
            finally:
                process.terminate()
    for kind, rows in figures.items():
        print(kind, " ".join(f"{name} {row['median']:.2f} ({row['max']:.2f})" for name, row in rows.items()))
    line = json.dumps(figures)
    if options.json:
        options.json.write_text(line + "\n", encoding="utf-8")
    print(line)


if __name__ == "__main__":
    main()
