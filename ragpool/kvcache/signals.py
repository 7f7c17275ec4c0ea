"""What a model computed about a prompt: keys and values of its cache, and the queries of the last tokens.

Queries are collected by hooks on the attention modules while the prompt is read, and multiplied with the cached
keys afterwards: ``output_attentions`` would need the eager attention and hold every layer's full matrix.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import torch

from ragpool.errors import ModelError

if TYPE_CHECKING:
    from transformers import Cache, PretrainedConfig, PreTrainedModel

_CHUNK = 512  # queries whose attention is in memory at one time


_FIELDS = (
    "model_type",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "vocab_size",
    "max_position_embeddings",
    "rope_parameters",
)


class Probe:
    """Queries that hooks collected: layer -> [batch, heads, tokens, head dim], rotated as the model rotates them.

    They are those of the ``last`` tokens read so far, in one forward pass or several (None: of every token).
    ``angles`` are the cosines and sines of the same tokens, each [batch, tokens, head dim].
    """

    def __init__(self, last: int | None, fingerprint: str) -> None:
        self.last = last
        self.fingerprint = fingerprint
        self.queries: dict[int, torch.Tensor] = {}
        self.angles: tuple[torch.Tensor, torch.Tensor] | None = None
        self.scaling: dict[int, float] = {}
        self.softcap: dict[int, float | None] = {}

    def see(self, module: Any, hidden: torch.Tensor, angles: tuple[torch.Tensor, torch.Tensor]) -> None:
        """Compute and keep the queries of one attention module's input ``hidden`` [batch, tokens, width]."""
        cos, sin = angles
        if self.last is not None:
            hidden, cos, sin = hidden[:, -self.last :], cos[:, -self.last :], sin[:, -self.last :]
        queries = module.q_proj(hidden).view(*hidden.shape[:2], -1, module.head_dim)
        norm = getattr(module, "q_norm", None)  # Qwen3 and Gemma 3
        if norm is not None:
            queries = norm(queries)
        queries = rotate(queries.transpose(1, 2), cos, sin)
        layer = int(module.layer_idx)
        if not self.queries or layer == min(self.queries):
            self.angles = (cos, sin) if self.angles is None else self._joined(self.angles, (cos, sin))
        if layer in self.queries:
            queries = self._last(torch.cat([self.queries[layer], queries], dim=2), 2)
        self.queries[layer] = queries
        self.scaling[layer] = float(module.scaling)
        self.softcap[layer] = getattr(module, "attn_logit_softcapping", None)

    def _joined(
        self, earlier: tuple[torch.Tensor, torch.Tensor], later: tuple[torch.Tensor, torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        cos, sin = (self._last(torch.cat(pair, dim=1), 1) for pair in zip(earlier, later, strict=True))
        return cos, sin

    def _last(self, tensor: torch.Tensor, dim: int) -> torch.Tensor:
        length = tensor.shape[dim]
        return (
            tensor
            if self.last is None
            else tensor.narrow(dim, max(length - self.last, 0), min(length, self.last))
        )


@contextmanager
def probed(model: PreTrainedModel, last: int | None, probe: Probe | None = None) -> Iterator[Probe]:
    """Collect the queries of the ``last`` tokens (None: of all) that the model reads inside the block.

    ``probe``: one to go on with, in place of a new one. Raises ModelError when the model's attention has no query projection of the usual form.
    """
    modules = [m for m in model.modules() if hasattr(m, "layer_idx") and hasattr(m, "q_proj")]
    if not modules:
        raise ModelError(
            f"the attention of {type(model).__name__} has no q_proj: KV-cache compression does not know this family; "
            "set the method to off"
        )
    found = Probe(last, fingerprint(model.config)) if probe is None else probe

    def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        hidden: Any = kwargs.get("hidden_states", args[0] if args else None)
        angles: Any = kwargs.get("position_embeddings", args[1] if len(args) > 1 else None)
        found.see(module, hidden, angles)

    handles = [m.register_forward_pre_hook(hook, with_kwargs=True) for m in modules]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def fingerprint(config: PretrainedConfig) -> str:
    """12 hex digits over the shape of a model: fine-tuned copies of one base share it, and largely their heads."""
    text = config.get_text_config(decoder=True)
    shape: dict[str, Any] = {name: getattr(text, name, None) for name in _FIELDS}
    return hashlib.sha256(json.dumps(shape, sort_keys=True, default=str).encode()).hexdigest()[:12]


def rotate(states: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary embedding of ``states`` [batch, heads, tokens, head dim] by ``cos``/``sin`` [batch, tokens, head dim].

    Halves are paired (as Llama, Qwen, Mistral and Gemma do); the inverse rotation is that by ``-sin``.
    """
    cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)
    half = states.shape[-1] // 2
    turned = torch.cat([-states[..., half:], states[..., :half]], dim=-1)
    return states * cos + turned * sin


@dataclass(frozen=True)
class LayerSignals:
    """One layer of one prompt: keys and values [kv heads, length, head dim], queries [heads, window, head dim]."""

    index: int
    keys: torch.Tensor
    values: torch.Tensor
    queries: torch.Tensor
    scaling: float
    softcap: float | None = None

    @property
    def groups(self) -> int:
        """Query heads that share a KV head."""
        return self.queries.shape[0] // self.keys.shape[0]

    def only(self, heads: Sequence[int]) -> LayerSignals:
        """The layer with these query heads alone, each with the keys and values that it reads."""
        at = torch.tensor(heads, device=self.keys.device)
        own = at // self.groups
        return replace(self, keys=self.keys[own], values=self.values[own], queries=self.queries[at])

    def attention(self, first: int, last: int) -> torch.Tensor:
        """Attention weights [kv heads, groups, last - first, length] of the queries ``first``..``last``.

        Both count within the window, which ends with the last token of the prompt. Causal, in float32.
        """
        heads, length, dim = self.keys.shape
        before = length - self.queries.shape[1]
        seen = before + last  # later keys are hidden from all of these queries
        queries = self.queries[:, first:last].reshape(heads, self.groups * (last - first), dim)
        logits = (queries.float() * self.scaling) @ self.keys[:, :seen].float().transpose(1, 2)
        logits = logits.view(heads, self.groups, last - first, seen)
        if self.softcap is not None:
            logits = torch.tanh(logits / self.softcap) * self.softcap
        own = torch.ones(last - first, last - first, dtype=torch.bool, device=logits.device)
        logits[..., before + first :].masked_fill_(own.triu(1), float("-inf"))
        weights = logits.softmax(dim=-1)
        return torch.nn.functional.pad(weights, (0, length - seen)) if seen < length else weights

    def received(self, first: int, last: int) -> torch.Tensor:
        """Attention that each position received from the queries ``first``..``last``, summed: [kv heads, groups, length]."""
        total = torch.zeros(self.keys.shape[0], self.groups, self.keys.shape[1], device=self.keys.device)
        for start in range(first, last, _CHUNK):
            total += self.attention(start, min(start + _CHUNK, last)).sum(dim=2)
        return total


@dataclass(frozen=True)
class Signals:
    """What is known about one prompt of ``length`` cached tokens: the layers that can be compressed.

    The window (tokens with queries) is the last ``window`` of them. ``angles``: cos and sin [window, head dim].
    ``fingerprint`` is that of the model's shape. ``gradient``: per layer |d loss / d key * key| summed over the head dimension, [kv heads, length]; only when asked for.
    ``answers``: per layer attention [kv heads, length] while likely answers are written (answers.py), ``copying`` how much
    of it goes to the rest of an answer [kv heads] (copying.py), and ``sentences`` the scores by which the answers were
    chosen; only when asked for.
    """

    length: int
    window: int
    layers: tuple[LayerSignals, ...]
    fingerprint: str = ""
    angles: tuple[torch.Tensor, torch.Tensor] | None = None
    gradient: tuple[torch.Tensor, ...] | None = None
    answers: tuple[torch.Tensor, ...] | None = None
    copying: tuple[torch.Tensor, ...] | None = None
    sentences: tuple[float, ...] | None = None

    @classmethod
    def of(cls, cache: Cache, probe: Probe, *, row: int = 0, pads: int = 0) -> Signals:
        """The signals of one row of a batch without its ``pads`` left pads, so that no method can keep a pad.

        Sliding-window layers are left out: they hold their last positions only and stay as they are.
        """
        layers = []
        for index, queries in sorted(probe.queries.items()):
            held = cast(Any, cache.layers)[index]
            if getattr(held, "is_sliding", False):
                continue
            keys, values = held.keys, held.values
            assert keys is not None
            assert values is not None
            seen = min(queries.shape[2], keys.shape[2] - pads)
            layers.append(
                LayerSignals(
                    index,
                    keys[row, :, pads:],
                    values[row, :, pads:],
                    queries[row, :, queries.shape[2] - seen :],
                    probe.scaling[index],
                    probe.softcap[index],
                )
            )
        if not layers:
            raise ModelError(
                "every layer of this model has a sliding window: there is nothing to compress; use off"
            )
        window = layers[0].queries.shape[1]
        angles = None
        if probe.angles is not None:
            cos, sin = probe.angles
            angles = (cos[min(row, len(cos) - 1), -window:], sin[min(row, len(sin) - 1), -window:])
        return cls(layers[0].keys.shape[1], window, tuple(layers), probe.fingerprint, angles)
