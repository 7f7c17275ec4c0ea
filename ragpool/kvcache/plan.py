"""What is kept of a cache, in a form that people can read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

WHOLE = 0.999  # a sentence with this share of its tokens counts as kept whole


@dataclass(frozen=True, slots=True)
class KeptSentence:
    """A sentence of the prompt and what became of it.

    ``share``: of its tokens, over layers and heads, the part that is kept. ``whole``: it was chosen as a sentence.
    """

    passage: int | None
    text: str
    score: float
    share: float
    whole: bool


@dataclass(frozen=True)
class KeepPlan:
    """What is kept of a prompt of ``length`` tokens: ``kept`` cache positions in each head, or on average of all heads.

    ``indices[i]`` [batch, kv heads, most that a head keeps], ascending, belong to layer ``layers[i]``; a head that keeps
    fewer has -1 in front. A plan that shortens the text itself (reprefill) has none.
    """

    method: str
    length: int
    kept: int
    layers: tuple[int, ...]
    indices: tuple[torch.Tensor, ...]
    sentences: tuple[KeptSentence, ...] = ()
    bytes_per_position: int = 0

    @property
    def unequal(self) -> bool:
        """Do heads keep different numbers?"""
        same = len({index.shape[-1] for index in self.indices}) <= 1
        return not same or any(bool((index < 0).any()) for index in self.indices)

    @property
    def ratio(self) -> float:
        """The share that is evicted."""
        return 1 - self.kept / self.length

    def summary(self) -> dict[str, Any]:
        """For a run record."""
        return {
            "method": self.method,
            "ratio": round(self.ratio, 4),
            "tokens": self.kept,
            "length": self.length,
            "bytes": self.kept * self.bytes_per_position,
            "bytes_full": self.length * self.bytes_per_position,
            "sentences": len(self.sentences),
            "sentences_kept": sum(s.whole or s.share >= WHOLE for s in self.sentences),
        }

    def lines(self) -> list[tuple[str, float, bool]]:
        """(text, share, whole) of the sentences in the order of the prompt."""
        return [(s.text, s.share, s.whole) for s in self.sentences]

    def text(self) -> str:
        """One line a sentence, with >> before those that were chosen whole and the share that is kept."""
        return "\n".join(
            f"{'>>' if s.whole else '  '} {s.share:4.0%}  [{s.passage}] {' '.join(s.text.split())}"
            for s in self.sentences
        )


def shares(indices: Sequence[torch.Tensor], spans: Sequence[tuple[int, int]], length: int) -> list[float]:
    """The share of each span's positions that is kept, over all layers and heads of the first row."""
    counts = torch.zeros(length + 1)
    heads = 0
    for layer in indices:
        row = layer[0]
        heads += row.shape[0]
        counts[1:] += torch.bincount(row[row >= 0].cpu(), minlength=length)[:length]
    sums = counts.cumsum(0)
    return [float(sums[end] - sums[start]) / (heads * (end - start)) for start, end in spans]
