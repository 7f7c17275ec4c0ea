"""The methods by name. A method of your own: a class with ``select``, entered here or given to ``Critic``."""

from __future__ import annotations

from collections.abc import Callable

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

METHODS: dict[str, Callable[[], Selector]] = {
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
