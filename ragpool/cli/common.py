"""What several commands share: options, settings from the line, progress bars, JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ragpool.errors import RagpoolError, SettingsError

if TYPE_CHECKING:
    from rich.console import Console

    from ragpool.db import Database
    from ragpool.settings import Settings

Store = Annotated[Path, typer.Option("--store", help="The folder of the index and the pools.")]
Config = Annotated[
    Path | None, typer.Option("--config", help="A settings file (default: ragpool.toml, if there).")
]
Set = Annotated[
    list[str] | None, typer.Option("--set", help="A setting, as in --set retrieve.k=5; may be repeated.")
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output, nothing else there.")]
Model = Annotated[
    str | None, typer.Option("--model", help="embedded, a local folder, or provider:model[@base_url].")
]
EffortOption = Annotated[str | None, typer.Option("--effort", help="low, medium or high.")]
MethodOption = Annotated[
    str | None, typer.Option("--method", help="ragpool (the loop) or single (one search).")
]

DEFAULT_STORE = Path(".ragpool")


def settings_from(
    config: Path | None,
    assignments: list[str] | None = None,
    *,
    model: str | None = None,
    effort: str | None = None,
    method: str | None = None,
    kv: str | None = None,
) -> Settings:
    """Settings with the line's options laid over file and environment."""
    from ragpool.settings import Settings

    tree: dict[str, Any] = {}
    for assignment in assignments or []:
        name, equals, value = assignment.partition("=")
        if not equals or not name:
            raise SettingsError(f"--set {assignment}: write it as name=value, for example --set retrieve.k=5")
        *parents, leaf = name.split(".")
        branch = tree
        for parent in parents:
            branch = branch.setdefault(parent, {})
        branch[leaf] = _value(value)
    if model is not None:
        tree.setdefault("models", {})["chat"] = model
    if kv is not None:
        tree.setdefault("generator", {})["kv"] = _kv(kv) | tree.get("generator", {}).get("kv", {})
    tree.update({k: v for k, v in (("effort", effort), ("method", method)) if v is not None})
    return Settings.load(config, **tree)


@contextmanager
def existing_database(store: Path, config: Path | None) -> Iterator[Database]:
    """The database of a store that is there already. Raises StoreNotFoundError."""
    from ragpool.db import DATABASE_FILE, Database
    from ragpool.errors import StoreNotFoundError

    url = settings_from(config).database_url
    if url is None and not (store / DATABASE_FILE).is_file():
        raise StoreNotFoundError(f"no store in {store}: ragpool index PATH --store {store}")
    database = Database.in_folder(store, url)
    try:
        yield database
    finally:
        database.close()


def _kv(text: str) -> dict[str, Any]:
    """``METHOD[:AMOUNT]`` as settings. A method that is named for one question is used whatever its prompts' length."""
    from ragpool.kvcache import KVChoice

    choice = KVChoice.parse(text)
    chosen: dict[str, Any] = {"method": choice.method, "ratio": choice.ratio, "tokens": choice.tokens}
    chosen["every"] = choice.every
    return chosen if choice.method == "auto" else {**chosen, "start": 0}


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


class Interrupted(RagpoolError):
    """Ctrl-C; the message says how to go on. Typer would end a plain KeyboardInterrupt without a word."""

    exit_code = 130


@contextmanager
def interruptible(message: str) -> Iterator[None]:
    """Turns Ctrl-C into Interrupted, with the interrupt's own words or ``message``."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise Interrupted(str(error) or message) from error


def console() -> Console:
    """Where progress and tables for people go when standard output is for data."""
    from rich.console import Console

    return Console(stderr=True)


def print_json(value: Any) -> None:
    """One JSON object on one line."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
    sys.stdout.flush()


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error; the yielded function takes (done, total). Plain lines where it is no terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    bar = Progress(*columns, console=console())
    task = bar.add_task(title, total=None)

    def update(done: int, total: int) -> None:
        bar.start()  # not before there is progress: an error in the call leaves no empty bar; again does nothing
        bar.update(task, completed=done, total=total or None)

    try:
        yield update
    finally:
        bar.stop()
