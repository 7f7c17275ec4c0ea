"""ragpool ask."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ragpool.cli.common import (
    DEFAULT_STORE,
    Config,
    EffortOption,
    Json,
    MethodOption,
    Model,
    Set,
    Store,
    console,
    print_json,
    settings_from,
)
from ragpool.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from ragpool.events import Event
    from ragpool.kvcache import KeepPlan
    from ragpool.settings import Settings
    from ragpool.types import Answer


def ask(
    question: Annotated[
        str, typer.Argument(help="The question; - or nothing reads it from standard input.")
    ] = "-",
    store: Store = DEFAULT_STORE,
    effort: EffortOption = None,
    method: MethodOption = None,
    model: Model = None,
    show_evidence: Annotated[
        bool, typer.Option("--show-evidence", help="Show the pool as it fills, round by round.")
    ] = False,
    kv: Annotated[
        str | None,
        typer.Option(
            "--kv",
            metavar="METHOD:RATIO",
            help="Compress the local model's cache, as in critic-rag:0.75 (evict three quarters) or auto.",
        ),
    ] = None,
    show_plan: Annotated[
        bool, typer.Option("--show-plan", help="Show which sentences the compressed cache kept.")
    ] = False,
    config: Config = None,
    set_: Set = None,
    as_json: Json = False,
) -> None:
    """Answer one question from the documents, with citations; say what is missing when they do not tell."""
    from ragpool.pool import answer_json
    from ragpool.sdk import RagPool

    text = _question(question)
    settings = settings_from(config, set_, model=model, effort=effort, method=method, kv=kv)
    with RagPool.open(store, settings=settings) as rag:
        answer = _follow(rag.stream(text), console(), show_evidence)
    plan = _last_plan(settings) if show_plan else None
    if as_json:
        print_json(answer_json(answer) | ({"kv_plan": _plan_json(plan)} if show_plan else {}))
    else:
        _show(answer)
        if show_plan:
            _show_plan(plan)
    raise typer.Exit(0)


def _question(argument: str) -> str:
    if argument != "-":
        return argument
    if sys.stdin is None or sys.stdin.isatty():
        raise InputError("no question: give one as an argument or on standard input")
    text = sys.stdin.read().strip()
    if not text:
        raise InputError("no question on standard input: write one")
    return text


def _follow(events: Iterator[Event], err: Console, show_evidence: bool) -> Answer:
    """Consume the events; with ``show_evidence`` print each as it comes, else a spinner with what is going on."""
    from ragpool.cli.render import describe, evidence_lines
    from ragpool.events import Answered

    with err.status("loading models") as status:
        for event in events:
            if isinstance(event, Answered):
                return event.answer
            if show_evidence:
                for line in evidence_lines(event):
                    err.print(line, highlight=False)
            if said := describe(event):
                status.update(said)
    raise AssertionError("a run ends with Answered")


def _last_plan(settings: Settings) -> KeepPlan | None:
    from ragpool.models import local_model

    local = local_model(settings.models)
    return None if local is None else local.last_plan


def _plan_json(plan: KeepPlan | None) -> dict[str, Any] | None:
    if plan is None:
        return None
    lines = [{"text": text, "share": round(share, 3), "whole": whole} for text, share, whole in plan.lines()]
    return {**plan.summary(), "lines": lines}


def _show_plan(plan: KeepPlan | None) -> None:
    from rich.console import Console

    from ragpool.cli.render import plan_lines

    out = Console()
    for line in plan_lines(plan):
        out.print(line, highlight=False)


def _show(answer: Answer) -> None:
    from rich.console import Console

    from ragpool.cli.render import answer_lines

    out = Console()
    for line in answer_lines(answer):
        out.print(line, highlight=False)
