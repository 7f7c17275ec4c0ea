"""Caches in whose layers each head holds its own number of positions, and the attention that reads them.

transformers builds one attention mask for all heads and layers, so its own attention needs equal lengths; as a mask,
unequal ones free no memory. Here a layer's heads lie one behind the other, nothing padded, and while a model reads such
a cache its attention is another one: everything of the prompt that is held is seen, and of the new tokens each sees
itself and those before it. No mask is needed, nor built: pads are never held.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from transformers import AttentionInterface, Cache
from transformers.cache_utils import DynamicLayer

from ragpool.errors import ModelError
from ragpool.kvcache.evicted import EvictedCache, EvictedLayer, checked, held_layers

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from ragpool.kvcache.plan import KeepPlan

_ATTENTION = "ragpool_ragged"  # the name under which transformers finds _attend
_USUAL = "_ragpool_usual_attention"  # a decoder's attribute: what to go back to


@dataclass(frozen=True)
class Heads:
    """What the heads of one row of a batch hold of a prompt, one behind the other.

    ``states`` has one row and one head: keys and values [1, 1, all positions, head dim], plain or packed; ``ends`` says
    where each head's stretch of it ends.
    """

    states: EvictedLayer
    ends: tuple[int, ...]

    @classmethod
    def of(cls, keys: torch.Tensor, values: torch.Tensor, positions: Sequence[torch.Tensor]) -> Heads:
        """Those ``positions`` [kept], ascending, of each head of ``keys`` and ``values`` [kv heads, length, head dim]."""
        pairs = list(zip(keys, values, positions, strict=True))
        return cls.joined([own[at] for own, _, at in pairs], [own[at] for _, own, at in pairs], positions)

    @classmethod
    def joined(
        cls, keys: Sequence[torch.Tensor], values: Sequence[torch.Tensor], positions: Sequence[torch.Tensor]
    ) -> Heads:
        """From keys and values [held, head dim] and logical positions [held] of each head."""
        ends = torch.tensor([len(at) for at in positions]).cumsum(0).tolist()
        flat = [torch.cat(list(parts))[None, None] for parts in (keys, values, positions)]
        return cls(EvictedLayer(flat[0], flat[1], flat[2], 0), tuple(ends))

    @property
    def counts(self) -> list[int]:
        """How many positions each head holds."""
        return [end - start for start, end in zip((0, *self.ends), self.ends, strict=False)]


class RaggedLayer(DynamicLayer):  # type: ignore[no-untyped-call]  # transformers' own hook for subclasses
    """A layer after a prompt of ``length`` tokens: ``rows`` hold of it what each head keeps.

    ``keys`` and ``values`` [batch, kv heads, new, head dim] are those of the tokens that were added since.
    """

    keys: torch.Tensor  # never None here
    values: torch.Tensor

    def __init__(self, rows: Sequence[Heads], length: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._hold(rows)
        self.length = length
        like = rows[0].states.keys
        empty = like.new_empty(len(rows), len(rows[0].ends), 0, like.shape[-1])
        self.lazy_initialization(empty, empty)
        self.keys, self.values = empty, empty

    def _hold(self, rows: Sequence[Heads]) -> None:
        self.rows = tuple(rows)
        counts = torch.tensor([row.counts for row in rows], device=rows[0].states.keys.device)
        self._most = int(counts.max())
        self._beyond = torch.arange(self._most, device=counts.device) >= counts[:, :, None, None]

    @property
    def nbytes(self) -> int:
        """Bytes held; rows that share their states (after a repeat) are counted once."""
        own = {id(row.states): row.states.nbytes for row in self.rows}
        return sum(own.values()) + self.keys.nbytes + self.values.nbytes

    @property
    def held(self) -> int:
        """Physical length of the head that holds most."""
        return self._most + int(self.keys.shape[-2])

    def get_seq_length(self) -> int:
        return self.length + int(self.keys.shape[-2])

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        # of logical positions: a mask is not used but for its last columns
        return self.get_seq_length() + query_length, 0

    def update(  # type: ignore[override]  # what comes back goes to _attend, and only there
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: object, **kwargs: object
    ) -> tuple[RaggedLayer, RaggedLayer]:
        self.keys = torch.cat([self.keys, key_states], dim=-2)
        self.values = torch.cat([self.values, value_states], dim=-2)
        return self, self

    def crop(self, tokens_to_remove: int) -> None:
        removed = abs(tokens_to_remove)
        if removed > self.keys.shape[-2]:
            raise ModelError(
                f"only the {self.keys.shape[-2]} tokens added since can be cropped from a cache whose heads hold "
                "unequal numbers; crop the full cache and compress again"
            )
        super().crop(-removed)

    def batch_repeat_interleave(self, repeats: int) -> None:
        self._choose([row for row in range(len(self.rows)) for _ in range(repeats)])

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        self._choose(indices.nonzero()[:, 0].tolist() if indices.dtype == torch.bool else indices.tolist())

    def reorder_cache(self, beam_idx: torch.LongTensor) -> None:
        self._choose(beam_idx.tolist())

    def _choose(self, rows: Sequence[int]) -> None:
        """The rows of the batch by number. Their prompts are shared, never written to."""
        self._hold([self.rows[row] for row in rows])
        self.keys, self.values = self.keys[list(rows)], self.values[list(rows)]

    def held_by(self, row: int = 0) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Keys and values [held, head dim] and logical positions [held] of each head of one row, the new tokens' too."""
        states, counts = self.rows[row].states, self.rows[row].counts
        added = torch.arange(self.length, self.get_seq_length(), device=self.keys.device)
        parts = (torch.split(flat[0, 0], counts) for flat in (*states.whole(), states.positions))
        for head, (keys, values, positions) in enumerate(zip(*parts, strict=True)):
            yield (
                torch.cat([keys, self.keys[row, head]]),
                torch.cat([values, self.values[row, head]]),
                torch.cat([positions, added]),
            )

    def take(self, places: Sequence[torch.Tensor]) -> None:
        """Keep only the physical ``places`` [kept] of each head, ascending. For one row."""
        parts = [
            (keys[at], values[at], positions[at])
            for (keys, values, positions), at in zip(self.held_by(), places, strict=True)
        ]
        self.length = self.get_seq_length()
        self._hold([Heads.joined(*zip(*parts, strict=True))])
        self.keys, self.values = self.keys[..., :0, :].clone(), self.values[..., :0, :].clone()

    def attended(self, query: torch.Tensor, scaling: float, softcap: float | None) -> torch.Tensor:
        """What ``query`` [batch, heads, tokens, head dim] of the last tokens reads, in the same shape."""
        tokens = query.shape[2]
        batch, heads, new, dim = self.keys.shape
        grouped = (
            query.reshape(batch, heads, -1, dim) * scaling
        )  # query heads that share a KV head are neighbours
        widest = self._most
        logits = query.new_empty(batch, heads, grouped.shape[2], widest + new)
        held: list[tuple[torch.Tensor, ...]] = []  # values of each head
        for row, own, found in zip(self.rows, grouped, logits, strict=True):
            keys, values = (torch.split(flat[0, 0], row.counts) for flat in row.states.whole())
            held.append(values)
            for head, part in enumerate(keys):
                found[head, :, : len(part)] = own[head] @ part.T
        logits[..., widest:] = grouped @ self.keys.transpose(2, 3)
        if softcap is not None:
            logits = torch.tanh(logits / softcap) * softcap
        logits[..., :widest].masked_fill_(self._beyond, -math.inf)
        if tokens > 1:
            later = torch.ones(tokens, tokens, dtype=torch.bool, device=query.device).triu(1)
            logits.view(batch, heads, -1, tokens, widest + new)[..., -tokens:].masked_fill_(later, -math.inf)
        precise = torch.promote_types(query.dtype, torch.float32)
        weights = logits.softmax(dim=-1, dtype=precise).to(query.dtype)
        read = weights[..., widest:] @ self.values
        for parts, seen, out in zip(held, weights, read, strict=True):
            for head, part in enumerate(parts):
                out[head].addmm_(seen[head, :, : len(part)], part)
        return read.view(query.shape)


