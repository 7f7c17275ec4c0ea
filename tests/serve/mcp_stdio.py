"""A program: the MCP server of ``ragpool mcp`` on standard input and output, over a store of the small world."""

from __future__ import annotations

import sys
from pathlib import Path


def main(store: str) -> None:
    from fakes import HashEmbedder
    from scripted import ScriptedChat, open_rag

    from ragpool.serve.mcp import make_mcp

    with open_rag(Path(store), ScriptedChat(), HashEmbedder()) as rag:
        make_mcp(rag).run("stdio")


if __name__ == "__main__":
    tests = Path(__file__).parents[1]
    sys.path[:0] = [str(tests), str(tests / "flows")]
    main(sys.argv[1])
