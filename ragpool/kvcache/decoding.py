"""Compression while the answer is written: every so many tokens the cache is cut back to its size."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from ragpool.errors import ModelError
from ragpool.kvcache.evicted import EvictedCache, EvictedLayer, held_layers
from ragpool.kvcache.layout import PromptLayout
from ragpool.kvcache.selectors import WINDOW, Selector
from ragpool.kvcache.signals import Probe, Signals, probed

if TYPE_CHECKING:
    from transformers import PreTrainedModel

RECENT = 32  # last tokens that are never evicted
_NOWHERE = PromptLayout((), (), ())


@contextmanager
def thinned(
    model: PreTrainedModel,
    cache: EvictedCache,
    selector: Selector,
    *,
    every: int,
    protect: tuple[int, int] = (0, 0),
) -> Iterator[None]:
    """Inside the block, cut ``cache`` back to the size it has now each time ``every`` tokens were added to it.

    ``selector`` must go by keys and the last queries (snapkv, tova, knorm, keydiff), not by the layout, which an evicted
    cache no longer follows. ``protect``: the range of logical positions (the question) that stays. Works around
    ``generate()`` and around a loop of forward passes.
    """
    size = _held(cache)
    if size <= RECENT + protect[1] - protect[0]:
        raise ModelError(f"a cache of {size} positions is too small to be compressed further while decoding")

    with probed(model, WINDOW) as probe:

        def after(module: Any, args: Any, output: Any) -> None:
            if _held(cache) - size >= every:
                _cut(cache, probe, selector, size, protect)

        handle = model.register_forward_hook(after)
        try:
            yield
        finally:
            handle.remove()


def _held(cache: EvictedCache) -> int:
    return next(layer.held for layer in held_layers(cache) if isinstance(layer, EvictedLayer))


def _cut(cache: EvictedCache, probe: Probe, selector: Selector, size: int, protect: tuple[int, int]) -> None:
    signals = Signals.of(cache, probe)
    importance = selector.select(_NOWHERE, signals, size)
    for layer, scores in zip(signals.layers, importance.layers, strict=True):
        held = held_layers(cache)[layer.index]
        positions = held.all_positions()[0]
        scores = scores.clone()
        scores[(positions >= protect[0]) & (positions < protect[1])] = math.inf
        scores[:, -RECENT:] = math.inf
        held.take(scores.topk(size, dim=-1).indices.sort(dim=-1).values[None].to(torch.long))
