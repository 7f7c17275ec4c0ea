"""Files, folders and URLs -> Documents. One broken source never stops the others."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from ragpool.corpus.readers import READERS, Content
from ragpool.corpus.records import document_from, read_records
from ragpool.corpus.web import fetch as fetch_url
from ragpool.corpus.web import is_url
from ragpool.errors import InputError, LoadError
from ragpool.types import Document

OnError = Callable[[LoadError], None]

SUFFIXES = (*READERS, ".jsonl")  # of documents; a .json given by itself may be a data set
MAX_FAULTS = 20  # broken lines reported one by one; the rest of that file's are counted
_MEDIA_TYPES = {
    "text/html": ".html",
    "application/xhtml+xml": ".html",
    "text/markdown": ".md",
    "text/x-markdown": ".md",
    "application/pdf": ".pdf",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": ".docx",
    "application/jsonl": ".jsonl",
    "application/x-ndjson": ".jsonl",
}


def load(sources: Iterable[str | Path], *, on_error: OnError, fetch: bool = True) -> Iterator[Document]:
    """The documents of files, folders and http(s) URLs, in the order given and sorted inside a folder.

    Whatever cannot be read goes to ``on_error`` as a LoadError that names it, and the rest goes on: a missing
    path, an empty, unreadable, damaged, mis-encoded or encrypted file, a broken line of a .jsonl file (with
    its number), an id that is taken. Nothing is raised but what ``on_error`` raises.

    Folders are read with their sub-folders. Skipped there without a word: hidden files and folders, files
    with a suffix that ragpool does not read, .jsonl files of questions or answers, and, beside a
    documents.jsonl, the README and LICENSE that describe it. A linked folder is read once.

    ids: of a record its "id"; of a file in a given folder its path relative to that folder; of a file given
    by itself its name; of a URL the URL. ``fetch=False`` refuses URLs. A HotpotQA, 2WikiMultihopQA or MuSiQue
    file given by itself yields the paragraphs that ``load_dataset`` finds in it.
    """
    taken: dict[str, str] = {}
    for source in sources:
        for found in _read_source(source, on_error, fetch):
            identifier = found.document.id
            if identifier in taken:
                reason = (
                    f"the id {identifier!r} is already taken by {taken[identifier]}; rename one of the two"
                )
                on_error(LoadError(found.origin, reason))
                continue
            taken[identifier] = found.origin
            yield found.document


@dataclass(frozen=True, slots=True)
class _Found:
    """A document and the file, line or URL that it came from, for messages."""

    origin: str
    document: Document


def _read_source(source: str | Path, on_error: OnError, fetch: bool) -> Iterator[_Found]:
    if isinstance(source, str) and is_url(source):
        yield from _read_url(source, on_error, fetch)
        return
    path = Path(source)
    try:
        status = path.stat() if "\0" not in str(path) else None
    except FileNotFoundError:
        status = None
    except OSError as error:
        on_error(LoadError(str(source), f"cannot be read ({error.strerror or error}); check the path"))
        return
    if status is None:
        on_error(LoadError(str(source), "no such file or folder; check the path"))
    elif path.is_dir():
        yield from _read_folder(path, on_error)
    elif path.suffix.lower() in (".json", ".jsonl") and _is_dataset(path):
        yield from _read_dataset(path, on_error)
    elif path.suffix.lower() in SUFFIXES:
        yield from _read_file(path, path.name, on_error)
    else:
        on_error(LoadError(str(source), f"unknown type {path.suffix!r}; ragpool reads {' '.join(SUFFIXES)}"))


def _read_file(path: Path, identifier: str, on_error: OnError) -> Iterator[_Found]:
    suffix = path.suffix.lower()
    try:
        if suffix == ".jsonl":
            with path.open("rb") as lines:
                yield from _read_lines(lines, str(path), on_error)
        else:
            yield from _read_bytes(
                path.read_bytes(), suffix, identifier, path.stem, str(path), None, on_error
            )
    except FileNotFoundError:
        on_error(LoadError(str(path), "no such file; check the path or the link"))
    except OSError as error:
        on_error(LoadError(str(path), f"cannot be read ({error.strerror or error}); check its permissions"))


def _is_dataset(path: Path) -> bool:
    """Whether a file given by itself holds questions, with or without their paragraphs."""
    if path.suffix.lower() == ".json":
        return True
    first = _first_record(path)
    return "question" in first and "text" not in first


def _read_dataset(path: Path, on_error: OnError) -> Iterator[_Found]:
    from ragpool.corpus.datasets import dataset_documents  # which imports this module

    try:
        documents = dataset_documents(path)
    except InputError as error:
        where, _, reason = str(error).partition(": ")
        on_error(LoadError(where, reason))
        return
    for document in documents:
        yield _Found(str(path), document)


def _read_bytes(
    data: bytes, suffix: str, identifier: str, name: str, origin: str, charset: str | None, on_error: OnError
) -> Iterator[_Found]:
    """The one document of ``data``; ``name`` is the title when the content has none."""
    try:
        content = READERS[suffix](data, charset) if data.strip() else Content("")
    except ValueError as error:
        on_error(LoadError(origin, str(error)))
        return
    if not content.text.strip():
        on_error(LoadError(origin, "empty; nothing to index"))
        return
    metadata = {"format": suffix[1:], **content.metadata}
    yield _Found(
        origin, Document(identifier, content.title or name, content.text, metadata, content.page_starts)
    )


def _read_lines(lines: Iterable[bytes], origin: str, on_error: OnError) -> Iterator[_Found]:
    """The documents of a documents.jsonl."""
    records = faults = 0
    for record in read_records(lines):
        records += 1
        where, fault = f"{origin}:{record.line}", record.fault
        if record.value is not None:
            try:
                document = document_from(record.value)
            except ValueError as error:
                fault = str(error)
            else:
                yield _Found(where, document)
                continue
        faults += 1
        if faults <= MAX_FAULTS:
            on_error(LoadError(where, fault))
    if faults > MAX_FAULTS:
        on_error(
            LoadError(origin, f"{faults - MAX_FAULTS} more lines could not be read; mend the first ones")
        )
    if not records:
        on_error(LoadError(origin, "empty; nothing to index"))


def _read_folder(folder: Path, on_error: OnError) -> Iterator[_Found]:
    paths = sorted(_walk(folder, on_error), key=lambda path: path.relative_to(folder).parts)
    described = {path.parent for path in paths if path.name == "documents.jsonl"}
    read = 0
    for path in paths:
        if path.parent in described and path.stem.lower() in ("readme", "license"):
            continue
        if (
            path.suffix.lower() == ".jsonl"
            and path.name != "documents.jsonl"
            and "question" in _first_record(path)
        ):
            continue
        read += 1
        yield from _read_file(path, path.relative_to(folder).as_posix(), on_error)
    if not read:
        on_error(LoadError(str(folder), f"no documents in this folder; ragpool reads {' '.join(SUFFIXES)}"))


def _walk(folder: Path, on_error: OnError) -> Iterator[Path]:
    """Files with a known suffix. Real folders first, then links to folders not seen yet, so loops end."""
    seen: set[tuple[int, int]] = set()
    waiting, linked = [folder], list[Path]()
    while waiting or linked:
        current = waiting.pop() if waiting else linked.pop(0)
        try:
            status = current.stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            entries = sorted(os.scandir(current), key=lambda entry: entry.name)
        except OSError as error:
            on_error(
                LoadError(str(current), f"cannot be read ({error.strerror or error}); check its permissions")
            )
            continue
        for entry in entries:
            path = Path(entry.path)
            if entry.name.startswith("."):
                continue
            if path.is_dir():
                (linked if entry.is_symlink() else waiting).append(path)
            elif path.suffix.lower() in SUFFIXES and (path.is_file() or entry.is_symlink()):
                yield path  # a link to nowhere is reported when it is read


def _first_record(path: Path) -> dict[str, Any]:
    """The first record of a .jsonl file that can be read, an empty one when there is none."""
    try:
        with path.open("rb") as lines:
            values = (record.value for record in islice(read_records(lines), MAX_FAULTS))
            return next((value for value in values if value is not None), {})
    except OSError:
        return {}  # reading it as documents reports the reason


def _read_url(url: str, on_error: OnError, fetch: bool) -> Iterator[_Found]:
    if not fetch:
        on_error(LoadError(url, "fetching URLs is switched off here; download it and add the file"))
        return
    try:
        fetched = fetch_url(url)
    except ValueError as error:
        on_error(LoadError(url, str(error)))
        return
    name = unquote(urlsplit(fetched.url).path.rstrip("/").rpartition("/")[2])
    named = Path(name).suffix.lower()
    suffix = _MEDIA_TYPES.get(fetched.media_type)
    if fetched.data.startswith(b"%PDF-"):
        suffix = ".pdf"
    elif suffix is None and named in SUFFIXES:
        suffix = named
    elif suffix is None and fetched.media_type.startswith("text/"):
        suffix = ".txt"
    if suffix is None:
        kind = fetched.media_type or "no type"
        on_error(LoadError(url, f"the server sent {kind}; ragpool reads {' '.join(SUFFIXES)}"))
    elif suffix == ".jsonl":
        yield from _read_lines(io.BytesIO(fetched.data), url, on_error)
    else:
        title = Path(name).stem or urlsplit(url).netloc
        yield from _read_bytes(fetched.data, suffix, url, title, url, fetched.charset, on_error)
