"""The MCP server through the official client: standard input and output in a process of its own, and HTTP."""

from __future__ import annotations

import socket
import sys
import threading
import time
from pathlib import Path

import pytest
import uvicorn
from fakes import HashEmbedder
from mcp import Client, StdioServerParameters
from scripted import CAPITALS, FOUNDERS, build_store, open_rag, question
from served import Served, StreamingChat

from ragpool.serve.mcp import make_mcp

FOUNDER = FOUNDERS[CAPITALS["Ardona"]]
HERE = Path(__file__).parent


async def drive(client: Client) -> None:
    tools = {tool.name: tool for tool in (await client.list_tools()).tools}
    assert set(tools) == {"search", "ask", "pool_show"}
    assert all(tool.annotations and tool.annotations.read_only_hint for tool in tools.values())
    found = await client.call_tool("search", {"query": "capital of Ardona", "k": 2})
    assert found.structured_content["passages"][0]["document_id"] == "Ardona"
    said: list[str] = []

    async def progress(done: float, total: float | None, message: str | None) -> None:
        said.append(message or "")

    result = await client.call_tool("ask", {"question": question("Ardona")}, progress_callback=progress)
    answer = result.structured_content
    assert (answer["answer"], answer["status"]) == (FOUNDER, "answered")
    assert answer["citations"][0]["document_id"] == CAPITALS["Ardona"]
    assert any("judged" in line for line in said)
    shown = await client.call_tool("pool_show", {"run_id": answer["run_id"]})
    assert shown.structured_content["pool"]["question"] == question("Ardona")
    unknown = await client.call_tool("pool_show", {"run_id": "0" * 32})
    assert unknown.is_error


async def test_standard_input_and_output(tmp_path: Path) -> None:
    build_store(tmp_path / "store", HashEmbedder())
    program = StdioServerParameters(
        command=sys.executable, args=[str(HERE / "mcp_stdio.py"), str(tmp_path / "store")]
    )
    async with Client(program) as client:
        await drive(client)


async def test_streamable_http(tmp_path: Path) -> None:
    embedder = HashEmbedder()
    build_store(tmp_path / "store", embedder)
    with socket.socket() as listening, open_rag(tmp_path / "store", StreamingChat(), embedder) as rag:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(make_mcp(rag).streamable_http_app(), log_level="warning"))
        listening.listen()
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            async with Client(f"http://127.0.0.1:{listening.getsockname()[1]}/mcp") as client:
                await drive(client)
        finally:
            server.should_exit = True
            thread.join(20)


async def test_a_pool_of_an_api_key_is_not_shown(shared: Served) -> None:
    body = {"model": "ragpool-low", "messages": [{"role": "user", "content": question("Ardona")}]}
    run_id = shared.http.post("/v1/chat/completions", json=body).json()["ragpool"]["run_id"]
    async with Client(make_mcp(shared.rag)) as client:
        shown = await client.call_tool("pool_show", {"run_id": run_id})
    assert shown.is_error


@pytest.mark.parametrize(
    "arguments", [{}, {"query": ""}, {"query": "x", "k": 0}, {"query": "x", "mode": "y"}]
)
async def test_wrong_arguments_are_errors_not_crashes(shared: Served, arguments: dict[str, object]) -> None:
    async with Client(make_mcp(shared.rag)) as client:
        assert (await client.call_tool("search", arguments)).is_error
