"""Outcomes to figures: the rows of the tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from ragpool.evaluate.harness import DEPTHS, Evaluation, Outcome, Verdict
from ragpool.evaluate.metrics import auroc, bootstrap, calibration_error, macro_f1


@dataclass(frozen=True, slots=True)
class Figures:
    """One method over a set of questions. Shares are in [0, 1]; nan where nothing could be measured.

    ``judge_false_positives`` is the share of incomplete pools called sufficient, ``judge_false_negatives`` that of
    complete pools called insufficient.
    """

    method: str
    questions: int
    em: float
    f1: float
    recall: dict[int, float]
    all_evidence: dict[int, float]
    retrieved_recall: float
    cited_recall: float
    judge_macro_f1: float
    judge_auroc: float
    judge_calibration_error: float
    judge_false_positives: float
    judge_false_negatives: float
    rounds: float
    retrievals: float
    llm_calls: float
    tokens: float
    seconds: float
    duplicates: float
    abstention_precision: float
    abstention_recall: float
    worse_than_single: float
    f1_gain: tuple[float, float, float]  # over single: mean, and its paired 95 % bootstrap interval

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def summarise(evaluation: Evaluation) -> list[Figures]:
    """A row for each method over all questions."""
    single = evaluation.outcomes.get("single")
    return [figures(method, outcomes, single) for method, outcomes in evaluation.outcomes.items()]


def by_kind(evaluation: Evaluation) -> dict[str, list[Figures]]:
    """Rows for each question type that the data set names."""
    kinds = sorted({o.kind for outcomes in evaluation.outcomes.values() for o in outcomes if o.kind})
    cut = {
        kind: Evaluation(
            evaluation.dataset,
            evaluation.split,
            evaluation.documents,
            {m: tuple(o for o in found if o.kind == kind) for m, found in evaluation.outcomes.items()},
        )
        for kind in kinds
    }
    return {kind: summarise(part) for kind, part in cut.items()}


def figures(method: str, outcomes: Sequence[Outcome], single: Sequence[Outcome] | None = None) -> Figures:
    """Sum up one method; ``single`` are the outcomes of single-shot on the same questions, for the comparison."""
    with_gold = [o for o in outcomes if o.answerable]
    verdicts = [v for o in outcomes for v in o.verdicts]
    complete = [v for v in verdicts if v.complete]
    incomplete = [v for v in verdicts if not v.complete]
    abstained = [o for o in outcomes if o.abstained]
    unanswerable = [o for o in outcomes if not o.answerable]
    gains = [o.f1 - s.f1 for o, s in zip(outcomes, single or (), strict=bool(single))]
    return Figures(
        method=method,
        questions=len(outcomes),
        em=_mean(outcomes, lambda o: o.em),
        f1=_mean(outcomes, lambda o: o.f1),
        recall={k: _mean(with_gold, lambda o, k=k: o.recall[k]) for k in DEPTHS},  # type: ignore[misc]
        all_evidence={k: _mean(with_gold, lambda o, k=k: float(o.complete[k])) for k in DEPTHS},  # type: ignore[misc]
        retrieved_recall=_mean(with_gold, lambda o: o.retrieved_recall),
        cited_recall=_mean(with_gold, lambda o: o.cited_recall),
        judge_macro_f1=_macro_f1(verdicts),
        judge_auroc=auroc([v.probability for v in complete], [v.probability for v in incomplete]),
        judge_calibration_error=calibration_error(
            [v.probability for v in verdicts], [v.complete for v in verdicts]
        ),
        judge_false_positives=_share([v.sufficient for v in incomplete]),
        judge_false_negatives=_share([not v.sufficient for v in complete]),
        rounds=_mean(outcomes, lambda o: float(o.answer.rounds)),
        retrievals=_mean(outcomes, lambda o: float(o.answer.usage.retrievals)),
        llm_calls=_mean(outcomes, lambda o: float(o.answer.usage.llm_calls)),
        tokens=_mean(outcomes, lambda o: float(o.answer.usage.tokens)),
        seconds=_mean(outcomes, lambda o: o.answer.seconds),
        duplicates=_mean(outcomes, lambda o: o.duplicates / max(len(o.answer.evidence), 1)),
        abstention_precision=_share([not o.answerable for o in abstained]),
        abstention_recall=_share([o.abstained for o in unanswerable]),
        worse_than_single=_share([g < 0 for g in gains]),
        f1_gain=(fmean(gains) if gains else float("nan"), *bootstrap(gains)),
    )


def _mean(outcomes: Sequence[Outcome], value: Callable[[Outcome], float]) -> float:
    return fmean(map(value, outcomes)) if outcomes else float("nan")


def _share(flags: Sequence[bool]) -> float:
    return sum(flags) / len(flags) if flags else float("nan")


def _macro_f1(verdicts: Sequence[Verdict]) -> float:
    return (
        macro_f1([v.sufficient for v in verdicts], [v.complete for v in verdicts])
        if verdicts
        else float("nan")
    )
