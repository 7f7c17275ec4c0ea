"""Documents, passages and vectors in SQL: the truth from which Chroma and BM25 are derived.

A batch of documents is committed together with its passages and vectors, so a killed run leaves whole documents
and a second run goes on after them. A vector is NULL only while a store changes to another embedder.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from ragpool.db import Database, document, meta, passage
from ragpool.errors import InputError, StoreError
from ragpool.types import Passage

Vectors = NDArray[np.float32]

_VARIABLES = 500  # ids in one IN (...); SQLite's oldest limit is 999
_MODULUS = 1 << 256


@dataclass(frozen=True, slots=True)
class Manifest:
    """What the vectors were made with. ``embedder`` is its ``version``, which names the weights."""

    embedder: str
    dimension: int
    chunk_size: int
    chunk_overlap: int


@dataclass(frozen=True, slots=True)
class DocumentInfo:
    """A stored document without its text. ``added`` is in seconds since the epoch."""

    id: str
    title: str
    passages: int
    added: float
    sha256: str
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AddReport:
    """What ``Index.add`` did: documents, except ``passages`` (written) and ``embedded`` (of those, or left over)."""

    added: int = 0
    changed: int = 0
    unchanged: int = 0
    deleted: int = 0
    passages: int = 0
    embedded: int = 0


@dataclass(frozen=True, slots=True)
class Prepared:
    """A document ready to be committed. ``vectors`` float32 [len(passages), dimension]."""

    id: str
    title: str
    sha256: str
    metadata: Mapping[str, Any]
    passages: tuple[Passage, ...]
    vectors: Vectors


@dataclass(frozen=True, slots=True)
class Row:
    """A passage as the derived indexes need it."""

    id: str
    search_text: str


class PassageStore:
    """The corpus tables of a database. Safe to share between threads; one writer at a time."""

    def __init__(self, database: Database) -> None:
        self._db = database

    # -- reading -----------------------------------------------------------------------------------------------

    def manifest(self) -> Manifest | None:
        """None before anything was indexed. Raises StoreError when it cannot be understood."""
        value = self._meta("index")
        if value is None:
            return None
        try:
            return Manifest(**value)
        except TypeError as error:
            raise StoreError(
                "the index's manifest is not understood: was it written by a newer ragpool?"
            ) from error

    def version(self) -> str:
        """16 hex digits that change when a passage or its vector changes; the order of additions does not matter."""
        with self._db.read() as connection:
            return _version(connection)

    def count(self) -> tuple[int, int]:
        """(documents, passages)."""
        with self._db.read() as connection:
            return (
                connection.execute(sa.select(sa.func.count()).select_from(document)).scalar_one(),
                connection.execute(sa.select(sa.func.count()).select_from(passage)).scalar_one(),
            )

    def hashes(self) -> dict[str, str]:
        """Document id -> content hash."""
        with self._db.read() as connection:
            return {r.id: r.sha256 for r in connection.execute(sa.select(document.c.id, document.c.sha256))}

    def documents(self) -> list[DocumentInfo]:
        """All documents, by id."""
        size = (
            sa.select(passage.c.document_id, sa.func.count().label("passages"))
            .group_by(passage.c.document_id)
            .subquery()
        )
        query = (
            sa.select(document, sa.func.coalesce(size.c.passages, 0).label("passages"))
            .outerjoin(size, size.c.document_id == document.c.id)
            .order_by(document.c.id)
        )
        with self._db.read() as connection:
            return [
                DocumentInfo(r.id, r.title, r.passages, r.added, r.sha256, r.metadata)
                for r in connection.execute(query)
            ]

    def passages(self, ids: Sequence[str]) -> list[Passage]:
        """In the order of ``ids``; those that are not (or no longer) there are left out."""
        found: dict[str, Passage] = {}
        for part in chunks(ids, _VARIABLES):
            for row in self._db.rows(sa.select(*_PASSAGE_COLUMNS).where(passage.c.id.in_(part))):
                found[row["id"]] = _passage(row)
        return [found[i] for i in ids if i in found]

    def passages_of(self, document_id: str) -> list[Passage]:
        """A document's passages, in order."""
        query = (
            sa.select(*_PASSAGE_COLUMNS)
            .where(passage.c.document_id == document_id)
            .order_by(passage.c.ordinal)
        )
        with self._db.read() as connection:
            return [_passage(row) for row in connection.execute(query).mappings()]

    def rows(self) -> tuple[str, list[Row]]:
        """(corpus version, every passage by id), from one snapshot."""
        query = sa.select(passage.c.id, passage.c.title, passage.c.text).order_by(passage.c.id)
        with self._db.read() as connection:
            version = _version(connection)
            return version, [
                Row(r.id, f"{r.title}: {r.text}" if r.title else r.text) for r in connection.execute(query)
            ]

    def titles(self) -> list[tuple[str, str]]:
        """(passage id, title), by document and position."""
        query = sa.select(passage.c.id, passage.c.title).order_by(passage.c.document_id, passage.c.ordinal)
        with self._db.read() as connection:
            return [(r.id, r.title) for r in connection.execute(query)]

    def metadata(self) -> dict[str, Mapping[str, Any]]:
        """Passage id -> metadata."""
        with self._db.read() as connection:
            return {r.id: r.metadata for r in connection.execute(sa.select(passage.c.id, passage.c.metadata))}

    def vectors(self, ids: Sequence[str]) -> dict[str, Vectors]:
        """Passage id -> float32 [dimension], for those of ``ids`` that are embedded."""
        found: dict[str, Vectors] = {}
        with self._db.read() as connection:
            for part in chunks(ids, _VARIABLES):
                query = sa.select(passage.c.id, passage.c.vector).where(
                    passage.c.id.in_(part), passage.c.vector.is_not(None)
                )
                found.update((r.id, _vector(r.vector)) for r in connection.execute(query))
        return found

    def all_vectors(self) -> tuple[str, list[str], list[bytes]]:
        """(corpus version, ids, vectors as float32 bytes), by id, from one snapshot."""
        query = (
            sa.select(passage.c.id, passage.c.vector)
            .where(passage.c.vector.is_not(None))
            .order_by(passage.c.id)
        )
        with self._db.read() as connection:
            version = _version(connection)
            rows = connection.execute(query).all()
        return version, [r.id for r in rows], [bytes(r.vector) for r in rows]

    def missing_vectors(self, limit: int) -> list[Row]:
        """Up to ``limit`` passages without a vector."""
        query = (
            sa.select(passage.c.id, passage.c.title, passage.c.text)
            .where(passage.c.vector.is_(None))
            .order_by(passage.c.id)
            .limit(limit)
        )
        with self._db.read() as connection:
            return [
                Row(r.id, f"{r.title}: {r.text}" if r.title else r.text) for r in connection.execute(query)
            ]

    def vectors_of(self, document_ids: Sequence[str]) -> dict[str, Vectors]:
        """Search text -> vector of the passages of these documents: what a changed document need not embed again."""
        found: dict[str, Vectors] = {}
        with self._db.read() as connection:
            for part in chunks(document_ids, _VARIABLES):
                query = sa.select(*_PASSAGE_COLUMNS, passage.c.vector).where(
                    passage.c.document_id.in_(part), passage.c.vector.is_not(None)
                )
                found.update(
                    (_passage(r).search_text, _vector(r["vector"]))
                    for r in connection.execute(query).mappings()
                )
        return found

    # -- writing -----------------------------------------------------------------------------------------------

    def set_manifest(self, manifest: Manifest, *, forget_vectors: bool = False) -> None:
        """Record what vectors are made with from now on; ``forget_vectors`` in the same transaction."""
        value = {
            "embedder": manifest.embedder,
            "dimension": manifest.dimension,
            "chunk_size": manifest.chunk_size,
            "chunk_overlap": manifest.chunk_overlap,
        }
        with self._db.write() as connection:
            _set_meta(connection, "index", value)
            if forget_vectors:
                connection.execute(sa.update(passage).values(vector=None))

    def put(self, documents: Sequence[Prepared]) -> None:
        """Add or replace documents with their passages and vectors, in one transaction.

        Raises InputError when a passage id is taken by another document.
        """
        now = time.time()
        try:
            with self._db.write() as connection:
                _remove(connection, [d.id for d in documents])
                connection.execute(
                    sa.insert(document),
                    [
                        {
                            "id": d.id,
                            "title": d.title,
                            "sha256": d.sha256,
                            "metadata": dict(d.metadata),
                            "added": now,
                        }
                        for d in documents
                    ],
                )
                rows = [row for d in documents for row in _passage_rows(d)]
                if rows:
                    connection.execute(sa.insert(passage), rows)
                _adjust(connection, added=[(d.id, d.sha256) for d in documents])
        except sa.exc.IntegrityError as error:
            names = ", ".join(d.id for d in documents[:3])
            raise InputError(
                f"two documents share a passage id (near {names}): rename a document whose id ends in #<number>"
            ) from error

    def remove(self, document_ids: Sequence[str]) -> int:
        """Delete documents with their passages, in one transaction; returns how many there were."""
        with self._db.write() as connection:
            return _remove(connection, document_ids)

    def set_vectors(self, ids: Sequence[str], vectors: Vectors) -> None:
        """Fill in the vectors of passages that have none."""
        statement = (
            sa.update(passage).where(passage.c.id == sa.bindparam("key")).values(vector=sa.bindparam("value"))
        )
        with self._db.write() as connection:
            connection.execute(
                statement, [{"key": i, "value": _bytes(v)} for i, v in zip(ids, vectors, strict=True)]
            )

    def _meta(self, key: str) -> Any:
        with self._db.read() as connection:
            return connection.execute(sa.select(meta.c.value).where(meta.c.key == key)).scalar()


