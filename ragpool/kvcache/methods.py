"""The methods by name. One of your own: a class with ``select``, entered here or given to ``Critic``."""

from __future__ import annotations

from collections.abc import Callable

from ragpool.kvcache.criteria import Criteria
from ragpool.kvcache.rag import CriticRag
from ragpool.kvcache.selectors import (
    H2O,
    BlindSnapKV,
    Expected,
    KeyDiff,
    KNorm,
    Random,
    Selector,
    SnapKV,
    Streaming,
    Tova,
)

# reprefill is not among them: it shortens the prompt and evicts nothing (see reprefill.py)
METHODS: dict[str, Callable[[], Selector]] = {
    "critic-rag": CriticRag,
    "critic": Criteria,
    "snapkv": SnapKV,
    "snapkv-blind": BlindSnapKV,
    "expected": Expected,
    "h2o": H2O,
    "tova": Tova,
    "keydiff": KeyDiff,
    "knorm": KNorm,
    "streaming": Streaming,
    "random": Random,
}
