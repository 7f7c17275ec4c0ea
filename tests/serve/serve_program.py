"""A program: a server over a store of the small world on a free port, until SIGTERM."""

from __future__ import annotations

import sys
from pathlib import Path


def main(store: str, delay: str) -> None:
    from fakes import HashEmbedder
    from scripted import ScriptedChat, open_rag

    from ragpool.serve.options import ServeOptions
    from ragpool.serve.run import serve

    with open_rag(Path(store), ScriptedChat(delay=float(delay)), HashEmbedder()) as rag:
        serve(rag, ServeOptions(port=0, drain=15))


if __name__ == "__main__":
    tests = Path(__file__).parents[1]
    sys.path[:0] = [str(tests), str(tests / "flows")]
    main(*sys.argv[1:])
