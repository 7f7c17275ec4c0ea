"""Prompts that were read, on disk: one file for each pool, so that a conversation goes on warm after a restart."""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ragpool.models.prefix import common

if TYPE_CHECKING:
    import torch

    from ragpool.models.prefix import Layers

logger = logging.getLogger(__name__)

FORMAT = "1"  # of the file; goes up when layout or meaning change
OPENING = 128  # tokens that name the file: instructions with their delimiter, which is the pool's own
SHORTEST = 512  # tokens: shorter prompts are read again in the time that a file takes
_NEWS = 128  # tokens that a prompt must have more than its file for the file to be written again
_DIGEST = 32  # bytes of SHA-256 before the safetensors data
FOLDER_BYTES = 2 * 2**30


class PrefixFiles:
    """The prompts of one model in a folder, keys and values as float16, so logits after one are rounded.

    A file that is damaged, or of another model, adapter or format, is ignored with a line in the log. The
    folder keeps to ``limit`` bytes; the files used longest ago go first.
    """

    def __init__(self, folder: Path, model: str, limit: int = FOLDER_BYTES) -> None:
        self._folder = folder
        self._model = model
        self._limit = limit
        self._written: dict[Path, torch.Tensor] = {}  # the tokens of the files that this object has seen

    def file(self, ids: Sequence[int], adapter: str) -> Path:
        """Where a prompt that begins like ``ids`` is kept."""
        name = repr((FORMAT, self._model, adapter, list(ids[:OPENING])))
        return self._folder / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.prefix"

    def load(self, ids: Sequence[int], adapter: str) -> tuple[list[int], Layers] | None:
        """Tokens and float16 layers of the prompt kept for this beginning; None when there is none to be used."""
        from safetensors import SafetensorError
        from safetensors.torch import load

        if len(ids) < SHORTEST:
            return None
        path = self.file(ids, adapter)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            logger.warning("prompt file %s cannot be read (%s); the prompt is read afresh", path, error)
            return None
        body = memoryview(data)[_DIGEST:]
        if hashlib.sha256(body).digest() != data[:_DIGEST]:
            logger.warning("prompt file %s is damaged; the prompt is read afresh", path)
            return None
        try:
            tensors = load(bytes(body))
            stamp = bytes(tensors["stamp"].numpy()).decode()
            if stamp != self._stamp(adapter):
                logger.warning("prompt file %s is of another model or format; it is not used", path)
                return None
            keys, values, kept = tensors["keys"], tensors["values"], tensors["ids"].tolist()
        except (SafetensorError, KeyError, UnicodeDecodeError) as error:
            logger.warning("prompt file %s holds no prompt (%s); it is not used", path, error)
            return None
        path.touch()
        self._written[path] = tensors["ids"]
        return kept, [(k, v) for k, v in zip(keys[:, None], values[:, None], strict=True)]

    def save(self, ids: Sequence[int], adapter: str, layers: Layers) -> None:
        """Keep a prompt, in place of the one that began like it, if there is enough new in it.

        A disk that refuses is a line in the log.
        """
        import torch
        from safetensors.torch import save

        path, tokens = self.file(ids, adapter), torch.tensor(ids, dtype=torch.int32)
        known = common(self._written[path], tokens) if path in self._written and path.is_file() else 0
        if len(ids) < SHORTEST or len(ids) - known < _NEWS:
            return
        body = save(
            {
                "ids": tokens,
                "keys": torch.cat([keys for keys, _ in layers]).to("cpu", torch.float16),
                "values": torch.cat([values for _, values in layers]).to("cpu", torch.float16),
                "stamp": torch.frombuffer(bytearray(self._stamp(adapter).encode()), dtype=torch.uint8),
            }
        )
        temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                file.write(hashlib.sha256(body).digest())
                file.write(body)
            os.replace(temporary, path)  # a reader sees the old file or the new one
            self._written[path] = tokens
            self._trim()
        except OSError as error:
            with suppress(OSError):
                temporary.unlink()
            logger.warning("prompt file %s could not be written (%s)", path, error)

    def _stamp(self, adapter: str) -> str:
        return f"{FORMAT} {self._model} {adapter}"

    def _trim(self) -> None:
        files = sorted((f.stat().st_mtime, f.stat().st_size, f) for f in self._folder.glob("*.prefix*"))
        size = sum(bytes_ for _, bytes_, _ in files)
        for _, bytes_, file in files[:-1]:
            if size <= self._limit:
                return
            file.unlink(missing_ok=True)
            size -= bytes_
