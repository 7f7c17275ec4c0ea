"""ragpool serve, ragpool mcp, ragpool keys create|ls|revoke|forget."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
    existing_database,
    print_json,
    settings_from,
)

if TYPE_CHECKING:
    from ragpool.serve.keys import KeyRing

keys = typer.Typer(help="Make, list and revoke the API keys of a server.", no_args_is_help=True)

Port = Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")]
Host = Annotated[
    str, typer.Option("--host", help="Another one than this machine's own needs a key (ragpool keys create).")
]
Hosts = Annotated[
    list[str] | None,
    typer.Option("--allow-host", help="A name under which a proxy calls this server; may be repeated."),
]


def _needed() -> None:
    from importlib.util import find_spec

    from ragpool.errors import MissingExtraError

    for package in ("uvicorn", "sse_starlette", "jinja2", "prometheus_client", "multipart", "mcp"):
        if find_spec(package) is None:
            raise MissingExtraError(package.replace("_", "-"), "serve", "the server")


def serve(
    store: Store = DEFAULT_STORE,
    port: Port = 8000,
    host: Host = "127.0.0.1",
    model: Model = None,
    workers: Annotated[
        int, typer.Option("--workers", min=1, max=256, help="Questions in work at the same time.")
    ] = 1,
    queue: Annotated[int, typer.Option("--queue", min=0, help="Questions that may wait; more get 429.")] = 16,
    deadline: Annotated[
        float, typer.Option("--deadline", min=1, help="Seconds for a question, waiting included.")
    ] = 300.0,
    drain: Annotated[
        float, typer.Option("--drain", min=1, help="Seconds that SIGTERM waits for what is in work.")
    ] = 30.0,
    rate: Annotated[int, typer.Option("--rate", min=0, help="Requests a minute and key; 0: no limit.")] = 120,
    upload_mb: Annotated[int, typer.Option("--upload-mb", min=1, help="The largest upload.")] = 20,
    require_key: Annotated[bool, typer.Option("--require-key", help="A key also on this machine.")] = False,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option("--allow-origin", help="A web origin whose pages may call (CORS); may be repeated."),
    ] = None,
    allow_host: Hosts = None,
    config: Config = None,
    set_: Set = None,
) -> None:
    """Serve the store: an OpenAI-compatible API, and a page that shows the evidence as it is found."""
    _needed()
    from ragpool.sdk import RagPool
    from ragpool.serve.options import MEGABYTE, ServeOptions
    from ragpool.serve.run import serve as run

    options = ServeOptions(
        host=host,
        port=port,
        require_key=require_key,
        origins=tuple(allow_origin or ()),
        hosts=tuple(allow_host or ()),
        workers=workers,
        waiting=queue,
        deadline=deadline,
        drain=drain,
        rate=rate,
        upload_bytes=upload_mb * MEGABYTE,
    )
    settings = settings_from(config, set_, model=model)
    with RagPool.open(store, create=True, settings=settings) as rag:
        run(rag, options)


def mcp(
    store: Store = DEFAULT_STORE,
    http: Annotated[
        bool, typer.Option("--http", help="Streamable HTTP at /mcp in place of standard input and output.")
    ] = False,
    port: Port = 8001,
    effort: EffortOption = None,
    method: MethodOption = None,
    model: Model = None,
    config: Config = None,
    set_: Set = None,
) -> None:
    """Serve the store to MCP clients: the tools search, ask and pool_show. Nothing can be changed through it."""
    _needed()
    from ragpool.sdk import RagPool
    from ragpool.serve.mcp import make_mcp

    settings = settings_from(config, set_, model=model, effort=effort, method=method)
    with RagPool.open(store, settings=settings) as rag:
        server = make_mcp(rag)
        if http:
            server.run("streamable-http", host="127.0.0.1", port=port)
        else:
            server.run("stdio")


@contextmanager
def _ring(store: Path, config: Path | None) -> Iterator[KeyRing]:
    _needed()
    from ragpool.serve.keys import KeyRing

    with existing_database(store, config) as database:
        yield KeyRing(database)


@keys.command("create")
def create(
    name: Annotated[str, typer.Argument(help="Who or what uses it.")],
    store: Store = DEFAULT_STORE,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Make a key and print it, once: only its hash is kept."""
    with _ring(store, config) as ring:
        key, text = ring.create(name)
    if as_json:
        print_json({"id": key.id, "name": key.name, "key": text})
    else:
        typer.echo(text)
        typer.echo(f"key {key.id} for {key.name}: copy it now, it is not shown again", err=True)


@keys.command("ls")
def ls(store: Store = DEFAULT_STORE, config: Config = None, as_json: Json = False) -> None:
    """The keys, without their secrets."""
    with _ring(store, config) as ring:
        found = ring.all()
    if as_json:
        print_json(
            {
                "keys": [
                    {"id": k.id, "name": k.name, "created": k.created, "revoked": k.revoked} for k in found
                ]
            }
        )
        return
    for key in found:
        made = datetime.fromtimestamp(key.created).strftime("%Y-%m-%d %H:%M")
        typer.echo(f"{key.id}  {made}  {'revoked' if key.revoked else 'in use '}  {key.name}")


@keys.command("revoke")
def revoke(
    identifier: Annotated[str, typer.Argument(metavar="ID", help="The key's id: ragpool keys ls.")],
    store: Store = DEFAULT_STORE,
    config: Config = None,
) -> None:
    """End a key; a running server notices within two seconds. What it owned stays in the store."""
    with _ring(store, config) as ring:
        key = ring.revoke(identifier)
    typer.echo(f"key {key.id} of {key.name} revoked")


@keys.command("forget")
def forget(store: Store = DEFAULT_STORE, config: Config = None) -> None:
    """Forget the revoked keys, when none is in use: a server on this machine then needs no key again."""
    with _ring(store, config) as ring:
        gone = ring.forget()
    typer.echo(f"{gone} revoked {'key' if gone == 1 else 'keys'} forgotten")