def evict_unequal(cache: Cache, plan: KeepPlan, model: PreTrainedModel) -> EvictedCache:
    """A new cache with the planned positions of ``cache``, which stays as it is; ``model`` can read it from now on.

    Raises ModelError when the plan is not of a cache of this length, or leaves layers out (sliding windows).
    """
    checked(cache, plan)
    whole = held_layers(cache)
    if plan.layers != tuple(range(len(whole))):
        raise ModelError(
            "heads cannot hold unequal numbers beside layers with a sliding window: give all the same number"
        )
    layers: list[Any] = []
    for layer, index in zip(whole, plan.indices, strict=True):
        rows = [
            Heads.of(keys, values, [at[at >= 0] for at in row])
            for keys, values, row in zip(layer.keys, layer.values, index, strict=True)
        ]
        layers.append(RaggedLayer(rows, plan.length))
    read_unequal(model)
    return EvictedCache(layers=layers)


def read_unequal(model: PreTrainedModel) -> None:
    """Let ``model`` read caches whose heads hold unequal numbers. For all other caches nothing changes."""
    decoder: Any = cast(Any, model).get_decoder()
    if hasattr(decoder, _USUAL):
        return
    setattr(decoder, _USUAL, None)
    decoder.register_forward_pre_hook(_switch, with_kwargs=True)
    decoder.register_forward_hook(_switch_back, always_call=True)


def _switch(decoder: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    cache = kwargs.get("past_key_values")
    if isinstance(cache, EvictedCache) and any(isinstance(layer, RaggedLayer) for layer in cache.layers):
        setattr(decoder, _USUAL, decoder.config._attn_implementation)
        decoder.config._attn_implementation = _ATTENTION


def _switch_back(decoder: Any, args: tuple[Any, ...], output: Any) -> None:
    usual = getattr(decoder, _USUAL)
    if usual is not None:
        decoder.config._attn_implementation = usual
        setattr(decoder, _USUAL, None)


def _attend(
    module: Any,
    query: torch.Tensor,
    key: RaggedLayer,
    value: RaggedLayer,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    softcap: float | None = None,
    **more: Any,
) -> tuple[torch.Tensor, None]:
    """transformers' attention over what RaggedLayer.update returns. The mask is None but where the caller made one."""
    if attention_mask is not None:
        raise ModelError(
            "a cache whose heads hold unequal numbers takes no attention mask of four dimensions"
        )
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    return key.attended(query, scaling, softcap).transpose(1, 2).contiguous(), None


AttentionInterface.register(_ATTENTION, cast(Any, _attend))
