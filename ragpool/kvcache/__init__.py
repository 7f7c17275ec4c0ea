"""KV-cache compression for local models: keep the parts of a long prompt that its question needs.

``compressed`` is the one call. Its parts: a ``PromptLayout`` says which tokens are instructions, titles, sentences
and question; ``Signals`` hold what the model computed (keys, values, the question's queries); a ``Selector`` turns
both into importance; a ``Budget`` says how much is kept; ``Critic`` makes a readable ``KeepPlan`` and applies it to
a copy of the cache, an ``EvictedCache`` that works under ``generate()``. ``METHODS`` names the selectors.

Importing this package imports neither torch nor transformers.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ragpool.kvcache.budget import Budget
from ragpool.kvcache.choice import METHOD_NAMES, KVChoice
from ragpool.kvcache.layout import Kind, Piece, PromptLayout

if TYPE_CHECKING:
    from ragpool.kvcache.compress import Compressed, compressed, readable_prefix
    from ragpool.kvcache.critic import Critic
    from ragpool.kvcache.evicted import EvictedCache
    from ragpool.kvcache.heads import HeadTable
    from ragpool.kvcache.methods import METHODS
    from ragpool.kvcache.plan import KeepPlan, KeptSentence
    from ragpool.kvcache.pool import PoolCache
    from ragpool.kvcache.selectors import Importance, Selector
    from ragpool.kvcache.signals import Signals, probed
    from ragpool.kvcache.store import Stamp, load_cache, nbytes, save_cache

__all__ = [
    "METHODS",
    "METHOD_NAMES",
    "Budget",
    "Compressed",
    "Critic",
    "EvictedCache",
    "HeadTable",
    "Importance",
    "KVChoice",
    "KeepPlan",
    "KeptSentence",
    "Kind",
    "Piece",
    "PoolCache",
    "PromptLayout",
    "Selector",
    "Signals",
    "Stamp",
    "compressed",
    "load_cache",
    "nbytes",
    "probed",
    "readable_prefix",
    "save_cache",
]

_HOMES = {
    "METHODS": "methods",
    "Compressed": "compress",
    "Critic": "critic",
    "EvictedCache": "evicted",
    "HeadTable": "heads",
    "Importance": "selectors",
    "KeepPlan": "plan",
    "KeptSentence": "plan",
    "PoolCache": "pool",
    "Selector": "selectors",
    "Signals": "signals",
    "Stamp": "store",
    "compressed": "compress",
    "load_cache": "store",
    "nbytes": "store",
    "probed": "signals",
    "readable_prefix": "compress",
    "save_cache": "store",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:  # these import torch
        return getattr(importlib.import_module(f"ragpool.kvcache.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
