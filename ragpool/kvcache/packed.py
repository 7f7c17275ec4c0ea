"""What is kept of a cache, stored in 8 bits and unpacked a layer at a time while it is read.

Two ways to pack: our own, which needs no package and takes a quarter of float32, and hqq's through transformers
(``pip install hqq``), which takes 29 %.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from ragpool.errors import ModelError
from ragpool.kvcache.evicted import EvictedCache, EvictedLayer, copied, held_layers
from ragpool.kvcache.ragged import RaggedLayer

_GROUP = 64  # tokens that share one scale of a key channel; with hqq numbers that share one


class PackedLayer(EvictedLayer):  # type: ignore[no-untyped-call]  # transformers' own hook for subclasses
    """An EvictedLayer whose prompt part is packed. New tokens stay as they are."""

    def __init__(self, layer: EvictedLayer) -> None:
        super().__init__(layer.keys, layer.values, layer.positions, layer.missing)
        self._packed = layer.keys.shape[-2]
        self._pack(layer.keys, layer.values)
        self.keys = layer.keys[..., :0, :].clone()
        self.values = layer.values[..., :0, :].clone()

    @abstractmethod
    def _pack(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Store keys and values [batch, kv heads, tokens, head dim]."""

    @abstractmethod
    def _unpacked(self) -> tuple[torch.Tensor, torch.Tensor]:
        """What was stored."""

    @abstractmethod
    def _stored(self) -> tuple[torch.Tensor, ...]:
        """The tensors that hold it."""

    @property
    def held(self) -> int:
        return self._packed + int(self.keys.shape[-2])

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for tensor in (*self._stored(), self.keys, self.values))

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: object, **kwargs: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        self.keys = torch.cat([self.keys, key_states], dim=-2)
        self.values = torch.cat([self.values, value_states], dim=-2)
        return self.whole()

    def whole(self) -> tuple[torch.Tensor, torch.Tensor]:
        keys, values = self._unpacked()
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
        self._change(lambda tensor: tensor.repeat_interleave(repeats, dim=0))

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        self._change(lambda tensor: tensor[indices.to(tensor.device)])

    def reorder_cache(self, beam_idx: torch.LongTensor) -> None:
        self._change(lambda tensor: tensor[beam_idx.to(tensor.device)])

    def take(self, places: torch.Tensor) -> None:
        raise ModelError(
            "an 8-bit cache cannot be compressed further; leave int8 off when compressing while decoding"
        )

    def _change(self, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
        """Change the rows of the batch."""
        keys, values = self._unpacked()
        self._pack(change(keys), change(values))
        self.keys, self.values, self.positions = (change(t) for t in (self.keys, self.values, self.positions))


class Int8Layer(PackedLayer):  # type: ignore[no-untyped-call]
    """Our own. Symmetric, with scales in float16: keys by channel over _GROUP tokens (their outliers sit in channels),
    values by token.
    """

    def _pack(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        batch, heads, held, dim = keys.shape
        padded = torch.nn.functional.pad(keys, (0, 0, 0, -held % _GROUP))
        self._keys, self._key_scales = _rounded(padded.reshape(batch, heads, -1, _GROUP, dim), 3)
        self._values, self._value_scales = _rounded(values, -1)

    def _unpacked(self) -> tuple[torch.Tensor, torch.Tensor]:
        keys = self._keys.to(self.keys.dtype) * self._key_scales.to(self.keys.dtype)
        values = self._values.to(self.values.dtype) * self._value_scales.to(self.values.dtype)
        return keys.flatten(2, 3)[..., : self._packed, :], values

    def _stored(self) -> tuple[torch.Tensor, ...]:
        return self._keys, self._key_scales, self._values, self._value_scales

    def _change(self, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
        # rows are rows of what is stored too: nothing is rounded again
        for name in ("_keys", "_key_scales", "_values", "_value_scales", "keys", "values", "positions"):
            setattr(self, name, change(getattr(self, name)))


class HqqLayer(PackedLayer):  # type: ignore[no-untyped-call]
    """hqq's 8 bits by transformers' own layer: asymmetric, a scale and a zero point for each _GROUP numbers of a token at most."""

    def _pack(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        from transformers.cache_utils import HQQQuantizedLayer

        group = math.gcd(_GROUP, keys.shape[-1])  # hqq takes only what it can split evenly
        try:
            self._layer: Any = HQQQuantizedLayer(8, axis_key=1, axis_value=1, q_group_size=group)
        except ImportError as error:
            raise ModelError(
                "8 bits by hqq need the package: pip install hqq, or set int8 in place of hqq"
            ) from error
        self._layer.update(keys, values)

    def _unpacked(self) -> tuple[torch.Tensor, torch.Tensor]:
        keys, values = (
            self._layer._dequantize(stored)
            for stored in (self._layer._quantized_keys, self._layer._quantized_values)
        )
        return keys, values

    def _stored(self) -> tuple[torch.Tensor, ...]:
        stored = self._layer._quantized_keys, self._layer._quantized_values
        return tuple(t for packed, meta in stored for t in (packed, meta["scale"], meta["zero"]))


def quantised(cache: EvictedCache, layer: type[PackedLayer] = Int8Layer) -> EvictedCache:
    """The cache in 8 bits. Sliding-window layers stay as they are.

    Raises ModelError when ``layer`` needs a package that is not there.
    """
    return EvictedCache(layers=[_packed(held, layer) for held in held_layers(cache)])


def _packed(held: Any, layer: type[PackedLayer]) -> Any:
    if type(held) is EvictedLayer:
        return layer(held)
    other = copied(held)
    if isinstance(held, RaggedLayer):
        other.rows = tuple(replace(row, states=layer(row.states)) for row in held.rows)
    return other


def _rounded(states: torch.Tensor, dim: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Numbers of -127..127 and their scales, one for each stretch along ``dim``."""
    scales = (states.abs().amax(dim=dim, keepdim=True) / 127).clamp(min=1e-6).half()
    return (states / scales.to(states.dtype)).round().clamp(-127, 127).to(torch.int8), scales
