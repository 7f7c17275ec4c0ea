"""The answer's text as clients see it: without the generator's own [n] marks, with checked citations beside it.

A generator's raw pieces cannot be trusted: a mark may point nowhere. So marks never leave in the running text; what
was checked leaves as annotations, or as a list at the end for clients that drop fields they do not know.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote

from ragpool.generate import NOT_FOUND, UNVERIFIED
from ragpool.types import Answer, AnswerStatus, Citation, StopReason

_MARK = re.compile(r"[ \t]*\[\d{1,3}\]")
_MAYBE_MARK = re.compile(r"[ \t]*(?:\[\d{0,3})?$")
_LEADING = re.compile(r"^[\W_]+")  # a NOT FOUND may come in quotation marks
_CLAIM = re.compile(r"(.*?)((?:\[\d{1,3}\]\s*)+)", re.DOTALL)

Link = Callable[[Citation], str]


class Prose:
    """Takes the raw pieces of one answer, gives out what may be shown. ``text`` is all that was given out."""

    def __init__(self) -> None:
        self.text = ""
        self._held = ""

    def feed(self, piece: str) -> str:
        """The part that is certain by now: no mark, and not the beginning of a NOT FOUND."""
        self._held += piece
        begun = _LEADING.sub("", _MARK.sub("", self._held)).rstrip().upper()[: len(NOT_FOUND)]
        if not self.text and NOT_FOUND.startswith(begun):
            return ""
        ready = _MARK.sub("", self._held)
        tail = _MAYBE_MARK.search(ready)
        cut = tail.start() if tail else len(ready)
        self._held = ready[cut:]
        return self._give(ready[:cut])

    def finish(self, answer: Answer) -> str:
        """What is still to be said when the answer is known."""
        if answer.status is AnswerStatus.INSUFFICIENT:
            self._held = ""
            return self._give(self._apart(_refusal(answer)))
        rest = self._give(_MARK.sub("", self._held).rstrip())
        self._held = ""
        if not self.text:  # an answer that was stored before comes without pieces
            rest += self._give(_MARK.sub("", answer.text).strip())
        if UNVERIFIED in answer.text and UNVERIFIED not in self.text:
            rest += self._give(f" {UNVERIFIED}")
        if answer.missing and answer.status is AnswerStatus.PARTIAL:
            rest += self._give(self._apart(f"Not complete. Missing: {'; '.join(answer.missing)}."))
        return rest

    def _give(self, text: str) -> str:
        self.text += text
        return text

    def _apart(self, text: str) -> str:
        return f"\n\n{text}" if self.text else text


def _refusal(answer: Answer) -> str:
    if answer.stop_reason is StopReason.CANCELLED:
        return "Stopped before there was an answer."
    if answer.stop_reason is StopReason.DEADLINE:
        return "The time was over before there was an answer."
    looked = f" Missing: {'; '.join(answer.missing)}." if answer.missing else ""
    return f"The documents do not answer this.{looked}"


@dataclass(frozen=True, slots=True)
class Note:
    """A citation of ``text[start:end]``, half open; only what was checked and holds becomes one."""

    marker: int
    start: int
    end: int
    title: str
    url: str


def notes(text: str, answer: Answer, link: Link) -> tuple[Note, ...]:
    """The answer's supported citations, each with the part of ``text`` that it is for."""
    titles = {e.passage_id: e.title for e in answer.evidence}
    supported = {c.marker: c for c in answer.citations if c.supported}
    found: list[Note] = []
    position = 0
    for claim, marks in _CLAIM.findall(answer.text):
        words = claim.replace(UNVERIFIED, "").strip(" .,;\n")
        start = text.find(words, position) if words else -1
        start, end = (start, start + len(words)) if start >= 0 else (0, len(text))
        position = end if start > 0 else position
        for mark in re.findall(r"\d+", marks):
            citation = supported.get(int(mark))
            if citation is not None:
                title = titles.get(citation.passage_id, citation.document_id)
                found.append(Note(citation.marker, start, end, title, link(citation)))
    return tuple(found)


def source_list(found: tuple[Note, ...]) -> str:
    """[n] marks and a list of sources to append to the text; "" where nothing is cited."""
    by_marker = {note.marker: note for note in found}
    if not by_marker:
        return ""
    marks = "".join(f"[{marker}]" for marker in by_marker)
    lines = "\n".join(f"[{n.marker}] {' '.join(n.title.split())} {n.url}" for n in by_marker.values())
    return f" {marks}\n\nSources:\n{lines}"


def linked(base: str) -> Link:
    """Citations as addresses: a document from the web is where it was, every other one opens in our page."""

    def link(citation: Citation) -> str:
        if citation.document_id.startswith(("http://", "https://")):
            return citation.document_id
        document, passage = quote(citation.document_id, safe=""), quote(citation.passage_id, safe="")
        return f"{base.rstrip('/')}/#document={document}&passage={passage}"

    return link
