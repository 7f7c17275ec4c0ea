"""The rules judge: how much of the question the evidence covers. Baseline, and veto on other judges."""

from __future__ import annotations

from collections.abc import Sequence

from ragpool.feedback.base import insufficient
from ragpool.feedback.gaps import closed_slots, is_closed, open_gaps
from ragpool.feedback.text import content_words, names, words
from ragpool.types import Binding, Evidence, Judgement, Question, Usage


class RulesJudge:
    """Slot coverage of the plan; without a plan, coverage of the question's names and content words.

    With a plan the pool is sufficient when every triple is closed. Without one, when the coverage, a
    number in [0, 1], reaches ``coverage``.
    """

    name = "rules@1"

    def __init__(self, *, coverage: float = 0.9) -> None:
        self._coverage = coverage

    def judge(
        self, question: Question, evidence: Sequence[Evidence], bindings: Sequence[Binding] = ()
    ) -> tuple[Judgement, Usage]:
        if not evidence:
            return insufficient(question, bindings, self.name), Usage()
        if question.triples:
            score = slot_coverage(question, bindings)
            sufficient = score == 1.0
        else:
            score = word_coverage(question.text, evidence)
            sufficient = score >= self._coverage
        gaps = open_gaps(question, bindings)
        return Judgement(sufficient, score, gaps, self.name, tuple(bindings)), Usage()


def slot_coverage(question: Question, bindings: Sequence[Binding]) -> float:
    """The fraction of the plan's triples without an open slot; 0 without a plan."""
    if not question.triples:
        return 0.0
    closed = closed_slots(bindings)
    return sum(is_closed(triple, closed) for triple in question.triples) / len(question.triples)


def word_coverage(question: str, evidence: Sequence[Evidence]) -> float:
    """The mean of two fractions: the question's content words, and its names, that the evidence contains."""
    wanted = content_words(question)
    texts = [f"{e.title} {e.text}" for e in evidence]
    found = frozenset().union(*(content_words(text) for text in texts))
    by_word = len(wanted & found) / len(wanted) if wanted else 0.0
    named = [words(name) for name in names(question)]
    if not named:
        return by_word
    pools = [f" {' '.join(words(text))} " for text in texts]
    by_name = sum(any(f" {' '.join(name)} " in pool for pool in pools) for name in named) / len(named)
    return (by_word + by_name) / 2
