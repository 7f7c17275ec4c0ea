"""ITER-RETGEN (arXiv 2305.15294): search with the question and the last draft, draft from what came, repeat."""

from __future__ import annotations

from dataclasses import dataclass

from ragpool.evaluate.trial import Trial
from ragpool.generate import abstention
from ragpool.types import Answer, Evidence, Query, StopReason


@dataclass(frozen=True, slots=True)
class IterRetGen:
    """``rounds`` iterations, each one search and one draft. Every draft is made from the passages of its own search
    alone, as in the paper; the last one is the answer.

    The paper's drafts are chains of thought of a large model. Here the draft is what the configured generator writes,
    with the embedded model a short answer. A draft that abstains leaves the query as it was; the same query is not
    sent twice, so the run ends there.
    """

    rounds: int

    def answer(self, trial: Trial) -> Answer:
        draft, given = abstention(), list[Evidence]()
        reason = StopReason.MAX_ROUNDS
        for _ in range(self.rounds):
            query = f"{draft.answer} {trial.question.text}".strip()
            if not trial.is_new(query):
                reason = StopReason.REPEATED_QUERY
                break
            kind = "free" if draft.answer else "question"
            given = trial.pack(trial.search([Query(query, kind)], trial.settings.retrieve.k))
            draft = trial.draft(given)
        return trial.finish(draft, given, reason)
