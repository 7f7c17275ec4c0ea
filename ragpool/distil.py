"""Which sentences of a passage bear on a query. Sentences are kept verbatim, as offsets into the passage.

A sentence's relevance is the cosine of its MiniLM vector (with the passage's title in front, since the subject is
often only named there) plus the share of the query's content words that it carries.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ragpool.corpus import sentences as split_sentences
from ragpool.models.cached import CachedEmbedder, TextEmbedder
from ragpool.types import Span

_WORD = re.compile(r"\w+", re.UNICODE)
_LEXICAL_WEIGHT = 0.5

FUNCTION_WORDS = frozenset(
    """a about after all also an and any are as at be because been before both but by did do does during each for from
    had has have he her his how i if in into is it its more most name no not of on one or other same she so some such
    than that the their them then there these they this those to under was were what when where which while who whom
    whose why will with would you""".split()
)


class HasText(Protocol):
    """Anything with an id, a title and a text: Evidence qualifies."""

    @property
    def passage_id(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def text(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence of a passage with its relevance to the query it was ranked for."""

    passage_id: str
    span: Span
    text: str
    score: float


def plain(text: str) -> str:
    """Accents and compatibility forms taken off; case stays."""
    if text.isascii():  # it has none
        return text
    return "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))


def fold(text: str) -> str:
    """Case, accents and compatibility forms folded away."""
    return plain(plain(text).casefold())


def folded_words(text: str) -> str:
    """The folded words of a text, one space between them."""
    return " ".join(_WORD.findall(fold(text)))


def holds(text: str, words: str) -> bool:
    """Whether ``words`` stand in ``text`` in a row, as whole words, case and punctuation aside; False for none."""
    wanted = folded_words(words)
    return bool(wanted) and f" {wanted} " in f" {folded_words(text)} "


def content_words(text: str) -> frozenset[str]:
    """The folded words of a text that are not function words, plural s stripped."""
    words = (w for w in _WORD.findall(fold(text)) if w not in FUNCTION_WORDS)
    return frozenset(w[:-1] if len(w) > 3 and w.endswith("s") and not w.endswith("ss") else w for w in words)


def overlap(query: frozenset[str], text: frozenset[str]) -> float:
    """The share of the query's words that the text carries, in [0, 1]."""
    return len(query & text) / len(query) if query else 0.0


class Distiller:
    """Ranks sentences for a query. Vectors of seen sentences are kept."""

    def __init__(self, embedder: TextEmbedder) -> None:
        self.embedder = CachedEmbedder.of(embedder)

    def rank(self, query: str, passages: Sequence[HasText]) -> list[list[Sentence]]:
        """For each passage its sentences in text order, scored for ``query``."""
        spans = [split_sentences(p.text) for p in passages]
        texts = [[p.text[s.start : s.end] for s in found] for p, found in zip(passages, spans, strict=True)]
        keys = [[f"{p.title}: {t}" for t in found] for p, found in zip(passages, texts, strict=True)]
        wanted_texts = list(dict.fromkeys([query, *(key for found in keys for key in found)]))
        vectors = dict(zip(wanted_texts, self.embedder.embed(wanted_texts), strict=True))
        wanted = content_words(query)
        query_vector = vectors[query]
        ranked = []
        for passage, found, sentence_texts, sentence_keys in zip(passages, spans, texts, keys, strict=True):
            title = content_words(passage.title)
            ranked.append(
                [
                    Sentence(
                        passage.passage_id,
                        span,
                        text,
                        float(vectors[key] @ query_vector)
                        + _LEXICAL_WEIGHT * overlap(wanted, title | content_words(text)),
                    )
                    for span, text, key in zip(found, sentence_texts, sentence_keys, strict=True)
                ]
            )
        return ranked

    def distil(self, query: str, passages: Sequence[HasText], keep: int = 3) -> list[tuple[Span, ...]]:
        """For each passage the spans of its ``keep`` best sentences, in text order; the first is always kept.

        The first sentence says what the passage is about, so that the others can be understood.
        """
        return [best_spans(found, keep) for found in self.rank(query, passages)]


def best_spans(ranked: Sequence[Sentence], keep: int) -> tuple[Span, ...]:
    """The spans of the first and the ``keep - 1`` best other sentences, in text order."""
    if not ranked:
        return ()
    others = sorted(ranked[1:], key=lambda s: (-s.score, s.span.start))[: max(keep - 1, 0)]
    return tuple(sorted((s.span for s in [ranked[0], *others]), key=lambda span: span.start))
