"""critic-rag: whole sentences by retrieval heads and BM25, and for the rest the positions that likely answers look at.

A passage's sentences belong together with its title: a sentence whose subject is named in the title only is of no use
without it. So the budget goes, in this order, to what is no part of a passage (instructions, question), to the best
whole sentences with their titles and markers, to the telling words of the next ones, and to single positions, wherever
they stand. A question of two hops has its answer in a sentence that shares no word with it, often the fifth or tenth best:
too far down to be kept whole at a quarter of the cache, but its names fit.

Sentences and words are chosen once and kept in every layer and head: what one layer kept of a name the next would miss. Single
positions are each head's own, by what it looks at while likely answers are written (answers.py), mixed with what the
question looks at. Without those answers (a model with sliding windows) they are those of the retrieval heads, the same
everywhere: chosen for each head by the question's attention they lost half of what the context told.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import torch
from torch.nn import functional

from ragpool.kvcache.answers import candidates, looked_at
from ragpool.kvcache.heads import HeadTable, middle, position_attention, sentence_attention
from ragpool.kvcache.layout import Kind, PromptLayout
from ragpool.kvcache.lexical import lexical, telling
from ragpool.kvcache.selectors import Importance
from ragpool.kvcache.signals import Signals

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_LARGE = 1e3  # above every share of attention
# shares of the room for whole sentences and for words of further ones: where it is less than _AMPLE of the prompt, and more
_AMPLE, _TIGHT_SHARES, _AMPLE_SHARES = 0.35, (0.3, 0.35), (0.2, 0.7)


@dataclass(frozen=True)
class CriticRag:
    """The method of ragpool's own. ``lexical_share`` of a sentence's score is BM25, ``question_share`` of a position's the
    question's attention.

    ``table``: the retrieval heads; None looks the shipped one up by the model's shape, and falls back to the heads of
    the middle layers.
    """

    needs: ClassVar[str] = "window"
    table: HeadTable | None = None
    lexical_share: float = 0.7
    kernel: int = 9
    question_share: float = 0.5

    def select(self, layout: PromptLayout, signals: Signals, keep: int) -> Importance:
        heads = self._heads(signals)
        scores = signals.sentences or sentence_scores(layout, signals, heads, self.lexical_share)
        fixed = _outside(layout, signals.length)
        room = max(keep - int(fixed.sum()), 0)
        ample = room >= _AMPLE * signals.length
        for_sentences, for_words = _AMPLE_SHARES if ample else _TIGHT_SHARES
        whole, kept = _sentences_within(layout, scores, fixed, int(for_sentences * room), room)
        left = keep - int(kept.sum())
        kept = _words_within(layout, scores, kept, min(int(for_words * room), left))
        layers = []
        for scored in self._positions(layout, signals, heads, ample):
            scored[:, kept] += _LARGE
            scored[:, fixed] = math.inf
            layers.append(scored)
        return Importance(tuple(layers), tuple(scores), frozenset(whole))

    def informed(self, model: PreTrainedModel, layout: PromptLayout, signals: Signals) -> Signals:
        """``signals`` with what likely answers look at. Hold the model's lock."""
        scores = sentence_scores(layout, signals, self._heads(signals), self.lexical_share)
        looked = looked_at(model, layout, signals, candidates(layout, scores))
        return replace(signals, sentences=tuple(scores), answers=looked)

    def _positions(
        self, layout: PromptLayout, signals: Signals, heads: Sequence[tuple[int, int]], ample: bool
    ) -> Iterator[torch.Tensor]:
        """Scores of single positions, [kv heads, length] a layer."""
        if signals.answers is None:
            same = _smooth(position_attention(layout, signals, heads)[None], self.kernel)
            for layer in signals.layers:
                yield same.repeat(len(layer.keys), 1)
            return
        first = layout.question[0] - (signals.length - signals.window)
        for layer, looked in zip(signals.layers, signals.answers, strict=True):
            asked = layer.attention(first, signals.window).mean(dim=(1, 2))
            mixed = (1 - self.question_share) * looked + self.question_share * asked
            yield _smooth(mixed, 3 if ample else 1)  # neighbours are a luxury

    def _heads(self, signals: Signals) -> tuple[tuple[int, int], ...]:
        table = self.table or HeadTable.shipped(signals.fingerprint)
        return table.heads if table is not None else middle(signals)


