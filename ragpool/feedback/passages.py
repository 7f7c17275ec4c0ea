"""A passage as the trained judge's features see it, with the vectors of its sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from ragpool.corpus.sentences import sentences
from ragpool.feedback.text import content_words, core_title, words
from ragpool.models.cached import CachedEmbedder
from ragpool.types import Evidence

Vector = npt.NDArray[np.float32]
Phrase = tuple[str, ...]  # words, folded


@dataclass(frozen=True, slots=True)
class Parts:
    title: tuple[str, ...]
    content: frozenset[str]
    sentences: tuple[str, ...]
    lines: tuple[str, ...]  # each sentence's words, a space before and after each
    joined: str  # the same of the whole text


@lru_cache(maxsize=4096)
def _parts(title: str, text: str) -> Parts:
    found = tuple(text[s.start : s.end] for s in sentences(text))
    return Parts(
        words(core_title(title)),
        content_words(f"{title} {text}"),
        found,
        tuple(f" {' '.join(words(sentence))} " for sentence in found),
        f" {' '.join(words(text))} ",
    )


@dataclass(frozen=True, slots=True)
class Passage:
    parts: Parts
    vectors: Vector  # [sentences, dim]

    @property
    def title(self) -> tuple[str, ...]:
        return self.parts.title

    @property
    def content(self) -> frozenset[str]:
        return self.parts.content

    @property
    def sentences(self) -> tuple[str, ...]:
        return self.parts.sentences

    def names(self, phrase: Phrase) -> bool:
        """Whether its text has ``phrase`` as one run of words."""
        return bool(phrase) and f" {' '.join(phrase)} " in self.parts.joined

    def naming(self, phrase: Phrase) -> list[int]:
        """The sentences that have ``phrase``."""
        wanted = f" {' '.join(phrase)} "
        return [i for i, line in enumerate(self.parts.lines) if wanted in line]


def read_passages(evidence: Sequence[Evidence], embedder: CachedEmbedder) -> list[Passage]:
    """The passages of ``evidence``, in its order; a sentence is embedded with its passage's title in front."""
    parts = [_parts(e.title, e.text) for e in evidence]
    vectors = embedder.embed(
        [f"{e.title}: {s}" for e, p in zip(evidence, parts, strict=True) for s in p.sentences]
    )
    passages, start = [], 0
    for part in parts:
        end = start + len(part.sentences)
        passages.append(Passage(part, vectors[start:end]))
        start = end
    return passages


def is_name(phrase: Phrase) -> bool:
    """Long enough that an occurrence of it means something."""
    return len(phrase) > 1 or (len(phrase) == 1 and len(phrase[0]) > 3)


def links(source: Passage, target: Passage) -> bool:
    """``source`` names the title of ``target``."""
    return source.title != target.title and is_name(target.title) and source.names(target.title)


def same_name(first: Phrase, second: Phrase) -> bool:
    """Equal, or one begins or ends the other ("Wulfram" and "King Wulfram") with half of its words or more."""
    if first == second:
        return True
    short, long = sorted((first, second), key=len)
    if not short or 2 * len(short) < len(long) or not is_name(short):
        return False
    return long[: len(short)] == short or long[-len(short) :] == short
