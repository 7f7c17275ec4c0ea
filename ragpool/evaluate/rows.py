"""The rows of every table, terminal, Markdown or HTML: a name, and how a method's figure is written."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ragpool.evaluate.harness import DEPTHS, Evaluation
from ragpool.evaluate.summary import (
    ENDINGS,
    MAIN_DEPTH,
    REFUSED,
    REFUSED_UNSEEN,
    WRONG,
    WRONG_UNSEEN,
    Figures,
    Gain,
    by_kind,
    summarise,
)
from ragpool.pool import answer_json
from ragpool.settings import Settings

Write = Callable[[Figures], str]

ALL_WITHIN = f"all evidence within {MAIN_DEPTH}"


@dataclass(frozen=True, slots=True)
class Sheet:
    """One data set with its figures by method, over all questions and for each type."""

    evaluation: Evaluation
    figures: tuple[Figures, ...]
    kinds: dict[str, list[Figures]]

    @staticmethod
    def of(evaluation: Evaluation) -> Sheet:
        return Sheet(evaluation, tuple(summarise(evaluation)), by_kind(evaluation))

    @property
    def title(self) -> str:
        e = self.evaluation
        questions = self.figures[0].questions if self.figures else 0
        which = "" if e.split == "all" else f" {e.split}"
        return f"{e.dataset}: {questions}{which} question{'s' * (questions != 1)}, {e.documents} documents"


def share(value: float) -> str:
    """Three places, as in .875; a dash for nan."""
    if math.isnan(value):
        return "-"
    return f"{value:.3f}".removeprefix("0") if value < 1 else f"{value:.3f}"


def gain(found: Gain | None, places: int = 3) -> str:
    """A difference with its 95 % interval, as in +.250 [+.071, +.429]."""
    if found is None or math.isnan(found.mean):
        return "-"
    mean, low, high = (
        f"{value:+.{places}f}".replace("+0.", "+.").replace("-0.", "-.")
        for value in (found.mean, found.low, found.high)
    )
    return f"{mean} [{low}, {high}]"


def _recall(k: int) -> Write:
    return lambda f: share(f.recall[k])


def _all(k: int) -> Write:
    return lambda f: share(f.all_evidence[k])


def _count(*endings: str) -> Write:
    return lambda f: " / ".join(str(f.endings[name]) for name in endings)


ROWS: dict[str, Write] = {
    "questions": lambda f: str(f.questions),
    "EM": lambda f: share(f.em),
    "F1": lambda f: share(f.f1),
    **{f"evidence recall@{k}": _recall(k) for k in DEPTHS},
    **{f"all evidence within {k}": _all(k) for k in DEPTHS},
    "recall of all retrieved": lambda f: share(f.retrieved_recall),
    "all evidence retrieved": lambda f: share(f.retrieved_all),
    "recall of the citations": lambda f: share(f.cited_recall),
    "judgements": lambda f: str(f.judgements),
    "judge macro-F1": lambda f: share(f.judge_macro_f1),
    "judge macro-F1 without the veto": lambda f: share(f.judge_alone_macro_f1),
    "judge AUROC": lambda f: share(f.judge_auroc),
    "judge calibration error": lambda f: share(f.judge_calibration_error),
    "judge false positives": lambda f: share(f.judge_false_positives),
    "judge false negatives": lambda f: share(f.judge_false_negatives),
    "rounds": lambda f: f"{f.rounds:.2f}",
    "retrievals": lambda f: f"{f.retrievals:.2f}",
    "model calls": lambda f: f"{f.llm_calls:.2f}",
    "tokens": lambda f: f"{f.tokens:.0f}",
    "seconds": lambda f: f"{f.seconds:.2f}",
    "duplicates": lambda f: share(f.duplicates),
    "abstained": lambda f: share(f.abstained),
    "abstention precision": lambda f: share(f.abstention_precision),
    "abstention recall": lambda f: share(f.abstention_recall),
    **{name: _count(name) for name in ENDINGS},
}  # fmt: skip
"""Every figure of a method by itself."""

_F1_GAIN = "F1 gain (95 %)"


def _gain(name: str, places: int = 3) -> Write:
    return lambda f: gain(f.gains.get(name), places)


def _worse(figures: Figures) -> str:
    return (
        "-"
        if math.isnan(figures.worse_than_single)
        else f"{figures.worse} ({share(figures.worse_than_single)})"
    )


GAINS: dict[str, Write] = {
    "EM": _gain("em"),
    "F1": _gain("f1"),
    f"recall@{MAIN_DEPTH}": _gain(f"recall@{MAIN_DEPTH}"),
    ALL_WITHIN: _gain(f"all_evidence@{MAIN_DEPTH}"),
    "tokens": _gain("tokens", 0),
    "seconds": _gain("seconds", 1),
    "questions that got worse": _worse,
}
"""Differences to single-shot."""

MAIN_ROWS: dict[str, Write] = {
    ALL_WITHIN: ROWS[ALL_WITHIN],
    f"evidence recall@{MAIN_DEPTH}": ROWS[f"evidence recall@{MAIN_DEPTH}"],
    "EM / F1": lambda f: f"{share(f.em)} / {share(f.f1)}",
    _F1_GAIN: GAINS["F1"],
    "worse than single": _worse,
    "wrong / refused, with all evidence": _count(WRONG, REFUSED),
    "wrong / refused, without": _count(WRONG_UNSEEN, REFUSED_UNSEEN),
    "judge false positives / negatives": lambda f: (
        f"{share(f.judge_false_positives)} / {share(f.judge_false_negatives)}" if f.judgements else "-"
    ),
    "judge's probability: macro-F1 at .5 / AUROC": lambda f: (
        f"{share(f.judge_alone_macro_f1)} / {share(f.judge_auroc)}" if f.judgements else "-"
    ),
    "rounds, searches, model calls": lambda f: f"{f.rounds:.1f}, {f.retrievals:.1f}, {f.llm_calls:.1f}",
    "tokens": ROWS["tokens"],
    "seconds": lambda f: f"{f.seconds:.1f}",
}
"""The figures of the README's table."""

