"""The loop, once: retrieve, pool, judge, refine, and only then generate.

``run`` is a plain synchronous generator of events. Each round is committed to the pool before anything else
happens, and each model call inside a round is committed by itself, so a run that is killed goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Generator as Writing
from dataclasses import dataclass, field, replace

from ragpool.closing import FIRM, SlotCloser
from ragpool.distil import Distiller, folded_words
from ragpool.errors import ModelError, TransientModelError
from ragpool.events import (
    Answered,
    Event,
    Judged,
    Planned,
    Pooled,
    Refined,
    Retrieved,
    Started,
    Stopped,
    Token,
)
from ragpool.feedback import Judge, open_gaps
from ragpool.generate import Generator, Written, abstention
from ragpool.index import Index
from ragpool.plan import Planner
from ragpool.pool import Pool
from ragpool.refine import Refiner, order, pack
from ragpool.retrieve import Retriever
from ragpool.screen import screen
from ragpool.settings import Settings
from ragpool.slots import Reading, SlotReader
from ragpool.types import (
    AnswerStatus,
    Evidence,
    EvidenceStatus,
    Hit,
    Judgement,
    Query,
    Question,
    Span,
    StopReason,
    Usage,
)

Cancelled = Callable[[], bool]

_DEEP = 24  # hits of a later query, of which those that carry the name it is about come first


@dataclass(frozen=True, slots=True)
class Steps:
    """What the loop is made of. Every part is replaceable; each does one thing."""

    index: Index
    retriever: Retriever
    planner: Planner
    reader: SlotReader
    distiller: Distiller
    closer: SlotCloser
    judge: Judge
    refiner: Refiner
    generator: Generator
    count_tokens: Callable[[str], int]
    models: Mapping[str, str] = field(default_factory=dict)
    prompts: Mapping[str, str] = field(default_factory=dict)


def run(
    pool: Pool, steps: Steps, settings: Settings, cancelled: Cancelled = lambda: False
) -> Iterator[Event]:
    """Answer the pool's question, from the last committed step on. The last event is always Answered.

    Raises what a step raises (RagpoolError and the model's own); what was committed stays, and a second ``run``
    of the same pool goes on from there. ``cancelled`` is asked between steps.
    """
    return _Run(pool, steps, settings, cancelled).events()


class _Run:
    """The state of one run: everything that matters is in the pool, this holds what is derived from it."""

    def __init__(self, pool: Pool, steps: Steps, settings: Settings, cancelled: Cancelled) -> None:
        self.pool = pool
        self.steps = steps
        self.settings = settings
        self.limits = settings.preset
        self.cancelled = cancelled
        self.started = time.monotonic()
        self.question = Question(pool.question_text)
        self.trouble: tuple[str, ...] = ()  # a step that failed for good, said in the answer

    def events(self) -> Iterator[Event]:
        if self.pool.answer is not None:
            yield Started(self.pool.run_id, self.pool.question or self.question, self.pool.last_round)
            yield Answered(self.pool.answer)
            return
        self.question = self.pool.question or self.question
        yield Started(self.pool.run_id, self.question, self.pool.last_round)
        reason = yield from self._single() if self.settings.method == "single" else self._guarded()
        yield Stopped(max(self.pool.last_round, 0), reason)
        yield from self._answer(reason)

    # -- the loop ---------------------------------------------------------------------------------------------------

    def _guarded(self) -> Writing[Event, None, StopReason]:
        """The rounds; when a model fails for good, what the pool holds by then (round 0 at least) is answered from."""
        try:
            return (yield from self._rounds())
        except TransientModelError:
            raise
        except ModelError as error:
            if self.pool.last_round < 0:
                raise
            self.trouble = (str(error),)
            return StopReason.ERROR

    def _rounds(self) -> Writing[Event, None, StopReason]:
        """Rounds until a stop reason is found, which is returned."""
        yield from self._round_zero()
        if self.pool.question is None:
            self.question = self._planned()
            yield Planned(self.question)
        judged = dict(self.pool.judgements)
        number = max(self.pool.last_round, 0)
        queries: tuple[Query, ...] = ()
        while True:
            if number > self.pool.last_round:
                yield from self._retrieve(number, queries)
            judgement = judged.get(number)
            if judgement is None:
                judgement = self._judge(number)
            yield Judged(number, judgement)
            reason = self._stop(number, judgement)
            if reason is not None:
                return reason
            queries = self.steps.refiner.refine(self.question, judgement, self.pool.admitted, self.pool.asked)
            if not queries:
                return StopReason.REPEATED_QUERY
            yield Refined(number, queries)
            number += 1

    def _single(self) -> Writing[Event, None, StopReason]:
        yield from self._round_zero()
        return StopReason.MAX_ROUNDS

    def _round_zero(self) -> Iterator[Event]:
        """The question itself as the query, before any model is asked: the first evidence is there at once."""
        if self.pool.last_round < 0:
            yield from self._retrieve(0, (Query(self.question.text, "question"),))

    def _stop(self, number: int, judgement: Judgement) -> StopReason | None:
        if judgement.sufficient:
            return StopReason.SUFFICIENT
        if self.cancelled():
            return StopReason.CANCELLED
        if number > 0 and not any(e.round == number for e in self.pool.admitted):
            return StopReason.NO_NEW_EVIDENCE
        if number >= self.limits.max_rounds:
            return StopReason.MAX_ROUNDS
        if self.pool.usage.tokens >= self.limits.token_budget:
            return StopReason.TOKEN_BUDGET
        if self.pool.seconds + time.monotonic() - self.started >= self.limits.deadline:
            return StopReason.DEADLINE
        return None

    # -- the steps of a round ---------------------------------------------------------------------------------------

    def _planned(self) -> Question:
        begun = time.monotonic()
        question, usage = self.steps.planner.plan(self.pool.question_text)
        self.pool.save_plan(question, usage, time.monotonic() - begun)
        return question

    def _retrieve(self, number: int, queries: Sequence[Query]) -> Iterator[Event]:
        begun = time.monotonic()
        known = set(self.pool.passage_ids)
        candidates: list[Evidence] = []
        for query in queries:
            hits = self._hits(number, query, frozenset(known))
            known.update(hit.passage.id for hit in hits)
            yield Retrieved(number, query, hits)  # weighing sentences takes ten times as long: it comes after
            candidates += self._distilled(number, query, hits)
        usage = Usage(retrievals=len(queries))
        written = self.pool.add(number, queries, candidates, usage, time.monotonic() - begun)
        yield Pooled(number, written)

    def _hits(self, number: int, query: Query, known: frozenset[str]) -> tuple[Hit, ...]:
        if query.kind == "bridge":
            own = [p for p in self.steps.index.by_title(query.text) if p.id not in known]
            return tuple(Hit(p, 1.0, "title") for p in own[: self.settings.retrieve.gap_k])
        if number == 0:
            return self.steps.retriever.retrieve(query.text, k=self.settings.retrieve.k, exclude=known)
        subject, most = self._subject(query), self.settings.retrieve.gap_k
        hits = self.steps.retriever.retrieve(query.text, k=max(most, _DEEP), exclude=known)
        named = sorted(hits, key=lambda hit: subject not in f" {folded_words(hit.passage.search_text)} ")
        return tuple(named[:most])

    def _subject(self, query: Query) -> str:
        """The name that a gap's query looks for, its folded words; empty where it has none."""
        gaps = self.pool.judgements[-1][1].gaps if self.pool.judgements else ()
        asked = next((g.triple.subject for g in gaps if g.triple and g.text == query.gap), "")
        return f" {folded_words(asked)} " if asked else ""

    def _distilled(self, number: int, query: Query, hits: Sequence[Hit]) -> list[Evidence]:
        found = [evidence_of(hit, number, query) for hit in hits]
        about = query.gap if query.gap and query.kind == "bridge" else query.text
        spans = self.steps.distiller.distil(about, found)
        return [replace(e, spans=kept) for e, kept in zip(found, spans, strict=True)]

    def _judge(self, number: int) -> Judgement:
        begun = time.monotonic()
        known = self.pool.judgements[-1][1].bindings if self.pool.judgements else ()
        bindings = self.steps.closer.close(
            self.question, self.pool.admitted, known, self._read, self.pool.asked
        )
        judgement, usage = self.steps.judge.judge(self.question, self.pool.admitted, bindings)
        lookups = [gap for gap in open_gaps(self.question, bindings) if gap.triple is not None]
        if lookups:  # the veto: what the plan still has to look up is missing, whatever the judge says
            gaps = tuple(dict.fromkeys([*lookups, *judgement.gaps]))
            judgement = replace(judgement, sufficient=False, gaps=gaps)
        self.pool.save_judgement(number, judgement, usage, time.monotonic() - begun)
        return judgement

    def _read(self, query: str, contexts: Sequence[tuple[str, str]]) -> Reading:
        """The reader's answer, from the pool when this very prompt was already paid for."""
        prompt = json.dumps([self.steps.reader.name, query, contexts], ensure_ascii=False)
        key = hashlib.sha256(prompt.encode()).hexdigest()
        stored = self.pool.recall(key)
        if stored is not None:
            return Reading(stored["value"], stored["confidence"], told=stored.get("told", 1.0))
        begun = time.monotonic()
        reading = self.steps.reader.read(query, contexts)
        output = {
            "query": query,
            "value": reading.value,
            "confidence": reading.confidence,
            "told": reading.told,
        }
        self.pool.record(key, "read", output, reading.usage, time.monotonic() - begun)
        return replace(reading, usage=Usage())  # counted where it is recorded

    # -- the answer -------------------------------------------------------------------------------------------------

    def _answer(self, reason: StopReason) -> Iterator[Event]:
        begun = time.monotonic()
        judgement = (
            self.pool.judgements[-1][1] if self.pool.judgements else Judgement(False, 0.0, judge="none")
        )
        given = self._packed(judgement)
        draft, usage = abstention(), Usage()
        if reason is not StopReason.CANCELLED and not self._hopeless(judgement):
            writing = self.steps.generator.generate(self.question, given, judgement, self._read)
            draft, usage = yield from _tokens(writing)
        status = draft.status
        complete = reason is StopReason.SUFFICIENT or self.settings.method == "single"
        if status is AnswerStatus.ANSWERED and not complete:
            status = AnswerStatus.PARTIAL
        missing = () if status is AnswerStatus.ANSWERED else tuple(gap.text for gap in judgement.gaps)
        answer = self.pool.save_answer(
            answer=draft.answer,
            text=draft.text,
            status=status,
            stop_reason=reason,
            rounds=self.pool.last_round + 1,
            citations=draft.citations,
            given=[e.passage_id for e in given],
            missing=missing + self.trouble,
            usage=usage,
            seconds=time.monotonic() - begun,
        )
        yield Answered(answer)

    def _hopeless(self, judgement: Judgement) -> bool:
        """Too little evidence to answer even in part: the judge gives it up, and not every look-up was read firmly."""
        if not self.settings.generator.abstain or self.settings.method == "single":
            return False
        read = bool(self.question.triples) and not open_gaps(self.question, judgement.bindings)
        firm = read and all(b.confidence >= FIRM and not b.supposed for b in judgement.bindings)
        return not firm and judgement.probability < self.limits.abstain

    def _packed(self, judgement: Judgement) -> list[Evidence]:
        admitted = self.pool.admitted
        if self.settings.method != "single":
            admitted = tuple(order(self.question, judgement.bindings, admitted, self.steps.distiller))
        packed = pack(
            admitted,
            max_passages=self.settings.generator.max_passages,
            budget=self.settings.generator.context_tokens,
            count=self.steps.count_tokens,
            whole=self.settings.generator.context == "passages",
        )
        if self.steps.generator.appends:
            place = {e.passage_id: n for n, e in enumerate(self.pool.admitted)}
            packed.sort(key=lambda e: place[e.passage_id])
        return packed


def evidence_of(hit: Hit, number: int, query: Query) -> Evidence:
    """A hit of ``query`` in round ``number`` as evidence, not distilled yet; quarantined when its text gives orders."""
    reason = screen(hit.passage.search_text)
    return Evidence(
        hit.passage.id,
        hit.passage.document_id,
        hit.passage.title,
        hit.passage.text,
        (Span(0, len(hit.passage.text)),),
        number,
        query.text,
        hit.score,
        query.gap,
        EvidenceStatus.ADMITTED if reason is None else EvidenceStatus.QUARANTINED,
        reason or "",
        metadata=hit.passage.metadata,
    )


def _tokens(writing: Writing[str, None, Written]) -> Writing[Event, None, Written]:
    while True:
        try:
            yield Token(next(writing))
        except StopIteration as end:
            written: Written = end.value
            return written
