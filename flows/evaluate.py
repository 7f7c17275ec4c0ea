"""``python -m ragpool.flows.evaluate FILE...``: an evaluation as a Prefect flow, with or without a server.

Importing this module does not import prefect.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .home import outside_loop, prefect_home

if TYPE_CHECKING:
    from prefect.client.schemas import State


def run_evaluation(files: list[str], *, store: str = ".ragpool/eval", **options: Any) -> State[Any]:
    """The flow from a plain program, with the user's Prefect server or one of its own.

    ``options`` are the flow's parameters. Returns its final state.
    """

    async def called() -> State[Any]:
        from .evaluate_flow import evaluate

        state: State[Any] = await evaluate(files, store=store, **options, return_state=True)
        return state

    with prefect_home(Path(store)) as ready:
        ready()
        return outside_loop(lambda: asyncio.run(called()))


def main() -> None:
    """The command line: the options of ``ragpool eval`` that are parameters of the flow."""
    import typer

    def command(
        files: list[str],
        store: str = ".ragpool/eval",
        methods: str = "single,ragpool",
        limit: int | None = None,
        split: str = "all",
        corpus: str | None = None,
        json: str | None = None,
        report: str | None = None,
        markdown: str | None = None,
        config: str | None = None,
        effort: str | None = None,
    ) -> None:
        """Methods side by side over each data set, as a Prefect flow."""
        state = run_evaluation(
            files,
            store=store,
            methods=methods,
            limit=limit,
            split=split,
            corpus=corpus,
            figures=json,
            report=report,
            markdown=markdown,
            config=config,
            effort=effort,
        )
        if state.is_completed():
            typer.echo(state.result())
        typer.echo(state.message or state.name, err=True)
        raise typer.Exit(0 if state.is_completed() else 1)

    typer.run(command)


if __name__ == "__main__":
    main()
