"""A small corpus of lighthouses, and settings that split it finely; shared with the processes that tests kill."""

from __future__ import annotations

from ragpool.settings import IndexSettings, Settings
from ragpool.types import Document

SETTINGS = Settings(index=IndexSettings(chunk_size=200, chunk_overlap=20))
HARBOURS = ("Aldmoor", "Brinnock", "Caldry", "Dunmere", "Eskwater", "Farrow", "Gildenhythe")


def make(number: int, note: str = "") -> Document:
    harbour = HARBOURS[number % len(HARBOURS)]
    text = f"The lighthouse number {number} stands over the harbour of {harbour}. Its keeper {number} came in {1700 + number}. {note}"
    return Document(
        f"d{number}", f"{harbour} light {number}", text, {"harbour": harbour, "year": 1700 + number}
    )


DOCUMENTS = [make(n) for n in range(40)]
