"""The cache of a growing pool: passages are appended, questions asked on top and taken off again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from transformers import DynamicCache

from ragpool.errors import ModelError
from ragpool.kvcache.signals import Signals, probed
from ragpool.kvcache.store import Stamp, load_cache, nbytes, save_cache

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class PoolCache:
    """Keys and values of the tokens ``ids``. Hold the model's lock around every call that reads tokens."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = cast(Any, model)
        self.cache = DynamicCache(config=model.config)
        self.ids: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return nbytes(self.cache)

    def shared(self, ids: Sequence[int]) -> int:
        """How many tokens of ``ids`` from the first on are the ones held here."""
        count = 0
        for ours, theirs in zip(self.ids, ids, strict=False):
            if ours != theirs:
                break
            count += 1
        return count

    def append(self, ids: Sequence[int]) -> torch.Tensor:
        """Read more tokens; returns the logits [vocabulary] after the last. Raises ModelError for none."""
        if not ids:
            raise ModelError("no tokens to append; give at least one")
        with torch.inference_mode():
            output = self._model(
                input_ids=torch.tensor([list(ids)], device=self._model.device),
                past_key_values=self.cache,
                use_cache=True,
                logits_to_keep=1,
            )
        self.ids = (*self.ids, *ids)
        logits: torch.Tensor = output.logits[0, -1]
        return logits

    def ask(self, ids: Sequence[int]) -> Signals:
        """Append the tokens of a question and return what they see. ``crop`` takes them off again."""
        with probed(cast("PreTrainedModel", self._model), len(ids)) as probe:
            self.append(ids)
        with torch.inference_mode():
            return Signals.of(self.cache, probe)

    def crop(self, length: int) -> None:
        """Forget all but the first ``length`` tokens. Raises ModelError past what a sliding window still holds."""
        if not 0 <= length <= len(self.ids):
            raise ModelError(f"cannot crop to {length} tokens: {len(self.ids)} are held")
        if length == 0:
            self.cache = DynamicCache(config=self._model.config)
        elif length < len(self.ids):
            try:
                self.cache.crop(length - len(self.ids))
            except RuntimeError as error:
                raise ModelError(
                    "a sliding window has passed what should be cropped; start a new pool cache"
                ) from error
        self.ids = self.ids[:length]

    def save(self, path: Path, model: str, layout: str) -> None:
        """Write the cache; ``model`` and ``layout`` are versions that must be the same at ``load``."""
        save_cache(self.cache, path, Stamp(model, layout, self.ids))

    def load(self, path: Path, model: str, layout: str, ids: Sequence[int]) -> bool:
        """Go on from a saved cache of the tokens ``ids``; False (and a log line) when there is no sound one."""
        found = load_cache(path, Stamp(model, layout, tuple(ids)), self._model.device)
        if found is None:
            return False
        self.cache, self.ids = found, tuple(ids)
        return True
