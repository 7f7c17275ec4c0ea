"""Where a question's time goes: models, embedding, search, and the pool's own overhead (its share is the mark).

    python benchmarks/where_time_goes.py [--quick] [--json FILE]

Runs questions of the sample corpus with the embedded model in one process and times the parts by wrapping them. The
last line is one JSON object: shares of the whole, medians over questions.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from ragpool import RagPool, Settings
from ragpool.corpus import read_questions
from ragpool.events import Answered
from ragpool.pipeline import run
from ragpool.pool import Pool

CORPUS = Path(__file__).parent.parent / "corpora" / "zembrissa"
POOL_WRITES = ("save_plan", "add", "save_judgement", "record", "recall", "save_answer")


class Clock:
    """Seconds by part; nested parts are counted in the inner one only."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._stack: list[list[float]] = []

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            self._stack.append([time.perf_counter(), 0.0])
            try:
                return function(*args, **options)
            finally:
                begun, inner = self._stack.pop()
                spent = time.perf_counter() - begun
                self.seconds[part] += spent - inner
                if self._stack:
                    self._stack[-1][1] += spent

        return call


class Timed:
    """A part of the loop with one of its methods timed."""

    def __init__(self, part: Any, method: str, name: str, clock: Clock) -> None:
        self._part = part
        setattr(self, method, clock.timed(name, getattr(part, method)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._part, name)


def measure(questions: list[str], store: Path) -> list[dict[str, float]]:
    clock = Clock()
    for method in POOL_WRITES:
        setattr(Pool, method, clock.timed("pool", getattr(Pool, method)))
    settings = Settings.load()
    with RagPool.open(store, create=True, settings=settings) as rag:
        rag.add(CORPUS)
        embedder = rag.index.embedder
        for method in ("embed", "embed_query"):
            setattr(embedder, method, clock.timed("embedding", getattr(embedder, method)))
        steps = rag.steps
        steps = replace(
            steps,
            planner=Timed(steps.planner, "plan", "model: plan", clock),
            reader=Timed(steps.reader, "read", "model: read", clock),
            judge=Timed(steps.judge, "judge", "judge", clock),
            retriever=Timed(steps.retriever, "retrieve", "search", clock),
        )
        rows = []
        for number, question in enumerate([questions[0], *questions]):  # the first one warms up
            clock.seconds.clear()
            begun = time.perf_counter()
            pool = rag.pools.open_run(
                question_id=str(number), question=question, method="ragpool", config_hash="bench",
                corpus_version=rag.index.version, models={}, prompts={},
            )  # fmt: skip
            events = list(run(pool, steps, settings))
            assert isinstance(events[-1], Answered)
            whole = time.perf_counter() - begun
            rows.append({**clock.seconds, "rest": whole - sum(clock.seconds.values()), "whole": whole})
    return rows[1:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="5 questions in place of 20")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    arguments = parser.parse_args()
    asked = read_questions(CORPUS / "questions.jsonl")
    questions = [q.question for q in asked[:: len(asked) // (5 if arguments.quick else 20)]]
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(questions, Path(folder))
    parts = sorted({part for row in rows for part in row} - {"whole"})
    whole = sum(row["whole"] for row in rows)
    figures: dict[str, Any] = {
        "questions": len(rows),
        "median_seconds": round(median(r["whole"] for r in rows), 3),
    }
    for part in parts:
        share = sum(row.get(part, 0.0) for row in rows) / whole
        figures[part] = round(share, 4)
        print(f"{part:12} {share:7.1%}")
    models = {"model: plan", "model: read", "embedding"}
    figures["overhead"] = round(sum(figures[p] for p in parts if p not in models), 4)
    line = json.dumps(figures)
    if arguments.json:
        arguments.json.write_text(line + "\n", encoding="utf-8")
    print(line)


if __name__ == "__main__":
    main()
