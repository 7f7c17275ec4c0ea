"""What a user asks for: a method, how much to evict, from which length on."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ragpool.errors import SettingsError

METHOD_NAMES = (
    "critic-rag",
    "reprefill",
    "critic",
    "snapkv",
    "snapkv-blind",
    "expected",
    "h2o",
    "tova",
    "keydiff",
    "knorm",
    "streaming",
    "random",
)
OFF, AUTO = "off", "auto"
DEFAULT_RATIO = 0.75

_WRITTEN = re.compile(
    r"(?P<method>[a-z0-9-]+)(?::(?:(?P<tokens>\d+)t|(?P<ratio>\d*\.?\d+)))?(?:\+(?P<every>\d+))?"
)


@dataclass(frozen=True, slots=True)
class KVChoice:
    """A method of METHOD_NAMES, ``off`` or ``auto``, and its amount.

    ratio: the share of the prompt's cache that is evicted, in [0, 1). tokens: cache positions kept instead.
    start: prompts shorter than this many tokens stay whole. int8: the kept cache is stored in 8 bits;
    hqq: by the package of that name. every: during decoding the cache is compressed again each time this many tokens were added. heads: a folder of head
    tables of one's own, which go before the shipped ones.
    """

    method: str = OFF
    ratio: float | None = None
    tokens: int | None = None
    start: int = 1024
    int8: bool = False
    hqq: bool = False
    every: int | None = None
    heads: Path | None = None

    def __post_init__(self) -> None:
        if self.method not in (OFF, AUTO, *METHOD_NAMES):
            known = ", ".join((OFF, AUTO, *METHOD_NAMES))
            raise SettingsError(f"no KV-cache method is called {self.method!r}; choose one of {known}")
        if self.ratio is not None and self.tokens is not None:
            raise SettingsError("give the KV cache a ratio or a number of tokens, not both")
        if self.ratio is not None and not 0 <= self.ratio < 1:
            raise SettingsError(f"the KV-cache ratio {self.ratio} must be from 0 (keep all) to less than 1")
        if self.tokens is not None and self.tokens < 1:
            raise SettingsError(f"the KV cache cannot be kept at {self.tokens} tokens; give at least 1")
        if self.hqq and not self.int8:
            object.__setattr__(self, "int8", True)
        if self.int8 and self.every is not None:
            raise SettingsError("a cache in 8 bits cannot be compressed further; set int8 or every, not both")
        if self.start < 0 or (self.every is not None and self.every < 1):
            raise SettingsError("start must not be negative, every must be at least 1 (tokens)")

    @classmethod
    def parse(cls, text: str, **more: int | bool | None) -> KVChoice:
        """``critic-rag``, ``critic-rag:0.75`` (evict three quarters), ``critic-rag:512t`` (keep 512), ``auto``, ``off``.

        ``critic-rag:0.75+64``: and again whenever 64 tokens were written (every). Raises SettingsError for anything else.
        """
        match = _WRITTEN.fullmatch(text.strip())
        if match is None:
            raise SettingsError(
                f"{text!r} is no KV-cache setting; write METHOD:RATIO such as critic-rag:0.75"
            )
        ratio = float(match["ratio"]) if match["ratio"] else None
        tokens = int(match["tokens"]) if match["tokens"] else None
        if match["every"]:
            more["every"] = int(match["every"])
        return cls(match["method"], ratio, tokens, **more)  # type: ignore[arg-type]

    @property
    def evicted(self) -> float:
        """The ratio, where no number of tokens is given."""
        return DEFAULT_RATIO if self.ratio is None else self.ratio

    @property
    def evicts(self) -> bool:
        """Can anything be evicted? Not when it is off, or everything is to be kept."""
        return self.method != OFF and (self.tokens is not None or self.evicted > 0 or self.every is not None)

    def __str__(self) -> str:
        amount = "" if self.method in (OFF, AUTO) else f":{self.evicted:g}"
        if self.tokens is not None:
            amount = f":{self.tokens}t"
        again = "" if self.every is None else f"+{self.every}"
        return f"{self.method}{amount}{again}{' hqq' if self.hqq else ' int8' if self.int8 else ''}"
