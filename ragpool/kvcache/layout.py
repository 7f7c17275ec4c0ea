"""Which tokens of a prompt are what: the map that every method of compression reads."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

from ragpool.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

EDGE = 64  # tokens at both ends of a prompt of unknown form that are never evicted

_MARKER = re.compile(r"^<<<(?P<nonce>\S+) (?P<number>\d+|end)>>>[^\S\n]*\n?", re.MULTILINE)
_TITLE = re.compile(r"[^\n]{1,120}?: ")
_QUESTION = re.compile(r"^Question: [^\n]*", re.MULTILINE)
# a stop and space, then something that can open a sentence; an initial or a short title does not end one
_END = re.compile(
    r"(?<!\b[A-Z])(?<!\bMr)(?<!\bDr)(?<!\bSt)(?<!\bMrs)(?<!\bNo)[.!?。][\"'”’)\]]*\s+(?=[\"'“‘(\[]?[A-Z0-9])|\n+"
)


class Kind(StrEnum):
    """What a piece of the prompt is. Only the tokens of sentences are ever evicted."""

    INSTRUCTION = "instruction"
    MARKER = "marker"
    TITLE = "title"
    SENTENCE = "sentence"
    QUESTION = "question"
    TASK = "task"  # what follows the question: the answer's cue, the end of the turn


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of the prompt's text; ``passage`` numbers the passage it belongs to."""

    kind: Kind
    text: str
    passage: int | None = None


@dataclass(frozen=True)
class PromptLayout:
    """A tokenised prompt and the piece that each token belongs to.

    ``ids`` are the token ids of the whole text, as the tokenizer gives them for the text in one go; ``spans[i]`` is
    the half-open token range of ``pieces[i]`` (ranges follow each other without a gap; one may be empty). ``starts``:
    the first character of each token, where known.
    """

    ids: tuple[int, ...]
    pieces: tuple[Piece, ...]
    spans: tuple[tuple[int, int], ...]
    starts: tuple[int, ...] = ()

    @classmethod
    def build(cls, tokenizer: PreTrainedTokenizerBase, pieces: Sequence[Piece]) -> PromptLayout:
        """The layout of the joined texts. A token goes to the piece of its first character that is not space.

        Raises ModelError when the tokenizer cannot say where its tokens stand (a slow one).
        """
        if not getattr(tokenizer, "is_fast", False):
            raise ModelError(
                "KV-cache compression needs a fast tokenizer (one with offsets); set the method to off"
            )
        text = "".join(piece.text for piece in pieces)
        begin = tokenizer.bos_token
        encoded = tokenizer(
            text,
            add_special_tokens=not (isinstance(begin, str) and text.startswith(begin)),
            return_offsets_mapping=True,
        )
        ends: list[int] = []
        at = 0
        for piece in pieces:
            at += len(piece.text)
            ends.append(at)
        counts = [0] * len(pieces)
        current = 0
        for first, last in encoded["offset_mapping"]:
            inside = text[first:last]
            place = first + len(inside) - len(inside.lstrip()) if inside.strip() else first
            while current < len(pieces) - 1 and ends[current] <= place:
                current += 1
            counts[current] += 1
        spans: list[tuple[int, int]] = []
        start = 0
        for count in counts:
            spans.append((start, start + count))
            start += count
        starts = tuple(first for first, _ in encoded["offset_mapping"])
        return cls(tuple(encoded["input_ids"]), tuple(pieces), tuple(spans), starts)

    @classmethod
    def parse(cls, tokenizer: PreTrainedTokenizerBase, text: str) -> PromptLayout:
        """The layout of a rendered prompt in the form of prompts/answer.md, with or without a chat template.

        Passages stand between marker lines ``<<<nonce n>>>`` and ``<<<nonce end>>>`` as ``title: sentences``; the
        question is the last line ``Question: ...``. Of any other text all but the first and last EDGE tokens count
        as one passage.
        """
        pieces = list(_marked(text))
        return cls.build(tokenizer, pieces) if pieces else _plain(tokenizer, text)

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def text(self) -> str:
        return "".join(piece.text for piece in self.pieces)

    @cached_property
    def piece_starts(self) -> tuple[int, ...]:
        """The first character of each piece."""
        return tuple(accumulate((len(piece.text) for piece in self.pieces[:-1]), initial=0))

    @cached_property
    def sentences(self) -> tuple[int, ...]:
        """Indexes into ``pieces`` of the sentences that have tokens, in order."""
        return tuple(
            i
            for i, (piece, (start, end)) in enumerate(zip(self.pieces, self.spans, strict=True))
            if piece.kind is Kind.SENTENCE and end > start
        )

    @cached_property
    def question(self) -> tuple[int, int]:
        """Token range of the question; without one, of what follows the last sentence."""
        for piece, span in zip(reversed(self.pieces), reversed(self.spans), strict=True):
            if piece.kind is Kind.QUESTION and span[1] > span[0]:
                return span
        return (self.context_end, len(self.ids))

    @cached_property
    def question_text(self) -> str:
        return "".join(piece.text for piece in self.pieces if piece.kind is Kind.QUESTION)

    @cached_property
    def context_end(self) -> int:
        """The first token after the last sentence: what is before depends on the pool, what follows on the question."""
        return max((self.spans[i][1] for i in self.sentences), default=0)

    @cached_property
    def evictable(self) -> int:
        """How many tokens sentences have."""
        return sum(end - start for start, end in (self.spans[i] for i in self.sentences))

    def title_of(self, passage: int | None) -> str:
        """The title of a passage as it stands in the prompt, without its colon."""
        return (
            "".join(
                piece.text for piece in self.pieces if piece.kind is Kind.TITLE and piece.passage == passage
            )
            .strip()
            .rstrip(":")
        )

    @property
    def key(self) -> str:
        """12 hex digits over the pieces' kinds, passages and lengths."""
        shape = ";".join(
            f"{piece.kind}:{piece.passage}:{end - start}"
            for piece, (start, end) in zip(self.pieces, self.spans, strict=True)
        )
        return hashlib.sha256(shape.encode()).hexdigest()[:12]


