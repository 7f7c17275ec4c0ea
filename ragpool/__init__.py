"""ragpool: answers over your own documents, from a pool of evidence that is judged before anything is written."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_PUBLIC = {
    "RagPool": "ragpool.sdk",
    "Settings": "ragpool.settings",
    "Answer": "ragpool.types",
    "AnswerStatus": "ragpool.types",
    "Citation": "ragpool.types",
    "Document": "ragpool.types",
    "Evidence": "ragpool.types",
    "Hit": "ragpool.types",
    "Judgement": "ragpool.types",
    "Passage": "ragpool.types",
    "StopReason": "ragpool.types",
    "RagpoolError": "ragpool.errors",
}

__all__ = ["__version__", *_PUBLIC]

if TYPE_CHECKING:
    from ragpool.errors import RagpoolError as RagpoolError
    from ragpool.sdk import RagPool as RagPool
    from ragpool.settings import Settings as Settings
    from ragpool.types import Answer as Answer
    from ragpool.types import AnswerStatus as AnswerStatus
    from ragpool.types import Citation as Citation
    from ragpool.types import Document as Document
    from ragpool.types import Evidence as Evidence
    from ragpool.types import Hit as Hit
    from ragpool.types import Judgement as Judgement
    from ragpool.types import Passage as Passage
    from ragpool.types import StopReason as StopReason


def __getattr__(name: str) -> Any:
    """Public names load their module at first use, so that ``ragpool --help`` stays fast."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'ragpool' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)
