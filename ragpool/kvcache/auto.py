"""``auto``: whole prompts as long as they are short, compressed ones above, as strongly as memory demands."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ragpool.kvcache.choice import OFF, KVChoice

if TYPE_CHECKING:
    import torch

START = 4096  # tokens from which on a smaller cache also decodes noticeably faster
METHOD = "critic-rag"
LEAST, MOST = 0.5, 0.9
_SHARE = 0.25  # of the free memory one prompt's cache may take


def automatic(length: int, position_bytes: int, free_bytes: int, start: int = START) -> KVChoice:
    """The choice for a prompt of ``length`` tokens whose cache takes ``position_bytes`` a token.

    Off below ``start``. Above, half is evicted, and more (up to 0.9) when the rest would take over a quarter of the
    free memory.
    """
    if length < start:
        return KVChoice(OFF)
    fitting = free_bytes * _SHARE / max(length * position_bytes, 1)
    return KVChoice(METHOD, min(max(1 - fitting, LEAST), MOST), start=start)


def free_memory(device: torch.device) -> int:
    """Bytes that a cache could still take on a device."""
    import torch

    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):  # not known on this system
        return 1 << 32
