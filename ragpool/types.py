"""The frozen values that the stages exchange. Nothing here reads a file, a model or a database.

Ids are strings and are unique within a store. Offsets are character offsets, half open, into the text
of the object that carries them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class EvidenceStatus(StrEnum):
    """What the pool made of a passage. Only ADMITTED evidence is shown to the judge and the generator."""

    ADMITTED = "admitted"
    DUPLICATE = "duplicate"
    REJECTED = "rejected"
    SUPERSEDED = "superseded"
    QUARANTINED = "quarantined"


class StopReason(StrEnum):
    """Why the loop ended; exactly one a run."""

    SUFFICIENT = "sufficient"
    NO_NEW_EVIDENCE = "no_new_evidence"
    REPEATED_QUERY = "repeated_query"
    MAX_ROUNDS = "max_rounds"
    TOKEN_BUDGET = "token_budget"
    DEADLINE = "deadline"
    CANCELLED = "cancelled"
    ERROR = "error"


class AnswerStatus(StrEnum):
    """ANSWERED from complete evidence, PARTIAL when the loop stopped early, INSUFFICIENT when it abstains."""

    ANSWERED = "answered"
    PARTIAL = "partial"
    INSUFFICIENT = "insufficient"


@dataclass(frozen=True, slots=True)
class Span:
    """A half-open character range."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Document:
    """A loaded document.

    ``page_starts`` holds the offset in ``text`` at which each page begins (PDF only, else empty).
    ``metadata`` values are JSON scalars.
    """

    id: str
    title: str
    text: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    page_starts: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a document, the unit of retrieval and citation.

    ``start`` is the offset of ``text`` in its document. ``metadata`` holds the document's metadata and,
    for paged documents, ``page`` (1-based).
    """

    id: str
    document_id: str
    title: str
    text: str
    start: int = 0
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def search_text(self) -> str:
        """What is embedded and tokenised: the title helps every retriever."""
        return f"{self.title}: {self.text}" if self.title else self.text


@dataclass(frozen=True, slots=True)
class Hit:
    """A retrieved passage. ``score`` grows with relevance; its scale depends on ``retriever``.

    ``ranks`` maps the name of each retriever that found the passage to its 1-based rank there.
    """

    passage: Passage
    score: float
    retriever: str
    ranks: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Triple:
    """(subject, relation, object); a subject or object that begins with ``?`` is an open slot."""

    subject: str
    relation: str
    object: str

    @property
    def query(self) -> str:
        """What is searched for to close it."""
        return f"{self.subject} {self.relation}"

    @staticmethod
    def is_slot(term: str) -> bool:
        return term.startswith("?")

    def __str__(self) -> str:
        return f"({self.subject}, {self.relation}, {self.object})"


class Operation(StrEnum):
    """How the values of the final slots become the answer."""

    LOOKUP = "lookup"  # the value of the last slot
    EARLIER = "earlier"  # the entity whose date is the earlier one
    LATER = "later"
    LARGER = "larger"  # the entity whose number is the larger one
    SMALLER = "smaller"
    SAME = "same"  # yes when all values agree, else no


@dataclass(frozen=True, slots=True)
class Question:
    """A question and, when one could be read, its plan: triples in the order in which they can be closed.

    With an ``operation`` other than LOOKUP the plan has two chains, one for each of ``compared``.
    """

    text: str
    triples: tuple[Triple, ...] = ()
    operation: Operation = Operation.LOOKUP
    compared: tuple[str, ...] = ()
    planner: str = ""


@dataclass(frozen=True, slots=True)
class Binding:
    """A closed slot: ``value`` with the passage and the verbatim sentence (``quote``) that says so.

    ``confidence`` is in [0, 1]. ``supposed``: the evidence hardly tells it; it was searched for in vain.
    """

    slot: str
    value: str
    passage_id: str
    quote: str
    confidence: float
    supposed: bool = False


@dataclass(frozen=True, slots=True)
class Gap:
    """What the evidence does not say yet.

    ``triple`` is the first open triple whose subject is known, with the binding filled in; ``text`` says
    the same for people and is the whole gap where no triple could be read.
    """

    text: str
    triple: Triple | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """A passage in the pool, with a snapshot of its text and how it came in.

    ``spans`` are the sentences of ``text`` that bear on the question (verbatim, by offset).
    """

    passage_id: str
    document_id: str
    title: str
    text: str
    spans: tuple[Span, ...]
    round: int
    query: str
    score: float
    gap: str | None = None
    status: EvidenceStatus = EvidenceStatus.ADMITTED
    reason: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def sentences(self) -> tuple[str, ...]:
        """The distilled sentences, verbatim."""
        return tuple(self.text[s.start : s.end] for s in self.spans)


@dataclass(frozen=True, slots=True)
class Query:
    """A query that was or will be sent. ``kind`` is question, gap, bridge or free."""

    text: str
    kind: str
    gap: str | None = None


@dataclass(frozen=True, slots=True)
class Judgement:
    """Is the evidence, taken as a set, enough to answer?

    ``probability`` is the judge's probability of yes, ``sufficient`` is that probability against its
    threshold (and any veto). ``judge`` is ``name@version``. ``bindings`` are the slots closed so far.
    """

    sufficient: bool
    probability: float
    gaps: tuple[Gap, ...] = ()
    judge: str = ""
    bindings: tuple[Binding, ...] = ()


@dataclass(frozen=True, slots=True)
class Usage:
    """What a step or a run cost. Adds up with ``+``."""

    llm_calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    retrievals: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.llm_calls + other.llm_calls,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.retrievals + other.retrievals,
        )

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True)
class Citation:
    """A claim's source: marker [n], and the stored span it was checked against.

    ``supported`` says whether every number, name and date of the claim occurs in ``quote``.
    """

    marker: int
    document_id: str
    passage_id: str
    quote: str
    supported: bool = True


@dataclass(frozen=True, slots=True)
class Draft:
    """What the generator wrote before the run's bookkeeping is added to it.

    ``text`` carries [n] markers, ``answer`` is the short answer without them.
    """

    text: str
    answer: str
    citations: tuple[Citation, ...] = ()
    status: AnswerStatus = AnswerStatus.ANSWERED


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of a run; one line of answers.jsonl (DESIGN.md section 7).

    ``evidence`` is in the order in which it was given to the generator; what was not given follows.
    ``text`` is the answer with [n] markers, ``answer`` the short answer alone.
    """

    id: str
    question: str
    answer: str
    text: str
    status: AnswerStatus
    citations: tuple[Citation, ...]
    evidence: tuple[Evidence, ...]
    queries: tuple[Query, ...]
    rounds: int
    stop_reason: StopReason
    judgement: Judgement
    usage: Usage
    seconds: float
    run_id: str
    config_hash: str
    missing: tuple[str, ...] = ()
    models: Mapping[str, str] = field(default_factory=dict)