_PASSAGE_COLUMNS = (
    passage.c.id,
    passage.c.document_id,
    passage.c.title,
    passage.c.text,
    passage.c.start,
    passage.c.metadata,
)


def chunks(items: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    """``items`` in pieces of at most ``size``."""
    for begin in range(0, len(items), size):
        yield items[begin : begin + size]


def _passage(row: sa.RowMapping) -> Passage:
    return Passage(row["id"], row["document_id"], row["title"], row["text"], row["start"], row["metadata"])


def _passage_rows(prepared: Prepared) -> Iterator[dict[str, Any]]:
    for ordinal, (item, vector) in enumerate(zip(prepared.passages, prepared.vectors, strict=True)):
        yield {
            "id": item.id,
            "document_id": prepared.id,
            "ordinal": ordinal,
            "title": item.title,
            "text": item.text,
            "start": item.start,
            "metadata": dict(item.metadata),
            "vector": _bytes(vector),
        }


def _vector(value: bytes) -> Vectors:
    return np.frombuffer(value, dtype="<f4")


def _bytes(vector: Vectors) -> bytes:
    return vector.astype("<f4").tobytes()


def _remove(connection: sa.Connection, document_ids: Sequence[str]) -> int:
    removed: list[tuple[str, str]] = []
    for part in chunks(document_ids, _VARIABLES):
        found = connection.execute(
            sa.select(document.c.id, document.c.sha256).where(document.c.id.in_(part))
        ).all()
        removed += [(r.id, r.sha256) for r in found]
        connection.execute(sa.delete(passage).where(passage.c.document_id.in_(part)))
        connection.execute(sa.delete(document).where(document.c.id.in_(part)))
    _adjust(connection, removed=removed)
    return len(removed)


def _adjust(
    connection: sa.Connection,
    added: Iterable[tuple[str, str]] = (),
    removed: Iterable[tuple[str, str]] = (),
) -> None:
    """Keep the sum of the documents' digests: one number that stands for the set, whatever order it came in."""
    stored = connection.execute(sa.select(meta.c.value).where(meta.c.key == "corpus")).scalar()
    total = int(stored["sum"], 16) if stored else 0
    total += sum(_digest(*item) for item in added) - sum(_digest(*item) for item in removed)
    _set_meta(connection, "corpus", {"sum": f"{total % _MODULUS:x}"})


def _digest(document_id: str, sha256: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{document_id}\0{sha256}".encode()).digest(), "big")


def _version(connection: sa.Connection) -> str:
    values = {
        r.key: r.value
        for r in connection.execute(
            sa.select(meta.c.key, meta.c.value).where(meta.c.key.in_(("index", "corpus")))
        )
    }
    embedder = (values.get("index") or {}).get("embedder", "")
    total = (values.get("corpus") or {}).get("sum", "0")
    return hashlib.sha256(f"{embedder}\0{total}".encode()).hexdigest()[:16]


def _set_meta(connection: sa.Connection, key: str, value: Any) -> None:
    connection.execute(sa.delete(meta).where(meta.c.key == key))
    connection.execute(sa.insert(meta).values(key=key, value=value))
