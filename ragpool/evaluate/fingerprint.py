"""What made an answer, as a few hex digits: answers are kept for exactly that, and for nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from ragpool.settings import Settings

_PACKAGE = Path(__file__).parents[1]
_NOT_ANSWERING = ("cli", "serve", "training", "migrations", "weights")
_ANSWERING = (
    "trial.py",
    "thoughts.py",
    "methods.py",
    "iter_retgen.py",
    "ircot.py",
    "s2g.py",
)  # of this folder
_WEIGHTS = (".safetensors", ".json")


def fingerprint(settings: Settings) -> str:
    """12 hex digits over the code that answers, the prompts and the trained weights, shipped and own.

    Settings and documents are not in it: a run's config hash and the index's version tell those.
    """
    digest = hashlib.sha256()
    for path, root in _files(settings):
        digest.update(f"{path.relative_to(root).as_posix()}\n".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:12]


def _files(settings: Settings) -> Iterator[tuple[Path, Path]]:
    for path in sorted(_PACKAGE.rglob("*")):
        folder = path.relative_to(_PACKAGE).parts[0]
        code = path.suffix in (".py", ".md") and folder not in _NOT_ANSWERING
        if code and (folder != "evaluate" or path.name in _ANSWERING):
            yield path, _PACKAGE
    for weights in (_PACKAGE / "weights", settings.models.weights):
        if weights is not None:
            for path in sorted(weights.rglob("*")):
                if path.suffix in _WEIGHTS and path.name != "figures.json":
                    yield path, weights
