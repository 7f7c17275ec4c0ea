"""LocalChat beyond LangChain's suites, and chat models behind an API (a real server on this machine)."""

from __future__ import annotations

import asyncio
import functools
import gc
import json
import threading
import time
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import tiny
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, SystemMessage, ToolMessage
from pydantic import ValidationError

from ragpool.errors import (
    ContextLengthError,
    MissingExtraError,
    ModelError,
    SettingsError,
    TransientModelError,
)
from ragpool.models import LocalChat, LocalModel, is_transient, load_chat, local_model, unload
from ragpool.settings import ModelSettings

# ---- LocalChat


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LocalModel:
    return LocalModel.load(str(tiny.save(tmp_path_factory.mktemp("tiny"))), ModelSettings())


@pytest.fixture
def chat(model: LocalModel) -> LocalChat:
    return LocalChat(local=model, max_tokens=20)


@functools.cache
def endless(model: LocalModel) -> str:
    """A message on which the tiny model writes at least 60 tokens."""
    for number in range(200):
        message = f"message {number}"
        rendered = model.render([{"role": "user", "content": message}])
        if model.complete(rendered, max_new_tokens=60).finish_reason == "length":
            return message
    raise AssertionError("no long generation found")


def test_load_chat_shares_the_model_in_memory(tmp_path: Path) -> None:
    settings = ModelSettings(chat=str(tiny.save(tmp_path / "m")), temperature=0.5)
    loaded = load_chat(settings)
    assert isinstance(loaded, LocalChat)
    assert loaded.local is local_model(settings)
    assert loaded.temperature == 0.5


def test_unloaded_models_leave_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ragpool.models._loaded", {})  # those of other tests stay
    settings = ModelSettings(chat=str(tiny.save(tmp_path / "m")))
    loaded = weakref.ref(local_model(settings))
    unload()
    gc.collect()
    assert loaded() is None
    assert local_model(settings) is not None


async def test_every_way_in_gives_the_same(chat: LocalChat, model: LocalModel) -> None:
    messages = [SystemMessage("be brief"), HumanMessage("the ship")]
    prompt = f"{tiny.START}system\nbe brief{tiny.END}\n{tiny.START}user\nthe ship{tiny.END}\n{tiny.START}assistant\n"
    expected = model.complete(prompt, max_new_tokens=20)

    replies = [chat.invoke(messages), await chat.ainvoke(messages), *chat.batch([messages, messages])]
    streamed, astreamed = AIMessageChunk(""), AIMessageChunk("")
    for chunk in chat.stream(messages):
        streamed += chunk
    async for chunk in chat.astream(messages):
        astreamed += chunk
    for reply in [*replies, streamed, astreamed]:
        assert isinstance(reply, AIMessage)
        assert reply.content == expected.text
        assert reply.usage_metadata is not None
        assert reply.usage_metadata["input_tokens"] == expected.prompt_tokens
        assert reply.usage_metadata["output_tokens"] == expected.completion_tokens
        assert reply.response_metadata["finish_reason"] == expected.finish_reason
        assert reply.response_metadata["logprob"] == expected.logprob
        assert reply.response_metadata["model_name"] == model.version


def test_options_of_a_call(chat: LocalChat, model: LocalModel, tmp_path: Path) -> None:
    text = str(chat.invoke("the ship").content)
    assert chat.invoke("the ship", stop=[text[1]]).content == text[: text.index(text[1])]
    assert chat.bind(max_tokens=2).invoke("the ship").usage_metadata["output_tokens"] <= 2  # type: ignore[index]
    hot = chat.bind(temperature=2.0, seed=3)
    assert hot.invoke("the ship").content == hot.invoke("the ship").content
    if "one" not in model.adapters:
        model.load_adapter("one", tiny.save_lora(tmp_path / "one", 1))
    assert chat.invoke("the ship", adapter="one").content != text
    assert chat.invoke("the ship").content == text