def sentence_scores(
    layout: PromptLayout, signals: Signals, heads: Sequence[tuple[int, int]], lexical_share: float
) -> list[float]:
    """Scores in [0, 1] of the sentences: attention of the retrieval heads and BM25, each against its best."""
    if not layout.sentences:
        return []
    attention = sentence_attention(layout, signals, heads).mean(dim=0)
    attention = attention / attention.max().clamp(min=1e-12)
    words = torch.tensor(lexical(layout), device=attention.device)
    words = words / words.max().clamp(min=1e-12)
    mixed: list[float] = ((1 - lexical_share) * attention + lexical_share * words).tolist()
    return mixed


def _smooth(scores: torch.Tensor, kernel: int) -> torch.Tensor:
    return functional.avg_pool1d(
        scores, kernel, padding=kernel // 2, stride=1, count_include_pad=False
    ).clone()


def _outside(layout: PromptLayout, length: int) -> torch.Tensor:
    """Mask [length] of what is no part of a passage."""
    mask = torch.zeros(length, dtype=torch.bool)
    for piece, (start, end) in zip(layout.pieces, layout.spans, strict=True):
        if piece.passage is None and piece.kind is not Kind.SENTENCE:
            mask[start:end] = True
    return mask


def _sentences_within(
    layout: PromptLayout, scores: Sequence[float], kept: torch.Tensor, room: int, most: int
) -> tuple[list[int], torch.Tensor]:
    """The best sentences that fit into ``room`` positions, each with its title and marker; and the new mask.

    The very best one may take ``most`` positions.
    """
    kept = kept.clone()
    frames: dict[int | None, list[tuple[int, int]]] = {}
    for piece, span in zip(layout.pieces, layout.spans, strict=True):
        if piece.kind is not Kind.SENTENCE and piece.passage is not None:
            frames.setdefault(piece.passage, []).append(span)
    chosen: list[int] = []
    ranked = sorted(zip(scores, layout.sentences, strict=True), key=lambda pair: (-pair[0], pair[1]))
    for rank, (_, index) in enumerate(ranked):
        spans = [layout.spans[index], *frames.get(layout.pieces[index].passage, [])]
        cost = sum(int((~kept[start:end]).sum()) for start, end in spans)
        if cost <= room or (rank == 0 and cost <= most):
            room -= cost
            chosen.append(index)
            for start, end in spans:
                kept[start:end] = True
    return chosen, kept


def _words_within(
    layout: PromptLayout, scores: Sequence[float], kept: torch.Tensor, room: int
) -> torch.Tensor:
    """``kept`` and the telling words of the best sentences that fit into ``room`` more positions."""
    held = kept.tolist()  # asked token by token
    for _, index in sorted(zip(scores, layout.sentences, strict=True), key=lambda pair: (-pair[0], pair[1])):
        wanted = [at for at in _telling_tokens(layout, index) if not held[at]]
        if len(wanted) <= room:
            room -= len(wanted)
            for at in wanted:
                held[at] = True
    return torch.tensor(held, dtype=torch.bool)


def _telling_tokens(layout: PromptLayout, index: int) -> list[int]:
    """The tokens of a sentence that have a part of a telling word; all of them where their places are not known."""
    start, end = layout.spans[index]
    if not layout.starts:
        return list(range(start, end))
    begin, text = layout.piece_starts[index], layout.pieces[index].text
    bounds = [layout.starts[at] - begin for at in range(start, end)] + [len(text)]
    spans = iter(telling(text))
    found, span = [], next(spans, None)
    for at in range(start, end):
        first, last = bounds[at - start], bounds[at - start + 1]
        while span is not None and span[1] <= first:
            span = next(spans, None)
        if span is not None and span[0] < last:
            found.append(at)
    return found
