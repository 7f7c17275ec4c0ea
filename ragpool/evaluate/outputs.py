"""The files of an evaluation: JSON, HTML report, Markdown table."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ragpool.errors import InputError
from ragpool.evaluate.markdown import markdown
from ragpool.evaluate.report import report
from ragpool.evaluate.rows import Sheet, to_json
from ragpool.settings import Settings


@dataclass(frozen=True, slots=True)
class Outputs:
    """Where the files go; None: not written.

    Raises InputError when a folder is not there, before hours are spent on what cannot be written.
    """

    json: Path | None = None
    report: Path | None = None
    markdown: Path | None = None

    def __post_init__(self) -> None:
        for out in (self.json, self.report, self.markdown):
            if out is not None and not out.parent.is_dir():
                raise InputError(f"{out.parent}: no such folder for {out.name}; make it first")

    def write(self, sheets: Sequence[Sheet], settings: Settings, command: str) -> list[Path]:
        """Write the files, and say which. ``command`` is the command line that makes them again."""
        made_by = {
            "model": settings.models.chat,
            "effort": settings.effort,
            "settings": settings.config_hash(),
        }
        written: list[Path] = []
        if self.json is not None:
            text = json.dumps(to_json(sheets, settings), ensure_ascii=False, indent=1, allow_nan=False)
            written.append(_write(self.json, f"{text}\n"))
        if self.report is not None:
            written.append(_write(self.report, report(sheets, command, made_by)))
        if self.markdown is not None:
            written.append(_write(self.markdown, markdown(sheets, command)))
        return written


def command_line(files: Sequence[Path], **options: Any) -> str:
    """The ``ragpool eval`` of these options; those that are None are left out."""
    words = ["ragpool", "eval", *map(str, files)]
    for name, value in options.items():
        for one in value if isinstance(value, list) else [value]:
            if one is not None:
                words += [f"--{name}", str(one)]
    return shlex.join(words)


def _write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path
