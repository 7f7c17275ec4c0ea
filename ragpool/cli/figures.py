"""Evaluation figures as terminal tables."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ragpool.evaluate.rows import GAINS, KIND_COLUMNS, ROWS, Sheet

_WIDTH = 120  # at least: six methods side by side


def print_sheet(sheet: Sheet) -> None:
    """A row a figure and a column a method, then the differences to single-shot, then the figures by question type."""
    out = Console(width=max(Console().width, _WIDTH))
    methods = [figures.method for figures in sheet.figures]
    rows = [[name, *map(write, sheet.figures)] for name, write in ROWS.items()]
    table = _table(sheet.title, ["figure", *methods], 1)
    for row in rows:
        if any(cell != "-" for cell in row[1:]):
            table.add_row(*map(escape, row))
    out.print(table)
    compared = [figures for figures in sheet.figures if figures.gains]
    if compared:
        headings = ["difference to single", *(figures.method for figures in compared)]
        table = _table("with its paired 95 % interval", headings, 1)
        for name, write in GAINS.items():
            table.add_row(name, *(escape(write(figures)).replace(" ", "\n", 1) for figures in compared))
        out.print(table)
    if len(sheet.kinds) > 1:
        table = _table("by question type", ["type", "method", *KIND_COLUMNS], 2)
        for kind, found in sheet.kinds.items():
            for figures in found:
                cells = [escape(write(figures)) for write in KIND_COLUMNS.values()]
                table.add_row(escape(kind), figures.method, *cells)
            table.add_section()
        out.print(table)


def _table(title: str, headings: Sequence[str], names: int) -> Table:
    """An empty table whose first ``names`` columns are words, the others figures."""
    table = Table(title=escape(title), title_justify="left", pad_edge=False)
    for number, heading in enumerate(headings):
        table.add_column(
            heading, justify="left" if number < names else "right", no_wrap=heading.endswith("(95 %)")
        )
    return table
