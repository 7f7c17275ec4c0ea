"""A prompt to a compressed cache in one call."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

import torch
from transformers import Cache, DynamicCache

from ragpool.errors import ModelError
from ragpool.kvcache.auto import START, automatic, free_memory
from ragpool.kvcache.budget import Budget
from ragpool.kvcache.choice import AUTO, OFF, KVChoice
from ragpool.kvcache.criteria import key_gradients
from ragpool.kvcache.critic import Critic
from ragpool.kvcache.heads import HeadTable
from ragpool.kvcache.layout import PromptLayout
from ragpool.kvcache.methods import METHODS
from ragpool.kvcache.packed import HqqLayer, Int8Layer, quantised
from ragpool.kvcache.plan import KeepPlan
from ragpool.kvcache.rag import CriticRag
from ragpool.kvcache.reprefill import shortened
from ragpool.kvcache.selectors import WINDOW, Selector
from ragpool.kvcache.signals import Probe, Signals, fingerprint, probed

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Compressed:
    """A cache to go on from. ``ids[logical_length:]``, at least one token, is still to be fed.

    ``plan`` is None when nothing was evicted. ``ids`` is the prompt as the model sees it: with reprefill the shorter
    one. ``seconds``: prefill, score, evict.
    """

    cache: Cache
    plan: KeepPlan | None
    ids: tuple[int, ...]
    seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def logical_length(self) -> int:
        return int(self.cache.get_seq_length())


def compressed(
    model: PreTrainedModel,
    layout: PromptLayout,
    choice: KVChoice,
    *,
    cache: Cache | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    heads: HeadTable | None = None,
) -> Compressed:
    """Read a prompt and evict from its cache what ``choice`` says.

    ``cache`` holds a true prefix of ``layout.ids``; it is extended in place by the rest of the prompt but for the last
    token, and is otherwise left alone: what is returned is a copy. (``reprefill`` and a prompt that stays whole do not
    touch it.) ``tokenizer`` is needed by reprefill only. ``heads``: the retrieval heads of critic-rag, when they are
    not the shipped ones. Hold the model's lock: hooks are set meanwhile. Raises ModelError.
    """
    cache = DynamicCache(config=model.config) if cache is None else cache
    choice = _settled(model, layout, choice)
    nothing = choice.tokens is None and choice.evicted == 0
    if choice.method == OFF or len(layout) < choice.start or not layout.sentences or nothing:
        return Compressed(cache, None, layout.ids)
    if choice.method == "reprefill":
        if tokenizer is None:
            raise ModelError("reprefill writes a shorter prompt and needs the tokenizer; pass tokenizer=")
        return _reread(model, layout, choice, tokenizer)
    if heads is None and choice.heads is not None:
        heads = HeadTable.find(choice.heads, fingerprint(model.config))
    selector: Selector = CriticRag(heads) if choice.method == "critic-rag" else METHODS[choice.method]()
    return _evicted(model, layout, choice, selector, cache)


def read(model: PreTrainedModel, layout: PromptLayout, cache: Cache, needs: str = "window") -> Probe:
    """Read the prompt but for its last token, on top of the true prefix that ``cache`` holds; collect queries.

    ``needs``: "blind" adds the queries of the end of the context to those of the question and what follows, "all" takes
    every token's. Raises ModelError when the cache holds more of the prompt than may be read already.
    """
    held = int(cache.get_seq_length())
    fed = len(layout) - 1
    first = latest_prefix(layout, needs)
    if held > first:
        raise ModelError(
            f"the cache holds {held} tokens, and the queries of the tokens from {first} on are needed: "
            f"crop it to {first} or less"
        )
    ids = torch.tensor([layout.ids[held:fed]], device=model.device)
    with torch.inference_mode(), probed(model, None if needs == "all" else fed - first) as probe:
        cast(Any, model)(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
    return probe


def latest_prefix(layout: PromptLayout, needs: str = "window") -> int:
    """How many tokens of the prompt a cache may hold at most before ``read``: those after it must be seen."""
    fed = len(layout) - 1
    first = {"all": 0, "blind": layout.context_end - WINDOW}.get(needs, layout.context_end)
    return max(min(first, fed - WINDOW), 0)


def readable_prefix(layout: PromptLayout, choice: KVChoice) -> int:
    """How many tokens of the prompt the ``cache`` that is given to ``compressed`` may hold at most."""
    if choice.method == "reprefill":  # reads another text
        return 0
    selector = METHODS["critic-rag" if choice.method == AUTO else choice.method]()
    return latest_prefix(layout, getattr(selector, "needs", "window"))


def _evicted(
    model: PreTrainedModel, layout: PromptLayout, choice: KVChoice, selector: Selector, cache: Cache
) -> Compressed:
    needs = getattr(selector, "needs", "window")
    begun = time.perf_counter()
    probe = read(model, layout, cache, needs)
    prefilled = time.perf_counter()
    with torch.inference_mode():
        signals = Signals.of(cache, probe)
        if needs == "gradient":
            signals = replace(signals, gradient=key_gradients(model, layout, cache))
        if isinstance(selector, CriticRag):
            signals = selector.informed(model, layout, signals)
        budget = Budget(ratio=choice.evicted) if choice.tokens is None else Budget(tokens=choice.tokens)
        critic = Critic(selector, budget, choice.method)
        plan = critic.plan(layout, signals)
        scored = time.perf_counter()
        kept = critic.apply(cache, plan, model)
        if choice.int8:
            kept = quantised(kept, HqqLayer if choice.hqq else Int8Layer)
    evicted = time.perf_counter()
    seconds = {"prefill": prefilled - begun, "score": scored - prefilled, "evict": evicted - scored}
    return Compressed(kept, plan, layout.ids, seconds)


def _reread(
    model: PreTrainedModel, layout: PromptLayout, choice: KVChoice, tokenizer: PreTrainedTokenizerBase
) -> Compressed:
    begun = time.perf_counter()
    keep = choice.tokens or round(len(layout) * (1 - choice.evicted))
    short, plan = shortened(tokenizer, layout, keep)
    scored = time.perf_counter()
    cache = DynamicCache(config=model.config)
    read(model, short, cache)
    return Compressed(
        cache,
        plan,
        short.ids,
        {"score": scored - begun, "prefill": time.perf_counter() - scored, "evict": 0.0},
    )


def _settled(model: PreTrainedModel, layout: PromptLayout, choice: KVChoice) -> KVChoice:
    """``auto`` as what it comes to for this prompt on this machine."""
    if choice.method != AUTO:
        return choice
    config = model.config.get_text_config(decoder=True)
    dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    position_bytes = 2 * config.num_hidden_layers * heads * dim * model.dtype.itemsize
    start = max(choice.start, START)
    settled = automatic(len(layout), position_bytes, free_memory(model.device), start)
    return replace(settled, int8=choice.int8, hqq=choice.hqq, every=choice.every, heads=choice.heads)
