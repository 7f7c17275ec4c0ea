"""ragpool doctor."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata, resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ragpool.cli.common import Config, Json, Set, print_json, settings_from

if TYPE_CHECKING:
    from ragpool.settings import Settings

_PACKAGES = (
    "torch", "transformers", "peft", "chromadb", "rank-bm25", "langchain-core", "sqlalchemy", "prefect", "pypdf",
    "trafilatura", "markitdown",
)  # fmt: skip
_OPTIONAL = {"langchain-openai": "openai", "psycopg": "postgres"}


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at. ``mend`` is the command that helps where it is not ok."""

    name: str
    ok: bool
    found: str
    mend: str = ""
    required: bool = True


def doctor(
    store: Annotated[Path | None, typer.Option("--store", help="Look at this store too.")] = None,
    config: Config = None,
    set_: Set = None,
    as_json: Json = False,
) -> None:
    """Which models and versions are in use, what is missing, and the command that mends it. Loads no model."""
    settings = settings_from(config, set_)
    checks = [*_packages(), *_models(settings), *_weights(), *(_store(store, settings) if store else ())]
    healthy = all(c.ok or not c.required for c in checks)
    if as_json:
        from ragpool import __version__

        print_json({"ok": healthy, "ragpool": __version__, "checks": [asdict(c) for c in checks]})
    else:
        from rich.console import Console
        from rich.markup import escape

        out = Console()
        for check in checks:
            mark = (
                "[green]ok[/]     "
                if check.ok
                else ("[red]missing[/]" if check.required else "[yellow]absent[/] ")
            )
            mend = f"\n        -> {escape(check.mend)}" if check.mend and not check.ok else ""
            out.print(
                f"{mark} [bold]{check.name}[/]  {escape(check.found)}{mend}", highlight=False, soft_wrap=True
            )
    raise typer.Exit(0 if healthy else 1)


def _packages() -> Iterator[Check]:
    yield Check("python", True, platform.python_version())
    for name in _PACKAGES:
        version = _version(name)
        yield Check(name, version is not None, version or "not installed", f"pip install {name}")
    for name, extra in _OPTIONAL.items():
        version = _version(name)
        mend = f"pip install 'ragpool[{extra}]'"
        yield Check(name, version is not None, version or "not installed", mend, required=False)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _models(settings: Settings) -> Iterator[Check]:
    from ragpool.errors import RagpoolError
    from ragpool.models import resolve

    for role, name in (("chat model", settings.models.chat), ("embedder", settings.models.embedder)):
        try:
            found = resolve(name, settings.models, role="chat" if role == "chat model" else "embedder")
        except RagpoolError as error:
            yield Check(role, False, name, str(error))
        else:
            yield Check(role, True, f"{name}: {found.version} ({found.kind})")


def _weights() -> Iterator[Check]:
    folder = resources.files("ragpool.weights")
    for name in ("plan", "spans", "reader", "judge"):
        files = (
            [f for f in folder.joinpath(name).iterdir() if f.name.endswith(".safetensors")]
            if folder.joinpath(name).is_dir()
            else []
        )
        found = ", ".join(f.name for f in files)
        yield Check(
            f"weights/{name}", bool(files), found or "not there", f"ragpool train {name} FILE... --out DIR"
        )


def _store(folder: Path, settings: Settings) -> Iterator[Check]:
    from ragpool.errors import RagpoolError
    from ragpool.index import Index

    mend = f"ragpool index PATH --store {folder}"
    try:
        with Index.open(folder, settings) as index:
            documents, passages = index.count()
            yield Check(
                "store",
                True,
                f"{folder}: {documents} documents, {passages} passages, version {index.version[:12]}",
            )
            trouble = index.check()
            yield Check("vector index", not trouble, trouble or "answers", mend)
    except RagpoolError as error:
        yield Check("store", False, str(error), mend)
