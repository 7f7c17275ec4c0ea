"""Models behind an API: opened through LangChain, and which of their errors are worth a retry."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ragpool.errors import MissingExtraError, SettingsError, TransientModelError
from ragpool.models.resolve import provider_parts

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

    from ragpool.settings import ModelSettings

MAX_RETRIES = 2
_EXTRAS = {"langchain_openai": "openai"}
_TRANSIENT_STATUS = frozenset({408, 409, 425, 429})

# classes by module root and name, since none of these packages needs to be installed
_CLIENTS = frozenset(
    {"httpx", "httpx2", "httpcore", "httpcore2", "openai", "anthropic", "requests", "urllib3", "aiohttp"}
)
_NETWORK_ERRORS = frozenset(
    {
        "TimeoutException", "NetworkError", "RemoteProtocolError", "ProxyError",  # httpx, httpcore
        "APIConnectionError", "APITimeoutError",  # openai, anthropic
        "ConnectionError", "Timeout", "ChunkedEncodingError",  # requests
        "TimeoutError", "ProtocolError", "NewConnectionError",  # urllib3
        "ClientConnectionError", "ClientPayloadError", "ServerTimeoutError",  # aiohttp
    }
)  # fmt: skip


def open_remote(name: str, settings: ModelSettings) -> BaseChatModel:
    """The LangChain chat model for ``provider:model[@base_url]``.

    Raises SettingsError for an unknown provider or a missing key, MissingExtraError with the install
    command when the provider's package is not there.
    """
    from langchain.chat_models import init_chat_model

    provider, model, base_url = provider_parts(name)
    options: dict[str, Any] = {
        "temperature": settings.temperature,
        "timeout": settings.timeout,
        "max_retries": MAX_RETRIES,
    }
    if settings.api_key is not None:
        options["api_key"] = settings.api_key
    elif provider == "openai" and base_url is not None and "OPENAI_API_KEY" not in os.environ:
        options["api_key"] = "none"  # vLLM, Ollama and llama.cpp want no key, but the client insists on one
    if base_url is not None:
        options["base_url"] = base_url
    try:
        chat: BaseChatModel = init_chat_model(model, model_provider=provider, **options)
    except ImportError as error:
        package = (error.name or f"langchain_{provider}").split(".")[0]
        raise MissingExtraError(
            package.replace("_", "-"), _EXTRAS.get(package), f"the model {name.partition('@')[0]}"
        ) from error
    except ValueError as error:
        raise SettingsError(f"models.chat = {name!r}: {(str(error).splitlines() or [''])[0]}") from error
    except Exception as error:
        # each provider's client reports a missing key with a class of its own
        if "api_key" in str(error).lower():
            raise SettingsError(
                f"models.chat = {name!r} needs a key: set models.api_key or the provider's variable"
            ) from error
        raise
    return chat


def is_transient(error: BaseException) -> bool:
    """Is this a network failure, a time-out, a rate limit or a server error, so that a retry may help?

    Looks through what the error was raised from; the outermost link that says anything decides. An
    exhausted quota is no rate limit.
    """
    return next((verdict for verdict in map(_verdict, _chain(error)) if verdict is not None), False)


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)


def _verdict(error: BaseException) -> bool | None:
    if isinstance(error, TransientModelError | ConnectionError | TimeoutError):
        return True
    status = getattr(error, "status_code", None)
    if status is None:
        status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(status, int):
        exhausted = getattr(error, "code", None) == "insufficient_quota"
        return (status in _TRANSIENT_STATUS and not exhausted) or status >= 500
    network = any(
        base.__module__.partition(".")[0] in _CLIENTS and base.__name__ in _NETWORK_ERRORS
        for base in type(error).__mro__
    )
    return True if network else None