def split_sentences(text: str) -> Iterator[str]:
    """Pieces of ``text`` that begin where sentences begin; joined they are the text."""
    start = 0
    for match in _END.finditer(text):
        yield text[start : match.end()]
        start = match.end()
    if start < len(text):
        yield text[start:]


def _marked(text: str) -> Iterator[Piece]:
    markers = list(_MARKER.finditer(text))
    # instructions may name the form of the markers; the real ones share the nonce of the last
    if markers:
        nonce = markers[-1]["nonce"]
        markers = [m for m in markers if m["nonce"] == nonce]
    numbers = [m["number"] for m in markers]
    if len(markers) < 2 or numbers[-1] != "end" or "end" in numbers[:-1]:
        return
    yield Piece(Kind.INSTRUCTION, text[: markers[0].start()])
    for marker, following in pairwise(markers):
        number = int(marker["number"])
        yield Piece(Kind.MARKER, marker[0], number)
        body = text[marker.end() : following.start()]
        title = _TITLE.match(body)
        if title is not None:
            yield Piece(Kind.TITLE, title[0], number)
            body = body[title.end() :]
        for sentence in split_sentences(body):
            yield Piece(Kind.SENTENCE, sentence, number)
    yield Piece(Kind.MARKER, markers[-1][0])
    rest = text[markers[-1].end() :]
    questions = list(_QUESTION.finditer(rest))
    if questions:
        last = questions[-1]
        yield Piece(Kind.INSTRUCTION, rest[: last.start()])
        yield Piece(Kind.QUESTION, last[0])
        yield Piece(Kind.TASK, rest[last.end() :])
    else:
        yield Piece(Kind.TASK, rest)


def _plain(tokenizer: PreTrainedTokenizerBase, text: str) -> PromptLayout:
    """First and last EDGE tokens kept, what is between split into sentences."""
    whole = PromptLayout.build(tokenizer, [Piece(Kind.INSTRUCTION, text)])
    if len(whole) <= 2 * EDGE:
        return whole
    pieces = [Piece(Kind.SENTENCE, sentence, 1) for sentence in split_sentences(text)]
    split = PromptLayout.build(tokenizer, pieces)
    kinds = [
        Kind.INSTRUCTION if start < EDGE else Kind.QUESTION if end > len(whole) - EDGE else Kind.SENTENCE
        for start, end in split.spans
    ]
    named = tuple(
        Piece(kind, piece.text, 1 if kind is Kind.SENTENCE else None)
        for kind, piece in zip(kinds, split.pieces, strict=True)
    )
    return PromptLayout(split.ids, named, split.spans, split.starts)
