"""ragpool index, ragpool search."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from ragpool.cli.common import (
    DEFAULT_STORE,
    Config,
    Json,
    Set,
    Store,
    console,
    print_json,
    progress_bar,
    settings_from,
)

if TYPE_CHECKING:
    from ragpool.types import Document


def index(
    sources: Annotated[list[str], typer.Argument(help="Files, folders and http(s) addresses.")],
    store: Store = DEFAULT_STORE,
    delete: Annotated[
        bool, typer.Option("--delete", help="Take the given document ids out instead.")
    ] = False,
    prune: Annotated[
        bool, typer.Option("--prune", help="Take out every document that is not among the sources.")
    ] = False,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Embed everything again, with the embedder of the settings.")
    ] = False,
    config: Config = None,
    set_: Set = None,
    as_json: Json = False,
) -> None:
    """Index documents; only what changed is embedded again. Files that cannot be read are named, the rest goes on."""
    from ragpool import corpus
    from ragpool.errors import LoadError
    from ragpool.index import Index

    settings = settings_from(config, set_)
    failed: list[LoadError] = []
    with Index.open(store, settings, write=True, create=True, reembed=rebuild) as opened:
        if delete:
            count = opened.delete(sources)
            print_json({"deleted": count}) if as_json else typer.echo(f"{count} documents taken out")
            raise typer.Exit(0 if count else 1)
        documents: Iterable[Document] = corpus.load(sources, on_error=failed.append)
        if prune:  # what could not be read this time is not gone
            documents = list(documents)
            if failed:
                console().print("[yellow]nothing pruned[/]: some sources could not be read", highlight=False)
        with progress_bar("indexing") as progress:
            report = opened.add(documents, progress=progress, prune=prune and not failed)
        total, passages = opened.count()
    for error in failed:
        console().print(f"[yellow]not indexed[/] {error}", highlight=False, soft_wrap=True)
    if as_json:
        figures = asdict(report) | {"failed": [{"source": e.source, "reason": e.reason} for e in failed]}
        print_json(figures | {"total_documents": total, "total_passages": passages, "store": str(store)})
    else:
        typer.echo(
            f"{report.added} added, {report.changed} changed, {report.unchanged} unchanged, {report.deleted} deleted,"
            f" {len(failed)} failed; {total} documents in {passages} passages in {store}"
        )
    raise typer.Exit(1 if failed else 0)


def search(
    query: Annotated[str, typer.Argument(help="What to look for.")],
    store: Store = DEFAULT_STORE,
    k: Annotated[int, typer.Option("-k", min=1, max=200, help="How many passages.")] = 10,
    mode: Annotated[str | None, typer.Option("--mode", help="hybrid, dense or bm25.")] = None,
    config: Config = None,
    set_: Set = None,
    as_json: Json = False,
) -> None:
    """One search, no loop: the best passages with their scores."""
    from ragpool.sdk import RagPool

    settings = settings_from(config, [*(set_ or []), *([f"retrieve.mode={mode}"] if mode else [])])
    with RagPool.open(store, settings=settings) as rag:
        hits = rag.search(query, k=k)
    if as_json:
        rows = [
            {
                "passage_id": h.passage.id,
                "document_id": h.passage.document_id,
                "title": h.passage.title,
                "text": h.passage.text,
                "score": h.score,
                "ranks": dict(h.ranks),
                "metadata": dict(h.passage.metadata),
            }
            for h in hits
        ]
        print_json({"query": query, "mode": settings.retrieve.mode, "hits": rows})
        return
    from rich.console import Console
    from rich.markup import escape

    out = Console()
    for number, hit in enumerate(hits, start=1):
        page = f" p. {hit.passage.metadata['page']}" if "page" in hit.passage.metadata else ""
        out.print(
            f"[bold]{number:2}. {escape(hit.passage.title)}[/]{page}  [dim]{escape(hit.passage.id)}  {hit.score:.4f}[/]",
            highlight=False,
        )
        out.print(f"    {escape(' '.join(hit.passage.text.split())[:240])}", highlight=False)
    if not hits:
        out.print("nothing found")
