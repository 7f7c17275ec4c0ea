"""A cache from which positions were taken out, and which models and ``generate()`` use like any other.

Two lengths differ in it. The logical length counts every token that was read: positions of new tokens and
``generate()``'s slicing of its input follow it, so ``get_seq_length`` reports it. The physical length is what is
held: attention masks are as wide as that, so ``get_mask_sizes`` reports it, offset by what is missing. Kept keys keep
the rotary positions they were made with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer

from ragpool.errors import ModelError

if TYPE_CHECKING:
    from ragpool.kvcache.plan import KeepPlan


def held_layers(cache: Cache) -> list[Any]:
    """The cache's layers. transformers types them as a union of which only layers with keys and values occur here."""
    return list(cache.layers)


class EvictedLayer(DynamicLayer):  # type: ignore[no-untyped-call]  # transformers' own hook for subclasses
    """Keys and values [batch, kv heads, held, head dim] of a prompt from which ``missing`` positions were taken.

    ``positions`` [batch, kv heads, held] are the logical positions of what is held when the layer is made; what is
    added later follows the logical length.
    """

    keys: torch.Tensor  # never None here
    values: torch.Tensor

    def __init__(
        self, keys: torch.Tensor, values: torch.Tensor, positions: torch.Tensor, missing: int
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.lazy_initialization(keys, values)
        self.keys, self.values = keys, values
        self.positions = positions
        self.missing = missing
        # what was evicted cannot come back: a crop may only take tokens off that follow the last gap
        self._gap = keys.shape[-2] - _tail(positions, keys.shape[-2] + missing)

    def get_seq_length(self) -> int:
        return self.held + self.missing

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.held + query_length, self.missing

    @property
    def held(self) -> int:
        """Physical length."""
        return int(self.keys.shape[-2])

    @property
    def nbytes(self) -> int:
        """Bytes of what is held."""
        return self.keys.nbytes + self.values.nbytes

    def whole(self) -> tuple[torch.Tensor, torch.Tensor]:
        """All keys and values, in the form in which attention takes them."""
        return self.keys, self.values

    def all_positions(self) -> torch.Tensor:
        """Logical positions [batch, kv heads, held] of everything that is held now."""
        known = self.positions.shape[-1]
        if known >= self.held:
            return self.positions[..., : self.held]
        added = torch.arange(known + self.missing, self.held + self.missing, device=self.positions.device)
        return torch.cat([self.positions, added.expand(*self.positions.shape[:2], -1)], dim=-1)

    def take(self, places: torch.Tensor) -> None:
        """Keep only the physical ``places`` [batch, kv heads, kept], ascending."""
        logical = self.get_seq_length()
        positions = self.all_positions().gather(2, places)
        wide = places[..., None].expand(-1, -1, -1, self.keys.shape[-1])
        self.keys, self.values = self.keys.gather(2, wide), self.values.gather(2, wide)
        self.positions = positions
        self.missing = logical - places.shape[-1]
        self._gap = self.held - _tail(positions, logical)

    def crop(self, tokens_to_remove: int) -> None:
        removed = abs(tokens_to_remove)
        if self.held - removed < self._gap:
            raise ModelError(
                f"{removed} tokens cannot be cropped from a compressed cache: only the last {self.held - self._gap} "
                "are there in full; crop the full cache and compress again"
            )
        super().crop(-removed)
        self.positions = self.positions[..., : self.held]

    def batch_repeat_interleave(self, repeats: int) -> None:
        super().batch_repeat_interleave(repeats)
        self.positions = self.positions.repeat_interleave(repeats, dim=0)

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        super().batch_select_indices(indices)
        self.positions = self.positions[indices.to(self.positions.device)]

    def reorder_cache(self, beam_idx: torch.LongTensor) -> None:
        super().reorder_cache(beam_idx)
        self.positions = self.positions[beam_idx.to(self.positions.device)]


class EvictedCache(Cache):
    """What ``evict`` returns: EvictedLayers (or RaggedLayers, ragged.py), and sliding-window layers as they were."""

    def copy(self) -> EvictedCache:
        """A cache that grows on its own; what is held now is shared until one of them appends."""
        return EvictedCache(layers=[copied(layer) for layer in self.layers])


def evict(cache: Cache, plan: KeepPlan) -> EvictedCache:
    """A new cache with the planned positions of ``cache``, which stays as it is.

    For plans in which all heads keep the same number (see ragged.py for the others). Raises ModelError when the plan is
    not of a cache of this length.
    """
    length = checked(cache, plan)
    chosen = dict(zip(plan.layers, plan.indices, strict=True))
    layers: list[Any] = []
    for index, layer in enumerate(held_layers(cache)):
        if index not in chosen:
            layers.append(copied(layer))
            continue
        kept = chosen[index]
        places = kept[..., None].expand(-1, -1, -1, layer.keys.shape[-1])
        layers.append(
            EvictedLayer(
                layer.keys.gather(2, places), layer.values.gather(2, places), kept, length - kept.shape[-1]
            )
        )
    return EvictedCache(layers=layers)


def checked(cache: Cache, plan: KeepPlan) -> int:
    """The length that both have. Raises ModelError when it is not the same."""
    length = cache.get_seq_length()
    if length != plan.length:
        raise ModelError(
            f"the plan is for {plan.length} tokens, the cache has {length}: make the plan from this cache"
        )
    return length


def opened(cache: Cache) -> EvictedCache:
    """A whole cache as one from which positions can be taken out. Nothing is copied until one of them grows."""
    layers: list[Any] = []
    for layer in held_layers(cache):
        if getattr(layer, "is_sliding", False):
            layers.append(copied(layer))
            continue
        positions = torch.arange(layer.keys.shape[-2], device=layer.keys.device)
        wide = positions.expand(*layer.keys.shape[:2], -1)
        layers.append(EvictedLayer(layer.keys, layer.values, wide, 0))
    return EvictedCache(layers=layers)


def cropped(cache: Cache, length: int) -> Cache:
    """A cache with the first ``length`` tokens of ``cache``. Nothing is copied until one of them grows."""
    other = DynamicCache()
    other.layers = [copied(layer) for layer in held_layers(cache)]
    if cache.get_seq_length() > length:
        other.crop(length - cache.get_seq_length())
    return other


def compacted(cache: EvictedCache, inverse_frequencies: torch.Tensor) -> EvictedCache:
    """The same cache with its keys re-rotated to positions without gaps, for prompts past the model's window.

    ``inverse_frequencies`` [head dim / 2]: the model's ``rotary_emb.inv_freq``. The logical length becomes the
    physical one, so the tokens that were fed already must not be given to ``generate()`` again.
    """
    from ragpool.kvcache.signals import rotate

    layers: list[Any] = []
    for layer in held_layers(cache):
        if not isinstance(layer, EvictedLayer):
            raise ModelError(
                "a cache with sliding-window layers, or whose heads hold unequal numbers, cannot be compacted; "
                "shorten the context instead"
            )
        positions = layer.all_positions()
        fresh = torch.arange(layer.held, device=positions.device).expand_as(positions)
        turn = (fresh - positions).float()[..., None] * inverse_frequencies.float()
        turn = torch.cat([turn, turn], dim=-1)  # halves are paired
        batch, heads, held, dim = layer.keys.shape
        keys = rotate(
            layer.keys.reshape(batch * heads, 1, held, dim).float(),
            turn.cos().reshape(batch * heads, held, dim),
            turn.sin().reshape(batch * heads, held, dim),
        )
        keys = keys.reshape(batch, heads, held, dim).to(layer.keys.dtype)
        layers.append(EvictedLayer(keys, layer.values, fresh, 0))
    return EvictedCache(layers=layers)


def copied(layer: Any) -> Any:
    """A layer that shares its tensors: every change of a layer makes new ones, so neither sees the other's."""
    other = object.__new__(type(layer))
    other.__dict__.update(layer.__dict__)
    return other


def _tail(positions: torch.Tensor, logical: int) -> int:
    """How many of the last positions are held without a gap in every row and head."""
    expected = torch.arange(logical - positions.shape[-1], logical, device=positions.device)
    same = (positions == expected).all(dim=0).all(dim=0)
    return int(same.flip(0).int().cumprod(0).sum())
