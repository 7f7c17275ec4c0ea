"""A real server on loopback over the small world of tests/flows/scripted.py, in a thread, for as long as a block."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from fakes import HashEmbedder
from langchain_core.messages import AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk
from pydantic import PrivateAttr
from scripted import ScriptedChat, build_store, open_rag, settings

from ragpool.sdk import RagPool
from ragpool.serve.options import ServeOptions
from ragpool.serve.run import Server, make_server
from ragpool.serve.services import Services


class Gate:
    """Holds a model back until ``open``; counts the calls that have come to it."""

    def __init__(self) -> None:
        self._open = threading.Event()
        self.calls = 0
        self.open()

    def close(self) -> None:
        self._open.clear()

    def open(self) -> None:
        self._open.set()

    def wait(self) -> None:
        self.calls += 1
        if not self._open.wait(timeout=30):
            raise TimeoutError("nobody opened the gate")


class StreamingChat(ScriptedChat):
    """ScriptedChat that streams its answers word by word. Follow-ups it rewrites by "she" -> the last name it said."""

    pause: float = 0.0  # seconds before each word
    words: str = ""  # said in place of every answer
    _gate: Gate = PrivateAttr(default_factory=Gate)

    @property
    def gate(self) -> Gate:
        return self._gate

    def _generate(self, *args: Any, **kwargs: Any) -> Any:
        self._gate.wait()
        return super()._generate(*args, **kwargs)

    def _reply(self, prompt: str) -> str:
        if prompt.startswith("Rewrite"):
            question = prompt.rpartition("Last question: ")[2].splitlines()[0]
            said = prompt.rpartition("A: ")[2].splitlines()[0]
            return question.replace(" he ", f" {said} ")
        if self.words and prompt.startswith("You answer"):
            return self.words
        return super()._reply(prompt)

    def _stream(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        message = self._generate(messages, stop, run_manager, **kwargs).generations[0].message
        pieces = message.text.split(" ")
        for n, word in enumerate(pieces):
            time.sleep(self.pause)
            self._gate.wait()
            text = word if n == len(pieces) - 1 else f"{word} "
            usage = message.usage_metadata if n == 0 else None
            yield ChatGenerationChunk(message=AIMessageChunk(text, usage_metadata=usage))


@dataclass
class Served:
    """A running server: its address, its parts, and a plain HTTP client."""

    url: str
    rag: RagPool
    chat: StreamingChat
    server: Server
    http: httpx.Client

    @property
    def parts(self) -> Services:
        found: Services = self.server.app.state.services
        return found

    def key(self, name: str = "someone") -> str:
        return self.parts.keys.create(name)[1]

    def events(self, path: str, body: dict[str, Any], **options: Any) -> list[tuple[str, dict[str, Any]]]:
        """All server-sent events of a POST as (name, data)."""
        with self.http.stream("POST", path, json=body, **options) as response:
            assert response.status_code == 200, response.read()
            return list(read_events(response))

    def eventually(self, check: Any, seconds: float = 60) -> None:
        """Wait until ``check`` holds."""
        end = time.monotonic() + seconds
        while not check():
            assert time.monotonic() < end, "it never came about"
            time.sleep(0.01)


def read_events(response: httpx.Response) -> Iterator[tuple[str, dict[str, Any]]]:
    name = "message"
    for line in response.iter_lines():
        if line.startswith("event: "):
            name = line[7:]
        elif line.startswith("data: "):
            yield name, ({} if line == "data: [DONE]" else json.loads(line[6:]))
            name = "message"


@contextmanager
def served(folder: Path, chat: StreamingChat | None = None, **options: Any) -> Iterator[Served]:
    """A server over the store in ``folder``, made when it is not there."""
    embedder = HashEmbedder()
    if not (folder / "ragpool.db").is_file():
        build_store(folder, embedder)
    chat = chat or StreamingChat()
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        chosen = ServeOptions(**{"port": port, "rate": 0, "drain": 5.0, **options})
        with open_rag(folder, chat, embedder, settings()) as rag:
            server = make_server(rag, chosen, log_level="warning")
            listening.listen(256)
            thread = threading.Thread(target=server.run, args=([listening],))
            thread.start()
            url = f"http://127.0.0.1:{port}"
            try:
                end = time.monotonic() + 20
                while not server.started:
                    assert thread.is_alive()
                    assert time.monotonic() < end
                    time.sleep(0.01)
                with httpx.Client(base_url=url, timeout=30) as http:
                    yield Served(url, rag, chat, server, http)
            finally:
                chat.gate.open()
                server.should_exit = True
                thread.join(30)
                assert not thread.is_alive()
