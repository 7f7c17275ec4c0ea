"""The table of a batch: what was asked, what was answered, and how that compares with gold."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ragpool.corpus import QuestionRecord, read_questions
from ragpool.evaluate.metrics import exact_match, recall_at, token_f1

_DEPTH = 8


def print_table(answers: Path, questions: Path, limit: int | None = None) -> None:
    """Print the answers of ``answers`` for the questions of ``questions``, then EM, F1, evidence recall and cost."""
    asked = read_questions(questions)[:limit]
    said = {row["id"]: row for row in map(json.loads, answers.read_text(encoding="utf-8").splitlines())}
    rows = [(question, said[question.id]) for question in asked if question.id in said]
    width = max(Console().width, 120)
    out = Console(width=width)
    table = Table(show_lines=False, pad_edge=False, expand=True)
    for heading, ratio in (
        ("question", 10),
        ("answer", 5),
        ("gold", 5),
        ("status", 3),
        ("rounds", 2),
        ("stop reason", 4),
        ("citations", 7),
        ("", 1),
    ):
        table.add_column(heading, ratio=ratio, overflow="fold")
    for question, row in rows:
        cited = ", ".join(dict.fromkeys(c["document_id"] for c in row["citations"]))
        gold = " / ".join(question.answers[:1]) or ("(none)" if _judged(question) else "")
        table.add_row(
            escape(question.question),
            escape(row["answer"]) or "-",
            escape(gold),
            row["status"],
            str(row["rounds"]),
            row["stop_reason"],
            escape(cited),
            _mark(question, row),
        )
    out.print(table)
    if rows:
        out.print(_figures(rows), highlight=False)


def is_right(question: QuestionRecord, row: dict[str, Any]) -> bool:
    """An exact answer, or a refusal of what the documents do not tell."""
    if not question.answers:
        return bool(row["status"] == "insufficient")
    return exact_match(row["answer"], question.answers) == 1.0


def _judged(question: QuestionRecord) -> bool:
    return bool(question.answers) or "type" in question.metadata


def _mark(question: QuestionRecord, row: dict[str, Any]) -> str:
    if not _judged(question):
        return ""
    return "[green]✓[/]" if is_right(question, row) else "[red]✗[/]"


def _figures(rows: list[tuple[QuestionRecord, dict[str, Any]]]) -> str:
    seconds = [row["seconds"] for _, row in rows]
    tokens = [row["usage"]["prompt_tokens"] + row["usage"]["completion_tokens"] for _, row in rows]
    cost = f"{fmean(seconds):.1f} s and {fmean(tokens):.0f} tokens a question"
    judged = [(q, row) for q, row in rows if _judged(q)]
    if not judged:
        return cost
    em = fmean(float(is_right(q, row)) for q, row in judged)
    f1 = fmean(
        token_f1(row["answer"], q.answers) if q.answers else float(is_right(q, row)) for q, row in judged
    )
    line = f"[bold]EM {em:.3f}  F1 {f1:.3f}[/]"
    with_gold = [(q, row) for q, row in judged if q.evidence]
    if with_gold:
        recall = fmean(
            recall_at(
                [e["document_id"] for e in row["evidence"] if e["status"] == "admitted"], q.evidence, _DEPTH
            )
            for q, row in with_gold
        )
        line += f"  [bold]evidence recall@{_DEPTH} {recall:.3f}[/]"
    refused = [row["status"] == "insufficient" for q, row in judged if not q.answers]
    if refused:
        line += f"  refused {sum(refused)} of {len(refused)} unanswerable"
    return f"{line}\n{cost}"
