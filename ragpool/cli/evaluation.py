"""ragpool eval."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ragpool.cli.common import (
    Config,
    EffortOption,
    Model,
    Set,
    console,
    progress_bar,
    settings_from,
)


def evaluate(
    file: Annotated[
        Path,
        typer.Argument(help="HotpotQA, 2WikiMultihopQA, MuSiQue, or questions.jsonl beside documents.jsonl."),
    ],
    methods: Annotated[
        str, typer.Option("--methods", help="Comma-separated: single, ragpool.")
    ] = "single,ragpool",
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only the first N questions.")] = None,
    split: Annotated[str, typer.Option("--split", help="all, heldout (never trained on) or train.")] = "all",
    store: Annotated[
        Path | None, typer.Option("--store", help="Keep index and runs here, to go on after a stop.")
    ] = None,
    corpus: Annotated[
        Path | None, typer.Option("--corpus", help="Further documents to search among.")
    ] = None,
    effort: EffortOption = None,
    model: Model = None,
    as_json: Annotated[
        Path | None, typer.Option("--json", help="Write all figures and outcomes to this file.")
    ] = None,
    config: Config = None,
    set_: Set = None,
) -> None:
    """Methods side by side on the same index, model and context budget, against gold answers and evidence."""
    import tempfile

    from ragpool.cli.figures import outcome_rows, print_figures
    from ragpool.evaluate import evaluate as run
    from ragpool.evaluate import summarise
    from ragpool.evaluate.summary import by_kind

    settings = settings_from(config, set_, model=model, effort=effort)
    chosen = [m.strip() for m in methods.split(",") if m.strip()]
    with tempfile.TemporaryDirectory(prefix="ragpool-eval-") as scratch, progress_bar("evaluating") as bar:
        result = run(
            file,
            store or Path(scratch),
            settings,
            methods=chosen,
            limit=limit,
            split=split,
            extra_documents=corpus,
            progress=lambda _method, done, total: bar(done, total),
        )
    figures = summarise(result)
    kinds = by_kind(result)
    print_figures(result, figures, kinds)
    if as_json is not None:
        report = {
            "dataset": result.dataset,
            "split": result.split,
            "documents": result.documents,
            "effort": settings.effort,
            "model": settings.models.chat,
            "config_hash": settings.config_hash(),
            "methods": {f.method: f.to_json() for f in figures},
            "by_type": {kind: {f.method: f.to_json() for f in rows} for kind, rows in kinds.items()},
            "outcomes": outcome_rows(result),
        }
        as_json.write_text(json.dumps(report, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        console().print(f"figures in {as_json}", highlight=False)
