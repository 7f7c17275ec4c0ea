"""What the published methods share: one run over one question, made of the library's own steps.

A search is committed to the pool as a round and every model call by itself. A run that was interrupted is made again
from its beginning: searches give the same passages again, and a model call that was paid for is recalled from the
pool, so it ends as it would have ended without the interruption.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from ragpool.feedback import Judge
from ragpool.generate import abstention
from ragpool.pipeline import Steps, evidence_of
from ragpool.pool import Pool, normalise_query
from ragpool.refine import pack
from ragpool.retrieve import fuse
from ragpool.settings import Settings
from ragpool.slots import Reading
from ragpool.types import (
    Answer,
    AnswerStatus,
    Citation,
    Draft,
    Evidence,
    Hit,
    Judgement,
    Query,
    Question,
    StopReason,
    Usage,
)

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

UNJUDGED = Judgement(sufficient=False, probability=0.0, judge="none")


class Baseline(Protocol):
    """A published method: searches, drafts and whatever it does between them, ending with ``trial.finish``."""

    def answer(self, trial: Trial) -> Answer: ...


class Trial:
    """One run of a baseline. ``chat`` is None with the embedded models, whose reader and generator are trained parts.

    The question has no plan: planning is ragpool's own. So the generator does what it does for single-shot.
    """

    def __init__(
        self, pool: Pool, steps: Steps, settings: Settings, chat: BaseChatModel | None = None
    ) -> None:
        self.pool = pool
        self.steps = steps
        self.settings = settings
        self.chat = chat
        self.question = Question(pool.question_text)
        self.rounds = 0
        self._asked: set[str] = set()
        self._rankings: dict[str, list[str]] = {}
        self._begun = time.monotonic()
        self._committed = 0.0  # of the seconds since then, those that the pool has

    # -- searching --------------------------------------------------------------------------------------------------

    def is_new(self, text: str) -> bool:
        """Whether no query with the same normal form was sent in this run."""
        return bool(text.strip()) and normalise_query(text) not in self._asked

    def search(self, queries: Sequence[Query], k: int) -> list[Evidence]:
        """Send the queries as one round; the admitted passages of all of them, those of the first query first.

        Passages that the pool holds already are found again, unlike in ragpool's loop: these methods rank them anew.
        """
        begun = time.monotonic()
        candidates: list[Evidence] = []
        found: dict[str, None] = {}
        for query in queries:
            hits = self.steps.retriever.retrieve(query.text, k=k)
            self._asked.add(normalise_query(query.text))
            self._rankings[query.text] = [hit.passage.id for hit in hits]
            found |= dict.fromkeys(self._rankings[query.text])
            candidates += self._distilled(query, hits)
        seconds = time.monotonic() - begun
        self.pool.add(self.rounds, queries, candidates, Usage(retrievals=len(queries)), seconds)
        self._committed += seconds
        self.rounds += 1
        held = {e.passage_id: e for e in self.pool.admitted}
        return [held[i] for i in found if i in held]

    def fused(self) -> list[Evidence]:
        """All admitted evidence by reciprocal rank fusion over the queries of the run."""
        held = {e.passage_id: e for e in self.pool.admitted}
        ranked = fuse(self._rankings, self.settings.retrieve.rrf_k)
        return [held[i] for i, _, _ in ranked if i in held]

    def pack(self, ordered: Sequence[Evidence]) -> list[Evidence]:
        """What of it the generator is given: the same budget of passages and tokens as for every other method."""
        return pack(
            ordered,
            max_passages=self.settings.generator.max_passages,
            budget=self.settings.generator.context_tokens,
            count=self.steps.count_tokens,
            whole=self.settings.generator.context == "passages",
        )

    def _distilled(self, query: Query, hits: Sequence[Hit]) -> list[Evidence]:
        found = [evidence_of(hit, self.rounds, query) for hit in hits]
        spans = self.steps.distiller.distil(query.text, found)
        return [replace(e, spans=kept) for e, kept in zip(found, spans, strict=True)]

    # -- model calls ------------------------------------------------------------------------------------------------

    def read(self, query: str, contexts: Sequence[tuple[str, str]]) -> Reading:
        """The reader's answer to ``query`` from (title, text) contexts. Its cost is counted by the pool."""

        def call() -> tuple[dict[str, Any], Usage]:
            reading = self.steps.reader.read(query, contexts)
            output = {"value": reading.value, "confidence": reading.confidence, "told": reading.told}
            return output, reading.usage

        said = self._once("read", [self.steps.reader.name, query, contexts], call)
        return Reading(said["value"], said["confidence"], told=said.get("told", 1.0))

    def say(self, chat: BaseChatModel, prompt: str, key: object) -> str:
        """The chat model's reply. ``key`` tells the call from others: the prompt without its random words."""

        def call() -> tuple[dict[str, Any], Usage]:
            reply = chat.invoke(prompt)
            counted = reply.usage_metadata or {"input_tokens": 0, "output_tokens": 0}
            return {"text": reply.text}, Usage(1, counted["input_tokens"], counted["output_tokens"])

        return str(self._once("say", key, call)["text"])

    def draft(self, context: Sequence[Evidence]) -> Draft:
        """What the generator writes from these passages."""
        if not context:
            return abstention()

        def call() -> tuple[dict[str, Any], Usage]:
            writing = self.steps.generator.generate(self.question, context, UNJUDGED, self.read)
            while True:
                try:
                    next(writing)
                except StopIteration as end:
                    draft, usage = end.value
                    return _draft_record(draft), usage

        return _draft_from(self._once("draft", [self.steps.generator.name, *map(_key, context)], call))

    def judge(self, judge: Judge, evidence: Sequence[Evidence]) -> Judgement:
        """The judgement of the last round, and of no other: a round has one."""
        number = self.rounds - 1
        stored = dict(self.pool.judgements).get(number)
        if stored is not None:
            return stored
        begun = time.monotonic()
        judgement, usage = judge.judge(self.question, evidence, ())
        seconds = time.monotonic() - begun
        self.pool.save_judgement(number, judgement, usage, seconds)
        self._committed += seconds
        return judgement

    def _once(
        self, kind: str, key: object, call: Callable[[], tuple[dict[str, Any], Usage]]
    ) -> dict[str, Any]:
        digest = hashlib.sha256(json.dumps([kind, key], ensure_ascii=False).encode()).hexdigest()
        stored = self.pool.recall(digest)
        if stored is not None:
            return stored
        begun = time.monotonic()
        output, usage = call()
        self.pool.record(digest, kind, output, usage, time.monotonic() - begun)
        return output

    # -- the end ----------------------------------------------------------------------------------------------------

    def finish(self, draft: Draft, given: Sequence[Evidence], reason: StopReason) -> Answer:
        """Commit the answer. ``given`` is the context of this draft."""
        return self.pool.save_answer(
            answer=draft.answer,
            text=draft.text,
            status=draft.status,
            stop_reason=reason,
            rounds=self.rounds,
            citations=draft.citations,
            given=[e.passage_id for e in given],
            missing=(),
            usage=Usage(),
            seconds=max(time.monotonic() - self._begun - self._committed, 0.0),
        )


def _key(evidence: Evidence) -> list[str]:
    return [evidence.passage_id, *evidence.sentences]


def _draft_record(draft: Draft) -> dict[str, Any]:
    return {
        "text": draft.text,
        "answer": draft.answer,
        "status": draft.status.value,
        "citations": [[c.marker, c.document_id, c.passage_id, c.quote, c.supported] for c in draft.citations],
    }


def _draft_from(record: dict[str, Any]) -> Draft:
    citations = tuple(Citation(*fields) for fields in record["citations"])
    return Draft(record["text"], record["answer"], citations, AnswerStatus(record["status"]))
