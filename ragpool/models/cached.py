"""Vectors of texts that were seen before: the distiller and the judge weigh the same sentences, round after round."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]

_TEXTS = 40_000  # of 384 floats: 60 MB


class TextEmbedder(Protocol):
    """Texts to L2-normalised float32 vectors [n, dim]."""

    def embed(self, texts: Sequence[str]) -> Vectors: ...


class CachedEmbedder:
    """Keeps the vectors of the last ``size`` texts, least recently used out first."""

    def __init__(self, embedder: TextEmbedder, size: int = _TEXTS) -> None:
        self._embedder = embedder
        self._size = size
        self._seen: OrderedDict[str, Vectors] = OrderedDict()

    @classmethod
    def of(cls, embedder: TextEmbedder) -> CachedEmbedder:
        """``embedder`` itself where it keeps vectors already."""
        return embedder if isinstance(embedder, cls) else cls(embedder)

    @property
    def version(self) -> str:
        """The version of the embedder behind it; "unknown" where that says none."""
        return str(getattr(self._embedder, "version", "unknown"))

    def __contains__(self, text: str) -> bool:
        return text in self._seen

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Vectors [len(texts), dim] in the order of ``texts``."""
        unseen = [text for text in dict.fromkeys(texts) if text not in self._seen]
        fresh = dict(zip(unseen, self._embedder.embed(unseen), strict=True)) if unseen else {}
        rows = [fresh[text] if text in fresh else self._seen[text] for text in texts]
        for text, row in zip(texts, rows, strict=True):
            self._seen[text] = row
            self._seen.move_to_end(text)
        while len(self._seen) > self._size:
            self._seen.popitem(last=False)
        return np.stack(rows) if rows else np.zeros((0, 0), np.float32)
