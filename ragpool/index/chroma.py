"""The dense index: a Chroma collection derived from the vectors in SQL, published as immutable generations.

Chroma gives no safe access from two processes to one path, rewrites its files in place, even when it only reads, and
can be broken for good by a kill. So no two processes ever open the same files:

- ``chroma/current.json`` names the generation in force, its corpus version, and size and checksum of every file.
- The writer (under the store's lock) builds a new generation beside it, from a copy when little changed, proves
  that it loads, syncs it to disk and renames a new ``current.json`` into place. A kill leaves the old one in force.
- Whoever searches opens a private copy, checksummed while it is copied: bytes that differ from those that were
  proved are never given to Chroma. (24 MB and 40 ms at 6,000 passages; Chroma's import alone takes over a second.)

The probe in a subprocess (a broken collection can take the process along) costs about two seconds, so it runs only
where the bytes are not known good: after a writer died half-way, under another version of Chroma than the one that
wrote, and when ``ragpool doctor`` asks.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
import shutil
import threading
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from ragpool.index import probe
from ragpool.index.store import PassageStore, Vectors

_LOG = logging.getLogger(__name__)
_FORMAT = 1
_BATCH = 2000  # records in one call; Chroma's limit is 5,461
_BLOCK = 1 << 20
_REPLAY = 1000  # unsynced changes a generation may carry: each open replays them, 0.25 ms a piece


class BrokenGenerationError(Exception):
    """The published files are missing, differ from what was proved, or do not load. Never leaves this package."""


@dataclass(frozen=True, slots=True)
class Generation:
    """``current.json``. ``pending`` counts changes that Chroma replays at each open; ``files`` are (size, crc32)."""

    name: str
    version: str
    passages: int
    pending: int
    chromadb: str
    files: dict[str, tuple[int, int]]


class ChromaIndex:
    """Nearest passages by cosine. Safe to share between threads; each process opens its own copy of the files."""

    def __init__(self, folder: Path, store: PassageStore) -> None:
        self._root = folder / "chroma"
        self._store = store
        self._mutex = threading.RLock()  # of the open copy
        self._publishing = threading.Lock()
        self._opened: _Copy | None = None

    # -- searching -----------------------------------------------------------------------------------------------

    def current(self) -> Generation | None:
        """The generation in force; None when there is none or its manifest is damaged."""
        try:
            value = json.loads((self._root / "current.json").read_text(encoding="utf-8"))
            if value.pop("format") != _FORMAT:
                return None
            value["files"] = {name: (int(size), int(crc)) for name, (size, crc) in value["files"].items()}
            return Generation(**value)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def is_current(self, version: str) -> bool:
        """Does the published generation hold corpus ``version``? (Its bytes are checked when it is opened.)"""
        found = self.current()
        return found is not None and found.version == version

    def open(self) -> int:
        """Open a private copy of the published generation, unless it is open; returns its number of passages.

        Raises BrokenGenerationError.
        """
        with self._mutex:
            generation = self.current()
            if generation is None:
                raise BrokenGenerationError("no published generation")
            if self._opened is not None and self._opened.generation == generation:
                return generation.passages
            self.close()
            copy = self._copy(generation)
            try:
                if generation.chromadb != package_version("chromadb"):
                    probe.in_subprocess(copy.path, generation.passages)
                copy.open()
            except Exception as error:  # Chroma raises its Rust errors as plain ones
                copy.close()
                raise BrokenGenerationError(str(error)) from error
            self._opened = copy
            return generation.passages

    def search(self, vector: Vectors, n: int) -> list[tuple[str, float]]:
        """The ``n`` nearest: (passage id, cosine similarity), unordered among ties. ``open`` first."""
        with self._mutex:
            if self._opened is None:
                raise BrokenGenerationError("not open")
            try:
                return self._opened.search(vector, n)
            except (
                Exception
            ) as error:  # whatever Chroma raises, the caller has a slower way to the same answer
                raise BrokenGenerationError(str(error)) from error

    def close(self) -> None:
        with self._mutex:
            if self._opened is not None:
                self._opened.close()
                self._opened = None

    def check(self) -> str:
        """Probe the published generation in a subprocess: "" when sound, else what is wrong."""
        generation = self.current()
        if generation is None:
            return "no published generation"
        try:
            copy = self._copy(generation)
        except BrokenGenerationError as error:
            return str(error)
        try:
            probe.in_subprocess(copy.path, generation.passages)
        except probe.ProbeError as error:
            return str(error)
        finally:
            copy.close()
        return ""

    # -- writing (under the store's lock) --------------------------------------------------------------------------

    def publish(self, *, fresh: bool = False) -> None:
        """Bring the index up to date with the store; ``fresh`` builds it from nothing.

        Does nothing when the generation in force holds this version and its files are as they were proved. When no
        generation can be built that loads, none is published (and a warning logged): the vectors in SQL remain.
        """
        with self._publishing:
            self._root.mkdir(parents=True, exist_ok=True)
            current = self._sound_generation()
            version, ids, vectors = self._store.all_vectors()
            if not fresh and current and (current.version, current.passages) == (version, len(ids)):
                return
            suspicious = self._remove_leftovers(current)
            for base in (None,) if fresh or current is None else (current, None):
                path = self._root / f"g-{secrets.token_hex(6)}"
                try:
                    pending = self._extend(base, path, ids, vectors) if base else _build(path, ids, vectors)
                    if pending is None:
                        continue
                    sums = _sync_and_sum(path)
                    built = Generation(
                        path.name, version, len(ids), pending, package_version("chromadb"), sums
                    )
                    self._prove(built, suspicious)
                except Exception as error:  # noqa: BLE001  # Chroma raises its Rust errors as plain ones
                    _LOG.warning(
                        "the dense index could not be %s: %s", "extended" if base else "built", error
                    )
                    suspicious = True
                    continue
                self._write_current(built)
                self._remove_leftovers(built)
                return

    def _prove(self, built: Generation, suspicious: bool) -> None:
        """Load ``built`` from a copy (opening changes the files), in a subprocess if a writer died here before."""
        copy = self._copy(built)
        try:
            (probe.in_subprocess if suspicious else probe.check)(copy.path, built.passages)
        finally:
            copy.close()

    def _sound_generation(self) -> Generation | None:
        generation = self.current()
        if generation is None:
            return None
        try:
            for name, expected in generation.files.items():
                if _sum(self._root / generation.name / name) != expected:
                    raise BrokenGenerationError(f"{name} has changed")
        except (OSError, BrokenGenerationError) as error:
            _LOG.warning("the dense index is damaged (%s); it is rebuilt", error)
            return None
        return generation

    def _extend(
        self, generation: Generation, path: Path, ids: Sequence[str], vectors: Sequence[bytes]
    ) -> int | None:
        """Copy ``generation`` to ``path`` and apply what changed; None when building anew is the better way."""
        shutil.copytree(self._root / generation.name, path)
        with _collection(path) as collection:
            there = {i: (m or {}).get("digest") for i, m in zip(*_all(collection), strict=True)}
            wanted = {i: _digest(v) for i, v in zip(ids, vectors, strict=True)}
            gone = [i for i in there if i not in wanted]
            changed = [n for n, i in enumerate(ids) if there.get(i) != wanted[i]]
            pending = generation.pending + len(gone) + len(changed)
            if pending > _REPLAY:
                return None
            for begin in range(0, len(gone), _BATCH):
                collection.delete(ids=gone[begin : begin + _BATCH])
            _upsert(collection, [ids[n] for n in changed], [vectors[n] for n in changed])
            return pending

    def _copy(self, generation: Generation) -> _Copy:
        """A private, checksummed copy. Raises BrokenGenerationError."""
        home = self._root / "open"
        name = secrets.token_hex(6)
        try:
            home.mkdir(parents=True, exist_ok=True)
            _remove_abandoned(home)
            lock = FileLock(home / f"{name}.lock", thread_local=False)
            lock.acquire()
        except OSError as error:  # a store that may only be read
            raise BrokenGenerationError(f"no copy can be made in {home}: {error.strerror}") from error
        copy = _Copy(home / name, generation, lock)
        try:
            for file, expected in generation.files.items():
                target = copy.path / file
                target.parent.mkdir(parents=True, exist_ok=True)
                if _sum(self._root / generation.name / file, target) != expected:
                    raise BrokenGenerationError(f"{file} is not what was written")
        except OSError as error:
            copy.close()
            raise BrokenGenerationError(f"{error.filename}: {error.strerror}") from error
        except BrokenGenerationError:
            copy.close()
            raise
        return copy

    def _write_current(self, generation: Generation) -> None:
        temporary = self._root / "current.json.new"
        with temporary.open("w", encoding="utf-8") as file:
            json.dump({"format": _FORMAT, **asdict(generation)}, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._root / "current.json")
        _sync_folder(self._root)

    def _remove_leftovers(self, keep: Generation | None) -> bool:
        """Remove generations other than ``keep``; True when there were any: a writer died half-way."""
        named = self.current()
        left = [path for path in self._root.glob("g-*") if path.name != (keep.name if keep else "")]
        for path in left:
            shutil.rmtree(path, ignore_errors=True)
        return any(named is None or path.name != named.name for path in left)


@dataclass(slots=True)
class _Copy:
    """A copy of a generation that only this process opens; it and its lock go with ``close``."""

    path: Path
    generation: Generation
    lock: FileLock
    client: Any = None
    collection: Any = None

    def open(self) -> None:
        self.client = probe.client(self.path)
        self.collection = self.client.get_collection(probe.COLLECTION, embedding_function=None)
        found = self.collection.count()
        if found != self.generation.passages:
            raise BrokenGenerationError(f"{found} of {self.generation.passages} passages")

    def search(self, vector: Vectors, n: int) -> list[tuple[str, float]]:
        result = self.collection.query(
            query_embeddings=np.asarray(vector, dtype=np.float32)[None, :], n_results=n, include=["distances"]
        )
        return [(i, 1.0 - float(d)) for i, d in zip(result["ids"][0], result["distances"][0], strict=True)]

    def close(self) -> None:
        if self.client is not None:
            self.client.close()
            self.client = self.collection = None
        shutil.rmtree(self.path, ignore_errors=True)
        Path(self.lock.lock_file).unlink(missing_ok=True)
        self.lock.release()


def _build(path: Path, ids: Sequence[str], vectors: Sequence[bytes]) -> int:
    """A collection from nothing, synced once, at the last record; returns how many changes stay unsynced."""
    threshold = max(2, len(ids))
    with probe.session(path) as client:
        collection = client.create_collection(
            probe.COLLECTION,
            embedding_function=None,
            configuration={
                "hnsw": {
                    "space": "cosine",
                    "ef_construction": 200,
                    "ef_search": 200,
                    "max_neighbors": 16,
                    "batch_size": min(100, threshold),
                    "sync_threshold": max(threshold, _REPLAY),
                }
            },
        )
        _upsert(collection, ids, vectors)
    return 0 if threshold >= _REPLAY else len(ids)


def _upsert(collection: Any, ids: Sequence[str], vectors: Sequence[bytes]) -> None:
    for begin in range(0, len(ids), _BATCH):
        part = vectors[begin : begin + _BATCH]
        collection.upsert(
            ids=list(ids[begin : begin + _BATCH]),
            embeddings=np.frombuffer(b"".join(part), dtype="<f4").reshape(len(part), -1),
            metadatas=[{"digest": _digest(v)} for v in part],
        )


@contextmanager
def _collection(path: Path) -> Iterator[Any]:
    with probe.session(path) as client:
        yield client.get_collection(probe.COLLECTION, embedding_function=None)


def _all(collection: Any) -> tuple[list[str], list[dict[str, Any] | None]]:
    found = collection.get(include=["metadatas"])
    return found["ids"], found["metadatas"]


def _digest(vector: bytes) -> str:
    return hashlib.blake2b(vector, digest_size=8).hexdigest()


def _sum(source: Path, target: Path | None = None) -> tuple[int, int]:
    """(size, crc32) of ``source``, copied to ``target`` on the way."""
    size = crc = 0
    with source.open("rb") as reader:
        writer = target.open("wb") if target else None
        try:
            while block := reader.read(_BLOCK):
                size += len(block)
                crc = zlib.crc32(block, crc)
                if writer:
                    writer.write(block)
        finally:
            if writer:
                writer.close()
    return size, crc


def _sync_and_sum(path: Path) -> dict[str, tuple[int, int]]:
    sums: dict[str, tuple[int, int]] = {}
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        with file.open("rb") as handle:
            os.fsync(handle.fileno())
        sums[file.relative_to(path).as_posix()] = _sum(file)
    for folder in (path, *(p for p in path.rglob("*") if p.is_dir())):
        _sync_folder(folder)
    return sums


def _sync_folder(path: Path) -> None:
    if os.name == "nt":  # a folder cannot be opened there, and a rename is durable without
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove_abandoned(home: Path) -> None:
    """Remove copies whose process is gone: its lock went with it."""
    for file in home.glob("*.lock"):
        lock = FileLock(file)
        try:
            lock.acquire(timeout=0)
        except (Timeout, OSError):
            continue
        shutil.rmtree(home / file.stem, ignore_errors=True)
        file.unlink(missing_ok=True)
        lock.release()
