"""Dequantised copies of GGUF files, so that only the first start pays for unpacking them.

Parsing the vocabulary and unpacking the tensors of a 98 MB file takes about 20 s, opening the copy under
one. A copy lives in a folder named after the sha256 of its GGUF file, with a manifest of sizes and
checksums; what does not match its manifest is built anew.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragpool.errors import ModelError
from ragpool.models.resolve import file_digest
from ragpool.models.runtime import quiet_transformers

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

LARGEST = 1 << 30  # bytes of GGUF; the copy of a larger one would fill a disk (it has up to 8 times the size)
_MANIFEST = "manifest.json"
_FORMAT = 2
_ALIGNMENT = 64


def cache_root(chosen: Path | None) -> Path:
    """``chosen``, or ragpool/models in the user's cache folder (XDG_CACHE_HOME or ~/.cache)."""
    if chosen is not None:
        return chosen.expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "ragpool" / "models"


def unpacked(file: Path, root: Path) -> Path | None:
    """The folder with the float32 copy of ``file``, in the Hugging Face format; built when missing or damaged.

    Safe with several processes at once: one builds, the others wait for it. None when no copy can be kept
    (the file is larger than LARGEST, or ``root`` cannot be written); the reason is logged.
    """
    from filelock import FileLock
    from safetensors import SafetensorError

    if file.stat().st_size > LARGEST:
        logger.info("%s is larger than %d bytes: read directly at each start", file.name, LARGEST)
        return None
    digest = file_digest(file)
    folder = root / digest
    if _intact(folder):
        return folder
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f"{digest}.lock"):
            if not _intact(folder):  # another process may have built it while we waited
                _build(file, root, digest)
    except (OSError, SafetensorError) as error:
        logger.warning(
            "no dequantised copy of %s could be kept in %s (%s): every start will take about 20 s longer; "
            "set models.cache to a folder that can be written",
            file.name, root, error,
        )  # fmt: skip
        return None
    return folder


def read_gguf(
    file: Path, dtype: torch.dtype, device: torch.device
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Model and tokenizer straight from the GGUF file: slow, and the reference for the copy."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, name = str(file.parent), file.name
    try:
        with quiet_transformers(), _no_unpacking_bar():
            tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name, local_files_only=True)
            model: Any = AutoModelForCausalLM.from_pretrained(
                folder, gguf_file=name, dtype=dtype, local_files_only=True
            )
    except (ValueError, OSError, KeyError) as error:
        raise ModelError(
            f"{file} could not be read as GGUF ({_line(error)}); check or replace the file"
        ) from error
    # the weights are plain now; with this entry transformers would treat a saved copy as quantised
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    return model.to(device), tokenizer


@contextmanager
def _no_unpacking_bar() -> Iterator[None]:
    # this one bar of transformers comes from tqdm itself and heeds none of its switches
    import transformers.modeling_gguf_pytorch_utils as module

    unpacking: Any = module
    shown = unpacking.tqdm
    unpacking.tqdm = partial(shown, disable=True)
    try:
        yield
    finally:
        unpacking.tqdm = shown


def _build(file: Path, root: Path, digest: str) -> None:
    import torch

    for leftover in root.glob(f".{digest}-*"):  # from a killed process: the lock is ours
        shutil.rmtree(leftover, ignore_errors=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{digest}-", dir=root))
    try:
        model, tokenizer = read_gguf(file, torch.float32, torch.device("cpu"))
        tokenizer.save_pretrained(scratch)
        model.config.save_pretrained(scratch)
        model.generation_config.save_pretrained(scratch)
        _save_aligned(model.state_dict(), scratch / "model.safetensors")
        files = {path.name: _fingerprint(path) for path in sorted(scratch.iterdir())}
        (scratch / _MANIFEST).write_text(json.dumps({**_stamp(), "files": files}, indent=1), encoding="utf-8")
        target = root / digest
        if target.exists():  # damaged, or of another version; a process that has it open keeps its files
            target.rename(root / f".{digest}-old")
        for path in scratch.iterdir():  # public weights: other users of a shared cache may read them
            path.chmod(0o644)
        scratch.chmod(0o755)
        scratch.rename(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        shutil.rmtree(root / f".{digest}-old", ignore_errors=True)


def _save_aligned(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """A safetensors file (8 bytes of header length, JSON header, data) whose data begins on a 64-byte boundary.

    The file is mapped into memory when it is opened, and matrix products round differently when their
    weights are not aligned to 16 bytes, as they are in memory of torch's own. Aligned, the copy computes bit
    for bit what the GGUF file does. The safetensors package aligns to 8 bytes only.
    """
    import torch

    names = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16", torch.int64: "I64"}
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    stored: list[torch.Tensor] = []
    seen: set[int] = set()
    end = 0
    for name, tensor in tensors.items():
        if tensor.data_ptr() in seen:  # tied weights are stored once, under their first name
            continue
        seen.add(tensor.data_ptr())
        start, end = end, end + tensor.nbytes
        header[name] = {
            "dtype": names[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
        stored.append(tensor)
    text = json.dumps(header).encode()
    text += b" " * (-(8 + len(text)) % _ALIGNMENT)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in stored:
            file.write(tensor.detach().contiguous().view(torch.uint8).numpy().data)


def _intact(folder: Path) -> bool:
    try:
        manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        files = manifest.pop("files")
        return bool(manifest == _stamp()) and all(
            _fingerprint(folder / name) == expected for name, expected in files.items()
        )
    except (OSError, ValueError, KeyError, AttributeError):  # missing, partial, or not our JSON
        return False


def _stamp() -> dict[str, Any]:
    from transformers import __version__

    return {"format": _FORMAT, "transformers": __version__}  # its conversion decides what the weights are


def _fingerprint(path: Path) -> list[int]:
    """Size and CRC-32: finds damage, at three times the speed of sha256."""
    check = 0
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            check = zlib.crc32(block, check)
    return [path.stat().st_size, check]


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
