"""Compression while the answer is written: every so many tokens the cache is cut back to its size."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from ragpool.errors import ModelError
from ragpool.kvcache.auto import START
from ragpool.kvcache.choice import AUTO, KVChoice
from ragpool.kvcache.evicted import EvictedCache, EvictedLayer, held_layers, opened
from ragpool.kvcache.layout import PromptLayout
from ragpool.kvcache.methods import METHODS
from ragpool.kvcache.ragged import RaggedLayer
from ragpool.kvcache.selectors import WINDOW, Selector, SnapKV
from ragpool.kvcache.signals import LayerSignals, Probe, Signals, probed

if TYPE_CHECKING:
    from transformers import Cache, PreTrainedModel

RECENT = 32  # last tokens that are never evicted
# those that need neither the layout, which an evicted cache no longer follows, nor the prompt's own signals
_BY_POSITION = frozenset({"snapkv", "tova", "keydiff", "knorm", "streaming", "random"})
_NOWHERE = PromptLayout((), (), ())


class Thinner:
    """Cuts ``cache`` back to ``size`` positions each time ``every`` tokens more than that are in it.

    ``selector`` must go by keys and the last queries (snapkv, tova, knorm, keydiff). ``protect``: the range of logical
    positions (the question) that stays. Raises ModelError when so small a size leaves nothing to choose.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        cache: EvictedCache,
        selector: Selector,
        *,
        size: int,
        every: int,
        protect: tuple[int, int] = (0, 0),
    ) -> None:
        if size <= RECENT + protect[1] - protect[0]:
            raise ModelError(
                f"a cache of {size} positions is too small to be compressed further while decoding"
            )
        self.cache = cache
        self._model, self._selector, self._size, self._every = model, selector, size, every
        self._protect = protect
        self._probe: Probe | None = None

    @classmethod
    def of(cls, model: PreTrainedModel, cache: Cache, choice: KVChoice, after: int) -> Thinner:
        """What ``choice`` asks for once the prompt is in ``cache``; ``after``: its tokens from the question on.

        An evicted cache stays at its size. One that is whole may grow to ``choice.start`` tokens first.
        """
        assert choice.every is not None
        end = cache.get_seq_length()
        size = RECENT + after + 1
        if isinstance(cache, EvictedCache):
            held = cache
        else:
            held = opened(cache)
            size = max(size, START if choice.method == AUTO else choice.start)
        selector = METHODS[choice.method]() if choice.method in _BY_POSITION else SnapKV()
        size = max(size, _held(held))
        return cls(model, held, selector, size=size, every=choice.every, protect=(end - after, end))

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Around each forward pass with the cache, or several of them; hold the model's lock meanwhile."""
        with probed(self._model, WINDOW, self._probe) as self._probe:
            yield
        self.cut()

    def cut(self) -> None:
        """Cut the cache back if so many tokens were added."""
        if self._probe is None or _held(self.cache) - self._size < self._every:
            return
        if isinstance(held_layers(self.cache)[0], RaggedLayer):  # then all of them are
            for number, ragged in enumerate(held_layers(self.cache)):
                self._cut_heads(number, ragged, self._probe)
            return
        signals = Signals.of(self.cache, self._probe)
        importance = self._selector.select(_NOWHERE, signals, self._size)
        for layer, scores in zip(signals.layers, importance.layers, strict=True):
            held = held_layers(self.cache)[layer.index]
            positions = held.all_positions()[0]
            held.take(self._best(scores, positions, self._size)[None])

    def _cut_heads(self, number: int, layer: RaggedLayer, probe: Probe) -> None:
        """Cut each head of a layer back to what it kept of the prompt."""
        least = RECENT + self._protect[1] - self._protect[0] + 1
        queries = probe.queries[number][0].chunk(layer.keys.shape[1])
        places = []
        for count, own, (keys, values, positions) in zip(
            layer.rows[0].counts, queries, layer.held_by(), strict=True
        ):
            own = own[:, -len(keys) :]
            head = LayerSignals(
                number, keys[None], values[None], own, probe.scaling[number], probe.softcap[number]
            )
            size = min(max(count, least), len(keys))
            signals = Signals(len(keys), own.shape[1], (head,))
            (scores,) = self._selector.select(_NOWHERE, signals, size).layers
            places.append(self._best(scores, positions[None], size)[0])
        layer.take(places)

    def _best(self, scores: torch.Tensor, positions: torch.Tensor, size: int) -> torch.Tensor:
        """The places [kv heads, size] of the highest ``scores`` [kv heads, held], the question's and the last ones first."""
        scores = scores.clone()
        scores[(positions >= self._protect[0]) & (positions < self._protect[1])] = math.inf
        scores[:, -RECENT:] = math.inf
        return scores.topk(size, dim=-1).indices.sort(dim=-1).values


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

    Works around ``generate()`` and around a loop of forward passes. See Thinner.
    """
    thinner = Thinner(model, cache, selector, size=_held(cache), every=every, protect=protect)

    def after(module: Any, args: Any, output: Any) -> None:
        thinner.cut()

    handle = model.register_forward_hook(after)
    try:
        with thinner.watching():
            yield
    finally:
        handle.remove()


def _held(cache: EvictedCache) -> int:
    """Positions in each head, or in the one that holds most."""
    return max(layer.held for layer in held_layers(cache) if isinstance(layer, (EvictedLayer, RaggedLayer)))
