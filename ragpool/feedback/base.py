"""The one-method protocol of the feedback model, and the value every judge gives to an empty pool."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ragpool.feedback.gaps import open_gaps
from ragpool.types import Binding, Evidence, Judgement, Question, Usage


class Judge(Protocol):
    """Says whether admitted evidence, taken as a set, is enough to answer.

    ``bindings`` are the slots of the question's plan that the evidence closed; a judge may use them, and
    must work without. It must not use a model's own knowledge: only what the evidence says counts.
    """

    @property
    def name(self) -> str:
        """``name@version``, as stored with each judgement."""
        ...

    def judge(
        self, question: Question, evidence: Sequence[Evidence], bindings: Sequence[Binding] = ()
    ) -> tuple[Judgement, Usage]:
        """The judgement of the pool, and what it cost."""
        ...


def insufficient(question: Question, bindings: Sequence[Binding], judge: str) -> Judgement:
    """The judgement of a pool without evidence."""
    return Judgement(False, 0.0, open_gaps(question, bindings), judge, tuple(bindings))
