"""The index of a store folder: documents in, passages and nearest passages out."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np

from ragpool.corpus.split import content_hash, split
from ragpool.db import DATABASE_FILE, Database
from ragpool.errors import (
    EmbedderMismatchError,
    InputError,
    NotFoundError,
    SettingsError,
    StoreError,
    StoreNotFoundError,
)
from ragpool.index.chroma import ChromaIndex
from ragpool.index.filters import Where
from ragpool.index.locking import WriterLock
from ragpool.index.search import Searcher
from ragpool.index.store import AddReport, DocumentInfo, Manifest, PassageStore, Prepared, Vectors
from ragpool.index.titles import Titles
from ragpool.settings import Settings
from ragpool.types import Document, Passage

if TYPE_CHECKING:
    from ragpool.models import Embedder

_WINDOW = 512  # passages embedded and committed together: what a kill can cost

Progress = Callable[[int, int], None]


class Index:
    """The passages of a store folder. ``Index.open`` is the way in; use as a context manager or ``close``.

    Any number of processes may read, one at a time may write, also while others read: they go on with what they
    opened and see the changes after ``refresh``. One Index may be shared between threads.
    """

    def __init__(
        self,
        folder: Path,
        settings: Settings,
        database: Database,
        lock: WriterLock,
        embedder: Embedder | None,
    ) -> None:
        self._folder = folder
        self._settings = settings
        self._database = database
        self._store = PassageStore(database)
        self._chroma = ChromaIndex(folder, self._store)
        self._lock = lock
        self._searcher = Searcher(folder, self._store, self._chroma, lock)
        self._embedder = embedder
        self._loading = threading.Lock()
        self._changing = threading.RLock()

    @classmethod
    def open(
        cls,
        folder: Path,
        settings: Settings,
        *,
        write: bool = False,
        create: bool = False,
        reembed: bool = False,
        embedder: Embedder | None = None,
    ) -> Index:
        """Open the index in ``folder``.

        ``write`` holds the writer's lock until ``close`` (else each change takes it for itself); ``create`` makes
        the folder. ``reembed`` calls ``rebuild`` on what is there, and is the way to change the embedder. Without
        ``embedder`` the one that the settings name is loaded when it is first needed.

        Raises StoreNotFoundError, StoreLockedError, EmbedderMismatchError, SchemaError, StoreError.
        """
        folder = Path(folder)
        if settings.database_url is None and not create and not (folder / DATABASE_FILE).is_file():
            raise StoreNotFoundError(f"no index at {folder}: ragpool index PATH --store {folder}")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"cannot create the store folder {folder}: {error.strerror}") from error
        lock = WriterLock(folder)
        if write:
            lock.acquire()
        database: Database | None = None
        try:
            database = Database.in_folder(folder, settings.database_url)
            index = cls(folder, settings, database, lock, embedder)
            if index._store.manifest() is None and not (write or create):
                raise StoreNotFoundError(f"no index at {folder}: ragpool index PATH --store {folder}")
            if reembed:
                index.rebuild()
            else:
                index._check_embedder()
            return index
        except BaseException:
            if database is not None:
                database.close()
            lock.release()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release files, connections and the writer's lock."""
        self._chroma.close()
        self._database.close()
        self._lock.release()

    # -- what is there -------------------------------------------------------------------------------------------

    @property
    def version(self) -> str:
        """16 hex digits that change when any passage changes; of the corpus as this Index sees it."""
        return self._searcher.version

    @property
    def database(self) -> Database:
        """The SQL store behind the index; the pools live in it too."""
        return self._database

    @property
    def embedder(self) -> Embedder:
        """The embedder, loaded on first use. Raises EmbedderMismatchError when the index was built with another."""
        with self._loading:
            if self._embedder is None:
                loaded = self._load_embedder()
                self._compare(loaded.version)
                self._embedder = loaded
            return self._embedder

    def manifest(self) -> Manifest | None:
        """What the vectors were made with; None for an empty index."""
        return self._store.manifest()

    def count(self) -> tuple[int, int]:
        """(documents, passages)."""
        return self._store.count()

    def documents(self) -> list[DocumentInfo]:
        """All documents, by id."""
        return self._store.documents()

    def document(self, document_id: str) -> Document:
        """A document put together from its passages (space between them may differ). Raises NotFoundError."""
        found = self._store.passages_of(document_id)
        if not found:
            raise NotFoundError(f"no document {document_id!r} in {self._folder}: see 'ragpool search'")
        text = ""
        for item in found:
            text = text[: item.start].ljust(item.start) + item.text
        metadata = {k: v for k, v in found[0].metadata.items() if k != "page"}
        return Document(document_id, found[0].title, text, metadata)

    def passages(self, ids: Sequence[str]) -> list[Passage]:
        """In the order of ``ids``; unknown ids are left out."""
        return self._store.passages(ids)

    def titles(self) -> Titles:
        """Normalised title -> passage ids."""
        return self._searcher.titles()

    def title_list(self) -> list[str]:
        """The documents' titles as they are written, each once."""
        return list(dict.fromkeys(title for _, title in self._store.titles() if title))

    def by_title(self, title: str) -> list[Passage]:
        """The passages of the documents called ``title``, whatever its case, accents and bracketed addition."""
        return self.passages(self.titles().find(title))

    def refresh(self) -> bool:
        """See what was written since this Index was opened; True when something was. Cheap when nothing was."""
        self._check_embedder()
        return self._searcher.refresh()

    # -- writing -------------------------------------------------------------------------------------------------

    def add(
        self, documents: Iterable[Document], *, progress: Progress | None = None, prune: bool = False
    ) -> AddReport:
        """Add documents; those whose content and chunking are unchanged cost a hash, changed ones are replaced.

        ``documents`` is read once and may be a stream; what was read is committed every 512 passages, so a killed
        call leaves whole documents and the next one goes on after them. ``prune`` deletes the documents that
        ``documents`` does not name. ``progress(done, total)`` counts documents; total is 0 for a stream.

        Raises InputError when two documents share an id, or when there are none and the store is empty or pruned.
        """
        with self._writing():
            return self._add(documents, progress, prune)

    def _add(self, documents: Iterable[Document], progress: Progress | None, prune: bool) -> AddReport:
        known_manifest, wanted = self._store.manifest(), self._wanted_manifest()
        if known_manifest != wanted:
            self._store.set_manifest(wanted)
        total = len(documents) if isinstance(documents, Sized) else 0
        known = self._store.hashes()
        seen: dict[str, str] = {}
        counts = {"added": 0, "changed": 0, "unchanged": 0, "passages": 0, "embedded": 0}
        window: list[tuple[Document, str, list[Passage]]] = []

        def flush() -> None:
            if window:
                counts["embedded"] += self._commit(window, known)
                counts["passages"] += sum(len(passages) for _, _, passages in window)
                window.clear()
            if progress is not None:
                progress(len(seen), total)

        for document in documents:
            digest = self._digest(document)
            if document.id in seen:
                if seen[document.id] == digest:
                    continue
                raise InputError(f"two different documents have the id {document.id!r}: give one another id")
            seen[document.id] = digest
            if known.get(document.id) == digest:
                counts["unchanged"] += 1
            else:
                counts["changed" if document.id in known else "added"] += 1
                window.append((document, digest, self._split(document)))
                if sum(len(passages) for _, _, passages in window) >= _WINDOW:
                    flush()
            if progress is not None and len(seen) % 64 == 0:
                progress(len(seen) - len(window), total)
        flush()
        if not seen and (prune or not known):  # to prune for want of any document would empty the store
            raise InputError("no documents to index: name files or folders that hold text")
        gone = [i for i in known if i not in seen] if prune else []
        deleted = self._store.remove(gone) if gone else 0
        counts["embedded"] += self._embed_missing()
        return AddReport(deleted=deleted, **counts)

    def delete(self, document_ids: Iterable[str]) -> int:
        """Delete documents; returns how many of them there were."""
        with self._writing():
            return self._store.remove(list(dict.fromkeys(document_ids)))

    def rebuild(self) -> None:
        """Embed every passage again, with the embedder of the settings, and derive everything anew."""
        with self._writing():
            self._embedder = self._embedder or self._load_embedder()
            self._store.set_manifest(self._wanted_manifest(), forget_vectors=True)
            self._embed_missing()
            self._chroma.publish(fresh=True)

    def check(self) -> str:
        """Probe the dense index in a subprocess (two seconds): "" when it is sound, else what is wrong.

        What is wrong is mended by the next search, or by indexing again.
        """
        if missing := len(self._store.missing_vectors(_WINDOW)):
            return f"{missing}{'+' if missing == _WINDOW else ''} passages have no vector: ragpool index goes on with them"
        if not self._chroma.is_current(self._store.version()):
            return "the dense index is behind the database"
        return self._chroma.check()

    # -- searching -----------------------------------------------------------------------------------------------

    def dense(
        self, vector: Vectors, k: int, exclude: Collection[str] = frozenset(), where: Where | None = None
    ) -> list[tuple[str, float]]:
        """The ``k`` passages nearest to ``vector`` (float32 [dimension]): (passage id, cosine), best first.

        Passages in ``exclude`` and those that ``where`` does not match are left out before the cut at ``k``.
        """
        return self._searcher.dense(vector, k, exclude, where)

    def dense_exact(
        self, vector: Vectors, k: int, exclude: Collection[str] = frozenset(), where: Where | None = None
    ) -> list[tuple[str, float]]:
        """As ``dense``, by comparing with every vector in the database: the slow way to the same answer."""
        return self._searcher.dense_exact(vector, k, exclude, where)

    def bm25(
        self, query: str, k: int, exclude: Collection[str] = frozenset(), where: Where | None = None
    ) -> list[tuple[str, float]]:
        """The ``k`` best passages that share a term with ``query``: (passage id, score), best first."""
        return self._searcher.bm25(query, k, exclude, where)

    # -- inside --------------------------------------------------------------------------------------------------

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Hold the writer's lock, and at the end bring what is derived up to date."""
        with self._changing:
            held = self._lock.held
            if not held:
                self._lock.acquire()
            try:
                yield
                self._chroma.publish()
                self._searcher.refresh()
            finally:
                if not held:
                    self._lock.release()

    def _digest(self, document: Document) -> str:
        chunking = self._settings.index
        parts = f"{content_hash(document)} {chunking.chunk_size} {chunking.chunk_overlap}"
        return hashlib.sha256(parts.encode()).hexdigest()

    def _split(self, document: Document) -> list[Passage]:
        chunking = self._settings.index
        found = split(document, chunk_size=chunking.chunk_size, chunk_overlap=chunking.chunk_overlap)
        if not found:
            raise InputError(f"document {document.id!r} has no text: leave it out")
        return found

    def _commit(self, window: Sequence[tuple[Document, str, list[Passage]]], known: Mapping[str, str]) -> int:
        """Embed what is new in ``window`` and commit it; returns how many passages were embedded."""
        vectors = self._store.vectors_of([document.id for document, _, _ in window if document.id in known])
        new = list(
            dict.fromkeys(
                p.search_text for _, _, passages in window for p in passages if p.search_text not in vectors
            )
        )
        if new:
            vectors.update(zip(new, self._embed(new), strict=True))
        self._store.put(
            [
                Prepared(
                    document.id,
                    document.title,
                    digest,
                    document.metadata,
                    tuple(passages),
                    np.stack([vectors[p.search_text] for p in passages]),
                )
                for document, digest, passages in window
            ]
        )
        return len(new)

    def _embed_missing(self) -> int:
        embedded = 0
        while rows := self._store.missing_vectors(_WINDOW):
            self._store.set_vectors([r.id for r in rows], self._embed([r.search_text for r in rows]))
            embedded += len(rows)
        return embedded

    def _embed(self, texts: Sequence[str]) -> Vectors:
        return self.embedder.embed(texts, batch_tokens=self._settings.index.batch_tokens)

    def _wanted_manifest(self) -> Manifest:
        embedder, chunking = self.embedder, self._settings.index
        return Manifest(embedder.version, embedder.dimension, chunking.chunk_size, chunking.chunk_overlap)

    def _load_embedder(self) -> Embedder:
        from ragpool.models import load_embedder

        return load_embedder(self._settings.models)

    def _check_embedder(self) -> None:
        """Raises EmbedderMismatchError; without loading the embedder, by the digest of its weights."""
        if self._embedder is not None:
            self._compare(self._embedder.version)
        elif self._store.manifest() is not None:
            from ragpool.models import resolve

            models = self._settings.models
            try:
                self._compare(resolve(models.embedder, models, "embedder").version)
            except SettingsError:
                return  # it is not installed: said when it is needed, so that bm25 works without it

    def _compare(self, embedder: str) -> None:
        known = self._store.manifest()
        if known is not None and known.embedder != embedder:
            raise EmbedderMismatchError(
                f"the index in {self._folder} was built with {known.embedder}, not {embedder}: use that embedder, "
                f"or re-embed with ragpool index PATH --store {self._folder} --rebuild"
            )
