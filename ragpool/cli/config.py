"""ragpool config show|init."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ragpool.cli.common import Config, Json, Set, print_json, settings_from

app = typer.Typer(help="The settings in force, and a file to change them in.", no_args_is_help=True)


@app.command("show")
def show(config: Config = None, set_: Set = None, as_json: Json = False) -> None:
    """The settings as they would be used here; secrets are masked."""
    settings = settings_from(config, set_)
    tree = settings.model_dump(mode="json")
    tree["database_url"] = _masked(settings.database_url)
    if as_json:
        print_json(tree | {"preset": settings.preset.model_dump(), "config_hash": settings.config_hash()})
        return
    typer.echo(_toml(tree), nl=False)
    typer.echo(
        f"# effort {settings.effort} means: {settings.preset}\n# config hash: {settings.config_hash()}"
    )


@app.command("init")
def init(
    out: Annotated[Path, typer.Option("--out", help="The file to write.")] = Path("ragpool.toml"),
    force: Annotated[bool, typer.Option("--force", help="Write over an existing file.")] = False,
) -> None:
    """Write a settings file with every setting at its default."""
    from ragpool.errors import InputError
    from ragpool.settings import Settings

    if out.exists() and not force:
        raise InputError(f"{out} is there already: --force writes over it")
    head = "# Settings of ragpool. A line that begins with # is at its default.\n"
    out.write_text(
        head + _toml(Settings.model_construct().model_dump(mode="json"), comment=True), encoding="utf-8"
    )
    typer.echo(f"wrote {out}")


def _masked(url: str | None) -> str | None:
    if url is None:
        return None
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return "(not a database URL)"


def _toml(tree: dict[str, Any], *, comment: bool = False) -> str:
    """The tree as TOML: plain values first, then a table a section. None has no TOML form and is commented out."""
    mark = "# " if comment else ""
    lines = [_line(k, v, mark) for k, v in tree.items() if not isinstance(v, dict)]
    for name, section in tree.items():
        if isinstance(section, dict):
            lines += ["", f"[{name}]", *(_line(k, v, mark) for k, v in section.items())]
    return "\n".join(lines) + "\n"


def _line(key: str, value: Any, mark: str) -> str:
    import json

    if value is None:
        return f"# {key} ="
    return f"{mark}{key} = {json.dumps(value)}"
