"""ITER-RETGEN (arXiv 2305.15294): search with the question and the last draft, draft from what came, repeat."""

from __future__ import annotations

from dataclasses import dataclass

from ragpool.evaluate.thoughts import think
from ragpool.evaluate.trial import Trial
from ragpool.generate import abstention
from ragpool.types import Answer, Evidence, Query, StopReason


@dataclass(frozen=True, slots=True)
class IterRetGen:
    """``rounds`` iterations, each one search and one draft. Every draft is made from the passages of its own search
    alone, as in the paper; the last one is the answer.

    The paper's drafts are chains of thought of a large model, which say something even when the answer is not there.
    Here the draft is what the configured generator writes, a short answer; where that abstains, a thought over the
    same passages (``thoughts``) goes into the query in its place. The same query is not sent twice.
    """

    rounds: int

    def answer(self, trial: Trial) -> Answer:
        draft, given, said = abstention(), list[Evidence](), ""
        reason = StopReason.MAX_ROUNDS
        for number in range(self.rounds):
            if number:
                said = draft.answer or _thought(trial, given)
            query = f"{said} {trial.question.text}".strip()
            if not trial.is_new(query):
                reason = StopReason.REPEATED_QUERY
                break
            kind = "free" if number else "question"
            given = trial.pack(trial.search([Query(query, kind)], trial.settings.retrieve.k))
            draft = trial.draft(given)
        return trial.finish(draft, given, reason)


def _thought(trial: Trial, given: list[Evidence]) -> str:
    thought = think(trial, given)
    return thought.text if thought is not None else ""
