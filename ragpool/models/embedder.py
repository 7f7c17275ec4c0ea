"""Sentence embeddings: a BERT-like encoder with mean pooling, in batches limited by padded tokens."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ragpool.errors import ModelError, SettingsError
from ragpool.models.resolve import Kind, fetch, resolve
from ragpool.models.runtime import (
    paused_collection,
    pick_device,
    pick_dtype,
    prepare_environment,
    quiet_transformers,
    set_threads,
)

if TYPE_CHECKING:
    import numpy as np
    import torch
    from langchain_core.embeddings import Embeddings
    from numpy.typing import NDArray
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from ragpool.settings import ModelSettings

MAX_TOKENS = 256  # unless the model's own sentence_bert_config.json says otherwise


class Embedder:
    """Texts to unit vectors. Threads may share it; passes take turns.

    ``version`` is ``name@12 hex digits`` of the weights, ``dimension`` the length of a vector.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        version: str,
        max_tokens: int = MAX_TOKENS,
    ) -> None:
        self.version = version
        self.name = version.partition("@")[0]
        self.dimension = int(model.config.hidden_size)
        self.max_tokens = max_tokens
        self._model = cast(Any, model).eval()  # transformers leaves eval() untyped
        self._tokenizer = tokenizer
        self._lock = threading.Lock()

    @classmethod
    @paused_collection()
    def load(cls, name: str, settings: ModelSettings) -> Embedder:
        """Load ``name`` (embedded, a folder or a hub name).

        Raises SettingsError when there is no such model or it pools otherwise than by mean, ModelError
        when it cannot be read.
        """
        prepare_environment(settings.allow_download)
        resolved = fetch(resolve(name, settings, "embedder"))
        if resolved.kind is Kind.PROVIDER:
            raise SettingsError(
                "models.embedder takes 'embedded', a local folder or a hub name, not a provider"
            )
        folder = Path(resolved.location)
        max_tokens = _read_config(folder)
        set_threads(settings)
        device = pick_device(settings.device)
        model, tokenizer = read_folder(folder, pick_dtype(settings.dtype, device), device)
        return cls(model, tokenizer, resolved.version, max_tokens)

    def embed(
        self,
        texts: Sequence[str],
        batch_tokens: int = 4096,
        progress: Callable[[int], None] | None = None,
    ) -> NDArray[np.float32]:
        """Vectors [n, dimension], float32, L2-normalised, in the order of ``texts``.

        A text is cut at ``max_tokens`` tokens. Batches hold texts of similar length and at most
        ``batch_tokens`` padded tokens (a single text may have more). ``progress`` is called after each
        batch with the number of texts in it.
        """
        import numpy as np

        vectors = np.zeros((len(texts), self.dimension), dtype=np.float32)
        for rows, inputs in self._batches(texts, batch_tokens):
            vectors[rows] = self._forward(inputs)
            if progress is not None:
                progress(len(rows))
        return vectors

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """Vector [dimension] of one text."""
        vector: NDArray[np.float32] = self.embed([text])[0]
        return vector

    def as_langchain(self) -> Embeddings:
        """The same embedder behind LangChain's interface."""
        from ragpool.models.langchain import LocalEmbeddings

        return LocalEmbeddings(self)

    def _batches(
        self, texts: Sequence[str], batch_tokens: int
    ) -> Iterator[tuple[list[int], list[list[int]]]]:
        with self._lock:  # a fast tokenizer cannot be used by two threads while it truncates
            encoded: Any = (
                self._tokenizer(list(texts), truncation=True, max_length=self.max_tokens)["input_ids"]
                if len(texts)
                else []
            )
        rows: list[int] = []
        for row in sorted(range(len(encoded)), key=lambda row: len(encoded[row]), reverse=True):
            if rows and len(encoded[rows[0]]) * (len(rows) + 1) > batch_tokens:
                yield rows, [encoded[r] for r in rows]
                rows = []
            rows.append(row)
        if rows:
            yield rows, [encoded[r] for r in rows]

    def _forward(self, inputs: list[list[int]]) -> NDArray[np.float32]:
        import torch

        width = max(map(len, inputs))
        pad = self._tokenizer.pad_token_id or 0
        device = self._model.device
        ids = torch.tensor([row + [pad] * (width - len(row)) for row in inputs], device=device)
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in inputs], device=device)
        with self._lock, torch.inference_mode():
            hidden: torch.Tensor = self._model(input_ids=ids, attention_mask=mask).last_hidden_state.float()
            weights = mask[:, :, None].float()
            pooled = (hidden * weights).sum(1) / weights.sum(1)
            unit = torch.nn.functional.normalize(pooled, dim=-1)
        vectors: NDArray[np.float32] = unit.cpu().numpy()
        return vectors


def _read_config(folder: Path) -> int:
    """Maximum tokens of a sentence-transformers folder, after checking that it pools by mean."""
    pooling = folder / "1_Pooling" / "config.json"
    limits = folder / "sentence_bert_config.json"
    try:
        if pooling.is_file():
            modes = json.loads(pooling.read_text(encoding="utf-8"))
            chosen = sorted(
                name for name, on in modes.items() if name.startswith("pooling_mode") and on is True
            )
            if chosen not in ([], ["pooling_mode_mean_tokens"]):
                raise SettingsError(
                    f"{folder} pools by {', '.join(chosen)}; ragpool supports mean pooling only"
                )
        if limits.is_file():
            return int(json.loads(limits.read_text(encoding="utf-8"))["max_seq_length"])
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{folder} has a malformed configuration ({error!r}); check or replace the model"
        ) from error
    return MAX_TOKENS


def read_folder(
    folder: Path, dtype: torch.dtype, device: torch.device
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The encoder and the tokenizer of a folder. Raises ModelError when they cannot be read."""
    from safetensors import SafetensorError
    from transformers import AutoModel, AutoTokenizer

    try:
        with quiet_transformers():
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            model: Any = AutoModel.from_pretrained(folder, dtype=dtype, local_files_only=True)
    except (ValueError, OSError, KeyError, SafetensorError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"{folder} could not be loaded as an embedder ({reason}); check the folder"
        ) from error
    return model.to(device), tokenizer
