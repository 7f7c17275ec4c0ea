"""Plan what to keep, apply the plan to a copy of the cache."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import pad
from transformers import Cache

from ragpool.errors import ModelError
from ragpool.kvcache.budget import Budget
from ragpool.kvcache.evicted import EvictedCache, evict
from ragpool.kvcache.layout import PromptLayout
from ragpool.kvcache.plan import KeepPlan, KeptSentence, shares
from ragpool.kvcache.ragged import evict_unequal
from ragpool.kvcache.selectors import Importance, Selector
from ragpool.kvcache.signals import Signals

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Critic:
    """A selector with a budget. ``name`` goes into the plan."""

    selector: Selector
    budget: Budget
    name: str = ""

    def plan(self, layout: PromptLayout, signals: Signals) -> KeepPlan:
        """Which positions of a prompt's cache to keep. Question and what follows it are always kept.

        ``signals`` may lack the last tokens of ``layout``: those that are not in the cache yet.
        """
        length = signals.length
        after = length - layout.context_end
        if after < 1:
            raise ModelError(
                "nothing of the question is in the cache yet: read the prompt further before planning"
            )
        keep = self._keep(layout, signals, after)
        importance = self.selector.select(layout, signals, keep)
        indices = []
        for number, scores in enumerate(importance.layers):
            scores = scores.clone()
            scores[:, layout.context_end :] = math.inf
            counts = None if importance.counts is None else importance.counts[number]
            indices.append(_best(scores, keep if counts is None else counts)[None])
        return KeepPlan(
            self.name or type(self.selector).__name__.lower(),
            length,
            keep,
            tuple(layer.index for layer in signals.layers),
            tuple(indices),
            _sentences(layout, importance, indices, length),
            sum(_position_bytes(layer.keys) + _position_bytes(layer.values) for layer in signals.layers),
        )

    def apply(self, cache: Cache, plan: KeepPlan, model: PreTrainedModel | None = None) -> EvictedCache:
        """The planned part of ``cache`` as a new cache; ``cache`` stays as it is.

        ``model`` is needed where heads keep unequal numbers (critic-rag): it can read such a cache from then on.
        """
        if not plan.unequal:
            return evict(cache, plan)
        if model is None:
            raise ModelError(
                "heads keep unequal numbers by this plan: pass the model that is to read the cache"
            )
        return evict_unequal(cache, plan, model)

    def _keep(self, layout: PromptLayout, signals: Signals, after: int) -> int:
        if self.budget.mass is None:
            return self.budget.keep(signals.length, after)
        importance = self.selector.select(layout, signals, signals.length)
        mean = torch.stack([_as_mass(scores) for scores in importance.layers]).mean(dim=(0, 1))
        return self.budget.keep(signals.length, after, mean.tolist())


def together(plans: Sequence[KeepPlan], lengths: Sequence[int]) -> KeepPlan:
    """The plan of a left-padded batch from the plans of its rows, which were made without their pads.

    ``lengths`` are the rows' token counts; the batch is as wide as the longest. The batch has one physical length;
    a row with fewer tokens than that keeps all it has, and the pads in front of them, which the attention mask of
    the batch hides as before. A pad is never kept in place of a token.
    """
    width = max(lengths)
    kept = max(plan.kept for plan in plans)
    if any(plan.unequal for plan in plans):
        return replace(plans[0], length=width, kept=kept, indices=_behind_pads(plans, lengths))
    layers = []
    for number in range(len(plans[0].layers)):
        rows = []
        for plan, length in zip(plans, lengths, strict=True):
            real = plan.indices[number]
            missing = min(kept, length) - real.shape[-1]
            if missing > 0:
                raise ModelError(
                    "plan every row of a batch with the same number of kept tokens (Budget(tokens=...))"
                )
            pads = width - length
            # the mask's last ``kept`` places decide what is hidden: pads among them must stay in front
            front = torch.arange(width - kept, width - kept + kept - min(kept, length), device=real.device)
            rows.append(
                torch.cat([front.expand(*real.shape[:2], -1), real[..., -min(kept, length) :] + pads], dim=-1)
            )
        layers.append(torch.cat(rows))
    first = plans[0]
    return KeepPlan(
        first.method, width, kept, first.layers, tuple(layers), first.sentences, first.bytes_per_position
    )


def _behind_pads(plans: Sequence[KeepPlan], lengths: Sequence[int]) -> tuple[torch.Tensor, ...]:
    """The rows' indices where heads keep unequal numbers: nothing fills a row up."""
    layers = []
    for indices in zip(*(plan.indices for plan in plans), strict=True):
        most = max(index.shape[-1] for index in indices)
        rows = [
            pad(
                torch.where(index < 0, -1, index + max(lengths) - length),
                (most - index.shape[-1], 0),
                value=-1,
            )
            for index, length in zip(indices, lengths, strict=True)
        ]
        layers.append(torch.cat(rows))
    return tuple(layers)


def _best(scores: torch.Tensor, keep: int | torch.Tensor) -> torch.Tensor:
    """The places of the highest ``scores`` [kv heads, length], ascending: ``keep`` of each head, or a number each [kv heads]
    with -1 in front where another has more.
    """
    if isinstance(keep, int):
        return scores.topk(keep, dim=-1).indices.sort(dim=-1).values
    best = scores.topk(int(keep.max()), dim=-1).indices
    best[torch.arange(best.shape[-1], device=best.device) >= keep[:, None]] = -1
    return best.sort(dim=-1).values


def _sentences(
    layout: PromptLayout, importance: Importance, indices: Sequence[torch.Tensor], length: int
) -> tuple[KeptSentence, ...]:
    spans = [layout.spans[i] for i in layout.sentences]
    scores = importance.sentences
    if scores is None:
        mean = torch.stack([_as_mass(layer) for layer in importance.layers]).mean(dim=(0, 1))
        scores = tuple(float(mean[start:end].mean()) for start, end in spans)
    kept = shares(indices, spans, length)
    return tuple(
        KeptSentence(layout.pieces[i].passage, layout.pieces[i].text, score, share, i in importance.whole)
        for i, score, share in zip(layout.sentences, scores, kept, strict=True)
    )


def _as_mass(scores: torch.Tensor) -> torch.Tensor:
    """Scores [kv heads, length] as non-negative numbers that sum to 1 in each head; +inf counts as the largest."""
    finite = torch.where(scores.isinf(), torch.nan, scores.float())
    low = finite.nan_to_num(math.inf).amin(dim=-1, keepdim=True)
    high = finite.nan_to_num(-math.inf).amax(dim=-1, keepdim=True)
    values = torch.where(finite.isnan(), high, finite)
    values = values - low.clamp(max=0)  # scores such as negative norms
    return values / values.sum(dim=-1, keepdim=True).clamp(min=1e-12)


def _position_bytes(states: torch.Tensor) -> int:
    """Bytes of one position of [heads, length, dim] states."""
    return states.shape[0] * states.shape[2] * states.element_size()