KIND_COLUMNS: dict[str, Write] = {
    "questions": ROWS["questions"],
    "EM": ROWS["EM"],
    "F1": ROWS["F1"],
    ALL_WITHIN: ROWS[ALL_WITHIN],
    "recall of all retrieved": ROWS["recall of all retrieved"],
    "rounds": ROWS["rounds"],
    "tokens": ROWS["tokens"],
    _F1_GAIN: GAINS["F1"],
}
"""The columns of the table by question type."""


def to_json(sheets: Sequence[Sheet], settings: Settings) -> dict[str, Any]:
    """The JSON of an evaluation: the object of the one data set, or for several {"datasets": [one for each]}."""
    objects = [_sheet_json(sheet, settings) for sheet in sheets]
    return objects[0] if len(objects) == 1 else {"datasets": objects}


def _sheet_json(sheet: Sheet, settings: Settings) -> dict[str, Any]:
    return {
        "dataset": sheet.evaluation.dataset,
        "split": sheet.evaluation.split,
        "documents": sheet.evaluation.documents,
        "effort": settings.effort,
        "model": settings.models.chat,
        "config_hash": settings.config_hash(),
        "methods": {f.method: f.to_json() for f in sheet.figures},
        "by_type": {kind: {f.method: f.to_json() for f in rows} for kind, rows in sheet.kinds.items()},
        "outcomes": outcome_rows(sheet.evaluation),
    }


def outcome_rows(result: Evaluation) -> list[dict[str, Any]]:
    """One JSON-able row for each question and method: a line of answers.jsonl and its figures."""
    return [
        {
            "method": method,
            "type": outcome.kind,
            "golds": list(outcome.golds),
            "gold_evidence": list(outcome.gold),
            "em": outcome.em,
            "f1": outcome.f1,
            "recall": outcome.recall,
            "complete": outcome.complete,
            "recall_by_round": list(outcome.by_round),
            "verdicts": [[v.probability, v.sufficient, v.complete] for v in outcome.verdicts],
            **answer_json(outcome.answer),
        }
        for method, outcomes in result.outcomes.items()
        for outcome in outcomes
    ]
