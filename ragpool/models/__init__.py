"""Chat models, embedders and adapters from settings.

``load_chat`` and ``load_embedder`` are the way in; ``local_model`` is the LocalModel behind the settings,
loaded once a process, so that chat, planner and reader share one base model. Importing this package
imports neither torch nor LangChain.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from ragpool.errors import SettingsError
from ragpool.kvcache import KVChoice
from ragpool.kvcache.choice import AUTO
from ragpool.models.decoding import Completion, Generation
from ragpool.models.embedder import Embedder
from ragpool.models.local import LocalModel
from ragpool.models.remote import is_transient, open_remote
from ragpool.models.resolve import EMBEDDED, Kind, Resolved, is_provider, resolve

if TYPE_CHECKING:
    from pathlib import Path

    from langchain_core.language_models import BaseChatModel

    from ragpool.models.chat import LocalChat
    from ragpool.models.spans import SpanModel
    from ragpool.settings import KVSettings, ModelSettings

__all__ = [
    "EMBEDDED",
    "Completion",
    "Embedder",
    "Generation",
    "Kind",
    "LocalChat",
    "LocalModel",
    "Resolved",
    "is_transient",
    "kv_choice",
    "load_chat",
    "load_embedder",
    "local_model",
    "resolve",
    "span_model",
    "unload",
    "with_kv",
]

logger = logging.getLogger(__name__)

_T = TypeVar("_T")
_N = TypeVar("_N", str, "Path")
_loaded: dict[tuple[object, ...], Any] = {}
_lock = threading.Lock()


def __getattr__(name: str) -> Any:
    if name == "LocalChat":  # its base class is LangChain's, a second of imports
        from ragpool.models.chat import LocalChat

        return LocalChat
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def load_chat(settings: ModelSettings) -> BaseChatModel:
    """The chat model of the settings: a LocalChat, or the provider's own class for ``provider:model``.

    Raises SettingsError or MissingExtraError with the next step, ModelError when it cannot be read.
    """
    local = local_model(settings)
    if local is None:
        return open_remote(settings.chat, settings)
    from ragpool.models.chat import LocalChat

    return LocalChat(local=local, temperature=settings.temperature, prefix_folder=settings.prefix_folder)


def kv_choice(settings: KVSettings, heads: Path | None = None) -> KVChoice | None:
    """What ``generator.kv`` asks of a local model; None when it is off. ``heads``: a folder of head tables of one's own."""
    choice = KVChoice(**settings.model_dump(), heads=heads)
    return choice if choice.evicts else None


def with_kv(chat: BaseChatModel, settings: KVSettings, heads: Path | None = None) -> BaseChatModel:
    """``chat``, compressing the caches of its long prompts as ``generator.kv`` says.

    Raises SettingsError when that is not a model in this process (``auto`` means off there).
    """
    from ragpool.models.chat import LocalChat

    choice = kv_choice(settings, heads)
    if choice is None:
        return chat
    if isinstance(chat, LocalChat):
        return chat.model_copy(update={"kv": choice})
    if choice.method == AUTO:
        return chat
    raise SettingsError(
        f"generator.kv = {choice} needs a local model; leave it off with a model behind an API"
    )


def local_model(settings: ModelSettings) -> LocalModel | None:
    """The model in memory behind ``settings.chat``, the same object for every caller; None for a remote one."""
    if is_provider(settings.chat):
        return None
    return _once(LocalModel.load, settings.chat, settings)


def load_embedder(settings: ModelSettings) -> Embedder:
    """The embedder of the settings, the same object for every caller."""
    return _once(Embedder.load, settings.embedder, settings)


def span_model(folder: Path, settings: ModelSettings) -> SpanModel:
    """The span reader of ``folder``, the same object for every caller. Raises ModelError when it cannot be read."""
    from ragpool.models.spans import SpanModel

    return _once(SpanModel.load, folder, settings)


def unload() -> None:
    """Let go of every model that was loaded here; memory is free once nobody else holds one. The next use loads again."""
    with _lock:
        _loaded.clear()


def _once(load: Callable[[_N, ModelSettings], _T], name: _N, settings: ModelSettings) -> _T:
    key = (load, name, settings.device, settings.dtype, settings.cache)
    with _lock:
        if key not in _loaded:
            _loaded[key] = load(name, settings)
            logger.info("loaded %s on %s", name, settings.device)
        loaded: _T = _loaded[key]
        return loaded
