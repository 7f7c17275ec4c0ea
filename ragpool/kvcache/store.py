"""Caches on disk: 16-bit floats, a checksum, and a stamp that says for which model and prompt they are."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ragpool.kvcache.evicted import held_layers

if TYPE_CHECKING:
    from transformers import Cache, DynamicCache

logger = logging.getLogger(__name__)

_FORMAT = "ragpool-kv-1"


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a saved cache belongs to. A file whose stamp differs in anything is not used.

    model: name and version of the weights. layout: the caller's version of its prompt form. ids: the tokens that the
    cache holds. adapter: name and version of the adapter that computed it, if any.
    """

    model: str
    layout: str
    ids: tuple[int, ...]
    adapter: str = ""

    @property
    def key(self) -> str:
        """16 hex digits: a file name for this stamp."""
        return hashlib.sha256(json.dumps(self._fields()).encode()).hexdigest()[:16]

    def _fields(self) -> dict[str, str]:
        ids = hashlib.sha256(",".join(map(str, self.ids)).encode()).hexdigest()
        return {"model": self.model, "layout": self.layout, "ids": ids, "adapter": self.adapter}


def nbytes(cache: Cache) -> int:
    """Bytes of the keys and values that a cache holds."""
    return sum(
        getattr(layer, "nbytes", None) or layer.keys.nbytes + layer.values.nbytes
        for layer in held_layers(cache)
        if getattr(layer, "keys", None) is not None
    )


def save_cache(cache: Cache, path: Path, stamp: Stamp) -> None:
    """Write the keys and values of an uncompressed cache as float16, in one step: a reader sees all or nothing.

    Half precision is about 1e-3 of a key: logits move by as little, and only files carry it. A bfloat16 cache stays
    exact, for it is stored as it is. Raises OSError when the disk says so.
    """
    from safetensors.torch import save

    tensors = {}
    for number, layer in enumerate(held_layers(cache)):
        for name, tensor in (("k", layer.keys), ("v", layer.values)):
            stored = tensor if tensor.dtype == torch.bfloat16 else tensor.half()
            tensors[f"{number}.{name}"] = stored.contiguous().cpu()
    body = save(tensors)
    dtype = str(held_layers(cache)[0].keys.dtype).removeprefix("torch.")
    header = {
        **stamp._fields(),
        "format": _FORMAT,
        "dtype": dtype,
        "sha256": hashlib.sha256(body).hexdigest(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, scratch = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(json.dumps(header).encode() + b"\n")
            file.write(body)
        os.replace(scratch, path)
    except BaseException:
        Path(scratch).unlink(missing_ok=True)
        raise


def load_cache(path: Path, stamp: Stamp, device: torch.device | str = "cpu") -> DynamicCache | None:
    """The cache of a file that ``save_cache`` wrote for the same stamp, else None: what is wrong with it is logged."""
    from safetensors import SafetensorError
    from safetensors.torch import load
    from transformers import DynamicCache

    try:
        line, _, body = path.read_bytes().partition(b"\n")
        header: dict[str, Any] = json.loads(line)
        reason = _mismatch(header, stamp, body)
        if reason is None:
            tensors = load(body)
            dtype = getattr(torch, header["dtype"])
            cache = DynamicCache()
            for number in range(len(tensors) // 2):
                keys, values = (tensors[f"{number}.{name}"].to(device, dtype) for name in "kv")
                cache.update(keys, values, number)
            if cache.get_seq_length() == len(stamp.ids):
                return cache
            reason = f"it holds {cache.get_seq_length()} tokens, not {len(stamp.ids)}"
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, AttributeError, TypeError, SafetensorError) as error:
        reason = f"it is damaged ({type(error).__name__})"
    logger.warning("the saved cache %s is not used: %s; it will be computed again", path.name, reason)
    return None


def _mismatch(header: dict[str, Any], stamp: Stamp, body: bytes) -> str | None:
    if header.get("format") != _FORMAT:
        return f"it has the format {header.get('format')}, not {_FORMAT}"
    differing: Sequence[str] = [name for name, value in stamp._fields().items() if header.get(name) != value]
    if differing:
        return f"it is of another {' and '.join(differing)}"
    if header.get("sha256") != hashlib.sha256(body).hexdigest():
        return "its checksum is wrong"
    return None
