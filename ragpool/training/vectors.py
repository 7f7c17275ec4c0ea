"""Sentence vectors kept in a folder: a second training run is minutes faster, and one that was killed goes on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ragpool.errors import InputError
from ragpool.models.cached import TextEmbedder, Vectors

_BATCH = 512  # texts that are lost at most


class StoredEmbedder:
    """``embedder`` that writes each vector to ``folder`` and reads those that are there.

    ``texts.jsonl`` has a text a line, ``vectors.f32`` their vectors in that order. Not for two processes at once.
    Raises InputError for a folder of another embedder.
    """

    def __init__(self, embedder: TextEmbedder, folder: Path) -> None:
        self._embedder = embedder
        self.version = str(getattr(embedder, "version", "unknown"))
        folder.mkdir(parents=True, exist_ok=True)
        self._texts, self._vectors = folder / "texts.jsonl", folder / "vectors.f32"
        made_by = folder / "embedder"
        if made_by.is_file() and made_by.read_text(encoding="utf-8") != self.version:
            raise InputError(f"{folder} holds vectors of another embedder; give an empty folder")
        made_by.write_text(self.version, encoding="utf-8")
        self._known: dict[str, Vectors] = self._read()

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Vectors [len(texts), dim] in the order of ``texts``."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        for start in range(0, len(new), _BATCH):
            part = new[start : start + _BATCH]
            vectors = np.asarray(self._embedder.embed(part), np.float32)
            with self._vectors.open("ab") as file:
                file.write(vectors.tobytes())
            with self._texts.open("a", encoding="utf-8") as lines:
                lines.writelines(json.dumps(text) + "\n" for text in part)
            self._known.update(zip(part, vectors, strict=True))
        return np.stack([self._known[text] for text in texts]) if texts else np.zeros((0, 0), np.float32)

    def _read(self) -> dict[str, Vectors]:
        if not self._texts.is_file():
            self._vectors.write_bytes(b"")
            return {}
        texts = [
            json.loads(x) for x in self._texts.read_text(encoding="utf-8").split("\n") if x.endswith('"')
        ]
        size = len(self._embedder.embed([""])[0])
        rows = np.fromfile(self._vectors, np.float32)
        # A kill between the two files leaves vectors without their texts, or half of either.
        whole = min(len(texts), len(rows) // size)
        rows = rows[: whole * size].reshape(whole, size)
        self._vectors.write_bytes(rows.tobytes())
        self._texts.write_text("".join(json.dumps(t) + "\n" for t in texts[:whole]), encoding="utf-8")
        return dict(zip(texts[:whole], rows, strict=True))
