"""Prompts are files in this folder, loaded by name; their hash goes into the run record."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib import resources

from ragpool.errors import SettingsError


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt file: ``text`` as it is on disk, ``sha`` the first 12 hex digits of its SHA-256."""

    name: str
    text: str
    sha: str

    def fill(self, **fields: str) -> str:
        """The text with ``{field}`` replaced. Braces inside the values stay as they are."""
        parts = self.text.split("{")
        filled = parts[0]
        for part in parts[1:]:
            name, brace, rest = part.partition("}")
            filled += fields[name] + rest if brace and name in fields else "{" + part
        return filled


@cache
def load(name: str) -> Prompt:
    """The prompt ``name`` (without the .md). Raises SettingsError when there is no such file."""
    file = resources.files(__name__).joinpath(f"{name}.md")
    if not file.is_file():
        raise SettingsError(f"there is no prompt named {name!r}; see the .md files in ragpool/prompts")
    text = file.read_text(encoding="utf-8")
    return Prompt(name, text, hashlib.sha256(text.encode()).hexdigest()[:12])
