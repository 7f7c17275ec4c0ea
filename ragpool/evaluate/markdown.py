"""The README's table."""

from __future__ import annotations

from collections.abc import Sequence

from ragpool.evaluate.rows import MAIN_ROWS, Sheet


def markdown(sheets: Sequence[Sheet], command: str = "") -> str:
    """A table of the main figures for each data set, under its title; ``command`` is what makes it again."""
    parts = [f"`{command}`\n"] if command else []
    for sheet in sheets:
        lines = [["", *(figures.method for figures in sheet.figures)]]
        lines += [[name, *map(write, sheet.figures)] for name, write in MAIN_ROWS.items()]
        head, *body = [f"| {' | '.join(cells)} |" for cells in lines]
        rule = "|" + "---|" * len(lines[0])
        parts.append("\n".join([f"**{sheet.title}**\n", head, rule, *body]) + "\n")
    return "\n".join(parts)
