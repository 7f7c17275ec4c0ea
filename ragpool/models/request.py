"""What a call to a local model may ask for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from ragpool.errors import SettingsError
from ragpool.kvcache import KVChoice


class Options(TypedDict, total=False):
    """The keywords of ``complete``, ``stream`` and ``complete_batch``; ``Request`` says what they mean."""

    adapter: str | None
    max_new_tokens: int
    stop: Sequence[str]
    temperature: float
    seed: int | None
    top_logprobs: int | None
    prefix_folder: Path | None
    kv: KVChoice | None
    schema: str | None


@dataclass(frozen=True, slots=True)
class Request:
    """How a prompt is continued.

    adapter: the name of a loaded adapter; None is the base model. stop: strings that end the text and are not
    part of it. temperature: 0 is greedy. seed: the same one gives the same draws. top_logprobs: log-probabilities
    of each token and of so many alternatives are kept; None keeps none. prefix_folder: a long prompt is kept there
    after it was read, and found there by the next process. kv: how the prompt's cache is compressed; None: not at all.
    schema: a JSON schema as JSON, which the text will follow as far as max_new_tokens lets it.

    Raises SettingsError for values out of range.
    """

    adapter: str | None = None
    max_new_tokens: int = 64
    stop: Sequence[str] = ()
    temperature: float = 0.0
    seed: int | None = None
    top_logprobs: int | None = None
    prefix_folder: Path | None = None
    kv: KVChoice | None = None
    schema: str | None = None

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise SettingsError(f"max_new_tokens is {self.max_new_tokens}; it must be at least 1")
        if isinstance(self.stop, str) or not all(self.stop):
            raise SettingsError("stop must be a sequence of non-empty strings")
        if self.temperature < 0:
            raise SettingsError(f"temperature is {self.temperature}; it must be 0 (greedy) or more")
        if self.top_logprobs is not None and not 0 <= self.top_logprobs <= 20:
            raise SettingsError(f"top_logprobs is {self.top_logprobs}; it must be from 0 to 20")
