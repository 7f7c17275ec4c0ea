"""What the heads that copy need: the names of every sentence, in few heads.

Once an answer's first token is written, the model writes the rest of it by looking at what followed that token in the
context. A few heads do this (8 of the 90 of SmolLM2-135M; induction heads, arXiv 2209.11895), and little else of the
cache matters to it: with the true answer's positions in these alone KL was .05 at nine tenths evicted, with
those in all others as high as without. Which heads they are shows while the likely answers are read (answers.py); there
names that were not among these are worth as much as those that were, by the score of their sentence.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

import torch

from ragpool.kvcache.answers import NAME, Candidate
from ragpool.kvcache.layout import PromptLayout

_FIRST = 0.5  # worth of a name's first token, which nothing leads to, beside 1 of what follows it
_LEAST = 1e-3  # of the best sentence's score: a name of a sentence without any is still a name


def copying(
    layout: PromptLayout, looked: Sequence[torch.Tensor], answers: Sequence[Candidate]
) -> tuple[torch.Tensor, ...]:
    """How much each head looks at what ``answers`` go on with, wherever they stand, a layer [kv heads].

    ``looked``: what heads look at while these answers are written, a layer [kv heads, length].
    """
    context = layout.ids[: layout.context_end]
    places: dict[int, list[int]] = {}
    for at, token in enumerate(context):
        places.setdefault(token, []).append(at)
    going_on = [
        at + more
        for answer in answers
        for at in places.get(answer.ids[0], ())
        if context[at : at + len(answer.ids)] == answer.ids
        for more in range(1, len(answer.ids))
    ]
    if not going_on:
        return tuple(layer.new_zeros(len(layer)) for layer in looked)
    return tuple(layer[:, going_on].mean(dim=1) for layer in looked)


def worth_copying(layout: PromptLayout, scores: Sequence[float]) -> torch.Tensor:
    """The worth of each token of the context [context_end]: for names the share of their sentence's score in the best,
    for all else 0.

    What follows the same token twice is worth something in the better of the two sentences only; between single
    characters, as numbers have them, what follows the same three.
    """
    worth = torch.zeros(layout.context_end)
    best = max(scores, default=0.0)
    seen: set[tuple[int, ...]] = set()
    ranked = sorted(zip(scores, layout.sentences, strict=True), key=lambda pair: (-pair[0], pair[1]))
    for score, index in ranked:
        share = max(score / best, _LEAST) if best > 0 else _LEAST
        for start, end in _names(layout, index):
            for at in range(start, end):
                before = 0 if at == start else 3 if _single(layout, at - 1) else 1
                tokens = layout.ids[max(at - before, 0) : at + 1]
                if tokens not in seen:
                    seen.add(tokens)
                    worth[at] = share if before else _FIRST * share
    return worth


def _names(layout: PromptLayout, index: int) -> list[tuple[int, int]]:
    """The token ranges of a sentence's names and numbers; none where the places of tokens are not known."""
    if not layout.starts:
        return []
    start, end = layout.spans[index]
    begin = layout.piece_starts[index]
    found = []
    for match in NAME.finditer(layout.pieces[index].text):
        first = max(bisect_right(layout.starts, begin + match.start()) - 1, start)
        last = min(bisect_left(layout.starts, begin + match.end()), end)
        found.append((first, last))
    return found


def _single(layout: PromptLayout, at: int) -> bool:
    """Whether a token is one character, but for space around it."""
    return len(layout.text[layout.starts[at] : layout.starts[at + 1]].strip()) <= 1
