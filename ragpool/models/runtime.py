"""Where and how local models run: device, number type, threads, and silence while they load."""

from __future__ import annotations

import gc
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ragpool.errors import SettingsError

if TYPE_CHECKING:
    import torch

    from ragpool.settings import ModelSettings


def prepare_environment(allow_download: bool) -> None:
    """Keep the Hugging Face libraries quiet and off the network. To be called before they are imported.

    A variable that the user has set stays as it is.
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # else it warns after each fork
    if not allow_download:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")


def share_key_heads(device: torch.device) -> None:
    """On a CPU, read keys and values once for all query heads that share them, under a mask too.

    transformers repeats them there, block after block of a prompt: a quarter of the attention's time, for the same bits.
    On a GPU its way is the faster one. It looks at the variable at each call; the user's own value stays.
    """
    if device.type == "cpu":
        os.environ.setdefault("TRANSFORMERS_SDPA_FORCE_GQA", "1")


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """No progress bars and no warnings from transformers inside the block; the user's choice comes back."""
    from transformers.utils import logging as untyped

    logging: Any = untyped
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecations between these libraries, not for our users
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


@contextmanager
def paused_collection() -> Iterator[None]:
    """No garbage collection inside the block: importing and loading leave little garbage, and an eighth faster."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def pick_device(name: str) -> torch.device:
    """The torch device for the setting ``models.device``.

    Raises SettingsError when there is no such device on this machine.
    """
    import torch

    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    # torch reports an unknown name as RuntimeError, a build without CUDA as AssertionError
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise SettingsError(
            f"models.device = {name!r} cannot be used ({reason}); use auto, cpu, cuda or mps"
        ) from error
    return device


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """float32 on a CPU (bfloat16 is several times slower there), bfloat16 elsewhere, unless named."""
    import torch

    if name == "auto":
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[name]


def set_threads(settings: ModelSettings) -> None:
    """Apply ``models.threads``; torch has one such number for the whole process."""
    import torch

    if settings.threads is not None and torch.get_num_threads() != settings.threads:
        torch.set_num_threads(settings.threads)
