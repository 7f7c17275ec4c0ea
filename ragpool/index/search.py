"""Nearest passages and shared words, over what is derived from the store; each part is built when first asked for."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ragpool.index.chroma import BrokenGenerationError, ChromaIndex
from ragpool.index.filters import Where, matches
from ragpool.index.lexical import LexicalIndex
from ragpool.index.locking import WriterLock
from ragpool.index.store import PassageStore, Vectors
from ragpool.index.titles import Titles

_LOG = logging.getLogger(__name__)
_MARGIN = 8  # fetched beyond k, so that ties at the cut come out by passage id
_EXACT_ABOVE = 1024  # a filter that needs more neighbours than this is answered by scanning all vectors


class Searcher:
    """The reading half of an Index: one view of the corpus until ``refresh``. Safe to share between threads."""

    def __init__(self, folder: Path, store: PassageStore, chroma: ChromaIndex, lock: WriterLock) -> None:
        self._folder = folder
        self._store = store
        self._chroma = chroma
        self._lock = lock
        self._mutex = threading.RLock()
        self._lexical: LexicalIndex | None = None
        self._titles: Titles | None = None
        self._metadata: dict[str, Mapping[str, Any]] | None = None
        self._matrix: tuple[list[str], Vectors] | None = None
        self._size: int | None = None  # of the open dense index
        self._unusable = False
        self.version = store.version()

    def refresh(self) -> bool:
        """Forget what is held of an older corpus; True when there is a newer one."""
        with self._mutex:
            version = self._store.version()
            if version == self.version and not (self._unusable and self._chroma.is_current(version)):
                return False
            self.version = version
            self._lexical = self._titles = self._metadata = self._matrix = self._size = None
            self._unusable = False
            return True

    def titles(self) -> Titles:
        with self._mutex:
            if self._titles is None:
                self._titles = Titles(self._store.titles())
            return self._titles

    def dense(
        self, vector: Vectors, k: int, exclude: Collection[str], where: Where | None
    ) -> list[tuple[str, float]]:
        keep = self._keep(exclude, where)
        size = self._open_dense()
        if size is not None:
            try:
                n = k + len(exclude) + _MARGIN
                while True:
                    n = min(n, size)
                    found = [hit for hit in self._chroma.search(vector, n) if keep(hit[0])] if n else []
                    if len(found) >= k + _MARGIN or n == size:
                        return _best(found, k)
                    if n > _EXACT_ABOVE:
                        break  # the filter matches few passages: looking at all vectors is the faster way
                    n *= 4
            except BrokenGenerationError as error:
                self._give_up(error)
        return self.dense_exact(vector, k, exclude, where)

    def dense_exact(
        self, vector: Vectors, k: int, exclude: Collection[str], where: Where | None
    ) -> list[tuple[str, float]]:
        keep = self._keep(exclude, where)
        ids, matrix = self._all_vectors()
        if not ids:
            return []
        scores = matrix @ np.asarray(vector, dtype=np.float32)
        return _best([(i, float(s)) for i, s in zip(ids, scores, strict=True) if keep(i)], k)

    def bm25(
        self, query: str, k: int, exclude: Collection[str], where: Where | None
    ) -> list[tuple[str, float]]:
        with self._mutex:
            if self._lexical is None:
                self.version, self._lexical = LexicalIndex.load(self._folder, self._store)
        return self._lexical.search(query, k, self._keep(exclude, where))

    def _keep(self, exclude: Collection[str], where: Where | None) -> Callable[[str], bool]:
        excluded = frozenset(exclude)
        if not where:
            return lambda i: i not in excluded
        allowed = matches(where)
        with self._mutex:
            if self._metadata is None:
                self._metadata = self._store.metadata()
            metadata = self._metadata
        return lambda i: i not in excluded and i in metadata and allowed(metadata[i])

    def _all_vectors(self) -> tuple[list[str], Vectors]:
        with self._mutex:
            if self._matrix is None:
                _, ids, vectors = self._store.all_vectors()
                joined = np.frombuffer(b"".join(vectors), dtype="<f4")
                self._matrix = (ids, joined.reshape(len(ids), -1) if ids else joined)
            return self._matrix

    def _open_dense(self) -> int | None:
        """Open the dense index, brought up to date first where that can be done; its size, None when unusable."""
        with self._mutex:
            if self._size is None and not self._unusable:
                try:
                    self._size = self._open_or_mend()
                except BrokenGenerationError as error:
                    self._give_up(error)
            return self._size

    def _open_or_mend(self) -> int:
        if self._chroma.is_current(self.version):
            try:
                return self._chroma.open()
            except BrokenGenerationError as error:
                _LOG.warning("the dense index is damaged (%s)", error)
        # Damaged, or behind: a writer was killed. The lock decides who mends it; while a writer is at work the last
        # generation serves, if it can.
        if self._lock.held:
            self._chroma.publish()
        elif self._lock.try_acquire():
            try:
                self._chroma.publish()
            finally:
                self._lock.release()
        return self._chroma.open()

    def _give_up(self, error: BrokenGenerationError) -> None:
        with self._mutex:
            self._size, self._unusable = None, True
        _LOG.warning("the dense index cannot be used (%s): every vector is compared instead", error)


def _best(found: list[tuple[str, float]], k: int) -> list[tuple[str, float]]:
    # Rounded for the comparison, since the last bits depend on how the sum was made.
    return sorted(found, key=lambda hit: (-round(hit[1], 6), hit[0]))[:k]
