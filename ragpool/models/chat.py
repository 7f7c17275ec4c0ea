"""LocalChat: a LocalModel as a LangChain chat model."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import MappingProxyType
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.language_models.base import LangSmithParams
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable, RunnableConfig, run_in_executor
from pydantic import ConfigDict, Field, SecretStr

from ragpool.errors import ModelError, RagpoolError, SettingsError
from ragpool.kvcache import KVChoice
from ragpool.models.decoding import Completion, Generation, TokenLogprob
from ragpool.models.local import LocalModel
from ragpool.models.request import Options
from ragpool.models.structured import schema_of, structured

_ROLES = {"human": "user", "ai": "assistant", "system": "system"}
_CALL_OPTIONS = frozenset(
    {
        "adapter",
        "kv",
        "logprobs",
        "max_tokens",
        "response_format",
        "seed",
        "stream",
        "temperature",
        "top_logprobs",
    }
)
_DONE = object()
# what ``batch`` decoded together, by prompt, for the ``invoke`` of each input that it consists of
_TOGETHER: ContextVar[Mapping[str, Completion]] = ContextVar("ragpool_together", default=MappingProxyType({}))


class LocalChat(BaseChatModel):
    """A chat model that runs in this process.

    Sync and async, streaming, stop sequences, seeds and usage counts; text only, no tools. With
    ``with_structured_output`` or the option ``response_format`` (OpenAI's, json_schema or json_object) the reply follows a JSON
    schema. Cancelling an async call or leaving a stream ends the generation at the next token.
    The reply's ``response_metadata`` holds ``model_name`` (with version), ``finish_reason`` and
    ``logprob`` (mean of the generated tokens).

    Raises ContextLengthError when messages and ``max_tokens`` do not fit the model's context, and
    SettingsError for an option that it does not know, both before anything is generated.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    local: LocalModel = Field(exclude=True)
    temperature: float = Field(default=0.0, ge=0)
    max_tokens: int = Field(default=256, ge=1)
    stop: list[str] = Field(default_factory=list)
    seed: int | None = None
    adapter: str | None = None
    logprobs: bool = False  # of each token, in response_metadata["logprobs"] as OpenAI writes them
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    prefix_folder: Path | None = None  # long prompts are kept there, for the next process
    kv: KVChoice | None = None  # how a long prompt's cache is compressed
    timeout: float | None = Field(default=None, gt=0)  # seconds of one reply; checked between two tokens
    streaming: bool | None = None
    # accepted because every LangChain chat model takes them; there is nothing to retry and nobody to log in to
    max_retries: int = 0
    api_key: SecretStr | None = None

    @property
    def _llm_type(self) -> str:
        return "ragpool-local"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {
            "model_name": self.local.version,
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
            "seed": self.seed,
            "adapter": self.adapter,
        }

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop=stop or self.stop or None, **kwargs)
        params["ls_provider"] = "ragpool"
        params.setdefault("ls_model_name", self.local.version)
        return params

    def get_token_ids(self, text: str) -> list[int]:
        """The model's own tokens (LangChain's default would fetch another tokenizer)."""
        return list(self.local.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        generation = self._start(messages, stop, kwargs)
        for _ in self._pieces(generation):
            pass
        return self._result(generation.completion)

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        generation = await run_in_executor(None, self._start, messages, stop, kwargs)
        async for _ in _in_thread(self._pieces(generation)):
            pass
        return self._result(generation.completion)

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        generation = self._start(messages, stop, kwargs)
        for piece in filter(None, self._pieces(generation)):
            chunk = _chunk(piece)
            if run_manager:
                run_manager.on_llm_new_token(piece, chunk=chunk)
            yield chunk
        yield self._last(generation.completion)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        generation = await run_in_executor(None, self._start, messages, stop, kwargs)
        async for piece in _in_thread(self._pieces(generation)):
            if not piece:  # a step between two tokens
                continue
            chunk = _chunk(piece)
            if run_manager:
                await run_manager.on_llm_new_token(piece, chunk=chunk)
            yield chunk
        yield self._last(generation.completion)

    def batch(
        self,
        inputs: list[LanguageModelInput],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[AIMessage]:
        """The replies, decoded together; callbacks see one run for each, as with ``invoke``."""
        with self._decoded(inputs, kwargs):
            return super().batch(inputs, config, return_exceptions=return_exceptions, **kwargs)

    async def abatch(
        self,
        inputs: list[LanguageModelInput],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[AIMessage]:
        """``batch`` without blocking the event loop."""
        together = await run_in_executor(None, self._decode_together, inputs, kwargs)
        token = _TOGETHER.set(together)
        try:
            return await super().abatch(inputs, config, return_exceptions=return_exceptions, **kwargs)
        finally:
            _TOGETHER.reset(token)

    @contextmanager
    def _decoded(self, inputs: list[LanguageModelInput], options: dict[str, Any]) -> Iterator[None]:
        token = _TOGETHER.set(self._decode_together(inputs, options))
        try:
            yield
        finally:
            _TOGETHER.reset(token)

    def _decode_together(
        self, inputs: list[LanguageModelInput], options: dict[str, Any]
    ) -> dict[str, Completion]:
        """Completions by prompt; none for a call with an error in it, which each ``invoke`` then raises itself."""
        if len(inputs) < 2 or self.streaming or self.timeout is not None:
            return {}
        try:
            prompts = list(dict.fromkeys(self._prompt(self._convert_input(i).to_messages()) for i in inputs))
            rest = {name: value for name, value in options.items() if name != "stop"}
            together = self.local.complete_batch(prompts, **self._options(options.get("stop"), rest))
        except RagpoolError:
            return {}
        return dict(zip(prompts, together, strict=True))

    def with_structured_output(
        self,
        schema: dict[str, Any] | type,
        *,
        include_raw: bool = False,
        method: str = "json_schema",
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, Any]:
        """Replies as values of ``schema``: a pydantic class, a TypedDict or a JSON schema with a title.

        ``include_raw`` gives {"raw", "parsed", "parsing_error"} instead; a reply that max_tokens cut short does not parse.
        Only ``method`` "json_schema" is there, and it is always ``strict``. Needs the extra "structured" (llguidance).
        """
        if method != "json_schema" or kwargs:
            raise SettingsError(
                f"LocalChat makes structured output by json_schema alone, not {', '.join([method, *kwargs])}"
            )
        return structured(self, schema, include_raw)

    def _start(
        self, messages: list[BaseMessage], stop: list[str] | None, options: dict[str, Any]
    ) -> Generation:
        prompt = self._prompt(messages)
        done = _TOGETHER.get().get(prompt)
        if done is not None:
            return Generation(_finished(done))
        return self.local.stream(prompt, **self._options(stop, options))

    def _prompt(self, messages: list[BaseMessage]) -> str:
        return self.local.render([_message(message) for message in messages])

    def _options(self, stop: list[str] | None, options: dict[str, Any]) -> Options:
        if unknown := sorted(set(options) - _CALL_OPTIONS):
            raise SettingsError(
                f"LocalChat has no option {', '.join(unknown)}; it takes stop, {', '.join(sorted(_CALL_OPTIONS))}"
            )
        top = options.get("top_logprobs", self.top_logprobs)
        return Options(
            adapter=options.get("adapter", self.adapter),
            max_new_tokens=options.get("max_tokens", self.max_tokens),
            stop=self.stop if stop is None else stop,
            temperature=options.get("temperature", self.temperature),
            seed=options.get("seed", self.seed),
            prefix_folder=self.prefix_folder,
            kv=options.get("kv", self.kv),
            schema=None if (form := options.get("response_format")) is None else schema_of(form),
            top_logprobs=(top or 0) if top or options.get("logprobs", self.logprobs) else None,
        )

    def _pieces(self, generation: Generation) -> Iterator[str]:
        until = None if self.timeout is None else time.monotonic() + self.timeout
        for piece in generation:
            if until is not None and time.monotonic() > until:
                generation.close()
                raise ModelError(
                    f"{self.local.name} took over {self.timeout} s; raise timeout or lower max_tokens"
                )
            yield piece

    def _result(self, completion: Completion) -> ChatResult:
        message = AIMessage(
            content=completion.text,
            usage_metadata=_usage(completion),
            response_metadata=self._metadata(completion),
        )
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _last(self, completion: Completion) -> ChatGenerationChunk:
        return ChatGenerationChunk(
            message=AIMessageChunk(
                content="",
                usage_metadata=_usage(completion),
                response_metadata=self._metadata(completion),
                chunk_position="last",
            )
        )

    def _metadata(self, completion: Completion) -> dict[str, Any]:
        metadata = {
            "model_name": self.local.version,
            "finish_reason": completion.finish_reason,
            "logprob": completion.logprob,
        }
        if completion.plan is not None:
            metadata["kv"] = completion.plan.summary()
        if completion.logprobs is not None:
            metadata["logprobs"] = {"content": [_logprob(entry) for entry in completion.logprobs]}
        return metadata


def _finished(completion: Completion) -> Generator[str, None, Completion]:
    """The pieces of a completion that is there already."""
    yield completion.text
    return completion


def _logprob(entry: TokenLogprob) -> dict[str, Any]:
    top = [{"token": token, "logprob": logprob} for token, logprob in entry.top]
    return {"token": entry.token, "logprob": entry.logprob, "top_logprobs": top}


def _chunk(piece: str) -> ChatGenerationChunk:
    return ChatGenerationChunk(message=AIMessageChunk(content=piece))


async def _in_thread(pieces: Iterator[str]) -> AsyncIterator[str]:
    """Each step of ``pieces`` in an executor thread, so that the event loop stays free."""
    while (piece := await run_in_executor(None, next, pieces, _DONE)) is not _DONE:
        yield str(piece)


def _usage(completion: Completion) -> UsageMetadata:
    return UsageMetadata(
        input_tokens=completion.prompt_tokens,
        output_tokens=completion.completion_tokens,
        total_tokens=completion.prompt_tokens + completion.completion_tokens,
        input_token_details={"cache_read": completion.reused_tokens},
    )


def _message(message: BaseMessage) -> dict[str, str]:
    """A LangChain message as the chat template wants it. Raises SettingsError for what is not text."""
    role = _ROLES.get(message.type.removesuffix("MessageChunk").lower())
    if role is None or getattr(message, "tool_calls", None):
        raise SettingsError(
            f"LocalChat takes system, human and ai messages without tools, not {message.type}"
        )
    return {"role": role, "content": _text(message.content)}


def _text(content: str | Sequence[str | dict[Any, Any]]) -> str:
    if isinstance(content, str):
        return content
    parts = []
    for block in content:
        if isinstance(block, str):
            parts.append(block)
        elif block.get("type") == "text":
            parts.append(str(block["text"]))
        else:
            raise SettingsError(f"LocalChat reads text only, not {block.get('type')!r} content")
    return "".join(parts)
