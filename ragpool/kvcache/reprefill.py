"""reprefill: the best sentences as a shorter prompt, read in place of the long one.

The only method here that saves time: the long prompt is never read. Its sentences are chosen by words alone, or by
sentence scores that are there already (of a pool whose cache is warm). Sentences keep their titles and markers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ragpool.kvcache.layout import Kind, Piece, PromptLayout
from ragpool.kvcache.lexical import lexical
from ragpool.kvcache.plan import KeepPlan, KeptSentence

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def shortened(
    tokenizer: PreTrainedTokenizerBase,
    layout: PromptLayout,
    keep: int,
    scores: Sequence[float] | None = None,
) -> tuple[PromptLayout, KeepPlan]:
    """The prompt with the best sentences only, of about ``keep`` tokens, and the plan that says which.

    ``scores``: one for each of ``layout.sentences``; by default BM25 with the question. What stands outside of
    passages always stays; passages without a chosen sentence go with title and marker.
    """
    values = list(lexical(layout) if scores is None else scores)
    chosen = _chosen(layout, values, keep)
    short = PromptLayout.build(tokenizer, _kept(layout, chosen))
    sentences = tuple(
        KeptSentence(layout.pieces[i].passage, layout.pieces[i].text, value, float(i in chosen), i in chosen)
        for i, value in zip(layout.sentences, values, strict=True)
    )
    return short, KeepPlan("reprefill", len(layout), len(short), (), (), sentences)


def _chosen(layout: PromptLayout, scores: Sequence[float], keep: int) -> frozenset[int]:
    frames: dict[int | None, int] = {}
    room = keep
    for piece, (start, end) in zip(layout.pieces, layout.spans, strict=True):
        if piece.passage is None:
            room -= end - start
        elif piece.kind is not Kind.SENTENCE:
            frames[piece.passage] = frames.get(piece.passage, 0) + end - start
    chosen: set[int] = set()
    for _, index in sorted(zip(scores, layout.sentences, strict=True), key=lambda pair: (-pair[0], pair[1])):
        start, end = layout.spans[index]
        cost = end - start + frames.get(layout.pieces[index].passage, 0)
        if cost <= room:
            room -= cost
            frames.pop(layout.pieces[index].passage, None)  # paid
            chosen.add(index)
    return frozenset(chosen)


def _kept(layout: PromptLayout, chosen: frozenset[int]) -> list[Piece]:
    passages = {layout.pieces[i].passage for i in chosen}
    pieces: list[Piece] = []
    for index, piece in enumerate(layout.pieces):
        if piece.passage is not None and piece.passage not in passages:
            continue
        if piece.kind is not Kind.SENTENCE or index in chosen:
            pieces.append(piece)
        elif piece.text.endswith("\n") and pieces and not pieces[-1].text.endswith("\n"):
            # the passage's last sentence goes; the line break after it stays
            pieces[-1] = replace(pieces[-1], text=f"{pieces[-1].text.rstrip(' ')}\n")
    return pieces
