"""Does a Chroma folder load and answer? Here in the process, or in one of its own that may crash or hang.

``python -m ragpool.index.probe FOLDER PASSAGES`` exits 0 when it does.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

COLLECTION = "passages"
_TIMEOUT = 180.0  # seconds; two are usual, forty were seen on a machine with six times more work than cores


class ProbeError(Exception):
    """The folder does not load or does not answer."""


def client(path: Path) -> Any:
    """A Chroma client on ``path`` that reports to nobody."""
    # Chroma's telemetry switch has to be off before the import as well as in the settings.
    os.environ.setdefault("ANONYMIZED_TELEMETRY", "False")
    import chromadb
    from chromadb.config import Settings

    return chromadb.PersistentClient(str(path), settings=Settings(anonymized_telemetry=False))


@contextmanager
def session(path: Path) -> Iterator[Any]:
    """A client, closed at the end."""
    opened = client(path)
    try:
        yield opened
    finally:
        opened.close()


def check(path: Path, passages: int) -> None:
    """Open ``path`` (which changes its files), count, and look a stored vector up. Raises ProbeError."""
    with session(path) as opened:
        try:
            collection = opened.get_collection(COLLECTION, embedding_function=None)
            found = collection.count()
            if found != passages:
                raise ProbeError(f"{found} of {passages} passages")
            if not passages:
                return
            sample = collection.get(limit=1, include=["embeddings"])
            result = collection.query(
                query_embeddings=sample["embeddings"], n_results=1, include=["distances"]
            )
        except ProbeError:
            raise
        except Exception as error:  # Chroma raises its Rust errors as plain ones
            raise ProbeError(str(error)) from error
        if not result["ids"][0] or abs(result["distances"][0][0]) > 1e-3:
            raise ProbeError("a stored vector is not found")


def in_subprocess(path: Path, passages: int) -> None:
    """``check`` in a process of its own. Raises ProbeError, also when that process crashes or hangs."""
    command = [sys.executable, "-m", "ragpool.index.probe", str(path), str(passages)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT, check=False)
    except subprocess.TimeoutExpired as error:
        raise ProbeError(f"Chroma did not answer within {_TIMEOUT:.0f} s") from error
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        raise ProbeError(lines[-1] if lines else f"Chroma ended with code {done.returncode}")


if __name__ == "__main__":
    try:
        check(Path(sys.argv[1]), int(sys.argv[2]))
    except ProbeError as broken:
        sys.exit(str(broken))
