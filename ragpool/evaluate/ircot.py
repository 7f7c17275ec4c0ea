"""IRCoT (arXiv 2212.10509): one sentence of reasoning, a search with it, the next sentence, and so on."""

from __future__ import annotations

from ragpool.evaluate.thoughts import Thought, think
from ragpool.evaluate.trial import Trial
from ragpool.types import Answer, Query, StopReason


class IRCoT:
    """A search for the question, then thoughts, each of them the next query, up to the effort's rounds.

    What a thought is with a chat model and with the embedded one: ``thoughts``. It ends with a final one.

    The paper shows its reader 15 paragraphs; here they are cut to the context budget of the other methods, by
    reciprocal rank fusion over all queries. The answer is written by the generator, without the thoughts.
    """

    def answer(self, trial: Trial) -> Answer:
        retrieve = trial.settings.retrieve
        trial.search([Query(trial.question.text, "question")], retrieve.k)
        thoughts: list[Thought] = []
        reason = StopReason.MAX_ROUNDS
        for _ in range(trial.settings.preset.max_rounds):
            given = trial.pack(trial.fused())
            thought = think(trial, given, thoughts)
            if thought is None or not trial.is_new(thought.text):
                reason = StopReason.REPEATED_QUERY
                break
            thoughts.append(thought)
            if thought.final:
                reason = StopReason.SUFFICIENT
                break
            trial.search([Query(thought.text, "free")], retrieve.gap_k)
        given = trial.pack(trial.fused())
        return trial.finish(trial.draft(given), given, reason)
