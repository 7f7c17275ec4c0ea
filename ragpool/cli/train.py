"""ragpool train judge|plan|reader|spans|heads."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Annotated, Any

import typer

from ragpool.cli.common import Json, console, print_json

app = typer.Typer(
    help="Train the small models that ship with ragpool, or your own on your data.", no_args_is_help=True
)

Files = Annotated[
    list[Path], typer.Argument(help="Data sets in the HotpotQA, 2WikiMultihopQA or MuSiQue format.")
]
Out = Annotated[Path, typer.Option("--out", help="The folder for the weights and their card.")]
Seed = Annotated[int, typer.Option("--seed")]


@app.command("judge")
def judge(
    files: Files,
    out: Out,
    seed: Seed = 0,
    vectors: Annotated[
        Path | None, typer.Option("--vectors", help="A folder that keeps sentence vectors for the next run.")
    ] = None,
    as_json: Json = False,
) -> None:
    """The feedback model: is a set of passages enough to answer? Minutes on two cores."""
    _train("judge", files, out, seed, as_json, vectors=vectors)


@app.command("plan")
def plan(
    files: Files,
    out: Out,
    seed: Seed = 0,
    nested: Annotated[
        bool, typer.Option("--nested", help="A further stage on questions of three and more steps.")
    ] = False,
    as_json: Json = False,
) -> None:
    """The adapter that turns a question into look-ups. Two hours on two cores; goes on after a kill."""
    _train("plan", files, out, seed, as_json, nested=nested)


@app.command("reader")
def reader(files: Files, out: Out, seed: Seed = 0, as_json: Json = False) -> None:
    """The adapter that reads a short answer out of evidence. About 30 minutes on two cores; goes on after a kill."""
    _train("reader", files, out, seed, as_json)


@app.command("spans")
def spans(
    files: Files,
    out: Out,
    seed: Seed = 0,
    epochs: Annotated[
        float | None, typer.Option("--epochs", help="Passes over the data, about an hour each.")
    ] = None,
    start: Annotated[
        Path | None, typer.Option("--from", help="The folder of a span reader to go on from.")
    ] = None,
    as_json: Json = False,
) -> None:
    """The small model that points at the answer in the evidence. An hour a pass on two cores; goes on after a kill."""
    _train("spans", files, out, seed, as_json, epochs=epochs, start=start)


@app.command("heads")
def heads(
    out: Out,
    files: Annotated[
        list[Path] | None, typer.Argument(help="Data sets with supporting facts; none: made-up text.")
    ] = None,
    model: Annotated[str, typer.Option("--model", help="A local model, as in models.chat.")] = "embedded",
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """The attention heads by which a model finds evidence, for critic-rag. A few minutes; no labels needed."""
    from ragpool.training.heads import train

    err = console()
    figures = train(
        files or [], out, seed=seed, model=model, log=lambda line: err.print(line, highlight=False)
    )
    if as_json:
        print_json(figures)
    else:
        typer.echo(
            f"table of heads in {out}; used with --set models.weights=FOLDER when that is FOLDER/heads"
        )


def _train(name: str, files: list[Path], out: Path, seed: int, as_json: bool, **options: Any) -> None:
    from ragpool.errors import InputError

    for file in files:
        if not file.is_file():
            raise InputError(f"{file}: no such file; give data sets in the HotpotQA, 2Wiki or MuSiQue format")
    err = console()
    given = {name: value for name, value in options.items() if value is not None}
    module = importlib.import_module(f"ragpool.training.{name}")
    figures: dict[str, Any] = module.train(
        files, out, seed=seed, log=lambda line: err.print(line, highlight=False), **given
    )
    if as_json:
        print_json(figures)
    else:
        typer.echo(
            f"weights and card in {out}; they are used with --set models.weights=FOLDER when they are FOLDER/{name}"
        )
