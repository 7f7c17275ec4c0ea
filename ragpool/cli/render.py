"""Events and answers as lines for a terminal (rich markup)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.markup import escape

from ragpool.events import Event, Judged, Planned, Pooled, Refined, Retrieved, Started, Stopped, Token
from ragpool.types import Answer, AnswerStatus, Evidence, EvidenceStatus

if TYPE_CHECKING:
    from ragpool.kvcache import KeepPlan

_COLOUR = {AnswerStatus.ANSWERED: "green", AnswerStatus.PARTIAL: "yellow", AnswerStatus.INSUFFICIENT: "red"}


def describe(event: Event) -> str:
    """A few words on what is going on, for a spinner; empty when there is nothing to say."""
    match event:
        case Started():
            return "searching"
        case Planned():
            return "reading the evidence"
        case Retrieved(round=number, query=query):
            return f"round {number}: {escape(query.text)}"
        case Pooled(round=number):
            return f"round {number}: judging the evidence"
        case Refined(round=number):
            return f"round {number}: asking for what is missing"
        case Stopped():
            return "writing the answer"
        case _:
            return ""


def evidence_lines(event: Event) -> Iterator[str]:
    """What the pool's watcher sees of an event."""
    match event:
        case Started(question=question) | Planned(question=question):
            for triple in question.triples:
                yield f"[dim]plan[/]     {escape(triple.subject)} | {escape(triple.relation)} | {triple.object}"
        case Retrieved(round=number, query=query, hits=hits):
            yield f"[bold]round {number}[/]  {escape(query.kind)}: {escape(query.text)} [dim]({len(hits)} new)[/]"
        case Pooled(evidence=evidence):
            yield from map(_evidence_line, evidence)
        case Judged(judgement=judgement):
            verdict = "sufficient" if judgement.sufficient else "insufficient"
            yield f"[bold]judge[/]    {verdict}, probability {judgement.probability:.2f} [dim]{escape(judgement.judge)}[/]"
            for binding in judgement.bindings:
                yield f"  [green]closed[/] {binding.slot} = {escape(binding.value)} [dim]({binding.confidence:.2f}, {escape(binding.passage_id)})[/]"
            for gap in judgement.gaps:
                yield f"  [yellow]open[/]   {escape(gap.text)}"
        case Stopped(reason=reason):
            yield f"[bold]stop[/]     {reason}"
        case Token() | Refined() | _:
            return


def _evidence_line(evidence: Evidence) -> str:
    colour = "green" if evidence.status is EvidenceStatus.ADMITTED else "red"
    why = f" ({escape(evidence.reason)})" if evidence.reason else ""
    said = escape(" ".join(" ".join(evidence.sentences).split())[:160])
    return f"  [{colour}]{evidence.status}[/]{why} [bold]{escape(evidence.title)}[/] {evidence.score:.3f}  [dim]{said}[/]"


def answer_lines(answer: Answer) -> Iterator[str]:
    """The answer, its sources, what is missing, and how it came about."""
    colour = _COLOUR[answer.status]
    if answer.status is AnswerStatus.INSUFFICIENT:
        yield f"[{colour}]The documents do not say.[/]"
    else:
        yield f"[bold {colour}]{escape(answer.text)}[/]"
    for citation in sorted(answer.citations, key=lambda c: c.marker):
        mark = "" if citation.supported else " [red](not supported)[/]"
        quote = escape(" ".join(citation.quote.split()))
        yield f"  \\[{citation.marker}] [bold]{escape(citation.passage_id)}[/]{mark}: {quote}"
    for gap in answer.missing:
        yield f"  [yellow]not found[/]: {escape(gap)}"
    usage = answer.usage
    yield (
        f"[dim]{answer.status} after {answer.rounds} round{'s' if answer.rounds != 1 else ''} ({answer.stop_reason}),"
        f" {usage.retrievals} searches, {usage.llm_calls} model calls, {usage.tokens} tokens, {answer.seconds:.1f} s,"
        f" run {answer.run_id[:12]}[/]"
    )


def plan_lines(plan: KeepPlan | None) -> Iterator[str]:
    """What a compressed cache kept of the last prompt: its sentences, the brighter the more of them is there."""
    if plan is None:
        yield "[dim]kv: every prompt stayed whole (no method set, or the prompts were too short for it)[/]"
        return
    kept = plan.summary()
    yield (
        f"[bold]kv[/]       {plan.method}: {kept['tokens']} of {kept['length']} positions kept,"
        f" {kept['sentences_kept']} of {kept['sentences']} sentences whole"
    )
    for text, share, whole in plan.lines():
        style = (
            "black on green" if whole else "green" if share >= 0.5 else "default" if share >= 0.2 else "dim"
        )
        yield f"  {share:4.0%} [{style}]{escape(' '.join(text.split()))}[/]"
