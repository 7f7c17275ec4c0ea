"""Small real implementations of public interfaces, for tests that need no trained model."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray


class HashEmbedder:
    """An embedder without weights: each word has a fixed random direction, a text is the sum of its words.

    Texts that share words are near each other, which is all that a test of plumbing needs. ``embedded`` lists every
    text that was embedded, in order.
    """

    def __init__(self, name: str = "hash", version: str = "hash@1", dimension: int = 64) -> None:
        self.name = name
        self.version = version
        self.dimension = dimension
        self.embedded: list[str] = []

    def embed(
        self,
        texts: Sequence[str],
        *,
        batch_tokens: int = 4096,
        progress: Callable[[int], None] | None = None,
    ) -> NDArray[np.float32]:
        """float32 [len(texts), dimension], each row of length 1."""
        rows = np.zeros((len(texts), self.dimension), dtype=np.float32)
        for row, text in enumerate(texts):
            rows[row] = self._vector(text)
            if progress is not None:
                progress(1)
        self.embedded.extend(texts)
        return rows

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """float32 [dimension]."""
        return self._vector(text)

    def _vector(self, text: str) -> NDArray[np.float32]:
        total = np.zeros(self.dimension)
        for word in re.findall(r"\w+", text.lower()) or [""]:
            seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "big")
            total += np.random.default_rng(seed).normal(size=self.dimension)
        return (total / np.linalg.norm(total)).astype(np.float32)
