"""Document -> Passages, by langchain-text-splitters, with exact offsets."""

from __future__ import annotations

import hashlib
import json
import re
from bisect import bisect_right
from collections.abc import Iterator

from ragpool.errors import SettingsError
from ragpool.types import Document, Passage

# Tried in this order: paragraphs, lines, sentences (Latin, then full-width), words, characters.
_SEPARATORS = [r"\n\s*\n", r"\n", r"(?<=[.!?])\s+", r"(?<=[。！？｡])", r"\s+", ""]
_SENTENCE_START = re.compile(r"(?<=[.!?\n])\s+(?=\S)|(?<=[。！？｡])")
_WORD_START = re.compile(r"\s+(?=\S)")


def split(document: Document, *, chunk_size: int, chunk_overlap: int) -> list[Passage]:
    """The passages of ``document``, in order; sizes are characters.

    A document not longer than ``chunk_size`` is one passage with the document's own id and its whole text;
    else passages are numbered ``id#1``, ``id#2``, ... and begin and end at non-space characters. Every
    non-space character of the document is in a passage. A passage begins up to ``chunk_overlap`` characters
    before the end of the one before it: at the start of a sentence if there is one in that stretch, else at
    the start of a word. Blank documents have no passages.

    Raises SettingsError when the sizes contradict each other.
    """
    if chunk_size < 1 or not 0 <= chunk_overlap < chunk_size:
        raise SettingsError(
            f"chunk_overlap ({chunk_overlap}) must be at least 0 and less than chunk_size ({chunk_size})"
        )
    text = document.text
    if not text.strip():
        return []
    if len(text) <= chunk_size:
        first = len(text) - len(text.lstrip())
        return [Passage(document.id, document.id, document.title, text, 0, _metadata(document, first))]
    passages: list[Passage] = []
    for start, end in _ranges(text, chunk_size, chunk_overlap):
        passages.append(
            Passage(
                id=f"{document.id}#{len(passages) + 1}",
                document_id=document.id,
                title=document.title,
                text=text[start:end],
                start=start,
                metadata=_metadata(document, start),
            )
        )
    return passages


def content_hash(document: Document) -> str:
    """64 hex digits over title, text, metadata and pages; not over the id, so a moved file keeps its hash."""
    content = [document.title, document.text, dict(document.metadata), list(document.page_starts)]
    canonical = json.dumps(content, sort_keys=True, ensure_ascii=True, default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _ranges(text: str, chunk_size: int, chunk_overlap: int) -> Iterator[tuple[int, int]]:
    from langchain_text_splitters import RecursiveCharacterTextSplitter

    # Without overlap, stripping or dropped separators the pieces are a partition of the text, so offsets
    # are sums of lengths. (The splitter's own start index is searched for, and wrong in repetitive text.)
    splitter = RecursiveCharacterTextSplitter(
        separators=_SEPARATORS,
        is_separator_regex=True,
        keep_separator="end",
        strip_whitespace=False,
        chunk_size=chunk_size - chunk_overlap,
        chunk_overlap=0,
    )
    end = 0
    for piece in splitter.split_text(text):
        begin, end = end, end + len(piece)
        if not piece.strip():
            continue
        first = begin + len(piece) - len(piece.lstrip())
        last = begin + len(piece.rstrip())
        yield _overlapped(text, first, max(0, begin - chunk_overlap), begin), last


def _overlapped(text: str, first: int, lowest: int, begin: int) -> int:
    """Where the passage starts that would start at ``first`` without overlap; not before ``lowest``."""
    if lowest == begin:
        return first
    for boundary in (_SENTENCE_START, _WORD_START):
        for match in boundary.finditer(text, lowest, begin):
            if match.end() < begin:
                return match.end()
    stretch = text[lowest:begin]
    if stretch.isspace():
        return first
    # No boundary at all: a script without spaces, or one very long token.
    return lowest + len(stretch) - len(stretch.lstrip())


def _metadata(document: Document, start: int) -> dict[str, object]:
    if not document.page_starts:
        return dict(document.metadata)
    return {**document.metadata, "page": max(1, bisect_right(document.page_starts, start))}
