"""S2G-RAG (arXiv 2604.23783): a prompted judge of sufficiency whose gap items are the next queries."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

from ragpool import models
from ragpool.evaluate.trial import Trial
from ragpool.feedback.prompted import PromptedJudge
from ragpool.settings import Settings
from ragpool.types import Answer, Query, StopReason

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

_SHOWN = 16  # passages that the judge is shown; all of them in full still fit a context of 8,192 tokens
_VERDICT_TOKENS = 128  # of the embedded model, which would otherwise ramble


class S2G:
    """Search, judge by prompt (judge.md), search for each gap item, until sufficient or the effort's rounds are over.

    The judge is ragpool's own prompted one over the pool, best first by reciprocal rank fusion. The embedded model is
    prompted like any other: what it replies is hardly ever the JSON that was asked for, which counts as insufficient
    without a gap, so there the method comes down to one search and a wasted call. The published method trains its
    judge and generates gap items with a model fifty times as large.
    """

    def answer(self, trial: Trial) -> Answer:
        preset, retrieve = trial.settings.preset, trial.settings.retrieve
        judge = PromptedJudge(trial.chat or _embedded(trial.settings), threshold=preset.threshold)
        queries, k = [Query(trial.question.text, "question")], retrieve.k
        for number in count():
            trial.search(queries, k)
            judgement = trial.judge(judge, trial.fused()[:_SHOWN])
            gaps = dict.fromkeys(gap.text for gap in judgement.gaps if trial.is_new(gap.text))
            queries, k = [Query(text, "gap", text) for text in gaps], retrieve.gap_k
            if judgement.sufficient:
                reason = StopReason.SUFFICIENT
            elif number and not any(e.round == number for e in trial.pool.admitted):
                reason = StopReason.NO_NEW_EVIDENCE
            elif number >= preset.max_rounds:
                reason = StopReason.MAX_ROUNDS
            elif not queries:
                reason = StopReason.REPEATED_QUERY
            else:
                continue
            break
        given = trial.pack(trial.fused())
        return trial.finish(trial.draft(given), given, reason)


def _embedded(settings: Settings) -> BaseChatModel:
    return models.load_chat(settings.models).model_copy(update={"max_tokens": _VERDICT_TOKENS})
