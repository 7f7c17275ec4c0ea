"""What the loop yields, in order. SDK, CLI, flow, endpoint and tests consume the same events."""

from __future__ import annotations

from dataclasses import dataclass

from ragpool.types import Answer, Evidence, Hit, Judgement, Query, Question, StopReason


@dataclass(frozen=True, slots=True)
class Started:
    """The run is recorded in the pool; ``resumed_round`` is the last committed round, -1 for a new run.

    ``question`` has its look-ups only where an earlier run made them; else ``Planned`` brings them.
    """

    run_id: str
    question: Question
    resumed_round: int = -1


@dataclass(frozen=True, slots=True)
class Planned:
    """The question's look-ups are committed. It comes after round 0, which searches for the question itself."""

    question: Question


@dataclass(frozen=True, slots=True)
class Retrieved:
    """One query was sent."""

    round: int
    query: Query
    hits: tuple[Hit, ...]


@dataclass(frozen=True, slots=True)
class Pooled:
    """A round's passages are committed to the pool; ``evidence`` holds every status, not only admitted."""

    round: int
    evidence: tuple[Evidence, ...]


@dataclass(frozen=True, slots=True)
class Judged:
    """The judgement of the pool as it stands after ``round`` is committed."""

    round: int
    judgement: Judgement


@dataclass(frozen=True, slots=True)
class Refined:
    """What is missing became the next round's queries."""

    round: int
    queries: tuple[Query, ...]


@dataclass(frozen=True, slots=True)
class Stopped:
    """The loop ended; generation follows."""

    round: int
    reason: StopReason


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of the answer's text, as the generator streams it."""

    text: str


@dataclass(frozen=True, slots=True)
class Answered:
    """The last event of every run; the answer is committed."""

    answer: Answer


Event = Started | Planned | Retrieved | Pooled | Judged | Refined | Stopped | Token | Answered
