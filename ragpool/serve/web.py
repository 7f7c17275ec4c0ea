"""The page and its files. No build step, nothing from elsewhere; the policy allows no inline script or style."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import resources

from fastapi import APIRouter, Response
from fastapi.responses import HTMLResponse

from ragpool import __version__
from ragpool.serve.errors import missing

router = APIRouter(include_in_schema=False)

_TYPES = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}


@cache
def _files() -> dict[str, tuple[bytes, str]]:
    """Name -> (content, media type) of everything that the page loads; read once, so no request names a path."""
    folder = resources.files("ragpool.serve").joinpath("page")
    found = {}
    for file in folder.iterdir():
        suffix = f".{file.name.rpartition('.')[2]}"
        if suffix in _TYPES:
            found[file.name] = (file.read_bytes(), _TYPES[suffix])
    return found


@cache
def _page() -> str:
    from jinja2 import Environment, PackageLoader

    files = sorted(_files().items())
    digest = hashlib.sha256(b"".join(content for _, (content, _) in files)).hexdigest()[:12]
    environment = Environment(loader=PackageLoader("ragpool.serve", "page"), autoescape=True)
    return environment.get_template("index.html").render(version=__version__, digest=digest)


@router.get("/")
def index() -> HTMLResponse:
    return HTMLResponse(_page(), headers={"Cache-Control": "no-cache"})


@router.get("/static/{name}")
def static(name: str) -> Response:
    found = _files().get(name)
    if found is None:
        raise missing(f"file {name[:80]!r}")
    content, media_type = found
    # modules load each other without a version in the address: so ask each time, it is a few kilobytes
    return Response(content, media_type=media_type, headers={"Cache-Control": "no-cache"})


@router.get("/favicon.ico")
def favicon() -> Response:
    return static("icon.svg")
