"""The extension point: a selector turns a prompt and what the model computed about it into importance.

Here are the methods of the literature, as close to their papers as one cache of equal lengths allows. In all of them
every head keeps the same number of positions, as in kvpress.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

import torch
from torch.nn import functional

from ragpool.kvcache.layout import PromptLayout
from ragpool.kvcache.signals import LayerSignals, Signals, rotate

WINDOW = 64  # queries that look back, as in SnapKV's reference code
SINKS = 4  # first positions that attract attention whatever they hold


@dataclass(frozen=True)
class Importance:
    """Scores [kv heads, length] a compressed layer; the highest are kept, +inf always.

    ``sentences``: a score for each of ``layout.sentences``, where the method has one. ``whole``: the pieces (indexes
    into ``layout.pieces``) that it keeps whole. ``counts``: how many positions each head keeps, a layer [kv heads]; None
    for the same number in all.
    """

    layers: tuple[torch.Tensor, ...]
    sentences: tuple[float, ...] | None = None
    whole: frozenset[int] = field(default=frozenset())
    counts: tuple[torch.Tensor, ...] | None = None


class Selector(Protocol):
    """One method. ``keep`` is the number of positions that each head will keep, on average where it says how many."""

    def select(self, layout: PromptLayout, signals: Signals, keep: int) -> Importance: ...


@dataclass(frozen=True)
class PerLayer(ABC):
    """Base of selectors that score each layer for itself. ``needs`` says which queries must be collected."""

    needs: ClassVar[str] = "window"  # "window": of the question; "blind": before it; "all": of every token

    def select(self, layout: PromptLayout, signals: Signals, keep: int) -> Importance:
        return Importance(tuple(self.score(layer, layout, signals) for layer in signals.layers))

    @abstractmethod
    def score(self, layer: LayerSignals, layout: PromptLayout, signals: Signals) -> torch.Tensor:
        """Scores [kv heads, length]."""


@dataclass(frozen=True)
class Random(PerLayer):
    """The floor: whatever a method gains over this, it gains by knowing something."""

    seed: int = 0

    def score(self, layer: LayerSignals, layout: PromptLayout, signals: Signals) -> torch.Tensor:
        generator = torch.Generator().manual_seed(self.seed * 1009 + layer.index)
        return torch.rand(layer.keys.shape[:2], generator=generator).to(layer.keys.device)


@dataclass(frozen=True)
class Streaming(PerLayer):
    """Attention sinks and the most recent tokens (StreamingLLM, arXiv 2309.17453)."""

    def score(self, layer: LayerSignals, layout: PromptLayout, signals: Signals) -> torch.Tensor:
        scores = torch.arange(signals.length, device=layer.keys.device, dtype=torch.float32)
        scores[:SINKS] = math.inf
        return scores.expand(layer.keys.shape[0], -1)


@dataclass(frozen=True)
class KNorm(PerLayer):
    """Keys of small norm are attended to most (arXiv 2406.11430)."""

    def score(self, layer: LayerSignals, layout: PromptLayout, signals: Signals) -> torch.Tensor:
        norms: torch.Tensor = layer.keys.float().norm(dim=-1)
        return -norms


@dataclass(frozen=True)
class KeyDiff(PerLayer):
    """Keys unlike the mean direction of all keys (arXiv 2504.15364)."""

    def score(self, layer: LayerSignals, layout: PromptLayout, signals: Signals) -> torch.Tensor:
        keys = functional.normalize(layer.keys.float(), dim=-1)
        anchor = functional.normalize(keys.mean(dim=1, keepdim=True), dim=-1)
        return -(keys * anchor).sum(dim=-1)


@dataclass(frozen=True)
class SnapKV(PerLayer):
    """Attention of the last tokens, smoothed over neighbours (arXiv 2404.14469). The window holds the question."""

    window: int = WINDOW
    kernel: int = 5

    def score(self, layer: LayerSignals, layout: PromptLayout, signals: Signals) -> torch.Tensor:
        width = min(self.window, signals.window, signals.length - 1)
        weights = layer.received(signals.window - width, signals.window) / width
        return _snapped(weights, signals.length - width, self.kernel)


@dataclass(frozen=True)
class BlindSnapKV(PerLayer):
    """SnapKV before the question is known: its window is the end of the context."""

    needs: ClassVar[str] = "blind"
    window: int = WINDOW
    kernel: int = 5

    def score(self, layer: LayerSignals, layout: PromptLayout, signals: Signals) -> torch.Tensor:
        last = layout.context_end - (signals.length - signals.window)
        first = max(last - self.window, 0)
        weights = layer.received(first, last) / max(last - first, 1)
        return _snapped(weights, layout.context_end - (last - first), self.kernel)


def _snapped(weights: torch.Tensor, before: int, kernel: int) -> torch.Tensor:
    """Smoothed means over the group for the ``before`` first positions; what follows is kept."""
    smooth = functional.avg_pool1d(weights[..., :before], kernel, padding=kernel // 2, stride=1)
    scores = torch.full((weights.shape[0], weights.shape[-1]), math.inf, device=weights.device)
    scores[:, :before] = smooth.mean(dim=1)
    return scores


@dataclass(frozen=True)
class Tova(PerLayer):
    """Attention of the last token, averaged over all heads (arXiv 2401.06104)."""

    def score(self, layer: LayerSignals, layout: PromptLayout, signals: Signals) -> torch.Tensor:
        weights = layer.received(signals.window - 1, signals.window).mean(dim=(0, 1))
        weights[-1] = math.inf
        return weights.expand(layer.keys.shape[0], -1)


@dataclass(frozen=True)
class H2O:
    """Heavy hitters: attention received from all tokens (arXiv 2306.14048), and half the budget for recent ones."""

    needs: ClassVar[str] = "all"

    def select(self, layout: PromptLayout, signals: Signals, keep: int) -> Importance:
        recent = signals.length - keep // 2
        layers = []
        for layer in signals.layers:
            scores = layer.received(0, signals.window).mean(dim=1)
            scores[:, recent:] = math.inf
            layers.append(scores)
        return Importance(tuple(layers))


@dataclass(frozen=True)
class Expected(PerLayer):
    """Attention to be expected from future queries, of which mean and covariance are known (kvpress; arXiv 2510.00636)."""

    needs: ClassVar[str] = "all"
    future: int = 512
    epsilon: float = 0.0

    def score(self, layer: LayerSignals, layout: PromptLayout, signals: Signals) -> torch.Tensor:
        assert signals.angles is not None
        cos, sin = (angle.float()[None] for angle in signals.angles)
        plain = rotate(layer.queries.float()[None], cos, -sin)[0, :, SINKS:]  # as they were before rotation
        mean = plain.mean(dim=1)  # [heads, head dim]
        centred = plain - mean[:, None]
        covariance = centred.transpose(1, 2) @ centred / plain.shape[1]
        turn = self._mean_rotation(signals)
        mean = mean @ turn.T
        covariance = turn @ covariance @ turn.T
        heads, groups, dim = layer.keys.shape[0], layer.groups, layer.keys.shape[-1]
        keys = layer.keys.float()[:, None, SINKS:]  # the sinks would swallow the softmax
        mean = mean.view(heads, groups, 1, dim)
        covariance = covariance.view(heads, groups, dim, dim)
        logits = (keys * mean).sum(-1) * layer.scaling
        logits = logits + ((keys @ covariance) * keys).sum(-1) * layer.scaling**2 / 2
        weights = logits.softmax(dim=-1).mean(dim=1)
        weights = (weights + self.epsilon) * layer.values.float()[:, SINKS:].norm(dim=-1)
        return functional.pad(weights, (SINKS, 0), value=math.inf)

    def _mean_rotation(self, signals: Signals) -> torch.Tensor:
        """The rotation matrix [head dim, head dim] averaged over the next ``future`` positions."""
        assert signals.angles is not None
        cos, sin = (angle.float() for angle in signals.angles)
        half = cos.shape[-1] // 2
        # the angle of one step is the difference of two neighbours'
        step = torch.atan2(
            sin[1, :half] * cos[0, :half] - cos[1, :half] * sin[0, :half],
            cos[1, :half] * cos[0, :half] + sin[1, :half] * sin[0, :half],
        )
        places = torch.arange(signals.length, signals.length + self.future, device=step.device)
        turns = places[:, None].double() * step.double()
        cosine, sine = turns.cos().mean(0).float(), turns.sin().mean(0).float()
        matrix = torch.diag(torch.cat([cosine, cosine]))
        matrix[:half, half:] -= torch.diag(sine)
        matrix[half:, :half] += torch.diag(sine)
        return matrix
