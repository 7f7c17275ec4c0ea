"""How long one judgement takes: pools of eight passages of the sample corpus.

    python benchmarks/judge_time.py [--quick] [--json FILE]

`first` is a pool as the loop brings it in round 0, with the question's plan: never judged, its sentences weighed by the distiller, which shares its vectors
with the judge. `again` is the same pool with one passage changed, as in the next round. `cold` is a judge alone, without a
distiller. Milliseconds, medians and 95th percentiles over questions. The last line is one JSON object.
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
from ragpool.feedback import TrainedJudge
from ragpool.pipeline import evidence_of
from ragpool.types import Query

CORPUS = Path(__file__).parent.parent / "corpora" / "zembrissa"


def measure(questions: list[str], store: Path) -> dict[str, float]:
    times: dict[str, list[float]] = {"first": [], "again": [], "cold": []}
    with RagPool.open(store, create=True, settings=Settings.load()) as rag:
        rag.add(CORPUS / "documents.jsonl")
        steps = rag.steps
        for text in questions:
            hits = rag.search(text, k=9)
            evidence = [evidence_of(hit, 0, Query(text, "question")) for hit in hits]
            question, _ = steps.planner.plan(text)
            alone = TrainedJudge(rag.index.embedder)  # before the distiller: the machine is as warm for it
            begun = time.perf_counter()
            alone.judge(question, evidence[:8])
            times["cold"].append(1000 * (time.perf_counter() - begun))
            steps.distiller.distil(text, evidence)
            for name, pool in (("first", evidence[:8]), ("again", evidence[1:])):
                begun = time.perf_counter()
                steps.judge.judge(question, pool)
                times[name].append(1000 * (time.perf_counter() - begun))
    figures: dict[str, float] = {"questions": len(questions)}
    for name, found in times.items():
        figures[f"{name}_ms"] = round(median(found), 1)
        figures[f"{name}_p95_ms"] = round(quantiles(found, n=20)[-1], 1)
    return figures


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
