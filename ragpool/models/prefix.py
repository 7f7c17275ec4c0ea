"""Keys and values of prompts that were read, kept so that the next prompt reads only what is new in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from transformers import Cache

    Layers = Sequence[tuple[torch.Tensor, torch.Tensor]]

SHORTEST = 32  # tokens: to read fewer again costs less than to keep them
_REPLACED = 0.75  # an entry that shares so much of itself with a newer one gives way to it


@dataclass(frozen=True, eq=False, slots=True)
class Prefix:
    """The longest known beginning of a prompt.

    ``layers`` holds keys and values [1, heads, tokens, width] for each layer, ``logits`` [vocabulary] what
    follows the last token where the whole prompt is known.
    """

    layers: Layers = ()
    tokens: int = 0
    logits: torch.Tensor | None = None


@dataclass(frozen=True, eq=False, slots=True)
class _Entry:
    ids: torch.Tensor
    adapter: str
    layers: Layers
    logits: torch.Tensor | None
    bytes: int


class PrefixCache:
    """Prompts by their tokens and adapter; what was used longest ago goes first when ``limit`` bytes are full.

    The tensors are shared, never written to: a layer grows into memory behind them (roomy.py). Not safe
    to share between threads by itself; LocalModel holds its lock.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.bytes = 0
        self._entries: list[_Entry] = []  # the one used last comes last

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, ids: Sequence[int], adapter: str) -> Prefix:
        """The longest beginning of ``ids`` that was read with this adapter; empty when there is none worth it."""
        import torch

        wanted = torch.tensor(ids)
        shared = [(common(e.ids, wanted), e) for e in self._entries if e.adapter == adapter]
        tokens, best = max(shared, key=lambda pair: pair[0], default=(0, None))
        if best is None or tokens < SHORTEST:
            return Prefix()
        self._entries.remove(best)
        self._entries.append(best)
        if tokens == len(ids):
            if len(best.ids) == tokens and best.logits is not None:
                return Prefix(best.layers, tokens, best.logits)
            tokens -= 1  # the last token is read again for its logits
        cut = tuple((keys[..., :tokens, :], values[..., :tokens, :]) for keys, values in best.layers)
        return Prefix(cut, tokens)

    def put(
        self, ids: Sequence[int], adapter: str, layers: Layers | None, logits: torch.Tensor | None
    ) -> None:
        """Keep a prompt that was read: what ``plain_layers`` gives for its cache, and the logits [vocabulary] after it.

        Entries that are nearly the beginning of it make room. What does not fit is not kept.
        """
        import torch

        if layers is None or len(ids) < SHORTEST:
            return
        size = sum(keys.nbytes + values.nbytes for keys, values in layers)
        if size > self.limit:
            return
        entry = _Entry(torch.tensor(ids), adapter, layers, logits, size)
        for old in list(self._entries):
            if old.adapter == adapter and common(old.ids, entry.ids) >= _REPLACED * len(old.ids):
                self._drop(old)
        while self.bytes + size > self.limit:
            self._drop(self._entries[0])
        self._entries.append(entry)
        self.bytes += size

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self.bytes = 0

    def _drop(self, entry: _Entry) -> None:
        self._entries.remove(entry)
        self.bytes -= entry.bytes


def plain_layers(cache: Cache) -> Layers | None:
    """Keys and values of each layer, when every layer holds exactly one entry for each token; else None.

    Sliding windows and evicted caches forget tokens, so they cannot be cut at any place.
    """
    from transformers.cache_utils import DynamicCache, DynamicLayer

    from ragpool.models.roomy import RoomyLayer

    layers: list[Any] = cache.layers
    # exactly these types: it is their relatives that forget
    plain = type(cache) is DynamicCache and all(
        type(x) in (DynamicLayer, RoomyLayer) and x.is_initialized for x in layers
    )
    return tuple((layer.keys, layer.values) for layer in layers) if plain else None


def filled(cache: Cache, layers: Layers) -> Cache:
    """``cache``, new and empty, with the given keys and values in it, which are not copied."""
    empty: list[Any] = cache.layers
    for layer, (keys, values) in zip(empty, layers, strict=True):
        layer.lazy_initialization(keys, values)
        layer.keys, layer.values = keys, values
    return cache


def common(one: torch.Tensor, other: torch.Tensor) -> int:
    """How many tokens two prompts share at their beginning."""
    length = min(len(one), len(other))
    differing = (one[:length] != other[:length]).nonzero()
    return int(differing[0]) if len(differing) else length
