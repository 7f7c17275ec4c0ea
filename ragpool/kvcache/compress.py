"""A prompt to a compressed cache in one call."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import torch
from transformers import Cache, DynamicCache

from ragpool.errors import ModelError
from ragpool.kvcache.budget import Budget
from ragpool.kvcache.choice import OFF, KVChoice
from ragpool.kvcache.critic import Critic
from ragpool.kvcache.evicted import quantised
from ragpool.kvcache.layout import PromptLayout
from ragpool.kvcache.methods import METHODS
from ragpool.kvcache.plan import KeepPlan
from ragpool.kvcache.selectors import WINDOW, Selector
from ragpool.kvcache.signals import Probe, Signals, probed

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Compressed:
    """A cache to go on from. ``ids[logical_length:]``, at least one token, is still to be fed.

    ``plan`` is None when nothing was evicted. ``seconds``: prefill, score, evict.
    """

    cache: Cache
    plan: KeepPlan | None
    ids: tuple[int, ...]
    seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def logical_length(self) -> int:
        return int(self.cache.get_seq_length())


def read(
    model: PreTrainedModel, layout: PromptLayout, cache: Cache, needs: str = "window"
) -> Probe:
    """Read the prompt but for its last token, on top of the true prefix that ``cache`` holds; collect queries.

    ``needs``: "window" for the queries of the question and what follows, "blind" for those before it too, "all" for
    every token's. Raises ModelError when the cache is longer than the prompt or lacks what is needed.
    """
    held = int(cache.get_seq_length())
    fed = len(layout) - 1
    first = 0 if needs == "all" else layout.context_end - (WINDOW if needs == "blind" else 0)
    first = min(max(first, 0), fed - 1, max(fed - WINDOW, 0))
    if held > fed:
        raise ModelError(f"the cache holds {held} tokens of a prompt of {len(layout)}: crop it to {first} or less")
    if held > first:
        raise ModelError(
            f"the cache holds {held} tokens, and the queries of the tokens from {first} on are needed: "
            f"crop it to {first}"
        )
    device = model.device
    ids = torch.tensor([layout.ids[held:fed]], device=device)
    with torch.inference_mode(), probed(model, None if needs == "all" else fed - first) as probe:
        cast(Any, model)(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
    return probe


def compressed(
    model: PreTrainedModel,
    layout: PromptLayout,
    choice: KVChoice,
    *,
    cache: Cache | None = None,
) -> Compressed:
    """Read a prompt and evict from its cache what ``choice`` says.

    ``cache`` holds a true prefix of ``layout.ids``; it is extended in place by the rest of the prompt but for the last
    token, and otherwise left alone: what is returned is a copy. Hold the model's lock: hooks are set meanwhile.
    """
    cache = DynamicCache(config=model.config) if cache is None else cache
    if choice.method == OFF or len(layout) < choice.start:
        return Compressed(cache, None, layout.ids)
    selector: Selector = METHODS[choice.method]()
    begun = time.perf_counter()
    probe = read(model, layout, cache, getattr(selector, "needs", "window"))
    prefilled = time.perf_counter()
    if choice.tokens is None and choice.evicted == 0:
        return Compressed(cache, None, layout.ids, {"prefill": prefilled - begun})
    with torch.inference_mode():
        critic = Critic(selector, _budget(choice), choice.method)
        plan = critic.plan(layout, Signals.of(cache, probe))
        scored = time.perf_counter()
        kept = critic.apply(cache, plan)
        if choice.int8:
            kept = quantised(kept)
    evicted = time.perf_counter()
    seconds = {"prefill": prefilled - begun, "score": scored - prefilled, "evict": evicted - scored}
    return Compressed(kept, plan, layout.ids, seconds)


def _budget(choice: KVChoice) -> Budget:
    return Budget(ratio=choice.evicted) if choice.tokens is None else Budget(tokens=choice.tokens)
