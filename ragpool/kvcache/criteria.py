"""critic: the three criteria of CRITIC (arXiv 2504.01281), as far as they can be meant.

Its attention criterion sums the rows of the attention matrix; rows are softmaxes, so every sum is 1 and says nothing
(tests/kvcache/test_criteria.py). Meant can only be the attention that a position *receives*: the columns. Its entropy is
that of a row too, a property of the token that looks, not of the one that is kept; here it is the entropy of a
column, high when many tokens of the question look at a position. Its gradient is taken as the loss of the question's own
tokens against the cached keys, times the key: what the loss would change by, to first order, without it. All three
are taken over the tokens from the question on, since what a position is worth depends on what is asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, cast

import torch
from transformers import DynamicCache

from ragpool.errors import ModelError
from ragpool.kvcache.evicted import held_layers
from ragpool.kvcache.layout import PromptLayout
from ragpool.kvcache.selectors import Importance
from ragpool.kvcache.signals import Signals

if TYPE_CHECKING:
    from transformers import Cache, PreTrainedModel


@dataclass(frozen=True)
class Criteria:
    """Weights of the criteria, each scaled to [0, 1] within its head. The gradient costs another pass, with a backward."""

    needs: ClassVar[str] = "gradient"
    attention: float = 0.7
    entropy: float = 0.0  # almost useless where it was measured
    gradient: float = 0.3

    def select(self, layout: PromptLayout, signals: Signals, keep: int) -> Importance:
        first = max(layout.context_end - (signals.length - signals.window), 0)
        layers = []
        for number, layer in enumerate(signals.layers):
            weights = layer.attention(first, signals.window)  # [kv heads, groups, queries, length]
            received = weights.sum(dim=2).mean(dim=1)
            score = self.attention * _scaled(received)
            if self.entropy:
                shares = weights / weights.sum(dim=2, keepdim=True).clamp(min=1e-12)
                spread = -(shares * shares.clamp(min=1e-12).log()).sum(dim=2).mean(dim=1)
                score = score + self.entropy * _scaled(spread)
            if self.gradient and signals.gradient is not None:
                score = score + self.gradient * _scaled(signals.gradient[number])
            layers.append(score)
        return Importance(tuple(layers))


def _scaled(values: torch.Tensor) -> torch.Tensor:
    low, high = values.amin(dim=-1, keepdim=True), values.amax(dim=-1, keepdim=True)
    return (values - low) / (high - low).clamp(min=1e-12)


def key_gradients(model: PreTrainedModel, layout: PromptLayout, cache: Cache) -> tuple[torch.Tensor, ...]:
    """|d loss / d key * key| of each cached position, [kv heads, length] a layer; zero from the question on.

    The loss is that of predicting the question's tokens, read again on top of the context's cache with gradients.
    """
    first, length = layout.context_end, int(cache.get_seq_length())
    if any(getattr(layer, "is_sliding", False) for layer in held_layers(cache)):
        raise ModelError("the gradient criterion needs a model without sliding windows; use critic-rag")
    with torch.inference_mode(False), torch.enable_grad():
        context = DynamicCache()
        leaves = []
        for number, layer in enumerate(held_layers(cache)):
            keys = layer.keys[..., :first, :].clone().requires_grad_()
            context.update(keys, layer.values[..., :first, :].clone(), number)
            leaves.append(keys)
        ids = torch.tensor([layout.ids[first:length]], device=leaves[0].device)
        logits = cast(Any, model)(input_ids=ids, past_key_values=context, use_cache=True).logits[0]
        loss = torch.nn.functional.cross_entropy(logits[:-1], ids[0, 1:])
        gradients = torch.autograd.grad(loss, leaves)
    return tuple(
        torch.nn.functional.pad((gradient * keys.detach()).sum(dim=-1).abs()[0], (0, length - first))
        for gradient, keys in zip(gradients, leaves, strict=True)
    )
