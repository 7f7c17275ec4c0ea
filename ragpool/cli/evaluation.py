"""ragpool eval."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ragpool.cli.common import (
    Config,
    EffortOption,
    Model,
    Set,
    console,
    interruptible,
    progress_bar,
    settings_from,
)

EVAL_STORE = Path(".ragpool") / "eval"


def evaluate(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            help="HotpotQA, 2WikiMultihopQA, MuSiQue, or questions.jsonl beside documents.jsonl.",
        ),
    ],
    methods: Annotated[
        str,
        typer.Option(
            "--methods",
            help="Comma-separated: single, iter-retgen-2, iter-retgen-3, ircot, s2g, ragpool; iter-retgen (both), all.",
        ),
    ] = "single,ragpool",
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Only the first N questions of each file.")
    ] = None,
    split: Annotated[str, typer.Option("--split", help="all, heldout (never trained on) or train.")] = "all",
    store: Annotated[
        Path, typer.Option("--store", help="Indexes and answers are kept here, to go on after a stop.")
    ] = EVAL_STORE,
    corpus: Annotated[
        Path | None, typer.Option("--corpus", help="A file of further documents to search among.")
    ] = None,
    effort: EffortOption = None,
    model: Model = None,
    as_json: Annotated[
        Path | None, typer.Option("--json", help="Write all figures and outcomes to this file.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option("--report", help="Write an HTML page with tables and plots to this file.")
    ] = None,
    markdown: Annotated[
        Path | None,
        typer.Option("--markdown", help="Write the main figures as a Markdown table to this file."),
    ] = None,
    config: Config = None,
    set_: Set = None,
) -> None:
    """Methods side by side on the same index, model and context budget, against gold answers and evidence.

    Answers are kept in the store for as long as code, weights, prompts, settings and documents stay the same: run the
    same command again to go on after a stop.
    """
    from ragpool.cli.figures import print_sheet
    from ragpool.evaluate import Evaluation
    from ragpool.evaluate import evaluate as run
    from ragpool.evaluate.harness import distinct, place_in
    from ragpool.evaluate.outputs import Outputs, command_line
    from ragpool.evaluate.rows import Sheet

    outputs = Outputs(as_json, report, markdown)
    settings = settings_from(config, set_, model=model, effort=effort)
    chosen = [m.strip() for m in methods.split(",") if m.strip()]
    results: list[tuple[Path, Evaluation]] = []
    for file in files:
        with (
            progress_bar(f"evaluating {file.name}") as bar,
            interruptible("interrupted; answers are kept, run the same command again to go on"),
        ):
            result = run(
                file,
                place_in(store, file, corpus),
                settings,
                methods=chosen,
                limit=limit,
                split=split,
                extra_documents=corpus,
                progress=lambda _method, done, total: bar(done, total),
            )
        results.append((file, result))
        if result.kept:
            asked = sum(map(len, result.outcomes.values()))
            where = f"kept in {store}, which may be deleted"
            console().print(f"{result.kept} of {asked} answers were there ({where})", highlight=False)
    sheets = [Sheet.of(evaluation) for evaluation in distinct(results)]
    for sheet in sheets:
        print_sheet(sheet)
    command = command_line(
        files,
        methods=methods,
        limit=limit,
        split=split,
        corpus=corpus,
        effort=effort,
        model=model,
        config=config,
        set=set_,
    )
    for path in outputs.write(sheets, settings, command):
        console().print(f"written: {path}", highlight=False)
