"""How long one judgement takes: pools of eight passages of the sample corpus, sentences seen for the first time and seen before.

    python benchmarks/judge_time.py [--quick] [--json FILE]

The loop judges a pool whose sentences the distiller has just embedded for other queries; the judge embeds its own texts. `first`
is a pool that was never judged, `again` the same pool with one more passage, as in the next round. Milliseconds, medians and
95th percentiles over questions. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from statistics import median, quantiles

from ragpool import RagPool, Settings
from ragpool.corpus import read_questions
from ragpool.pipeline import evidence_of
from ragpool.types import Query, Question

CORPUS = Path(__file__).parent.parent / "corpora" / "zembrissa"


def measure(questions: list[str], store: Path) -> dict[str, float]:
    first: list[float] = []
    again: list[float] = []
    with RagPool.open(store, create=True, settings=Settings.load()) as rag:
        rag.add(CORPUS / "documents.jsonl")
        judge = rag.steps.judge
        for text in questions:
            hits = rag.search(text, k=9)
            evidence = [evidence_of(hit, 0, Query(text, "question")) for hit in hits]
            for pool, times in ((evidence[:8], first), (evidence[1:], again)):
                begun = time.perf_counter()
                judge.judge(Question(text), pool)
                times.append(1000 * (time.perf_counter() - begun))
    return {
        "questions": len(questions),
        "first_ms": round(median(first), 1),
        "first_p95_ms": round(quantiles(first, n=20)[-1], 1),
        "again_ms": round(median(again), 1),
        "again_p95_ms": round(quantiles(again, n=20)[-1], 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    questions = [q.question for q in read_questions(CORPUS / "questions.jsonl")][
        : 10 if options.quick else 60
    ]
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(questions, Path(folder))
    text = json.dumps(figures)
    if options.json:
        options.json.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
