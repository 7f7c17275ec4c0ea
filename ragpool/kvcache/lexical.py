"""BM25 over the sentences of one prompt, each with its title, and a second look with the words of the best ones."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

from ragpool.kvcache.layout import Kind, PromptLayout

_WORD = re.compile(r"\w+")
_K1, _B = 1.2, 0.75
# a question's own words: they say what is asked for, not about what
_FUNCTION = frozenset(
    """a an and are as at be been by did do does for from had has have he her his how in into is it its of on or question
    she that the their them they this to was were what when where which who whom whose why will with answer""".split()
)


def words(text: str) -> list[str]:
    """Lower-case words that carry meaning, plural s off."""
    found = (w for w in _WORD.findall(text.lower()) if w not in _FUNCTION)
    return [w[:-1] if len(w) > 3 and w.endswith("s") and not w.endswith("ss") else w for w in found]


def bm25(query: Sequence[str], texts: Sequence[Sequence[str]]) -> list[float]:
    """Scores of ``texts`` for ``query``, both as words. The idf is the positive one; no common word, no score."""
    if not texts:
        return []
    average = sum(map(len, texts)) / len(texts) or 1.0
    holding = Counter(word for text in texts for word in set(text))
    idf = {w: math.log(1 + (len(texts) - holding[w] + 0.5) / (holding[w] + 0.5)) for w in set(query)}
    scores = []
    for text in texts:
        counts = Counter(text)
        norm = _K1 * (1 - _B + _B * len(text) / average)
        scores.append(sum(idf[w] * counts[w] * (_K1 + 1) / (counts[w] + norm) for w in idf if counts[w]))
    return scores


def sentence_words(layout: PromptLayout) -> list[list[str]]:
    """The words of each sentence of the prompt, with those of its passage's title."""
    titles = {
        piece.passage: words(layout.title_of(piece.passage))
        for piece in layout.pieces
        if piece.kind is Kind.TITLE
    }
    found = []
    for i in layout.sentences:
        piece = layout.pieces[i]
        found.append(titles.get(piece.passage, []) + words(piece.text))
    return found


def lexical(layout: PromptLayout) -> list[float]:
    """BM25 of the sentences of ``layout`` for its question, in order."""
    return bm25(words(layout.question_text), sentence_words(layout))
