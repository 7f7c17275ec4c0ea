"""Evaluation figures as terminal tables and JSON rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from ragpool.evaluate import Evaluation, Figures
from ragpool.evaluate.harness import DEPTHS
from ragpool.pool import answer_json

_ROWS: dict[str, Callable[[Figures], str]] = {
    "questions": lambda f: str(f.questions),
    "EM": lambda f: _share(f.em),
    "F1": lambda f: _share(f.f1),
    **{f"evidence recall@{k}": (lambda f, k=k: _share(f.recall[k])) for k in DEPTHS},  # type: ignore[misc]
    **{f"all evidence within {k}": (lambda f, k=k: _share(f.all_evidence[k])) for k in DEPTHS},  # type: ignore[misc]
    "recall of all retrieved": lambda f: _share(f.retrieved_recall),
    "recall of the citations": lambda f: _share(f.cited_recall),
    "judge macro-F1": lambda f: _share(f.judge_macro_f1),
    "judge AUROC": lambda f: _share(f.judge_auroc),
    "judge calibration error": lambda f: _share(f.judge_calibration_error),
    "judge false positives": lambda f: _share(f.judge_false_positives),
    "judge false negatives": lambda f: _share(f.judge_false_negatives),
    "rounds": lambda f: f"{f.rounds:.2f}",
    "retrievals": lambda f: f"{f.retrievals:.2f}",
    "model calls": lambda f: f"{f.llm_calls:.2f}",
    "tokens": lambda f: f"{f.tokens:.0f}",
    "seconds": lambda f: f"{f.seconds:.2f}",
    "duplicates": lambda f: _share(f.duplicates),
    "abstention precision": lambda f: _share(f.abstention_precision),
    "abstention recall": lambda f: _share(f.abstention_recall),
    "worse than single": lambda f: _share(f.worse_than_single),
    "F1 gain (95 %)": lambda f: _interval(f.f1_gain),
}


def print_figures(
    result: Evaluation, figures: Sequence[Figures], kinds: Mapping[str, Sequence[Figures]]
) -> None:
    """A row a figure and a column a method; below it the main figures by question type."""
    out = Console()
    table = Table(
        title=f"{result.dataset}, {result.split} questions, {result.documents} documents", pad_edge=False
    )
    table.add_column("figure")
    for row in figures:
        table.add_column(row.method, justify="right")
    for name, show in _ROWS.items():
        table.add_row(name, *(show(row) for row in figures))
    out.print(table)
    if len(kinds) < 2:
        return
    table = Table(title="by question type", pad_edge=False)
    for heading in ("type", "method", "questions", "EM", "F1", f"all evidence within {DEPTHS[-1]}", "rounds"):
        table.add_column(heading, justify="left" if heading in ("type", "method") else "right")
    for kind, rows in kinds.items():
        for row in rows:
            table.add_row(
                kind, row.method, str(row.questions), _share(row.em), _share(row.f1),
                _share(row.all_evidence[DEPTHS[-1]]), f"{row.rounds:.2f}",
            )  # fmt: skip
    out.print(table)


def outcome_rows(result: Evaluation) -> list[dict[str, Any]]:
    """One JSON-able row for each question and method."""
    return [
        {
            "method": method,
            "type": outcome.kind,
            "golds": list(outcome.golds),
            "em": outcome.em,
            "f1": outcome.f1,
            "recall": outcome.recall,
            "complete": outcome.complete,
            "verdicts": [[v.probability, v.sufficient, v.complete] for v in outcome.verdicts],
            **answer_json(outcome.answer),
        }
        for method, outcomes in result.outcomes.items()
        for outcome in outcomes
    ]


def _share(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def _interval(gain: tuple[float, float, float]) -> str:
    return "-" if math.isnan(gain[0]) else f"{gain[0]:+.3f} [{gain[1]:+.3f}, {gain[2]:+.3f}]"