async def test_a_batch_is_decoded_together(model: LocalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    chat = LocalChat(local=model, max_tokens=12)
    messages: list[Any] = ["the ship", "another one", "the ship"]
    alone = [str(chat.invoke(message).content) for message in messages]
    batches: list[int] = []
    complete_batch = model.complete_batch

    def counted(prompts: list[str], **options: Any) -> Any:
        batches.append(len(prompts))
        return complete_batch(prompts, **options)

    monkeypatch.setattr(model, "complete_batch", counted)
    assert [reply.content for reply in chat.batch(messages)] == alone
    assert [reply.content for reply in await chat.abatch(messages)] == alone
    assert batches == [2, 2]  # the same message twice is decoded once
    stop = alone[0][1]
    assert chat.batch(messages, stop=[stop])[0].content == alone[0][: alone[0].index(stop)]
    assert [reply.content for reply in chat.batch(messages, max_tokens=1)] != alone
    # an error belongs to its own input
    long = "x" * 250
    first, second = chat.batch(["the ship", long], return_exceptions=True)
    assert first.content == alone[0]
    assert isinstance(second, ContextLengthError)
    with pytest.raises(SettingsError, match="has no option"):
        chat.batch(messages, tools=[])


def test_logprobs_come_as_openai_writes_them(chat: LocalChat) -> None:
    plain = chat.invoke("the ship")
    listed = chat.invoke("the ship", logprobs=True, top_logprobs=2)
    assert "logprobs" not in plain.response_metadata
    content = listed.response_metadata["logprobs"]["content"]
    assert len(content) == listed.usage_metadata["output_tokens"]  # type: ignore[index]
    written = "".join(entry["token"] for entry in content)
    assert written.replace(tiny.START, "").startswith(str(plain.content))  # special tokens are no text
    assert [len(entry["top_logprobs"]) for entry in content] == [2] * len(content)
    assert (
        chat.invoke("the ship", logprobs=True).response_metadata["logprobs"]["content"][0]["top_logprobs"]
        == []
    )


@pytest.mark.parametrize("option", [{"tools": []}, {"response": {}}, {"top_p": 0.5}, {"max_token": 3}])
def test_unknown_options_are_errors(chat: LocalChat, model: LocalModel, option: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="LocalChat has no option"):
        chat.invoke("x", **option)
    with pytest.raises(SettingsError, match="LocalChat has no option"):
        list(chat.stream("x", **option))
    with pytest.raises(ValidationError):
        LocalChat(local=model, **option)


@pytest.mark.parametrize(
    "message",
    [
        HumanMessage([{"type": "image", "url": "file.png"}]),
        ToolMessage("4", tool_call_id="1"),
        AIMessage("", tool_calls=[{"name": "add", "args": {}, "id": "1"}]),
    ],
)
def test_what_is_not_text_is_an_error(chat: LocalChat, message: Any) -> None:
    with pytest.raises(SettingsError, match="LocalChat"):
        chat.invoke([HumanMessage("x"), message])


def test_text_blocks_are_text(chat: LocalChat) -> None:
    blocks = HumanMessage([{"type": "text", "text": "the "}, "ship"])
    assert chat.invoke([blocks]).content == chat.invoke("the ship").content


async def test_context_that_does_not_fit(chat: LocalChat) -> None:
    # 36 tokens of template around 250, 20 of reply, 256 of context
    with pytest.raises(ContextLengthError, match=r"shorten the context by \d+ tokens"):
        chat.invoke("x" * 250)
    with pytest.raises(ContextLengthError):
        await chat.ainvoke("x" * 250)
    with pytest.raises(ContextLengthError):
        next(chat.stream("x" * 250))


async def test_cancelled_call_stops_generating(model: LocalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    message = endless(model)
    steps = 0
    forward = model._forward

    def counted(*args: Any, **options: Any) -> Any:
        nonlocal steps
        steps += 1
        time.sleep(0.02)
        return forward(*args, **options)

    monkeypatch.setattr(model, "_forward", counted)
    task = asyncio.create_task(LocalChat(local=model, max_tokens=60).ainvoke(message))
    while steps < 3:
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    stopped_at = steps
    await asyncio.sleep(0.2)
    assert steps <= stopped_at + 1
    assert steps < 60


def test_timeout_is_kept(model: LocalModel) -> None:
    impatient = LocalChat(local=model, max_tokens=60, timeout=1e-9)
    with pytest.raises(ModelError, match="raise timeout"):
        impatient.invoke(endless(model))


def test_tokens_are_counted_by_the_models_own_tokenizer(chat: LocalChat) -> None:
    assert chat.get_num_tokens("the ship") == len(tiny.tokenizer()("the ship")["input_ids"]) == 7


# ---- models behind an API


@dataclass
class Server:
    """A small chat completions server; ``statuses`` are given out first, then 200."""

    url: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    code: str = ""
    delay: float = 0.0


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            state.requests.append({"path": self.path, "key": self.headers["Authorization"], **body})
            time.sleep(state.delay)
            status = state.statuses.pop(0) if state.statuses else 200
            reply = _completion(body) if status == 200 else {"error": {"message": "no", "code": state.code}}
            data = json.dumps(reply).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.send_header("retry-after-ms", "1")
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        state.url = f"http://127.0.0.1:{running.server_port}/v1"
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield state
        running.shutdown()
        thread.join()


def _completion(body: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": body["model"],
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": f"echo: {body['messages'][-1]['content']}"},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7},
    }


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def test_openai_compatible_server(server: Server) -> None:
    settings = ModelSettings(chat=f"openai:qwen2.5:3b@{server.url}", temperature=0.25, api_key="secret")  # type: ignore[arg-type]
    reply = load_chat(settings).invoke("hello")
    assert reply.content == "echo: hello"
    assert reply.usage_metadata is not None
    assert reply.usage_metadata["total_tokens"] == 7
    (request,) = server.requests
    assert request["path"] == "/v1/chat/completions"
    assert request["model"] == "qwen2.5:3b"
    assert request["temperature"] == 0.25
    assert request["key"] == "Bearer secret"
    assert "secret" not in repr(settings)


def test_own_server_needs_no_key(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_chat(ModelSettings(chat=f"openai:m@{server.url}")).invoke("x").content == "echo: x"
    monkeypatch.setenv("OPENAI_API_KEY", "from-the-environment")
    load_chat(ModelSettings(chat=f"openai:m@{server.url}")).invoke("x")
    assert [request["key"] for request in server.requests] == ["Bearer none", "Bearer from-the-environment"]


def test_a_passing_failure_is_retried(server: Server) -> None:
    server.statuses = [429, 503]
    assert load_chat(ModelSettings(chat=f"openai:m@{server.url}")).invoke("x").content == "echo: x"
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("status", "code", "transient"),
    [
        (429, "", True),
        (500, "", True),
        (503, "", True),
        (408, "", True),
        (400, "", False),
        (401, "", False),
        (404, "", False),
        (429, "insufficient_quota", False),
    ],
)
def test_status_decides_what_is_transient(server: Server, status: int, code: str, transient: bool) -> None:
    server.statuses, server.code = [status] * 3, code
    with pytest.raises(Exception, match=str(status)) as caught:
        load_chat(ModelSettings(chat=f"openai:m@{server.url}")).invoke("x")
    assert is_transient(caught.value) is transient


def test_timeouts_and_refused_connections_are_transient(server: Server) -> None:
    server.delay = 1.0  # long enough on a busy machine too
    slow = load_chat(ModelSettings(chat=f"openai:m@{server.url}", timeout=0.05))
    with pytest.raises(Exception, match=r"(?i)timed out") as caught:
        slow.invoke("x")
    assert is_transient(caught.value)
    with pytest.raises(Exception, match="Connection error") as refused:
        load_chat(ModelSettings(chat="openai:m@http://127.0.0.1:9/v1")).invoke("x")
    assert is_transient(refused.value)


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (TransientModelError("later"), True),
        (ConnectionResetError(), True),
        (TimeoutError(), True),
        (httpx.ReadTimeout("slow"), True),
        (httpx.ConnectError("refused"), True),
        (httpx.RemoteProtocolError("cut off"), True),
        (httpx.UnsupportedProtocol("ftp"), False),
        (ModelError("broken"), False),
        (ContextLengthError("too long"), False),
        (ValueError("x"), False),
        (FileNotFoundError("x"), False),
    ],
)
def test_which_errors_are_transient(error: Exception, transient: bool) -> None:
    assert is_transient(error) is transient
    wrapped = RuntimeError("wrapped")
    wrapped.__cause__ = error
    assert is_transient(wrapped) is transient


def test_missing_provider_package_names_its_command() -> None:
    with pytest.raises(MissingExtraError, match="pip install langchain-ollama"):
        load_chat(ModelSettings(chat="ollama:qwen2.5"))


def test_unknown_provider_and_missing_key() -> None:
    with pytest.raises(SettingsError, match="nobody:model"):
        load_chat(ModelSettings(chat="nobody:model"))
    with pytest.raises(SettingsError, match=r"models\.api_key"):
        load_chat(ModelSettings(chat="openai:gpt"))
    with pytest.raises(SettingsError, match="names no model"):
        load_chat(ModelSettings(chat="openai:@http://127.0.0.1/v1"))
