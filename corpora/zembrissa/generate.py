"""Writes the Zembrissa corpus: documents.jsonl and questions.jsonl of a fictional world, the same bytes for the same seed.

    python generate.py                     # the committed corpus, into this folder
    python generate.py --seed 7 --out DIR  # another world, with other names
    python generate.py --seed 101 102 --benchmark FILE   # other worlds as one file to train on

From Python: `build(seed)` returns the two lists of records. Standard library only.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
if str(HERE) not in sys.path:  # so that `import generate` works from elsewhere too
    sys.path.insert(0, str(HERE))

from builder import build_world  # noqa: E402
from prose import Writer  # noqa: E402
from questions import COUNTS, Asker, Question  # noqa: E402

DEFAULT_SEED = 24

Record = dict[str, object]


def build(seed: int = DEFAULT_SEED) -> tuple[list[Record], list[Record]]:
    """Documents and questions of a seed, checked; raises ValueError if the world breaks a promise of the README."""
    documents, asked = draw(seed)
    questions: list[Record] = [
        {
            "id": f"q{number:03d}",
            "question": q.text,
            "answers": q.answers,
            "evidence": q.evidence,
            "metadata": {"type": q.type, **q.metadata},
        }
        for number, q in enumerate(asked, 1)
    ]
    check(documents, questions)
    return documents, questions


def draw(seed: int) -> tuple[list[Record], list[Question]]:
    """Documents of a seed and its questions with their look-ups."""
    world = build_world(seed)
    writer = Writer(world, random.Random(f"{seed}/prose"))
    texts = {entity.id: writer.article(entity) for entity in world.entities}
    documents: list[Record] = [
        {"id": e.id, "title": e.title, "text": texts[e.id], "kind": e.kind}
        for e in sorted(world.entities, key=lambda e: e.id)
    ]
    return documents, Asker(world, texts, random.Random(f"{seed}/questions")).ask()


def benchmark(seed: int) -> list[Record]:
    """The questions of a seed in the format of 2WikiMultihopQA: gold paragraphs among the ten that share most words with
    question and gold, supporting sentences, look-ups as `evidences`. Of the unanswerable questions only those where a
    page lacks a fact, with an empty answer and an empty value in the look-up of that fact."""
    documents, asked = draw(seed)
    words = {str(d["id"]): set(re.findall(r"\w{4,}", f"{d['title']} {d['text']}")) for d in documents}
    by_id = {
        str(d["id"]): (str(d["title"]), re.split(r"(?<=[.!?]) (?=[A-Z\"])", str(d["text"])))
        for d in documents
    }
    rows: list[Record] = []
    for number, q in enumerate(asked, 1):
        if not q.triples:
            continue
        gold = q.evidence or list(q.metadata["near_miss"])  # type: ignore[call-overload]
        wanted = set(re.findall(r"\w{4,}", q.text)).union(*(words[e] for e in gold))
        near = sorted(by_id, key=lambda i: (i not in gold, -len(words[i] & wanted), i))[:10]
        ends = [end for subject, _, value in q.triples for end in (subject, value)]
        support = [
            [by_id[e][0], n]
            for e in q.evidence
            for n, sentence in enumerate(by_id[e][1])
            if any(end in sentence and end != by_id[e][0] for end in ends)
        ]
        random.Random(f"{seed}/{number}").shuffle(near)
        rows.append(
            {
                "_id": f"zembrissa-{seed}-{number:03d}",
                "dataset": "zembrissa",
                "type": q.type,
                "question": q.text,
                "answer": q.answers[0] if q.answers else "",
                "context": [list(by_id[i]) for i in near],
                "supporting_facts": support or [[by_id[e][0], 0] for e in gold],
                "evidences": [list(t) for t in q.triples],
            }
        )
    return rows


def check(documents: list[Record], questions: list[Record]) -> None:
    """The promises of the README, each as a test; raises ValueError with what is wrong."""
    texts = {str(d["id"]): str(d["text"]) for d in documents}
    problems = []
    if len(texts) != len(documents) or len(documents) < 300:
        problems.append("fewer than 300 documents, or an id twice")
    for d in documents:
        text, name = texts[str(d["id"])], str(d["title"]).split(" (")[0]
        if not 60 <= len(text.split()) <= 250 or name not in text or "{" in text or "  " in text:
            problems.append(f"document {d['id']}: length, name, or an open slot")
    counts = Counter(q["metadata"]["type"] for q in questions)  # type: ignore[index]
    if counts != COUNTS or len({q["question"] for q in questions}) != len(questions):
        problems.append(f"question counts {dict(counts)}, or a question twice")
    for q in questions:
        evidence, answers, kind = q["evidence"], q["answers"], q["metadata"]["type"]  # type: ignore[index]
        assert isinstance(evidence, list)
        assert isinstance(answers, list)
        if kind == "unanswerable":
            sound = not evidence and not answers
        elif kind == "comparison":
            sound = len(evidence) in (2, 4) and (
                answers[0] in ("yes", "no") or any(answers[0] in texts[e] for e in evidence)
            )
        else:
            sound = answers[0] in texts[evidence[-1]] and not any(
                answers[0] in texts[e] for e in evidence[:-1]
            )
        if not sound or any(e not in texts for e in evidence):
            problems.append(f"question {q['id']}: answers and evidence do not fit")
    if problems:
        raise ValueError("; ".join(problems))


def write(records: list[Record], path: Path) -> None:
    path.write_text(
        "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records), encoding="utf-8", newline="\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--seed",
        type=int,
        nargs="+",
        default=[DEFAULT_SEED],
        help="another seed, another world (default: the committed one)",
    )
    parser.add_argument(
        "--out", type=Path, default=HERE, help="folder to write into (default: beside this script)"
    )
    parser.add_argument(
        "--benchmark", type=Path, help="write the questions of all seeds as a 2WikiMultihopQA file instead"
    )
    options = parser.parse_args()
    if options.benchmark:
        rows = [row for seed in options.seed for row in benchmark(seed)]
        options.benchmark.write_text(
            json.dumps(rows, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n"
        )
        print(f"{len(rows)} questions in {options.benchmark}")
        return
    if len(options.seed) > 1:
        parser.error("several seeds need --benchmark FILE")
    documents, questions = build(options.seed[0])
    options.out.mkdir(parents=True, exist_ok=True)
    write(documents, options.out / "documents.jsonl")
    write(questions, options.out / "questions.jsonl")
    words = sum(len(str(d["text"]).split()) for d in documents)
    print(f"{len(documents)} documents ({words:,} words) and {len(questions)} questions in {options.out}")


if __name__ == "__main__":
    main()
