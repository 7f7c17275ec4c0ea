"""ragpool pool ls|show|export|rm."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ragpool.cli.common import DEFAULT_STORE, Config, Json, Store, existing_database, print_json

if TYPE_CHECKING:
    from ragpool.pool import PoolStore

app = typer.Typer(help="Look at, take along or delete the pools that runs have filled.", no_args_is_help=True)

RunId = Annotated[str, typer.Argument(help="A run's id, or its first characters.")]


@contextmanager
def _opened(store: Path, config: Path | None) -> Iterator[PoolStore]:
    from ragpool.pool import PoolStore

    with existing_database(store, config) as database:
        yield PoolStore(database)


@app.command("ls")
def ls(
    store: Store = DEFAULT_STORE,
    job: Annotated[str | None, typer.Option("--job", help="Only the runs of this job.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1)] = 50,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """The runs, newest first."""
    with _opened(store, config) as pools:
        runs = pools.runs(job=job, limit=limit)
    if as_json:
        from dataclasses import asdict

        print_json({"runs": [asdict(run) for run in runs]})
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(
        "run", "created", "job", "question", "status", "stop reason", "rounds", "evidence", pad_edge=False
    )
    for run in runs:
        created = datetime.fromtimestamp(run.created).strftime("%Y-%m-%d %H:%M")
        status, reason = run.status or "unfinished", run.stop_reason or ""
        table.add_row(
            run.run_id[:12],
            created,
            escape(run.job),
            escape(run.question),
            status,
            reason,
            str(run.rounds),
            str(run.evidence),
        )
    Console().print(table)


@app.command("show")
def show(run_id: RunId, store: Store = DEFAULT_STORE, config: Config = None, as_json: Json = False) -> None:
    """One run, round by round: queries, evidence, judgements, answer."""
    with _opened(store, config) as pools:
        pool = pools.pool(run_id)
        if as_json:
            print_json(pool.export())
            return
        from rich.console import Console

        from ragpool.cli.render import answer_lines, evidence_lines
        from ragpool.events import Judged, Pooled, Retrieved, Started
        from ragpool.types import Question

        out = Console()
        out.print(f"[bold]{pool.question_text}[/]", highlight=False)
        events = [Started(pool.run_id, pool.question or Question(pool.question_text))]
        judged = dict(pool.judgements)
        lines = [line for event in events for line in evidence_lines(event)]
        for number in range(pool.last_round + 1):
            for query in pool.queries_of(number):
                lines += evidence_lines(Retrieved(number, query, ()))
            lines += evidence_lines(Pooled(number, tuple(e for e in pool.evidence if e.round == number)))
            if number in judged:
                lines += evidence_lines(Judged(number, judged[number]))
        if pool.answer is not None:
            lines += answer_lines(pool.answer)
        for line in lines:
            out.print(line, highlight=False)


@app.command("export")
def export(
    run_id: RunId,
    store: Store = DEFAULT_STORE,
    out: Annotated[Path | None, typer.Option("--out", help="A file; without it, standard output.")] = None,
    config: Config = None,
) -> None:
    """Everything about one run as JSON."""
    with _opened(store, config) as pools:
        text = json.dumps(pools.pool(run_id).export(), ensure_ascii=False, indent=2)
    if out is None:
        typer.echo(text)
    else:
        out.write_text(text + "\n", encoding="utf-8")


@app.command("rm")
def rm(
    run_id: Annotated[str | None, typer.Argument(help="A run's id, or its first characters.")] = None,
    store: Store = DEFAULT_STORE,
    job: Annotated[str | None, typer.Option("--job", help="Every run of this job.")] = None,
    config: Config = None,
) -> None:
    """Delete one run, or all runs of a job, with their evidence."""
    from ragpool.errors import InputError

    if (run_id is None) == (job is None):
        raise InputError("name a run, or a job with --job; 'ragpool pool ls' lists both")
    with _opened(store, config) as pools:
        if run_id is not None:
            pools.delete(pools.pool(run_id).run_id)
            typer.echo("1 run deleted")
        else:
            typer.echo(f"{pools.delete_job(job or '')} runs deleted")
