"""Documents of the store: uploads in the background with progress, list, open, delete."""

from __future__ import annotations

import logging
import re
import tempfile
import threading
import time
import unicodedata
import uuid
from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response, UploadFile
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from ragpool import corpus
from ragpool.corpus.load import SUFFIXES
from ragpool.errors import LoadError, RagpoolError
from ragpool.sdk import RagPool
from ragpool.serve.errors import ApiError, invalid, missing, responses
from ragpool.serve.fetch import fetch
from ragpool.serve.keys import LOCAL
from ragpool.serve.limits import too_large
from ragpool.serve.metrics import Metrics
from ragpool.serve.services import Owner, Parts
from ragpool.types import Document

log = logging.getLogger("ragpool.serve")

router = APIRouter(tags=["documents"])

State = Literal["waiting", "fetching", "reading", "indexing", "done", "failed"]
_KEPT = 500  # uploads whose state is remembered
_MEDIA = {
    "text/html": ".html",
    "application/pdf": ".pdf",
    "text/markdown": ".md",
    "application/xhtml+xml": ".html",
}


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload on its way. ``documents`` are the ids that it became; ``error`` says why it did not."""

    id: str
    owner: str
    name: str
    state: State = "waiting"
    bytes: int = 0
    done: int = 0
    total: int = 0
    documents: tuple[str, ...] = ()
    error: str | None = None
    created: float = 0.0


class Ingest:
    """One thread that reads and indexes what was uploaded, in order. Files wait on disk, under names of ours."""

    def __init__(self, rag: RagPool, metrics: Metrics, *, waiting: int, limit: int) -> None:
        self._rag = rag
        self._metrics = metrics
        self._limit_waiting = waiting
        self._limit = limit
        self._folder = tempfile.TemporaryDirectory(prefix="ragpool-uploads-")
        self._waiting: deque[tuple[str, Path | str]] = deque()  # a file, or an address
        self._uploads: OrderedDict[str, Upload] = OrderedDict()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="ragpool-ingest", daemon=True)
        self._thread.start()

    def add(self, owner: str, name: str, content: bytes) -> Upload:
        """Take a file. ``name`` is only ever shown, and gives the kind by its ending."""
        shown = clean_name(name)
        suffix = Path(shown).suffix.lower()
        if suffix not in SUFFIXES:
            raise ApiError(
                415, f"{suffix or 'no ending'}: what is read is {' '.join(SUFFIXES)}", param="file"
            )
        if not content:
            raise invalid("file: it is empty", "file")
        path = Path(self._folder.name) / f"{uuid.uuid4().hex}{suffix}"  # the suffix is one of ours
        self._check_room()
        path.write_bytes(content)
        return self._queue(
            Upload(uuid.uuid4().hex, owner, shown, bytes=len(content), created=time.time()), path
        )

    def add_url(self, owner: str, url: str) -> Upload:
        """Take a web address; it is fetched in the background, from the public internet only."""
        self._check_room()
        return self._queue(Upload(uuid.uuid4().hex, owner, url[:300], created=time.time()), url)

    def get(self, owner: str, identifier: str) -> Upload:
        with self._changed:
            found = self._uploads.get(identifier)
        if found is None or found.owner != owner:
            raise missing(f"upload {identifier[:64]!r}")
        return found

    def list(self, owner: str) -> list[Upload]:
        """The owner's uploads, the newest first."""
        with self._changed:
            return [u for u in reversed(self._uploads.values()) if u.owner == owner]

    def close(self, timeout: float) -> None:
        """Take no more; the one that is being indexed is finished. What waits is lost, its files are deleted."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._changed.notify_all()
        self._thread.join(timeout)
        self._folder.cleanup()

    # -- inside ------------------------------------------------------------------------------------------------------

    def _check_room(self) -> None:
        with self._changed:
            if len(self._waiting) >= self._limit_waiting:
                raise ApiError(
                    429, "many uploads wait already: send the rest later", code="queue_full", retry_after=10
                )

    def _queue(self, upload: Upload, source: Path | str) -> Upload:
        with self._changed:
            self._uploads[upload.id] = upload
            if len(self._uploads) > _KEPT:
                self._uploads.popitem(last=False)
            self._waiting.append((upload.id, source))
            self._changed.notify()
        return upload

    def _update(self, identifier: str, **values: Any) -> None:
        with self._changed:
            if identifier in self._uploads:
                self._uploads[identifier] = replace(self._uploads[identifier], **values)

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
                identifier, source = self._waiting.popleft()
                upload = self._uploads.get(identifier)
            try:
                if upload is not None:
                    self._index(upload, source)
                    self._metrics.documents.labels("done").inc()
            except Exception as error:  # the thread outlives a damaged file; its owner reads why
                self._metrics.documents.labels("failed").inc()
                said = str(error) if isinstance(error, RagpoolError) else "it could not be read"
                if not isinstance(error, RagpoolError):
                    log.exception("an upload failed")
                self._update(identifier, state="failed", error=said)
            finally:
                if isinstance(source, Path):
                    source.unlink(missing_ok=True)

    def _index(self, upload: Upload, source: Path | str) -> None:
        path = self._fetched(upload, source) if isinstance(source, str) else source
        self._update(upload.id, state="reading")
        try:
            documents = list(self._documents(upload, path))
        finally:
            path.unlink(missing_ok=True)
        self._update(upload.id, state="indexing", total=len(documents))
        self._rag.index.add(documents, progress=lambda done, _: self._update(upload.id, done=done))
        self._update(upload.id, state="done", done=len(documents), documents=tuple(d.id for d in documents))

    def _fetched(self, upload: Upload, url: str) -> Path:
        self._update(upload.id, state="fetching")
        body, media, final = fetch(url, self._limit)
        suffix = _MEDIA.get(media) or Path(final.partition("?")[0]).suffix.lower()
        suffix = suffix if suffix in SUFFIXES else ".txt" if media.startswith("text/") else ""
        if not suffix or not body:
            raise LoadError(url[:200], f"the server sent {media or 'no type'}; read is {' '.join(SUFFIXES)}")
        path = Path(self._folder.name) / f"{uuid.uuid4().hex}{suffix}"
        path.write_bytes(body)
        self._update(upload.id, bytes=len(body))
        return path

    def _documents(self, upload: Upload, path: Path) -> Iterator[Document]:
        """The file's documents under ids of their owner, who can replace nobody else's."""

        def fail(error: LoadError) -> None:
            raise LoadError(upload.name, error.reason)

        web = upload.name.startswith(("http://", "https://"))
        for document in corpus.load([path], on_error=fail, fetch=False):
            own = document.id == path.name
            title = Path(upload.name).stem if own and document.title == path.stem else document.title
            # an address stays an address, so that citations lead there; each owner's copy has its own mark
            stem = f"{upload.name}#{upload.owner}" if web else f"upload/{upload.owner}/{upload.name}"
            identifier = stem if own else f"{stem}/{document.id}"
            yield replace(
                document,
                id=identifier,
                title=title,
                metadata={**document.metadata, "uploaded_by": upload.owner, "file": upload.name},
            )


def clean_name(name: str) -> str:
    """A file's name as it may be shown: its last part, no control characters, at most 120 characters.

    >>> clean_name("../../etc/passwd"), clean_name("C:\\\\x\\\\a\\u202eb.txt")
    ('passwd', 'ab.txt')
    """
    last = re.split(r"[/\\]", name)[-1]
    kept = "".join(c for c in unicodedata.normalize("NFC", last) if unicodedata.category(c)[0] != "C")
    kept = " ".join(kept.split()).lstrip(".") or "document"
    stem, dot, suffix = kept.rpartition(".")
    return f"{stem[:100]}.{suffix[:19]}" if dot else kept[:120]


# -- routes --------------------------------------------------------------------------------------------------------


class UploadView(BaseModel):
    """How far an upload is; ``documents`` are the ids that it became."""

    id: str
    name: str
    state: State
    bytes: int
    done: int
    total: int
    documents: list[str]
    error: str | None
    created: float


class DocumentView(BaseModel):
    id: str
    title: str
    passages: int
    added: float
    yours: bool


class DocumentList(BaseModel):
    documents: list[DocumentView]
    total: int
    uploads: list[UploadView]


class DocumentText(BaseModel):
    """A document; ``start`` and ``end`` are those of the passage that was asked for."""

    id: str
    title: str
    text: str
    start: int | None = None
    end: int | None = None


class FetchRequest(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    url: str = Field(pattern="^[hH][tT][tT][pP][sS]?://.", max_length=2_000)


def _view(upload: Upload) -> UploadView:
    values = asdict(upload)
    values.pop("owner")
    return UploadView(**{**values, "documents": list(upload.documents)})


@router.post("/v1/documents", status_code=202, responses=responses(415))
async def upload_document(file: UploadFile, parts: Parts, owner: Owner) -> UploadView:
    """Upload a file; it is read and indexed in the background, GET /v1/uploads/{id} says how far it is."""
    limit = parts.options.upload_bytes
    content = await file.read(limit + 1)
    if len(content) > limit:
        raise too_large(limit)
    return _view(await run_in_threadpool(parts.ingest.add, owner, file.filename or "", content))


@router.post("/v1/documents/fetch", status_code=202, responses=responses())
def fetch_document(body: FetchRequest, parts: Parts, owner: Owner) -> UploadView:
    """Fetch a web page or file from the public internet and index it, in the background."""
    return _view(parts.ingest.add_url(owner, body.url))


@router.get("/v1/uploads/{upload_id}", responses=responses(404))
def show_upload(upload_id: str, parts: Parts, owner: Owner) -> UploadView:
    """How far one of your uploads is."""
    return _view(parts.ingest.get(owner, upload_id))


@router.get("/v1/documents", responses=responses())
def list_documents(
    parts: Parts,
    owner: Owner,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    offset: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
    q: Annotated[str, Query(max_length=200)] = "",
) -> DocumentList:
    """The store's documents, which all keys share, the newest first; and your uploads."""
    wanted = q.casefold()
    found = [
        d for d in parts.rag.index.documents() if wanted in d.title.casefold() or wanted in d.id.casefold()
    ]
    found.sort(key=lambda d: -d.added)
    shown = [
        DocumentView(
            id=d.id, title=d.title, passages=d.passages, added=d.added, yours=_may_delete(owner, d.metadata)
        )
        for d in found[offset : offset + limit]
    ]
    uploads = [_view(u) for u in parts.ingest.list(owner)[:50]]
    return DocumentList(documents=shown, total=len(found), uploads=uploads)


@router.get("/v1/documents/{document_id:path}", responses=responses(404))
def show_document(
    document_id: str,
    parts: Parts,
    owner: Owner,
    passage: Annotated[str | None, Query(max_length=500)] = None,
) -> DocumentText:
    """A document's text, and where one of its passages lies in it."""
    document = parts.rag.index.document(document_id)
    text = DocumentText(id=document.id, title=document.title, text=document.text)
    for found in parts.rag.index.passages([passage]) if passage else ():
        if found.document_id == document.id:
            text.start, text.end = found.start, found.start + len(found.text)
    return text


@router.delete("/v1/documents/{document_id:path}", status_code=204, responses=responses(404))
def delete_document(document_id: str, parts: Parts, owner: Owner) -> Response:
    """Delete a document that you uploaded; without keys, on this machine, any."""
    document = parts.rag.index.document(document_id)
    if not _may_delete(owner, document.metadata):
        raise ApiError(
            403, "another key uploaded this document, or the command line indexed it", code="not_yours"
        )
    parts.rag.index.delete([document_id])
    return Response(status_code=204)


def _may_delete(owner: str, metadata: Any) -> bool:
    return owner == LOCAL or metadata.get("uploaded_by") == owner
