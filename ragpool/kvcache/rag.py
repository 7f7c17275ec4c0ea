"""critic-rag: whole sentences by retrieval heads and BM25, and for the rest what each head will look at.

A passage's sentences belong together with its title: a sentence whose subject is named in the title only is of no use
without it. So the budget goes, in this order, to what is no part of a passage (instructions, question), to the best
whole sentences with their titles and markers, and to single positions, wherever they stand.

Sentences are chosen once and kept in every layer and head. Single positions are each head's own: what it looks at while
likely answers are written (answers.py), a little of what the question looks at, and, where a head copies, the names of
all sentences (copying.py): a question of two hops has its answer in a sentence that shares no word with it. Heads that
copy keep more positions than others, and the others as many as they have use for (allotment.py). Without likely
answers (a model with sliding windows) it is not known what heads look for; then telling words and the positions of the
retrieval heads are kept, the same everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import torch
from torch.nn import functional

from ragpool.kvcache.allotment import allotted
from ragpool.kvcache.answers import candidates, looked_at
from ragpool.kvcache.copying import copying, worth_copying
from ragpool.kvcache.heads import HeadTable, middle, position_attention, sentence_attention
from ragpool.kvcache.layout import Kind, PromptLayout
from ragpool.kvcache.lexical import lexical, telling
from ragpool.kvcache.selectors import Importance
from ragpool.kvcache.signals import Signals

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_LARGE = 1e3  # above every share of attention
_WHOLE = 0.2  # share of the room for whole sentences
_AMPLE = 0.35  # room that is more of the prompt than this is ample
# share of the room for words where no answers were asked: in ample room, and in less
_AMPLE_WORDS, _TIGHT_WORDS = 0.7, 0.35


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
    question_share: float = 0.2

    def select(self, layout: PromptLayout, signals: Signals, keep: int) -> Importance:
        heads = self._heads(signals)
        scores = signals.sentences or sentence_scores(layout, signals, heads, self.lexical_share)
        fixed = _outside(layout, signals.length)
        room = max(keep - int(fixed.sum()), 0)
        ample = room >= _AMPLE * signals.length
        whole, kept = _sentences_within(layout, scores, fixed, int(_WHOLE * room), room)
        if signals.answers is None:
            share = _AMPLE_WORDS if ample else _TIGHT_WORDS
            kept = _words_within(layout, scores, kept, min(int(share * room), keep - int(kept.sum())))
            positions = self._same(layout, signals, heads)
        else:
            positions = self._own(layout, signals, scores, ample)
        layers = []
        for scored in positions:
            scored[:, kept] += _LARGE
            scored[:, fixed] = math.inf
            scored[:, layout.context_end :] = math.inf
            layers.append(scored)
        counts = None
        if signals.copying is not None:
            fixed[layout.context_end :] = True
            counts = allotted(layers, signals.copying, keep, int(fixed.sum()))
        return Importance(tuple(layers), tuple(scores), frozenset(whole), counts)

    def informed(self, model: PreTrainedModel, layout: PromptLayout, signals: Signals) -> Signals:
        """``signals`` with what likely answers look at, and which heads copy. Hold the model's lock."""
        scores = sentence_scores(layout, signals, self._heads(signals), self.lexical_share)
        likely = candidates(layout, scores)
        looked = looked_at(model, layout, signals, likely)
        copies = None if looked is None else copying(layout, looked, likely)
        return replace(signals, sentences=tuple(scores), answers=looked, copying=copies)

    def _same(
        self, layout: PromptLayout, signals: Signals, heads: Sequence[tuple[int, int]]
    ) -> Iterator[torch.Tensor]:
        """Scores of single positions by the retrieval heads, [kv heads, length] a layer."""
        same = _smooth(position_attention(layout, signals, heads)[None], self.kernel)
        for layer in signals.layers:
            yield same.repeat(len(layer.keys), 1)

    def _own(
        self, layout: PromptLayout, signals: Signals, scores: Sequence[float], ample: bool
    ) -> Iterator[torch.Tensor]:
        """Scores of single positions by what each head looks at, [kv heads, length] a layer."""
        assert signals.answers is not None
        assert signals.copying is not None
        first = layout.question[0] - (signals.length - signals.window)
        worth = functional.pad(worth_copying(layout, scores), (0, signals.length - layout.context_end))
        worth = (1 - self.question_share) * worth.to(signals.layers[0].keys.device)
        for layer, looked, copies in zip(signals.layers, signals.answers, signals.copying, strict=True):
            asked = layer.attention(first, signals.window).mean(dim=(1, 2))
            mixed = (1 - self.question_share) * looked + self.question_share * asked
            mixed = _smooth(mixed, 3 if ample else 1)  # neighbours are a luxury
            yield torch.maximum(mixed, copies[:, None] * worth)

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
