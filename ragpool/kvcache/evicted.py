"""A cache from which positions were taken out, and which models and ``generate()`` use like any other.

Two lengths differ in it. The logical length counts every token that was read: positions of new tokens and
``generate()``'s slicing of its input follow it, so ``get_seq_length`` reports it. The physical length is what is
held: attention masks are as wide as that, so ``get_mask_sizes`` reports it, offset by what is missing. Kept keys keep
the rotary positions they were made with.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer

from ragpool.errors import ModelError

if TYPE_CHECKING:
    from ragpool.kvcache.plan import KeepPlan

_GROUP = 64  # tokens that share one scale of a key channel, values that share one scale


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
    """What ``evict`` returns: EvictedLayers, and sliding-window layers as they were."""

    def copy(self) -> EvictedCache:
        """A cache that grows on its own; what is held now is shared until one of them appends."""
        return EvictedCache(layers=[_copied(layer) for layer in self.layers])


def evict(cache: Cache, plan: KeepPlan) -> EvictedCache:
    """A new cache with the planned positions of ``cache``, which stays as it is.

    Raises ModelError when the plan is not of a cache of this length.
    """
    length = cache.get_seq_length()
    if length != plan.length:
        raise ModelError(
            f"the plan is for {plan.length} tokens, the cache has {length}: make the plan from this cache"
        )
    chosen = dict(zip(plan.layers, plan.indices, strict=True))
    layers: list[Any] = []
    for index, layer in enumerate(held_layers(cache)):
        if index not in chosen:
            layers.append(_copied(layer))
            continue
        kept = chosen[index]
        places = kept[..., None].expand(-1, -1, -1, layer.keys.shape[-1])
        layers.append(
            EvictedLayer(
                layer.keys.gather(2, places), layer.values.gather(2, places), kept, length - kept.shape[-1]
            )
        )
    return EvictedCache(layers=layers)


def opened(cache: Cache) -> EvictedCache:
    """A whole cache as one from which positions can be taken out. Nothing is copied until one of them grows."""
    layers: list[Any] = []
    for layer in held_layers(cache):
        if getattr(layer, "is_sliding", False):
            layers.append(_copied(layer))
            continue
        positions = torch.arange(layer.keys.shape[-2], device=layer.keys.device)
        wide = positions.expand(*layer.keys.shape[:2], -1)
        layers.append(EvictedLayer(layer.keys, layer.values, wide, 0))
    return EvictedCache(layers=layers)


def cropped(cache: Cache, length: int) -> Cache:
    """A cache with the first ``length`` tokens of ``cache``. Nothing is copied until one of them grows."""
    other = DynamicCache()
    other.layers = [_copied(layer) for layer in held_layers(cache)]
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
                "a cache with sliding-window layers cannot be compacted; shorten the context instead"
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


class Int8Layer(EvictedLayer):  # type: ignore[no-untyped-call]
    """An EvictedLayer whose prompt part is stored in 8 bits and unpacked, one layer at a time, when it is read.

    Symmetric, with scales in float16: keys by channel over _GROUP tokens (their outliers sit in channels), values
    by token. New tokens stay as they are.
    """

    def __init__(self, layer: EvictedLayer) -> None:
        super().__init__(layer.keys, layer.values, layer.positions, layer.missing)
        self._keys, self._key_scales = _pack_keys(layer.keys)
        self._values, self._value_scales = _pack_values(layer.values)
        self._packed = layer.keys.shape[-2]
        self.keys = layer.keys[..., :0, :].clone()
        self.values = layer.values[..., :0, :].clone()

    @property
    def held(self) -> int:
        return self._packed + int(self.keys.shape[-2])

    @property
    def nbytes(self) -> int:
        stored = (self._keys, self._key_scales, self._values, self._value_scales, self.keys, self.values)
        return sum(tensor.nbytes for tensor in stored)

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: object, **kwargs: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        self.keys = torch.cat([self.keys, key_states], dim=-2)
        self.values = torch.cat([self.values, value_states], dim=-2)
        keys = _unpack_keys(self._keys, self._key_scales, self.keys.dtype)[..., : self._packed, :]
        values = self._values.to(self.values.dtype) * self._value_scales.to(self.values.dtype)
        return torch.cat([keys, self.keys], dim=-2), torch.cat([values, self.values], dim=-2)

    def crop(self, tokens_to_remove: int) -> None:
        removed = abs(tokens_to_remove)
        if removed > self.keys.shape[-2]:
            raise ModelError(
                f"only the {self.keys.shape[-2]} tokens added since can be cropped from an 8-bit cache; "
                "crop before it is quantised"
            )
        if removed:
            self.keys, self.values = self.keys[..., :-removed, :], self.values[..., :-removed, :]

    def batch_repeat_interleave(self, repeats: int) -> None:
        self._map(lambda tensor: tensor.repeat_interleave(repeats, dim=0))

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        self._map(lambda tensor: tensor[indices.to(tensor.device)])

    def reorder_cache(self, beam_idx: torch.LongTensor) -> None:
        self._map(lambda tensor: tensor[beam_idx.to(tensor.device)])

    def take(self, places: torch.Tensor) -> None:
        raise ModelError(
            "an 8-bit cache cannot be compressed further; leave int8 off when compressing while decoding"
        )

    def _map(self, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
        for name in ("_keys", "_key_scales", "_values", "_value_scales", "keys", "values", "positions"):
            setattr(self, name, change(getattr(self, name)))


def quantised(cache: EvictedCache) -> EvictedCache:
    """The cache in 8 bits. Sliding-window layers stay as they are."""
    return EvictedCache(
        layers=[
            Int8Layer(layer) if type(layer) is EvictedLayer else _copied(layer)
            for layer in held_layers(cache)
        ]
    )


def _pack_keys(keys: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    batch, heads, held, dim = keys.shape
    padded = torch.nn.functional.pad(keys, (0, 0, 0, -held % _GROUP))
    grouped = padded.reshape(batch, heads, -1, _GROUP, dim)
    scales = (grouped.abs().amax(dim=3, keepdim=True) / 127).clamp(min=1e-6).half()
    return (grouped / scales.to(keys.dtype)).round().clamp(-127, 127).to(torch.int8), scales


def _unpack_keys(packed: torch.Tensor, scales: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return (packed.to(dtype) * scales.to(dtype)).flatten(2, 3)


def _pack_values(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    scales = (values.abs().amax(dim=-1, keepdim=True) / 127).clamp(min=1e-6).half()
    return (values / scales.to(values.dtype)).round().clamp(-127, 127).to(torch.int8), scales


def _copied(layer: Any) -> Any:
    """A layer that shares its tensors: every change of a layer makes new ones, so neither sees the other's."""
    other = object.__new__(type(layer))
    other.__dict__.update(layer.__dict__)
    return other


def _tail(positions: torch.Tensor, logical: int) -> int:
    """How many of the last positions are held without a gap in every row and head."""
    expected = torch.arange(logical - positions.shape[-1], logical, device=positions.device)
    same = (positions == expected).all(dim=0).all(dim=0)
    return int(same.flip(0).int().cumprod(0).sum())
