"""critic-rag: whole sentences by retrieval heads and BM25, and the best positions of each head for the rest.

A passage's sentences belong together with its title: a sentence whose subject is named in the title only is of no use
without it. So the budget goes, in this order, to what is no sentence (instructions, markers, titles, question), to the
best whole sentences, and to single positions that the question's tokens attend to most in each KV head, wherever they
stand.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.nn import functional

from ragpool.kvcache.heads import HeadTable, middle, sentence_attention
from ragpool.kvcache.layout import Kind, PromptLayout
from ragpool.kvcache.lexical import lexical
from ragpool.kvcache.selectors import Importance
from ragpool.kvcache.signals import LayerSignals, Signals

_LARGE = 1e6  # above every attention weight, below what is never evicted


@dataclass(frozen=True)
class CriticRag:
    """The method of ragpool's own. ``lexical_share`` of a sentence's score is BM25, ``whole`` of the budget sentences'.

    ``table``: the retrieval heads; None looks the shipped one up by the model's shape, and falls back to the heads of
    the middle layers. ``frame``: the largest share of the budget that titles and markers of passages without a chosen
    sentence may take; past it they compete like any other position.
    """

    needs: ClassVar[str] = "window"
    table: HeadTable | None = None
    lexical_share: float = 0.5
    whole: float = 0.5
    frame: float = 0.5
    kernel: int = 5

    def select(self, layout: PromptLayout, signals: Signals, keep: int) -> Importance:
        scores = sentence_scores(layout, signals, self.table, self.lexical_share)
        fixed, framing = _frame(layout, signals.length)
        room = keep - int(fixed.sum())
        kept = fixed
        if int(framing.sum()) <= self.frame * room:
            kept = fixed | framing
        room = keep - int(kept.sum())
        whole, kept = _sentences_within(layout, scores, kept, int(self.whole * max(room, 0)))
        layers = []
        for layer in signals.layers:
            importance = self.positions(layer, layout, signals)
            importance[:, kept] += _LARGE
            importance[:, fixed] = math.inf
            layers.append(importance)
        return Importance(tuple(layers), tuple(scores), frozenset(whole))

    def positions(self, layer: LayerSignals, layout: PromptLayout, signals: Signals) -> torch.Tensor:
        """How much the tokens from the question on attend to each position, [kv heads, length]."""
        first = layout.context_end - (signals.length - signals.window)
        weights = layer.received(max(first, 0), signals.window)
        smooth = functional.avg_pool1d(weights, self.kernel, padding=self.kernel // 2, stride=1)
        return smooth.mean(dim=1)


def sentence_scores(
    layout: PromptLayout, signals: Signals, table: HeadTable | None, lexical_share: float
) -> list[float]:
    """Scores in [0, 1] of the sentences: attention of the retrieval heads and BM25, each against its best."""
    if not layout.sentences:
        return []
    found = table or HeadTable.shipped(signals.fingerprint)
    heads = found.heads if found is not None else middle(signals)
    attention = sentence_attention(layout, signals, heads).mean(dim=0)
    attention = attention / attention.max().clamp(min=1e-12)
    words = torch.tensor(lexical(layout), device=attention.device)
    words = words / words.max().clamp(min=1e-12)
    mixed: list[float] = ((1 - lexical_share) * attention + lexical_share * words).tolist()
    return mixed


def _frame(layout: PromptLayout, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Two masks [length]: what is always kept, and the titles and markers of the passages."""
    fixed = torch.ones(length, dtype=torch.bool)
    framing = torch.zeros(length, dtype=torch.bool)
    for piece, (start, end) in zip(layout.pieces, layout.spans, strict=True):
        if piece.kind is Kind.SENTENCE or piece.passage is not None:
            fixed[start:end] = False
        if piece.kind is not Kind.SENTENCE and piece.passage is not None:
            framing[start:end] = True
    return fixed, framing


def _sentences_within(
    layout: PromptLayout, scores: list[float], kept: torch.Tensor, room: int
) -> tuple[list[int], torch.Tensor]:
    """The best sentences that fit into ``room`` positions, each with its title and marker; and the new mask."""
    kept = kept.clone()
    frames: dict[int | None, list[tuple[int, int]]] = {}
    for piece, span in zip(layout.pieces, layout.spans, strict=True):
        if piece.kind is not Kind.SENTENCE and piece.passage is not None:
            frames.setdefault(piece.passage, []).append(span)
    chosen: list[int] = []
    for _, index in sorted(zip(scores, layout.sentences, strict=True), key=lambda pair: (-pair[0], pair[1])):
        spans = [layout.spans[index], *frames.get(layout.pieces[index].passage, [])]
        cost = sum(int((~kept[start:end]).sum()) for start, end in spans)
        if cost <= room:
            room -= cost
            chosen.append(index)
            for start, end in spans:
                kept[start:end] = True
    return chosen, kept
