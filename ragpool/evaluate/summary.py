"""Outcomes to figures: the rows of the tables and the points of the plots."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from ragpool.evaluate.harness import DEPTHS, Evaluation, Outcome, Verdict
from ragpool.evaluate.metrics import auroc, bootstrap, calibration_error, macro_f1

MAIN_DEPTH = 8

RIGHT, PARTLY = "right", "partly right"
WRONG, WRONG_UNSEEN = "wrong with all evidence", "wrong without all evidence"
REFUSED, REFUSED_UNSEEN = "refused with all evidence", "refused without all evidence"
RIGHTLY_REFUSED, MADE_UP = "rightly refused", "answered without an answer"
ENDINGS = (RIGHT, PARTLY, WRONG, WRONG_UNSEEN, REFUSED, REFUSED_UNSEEN, RIGHTLY_REFUSED, MADE_UP)
"""How a question may end. "All evidence" is what the generator was given, MAIN_DEPTH passages; the last two are those of
questions that have no answer."""

Value = Callable[[Outcome], float]


@dataclass(frozen=True, slots=True)
class Gain:
    """The mean difference to single-shot on the same questions, with its paired 95 % bootstrap interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Figures:
    """One method over a set of questions. Shares are in [0, 1]; nan where nothing could be measured.

    Evidence figures are over the questions whose gold evidence is known and that can be answered; ``recall`` and
    ``all_evidence`` are by depth (see Outcome). ``judge_false_positives`` is the share of incomplete pools called
    sufficient, ``judge_false_negatives`` that of complete pools called insufficient; every judgement of a run counts, with
    the veto of open look-ups. ``judge_alone_macro_f1`` is of the judge's probability at .5, without it.
    ``tokens`` are of prompts and completions. ``duplicates`` is the share of retrieved passages that repeat another's
    text. ``abstention_precision`` is the share of refused questions that cannot be answered, ``abstention_recall`` the
    share of those that was refused. ``worse_than_single`` is the share, ``worse`` the number of questions with a lower
    F1 than single-shot's. ``endings`` counts the questions by ENDINGS: where the loss is. ``gains`` are differences to single-shot by the name of the figure, empty without it.
    """

    method: str
    questions: int
    em: float
    f1: float
    recall: dict[int, float]
    all_evidence: dict[int, float]
    retrieved_recall: float
    retrieved_all: float
    cited_recall: float
    judge_macro_f1: float
    judge_alone_macro_f1: float
    judge_auroc: float
    judge_calibration_error: float
    judge_false_positives: float
    judge_false_negatives: float
    judgements: int
    rounds: float
    retrievals: float
    llm_calls: float
    tokens: float
    seconds: float
    duplicates: float
    abstained: float
    abstention_precision: float
    abstention_recall: float
    worse_than_single: float
    worse: int
    endings: dict[str, int]
    gains: dict[str, Gain]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; null for nan."""
        found: dict[str, Any] = _plain(asdict(self))
        return found


_GAINS: dict[str, Value] = {
    "em": lambda o: o.em,
    "f1": lambda o: o.f1,
    f"recall@{MAIN_DEPTH}": lambda o: o.recall[MAIN_DEPTH],
    f"all_evidence@{MAIN_DEPTH}": lambda o: float(o.complete[MAIN_DEPTH]),
    "tokens": lambda o: float(o.answer.usage.tokens),
    "seconds": lambda o: o.answer.seconds,
}
_OF_EVIDENCE = (f"recall@{MAIN_DEPTH}", f"all_evidence@{MAIN_DEPTH}")


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
    """Sum up one method; ``single`` are the outcomes of single-shot on the same questions, for the comparison.

    Raises ValueError when those are not the same questions in the same order.
    """
    pairs = list(zip(outcomes, single, strict=True)) if single is not None else []
    if any(ours.question_id != theirs.question_id for ours, theirs in pairs):
        raise ValueError(f"{method} and single were not asked the same questions")
    with_gold = [o for o in outcomes if _has_gold(o)]
    verdicts = [v for o in outcomes for v in o.verdicts]
    complete = [v for v in verdicts if v.complete]
    incomplete = [v for v in verdicts if not v.complete]
    abstained = [o for o in outcomes if o.abstained]
    unanswerable = [o for o in outcomes if not o.answerable]
    worse = [ours.f1 < theirs.f1 for ours, theirs in pairs]
    counted = Counter(map(ending, outcomes))
    return Figures(
        method=method,
        questions=len(outcomes),
        em=_mean(outcomes, lambda o: o.em),
        f1=_mean(outcomes, lambda o: o.f1),
        recall={k: _mean(with_gold, _recall(k)) for k in DEPTHS},
        all_evidence={k: _mean(with_gold, _all(k)) for k in DEPTHS},
        retrieved_recall=_mean(with_gold, lambda o: o.retrieved_recall),
        retrieved_all=_mean(with_gold, lambda o: float(o.retrieved_recall == 1.0)),
        cited_recall=_mean(with_gold, lambda o: o.cited_recall),
        judge_macro_f1=_macro_f1([v.sufficient for v in verdicts], verdicts),
        judge_alone_macro_f1=_macro_f1([v.probability >= 0.5 for v in verdicts], verdicts),
        judge_auroc=auroc([v.probability for v in complete], [v.probability for v in incomplete]),
        judge_calibration_error=calibration_error(
            [v.probability for v in verdicts], [v.complete for v in verdicts]
        ),
        judge_false_positives=_share([v.sufficient for v in incomplete]),
        judge_false_negatives=_share([not v.sufficient for v in complete]),
        judgements=len(verdicts),
        rounds=_mean(outcomes, lambda o: float(o.answer.rounds)),
        retrievals=_mean(outcomes, lambda o: float(o.answer.usage.retrievals)),
        llm_calls=_mean(outcomes, lambda o: float(o.answer.usage.llm_calls)),
        tokens=_mean(outcomes, lambda o: float(o.answer.usage.tokens)),
        seconds=_mean(outcomes, lambda o: o.answer.seconds),
        duplicates=_mean(outcomes, lambda o: o.duplicates / max(len(o.answer.evidence), 1)),
        abstained=_share([o.abstained for o in outcomes]),
        abstention_precision=_share([not o.answerable for o in abstained]),
        abstention_recall=_share([o.abstained for o in unanswerable]),
        worse_than_single=_share(worse),
        worse=sum(worse),
        endings={name: counted[name] for name in ENDINGS},
        gains={name: _gain(name, pairs) for name in _GAINS} if pairs and method != "single" else {},
    )


def ending(outcome: Outcome) -> str:
    """The one of ENDINGS that a question came to."""
    if not outcome.answerable:
        return RIGHTLY_REFUSED if outcome.abstained else MADE_UP
    if outcome.f1 > 0:
        return RIGHT if outcome.em == 1 else PARTLY
    if outcome.complete[MAIN_DEPTH]:
        return REFUSED if outcome.abstained else WRONG
    return REFUSED_UNSEEN if outcome.abstained else WRONG_UNSEEN


def recall_by_round(outcomes: Sequence[Outcome]) -> list[float]:
    """The mean recall of the pool after each round; a run that has ended keeps what it had."""
    runs = [o.by_round for o in outcomes if _has_gold(o) and o.by_round]
    last = max(map(len, runs), default=0)
    return [fmean(run[min(number, len(run) - 1)] for run in runs) for number in range(last)]


def _has_gold(outcome: Outcome) -> bool:
    return outcome.answerable and bool(outcome.gold)


def _gain(name: str, pairs: Sequence[tuple[Outcome, Outcome]]) -> Gain:
    value = _GAINS[name]
    counted = [(a, b) for a, b in pairs if name not in _OF_EVIDENCE or _has_gold(a)]
    differences = [value(ours) - value(theirs) for ours, theirs in counted]
    return Gain(fmean(differences) if differences else float("nan"), *bootstrap(differences))


def _recall(k: int) -> Value:
    return lambda o: o.recall[k]


def _all(k: int) -> Value:
    return lambda o: float(o.complete[k])


def _mean(outcomes: Sequence[Outcome], value: Value) -> float:
    return fmean(map(value, outcomes)) if outcomes else float("nan")


def _share(flags: Sequence[bool]) -> float:
    return sum(flags) / len(flags) if flags else float("nan")


def _macro_f1(said: Sequence[bool], verdicts: Sequence[Verdict]) -> float:
    return macro_f1(said, [v.complete for v in verdicts]) if verdicts else float("nan")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, float):
        return None if math.isnan(value) else value
    return value
