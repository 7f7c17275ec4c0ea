"""A KV cache with room at its end, so that a new token is written behind the others and nothing is copied.

transformers' own layer joins old and new into new memory, token by token: at 4,096 tokens of SmolLM2-135M that is
378 MB read and written for each, over a third of a token's time on a CPU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

if TYPE_CHECKING:
    from transformers import Cache, PretrainedConfig

ROOM = 128  # tokens: 6 MB with SmolLM2-135M in float32


class RoomyLayer(DynamicLayer):  # type: ignore[no-untyped-call]  # transformers' own hook for subclasses
    """Keys and values [batch, kv heads, tokens, head dim] as views of longer tensors.

    Others may hold the same views (the prefix cache, copies of this layer), so only the layer that made the room
    writes, and only behind everything that was ever written.
    """

    _room: tuple[torch.Tensor, torch.Tensor] | None = None
    _used = 0
    _owner = 0

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        held = self.get_seq_length()
        end = held + key_states.shape[-2]
        room = self._room
        if room is None or not self._fits(room[0], held, end):
            room = self._move(key_states, value_states, held, end)
        room[0][..., held:end, :] = key_states
        room[1][..., held:end, :] = value_states
        self._used = end
        self.keys, self.values = room[0][..., :end, :], room[1][..., :end, :]
        return self.keys, self.values

    def take_back(self, tokens: int) -> None:
        """Crop the last ``tokens``, which nobody else holds a view of: the next ones are written over them."""
        held = self.get_seq_length()
        whole = self._room is not None and self._fits(self._room[0], held, held)
        self.crop(-tokens)
        if whole:
            self._used = held - tokens

    def _fits(self, room: torch.Tensor, held: int, end: int) -> bool:
        """Is the room this layer's own, are its keys (not cropped, selected or replaced since) what fills it?"""
        if self._owner != id(self) or self.keys is None:
            return False
        same = self.keys.data_ptr() == room.data_ptr() and len(self.keys) == len(room)
        return same and held == self._used and end <= room.shape[-2]

    def _move(
        self, key_states: torch.Tensor, value_states: torch.Tensor, held: int, end: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        keys, values = (
            states.new_empty(*states.shape[:2], end + ROOM, states.shape[-1])
            for states in (key_states, value_states)
        )
        if held:
            assert self.keys is not None
            assert self.values is not None
            keys[..., :held, :] = self.keys
            values[..., :held, :] = self.values
        self._room, self._owner = (keys, values), id(self)
        return self._room


def take_back(cache: Cache, tokens: int) -> None:
    """Crop the last ``tokens`` of a cache; they must have been added since others were given its tensors."""
    if not tokens:
        return
    layers: list[Any] = cache.layers
    for layer in layers:
        if isinstance(layer, RoomyLayer):
            layer.take_back(tokens)
        else:
            layer.crop(-tokens)


def roomy_cache(config: PretrainedConfig) -> DynamicCache:
    """An empty cache for a model; layers with sliding windows are transformers' own."""
    cache = DynamicCache(config=config)
    layers: list[Any] = cache.layers
    cache.layers = [RoomyLayer() if type(layer) is DynamicLayer else layer for layer in layers]  # type: ignore[no-untyped-call]
    return cache
