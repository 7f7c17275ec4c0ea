"""ragpool batch."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Annotated

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
    interruptible,
    print_json,
    progress_bar,
    settings_from,
)


def batch(
    questions: Annotated[
        Path, typer.Argument(help="A questions.jsonl, or a HotpotQA, 2WikiMultihopQA or MuSiQue file.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Where the answers go, one JSON line each.")],
    store: Store = DEFAULT_STORE,
    effort: EffortOption = None,
    method: MethodOption = None,
    model: Model = None,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Questions in work at the same time.")] = 1,
    job: Annotated[
        str | None, typer.Option("--job", help="The job's name (default: from the output's path).")
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only the first N questions.")] = None,
    table: Annotated[
        bool, typer.Option("--table", help="Print a table of answers, and figures where there is gold.")
    ] = False,
    config: Config = None,
    set_: Set = None,
    as_json: Json = False,
) -> None:
    """Answer a file of questions as a Prefect flow. Run it again to go on after a kill: nothing is done twice."""
    settings = settings_from(config, set_, model=model, effort=effort, method=method)
    run_batch = importlib.import_module("ragpool.flows.answer").run_batch  # flows are above the library
    with (
        interruptible("interrupted; run the same command again to go on"),
        progress_bar("answering") as progress,
    ):
        report = run_batch(
            questions,
            store,
            out,
            settings=settings,
            workers=workers,
            job=job,
            limit=limit,
            on_progress=lambda done, total, _answer: progress(done, total),
        )
    for question_id, reason in report.failed:
        console().print(f"[red]failed[/] {question_id}: {reason}", highlight=False, soft_wrap=True)
    if table:
        from ragpool.cli.table import print_table

        print_table(out, questions, limit)
    if as_json:
        failed = [{"id": question_id, "reason": reason} for question_id, reason in report.failed]
        print_json(
            {
                "answered": report.answered,
                "already": report.already,
                "failed": failed,
                "seconds": report.seconds,
                "job": report.job,
                "out": str(out),
            }
        )
    else:
        again = "; run the same command again to try the failed ones" if report.failed else ""
        typer.echo(
            f"{report.answered} answered, {report.already} were there, {len(report.failed)} failed"
            f" in {report.seconds:.1f} s -> {out}{again}"
        )
    raise typer.Exit(1 if report.failed else 0)
