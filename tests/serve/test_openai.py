"""The endpoint through the clients that people use: openai, LangChain, and plain HTTP for the bytes of a stream."""

from __future__ import annotations

import json
import time
from typing import Any

import openai
import pytest
from langchain_openai import ChatOpenAI
from scripted import CAPITALS, FOUNDERS, question
from served import Served

FOUNDER = FOUNDERS[CAPITALS["Ardona"]]


@pytest.fixture
def client(shared: Served) -> Any:
    with openai.OpenAI(base_url=f"{shared.url}/v1", api_key="none", max_retries=0) as opened:
        yield opened


def ask(country: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question(country)}]


def test_openai_client_gets_an_answer_with_annotations(client: openai.OpenAI) -> None:
    before = int(time.time())
    done = client.chat.completions.create(model="ragpool-medium", messages=ask("Ardona"))  # type: ignore[arg-type]
    message = done.choices[0].message
    assert message.content == FOUNDER
    [annotation] = message.annotations or []
    citation = annotation.url_citation
    assert message.content[citation.start_index : citation.end_index] == FOUNDER
    assert citation.title == CAPITALS["Ardona"]
    assert citation.url.startswith("http://127.0.0.1:")
    assert (done.object, done.choices[0].finish_reason, done.choices[0].index) == (
        "chat.completion",
        "stop",
        0,
    )
    assert before <= done.created <= time.time()
    assert done.usage is not None
    assert done.usage.total_tokens == done.usage.prompt_tokens + done.usage.completion_tokens > 0


def test_openai_client_streams(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="ragpool-low", messages=ask("Brevia"), stream=True, stream_options={"include_usage": True}  # type: ignore[arg-type]
    )  # fmt: skip
    chunks = list(stream)
    assert len({chunk.id for chunk in chunks}) == 1
    assert len({chunk.created for chunk in chunks}) == 1
    assert chunks[0].choices[0].delta.role == "assistant"
    assert all(choice.index == 0 for chunk in chunks for choice in chunk.choices)
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == FOUNDERS[CAPITALS["Brevia"]]
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert not chunks[-1].choices
    assert chunks[-1].usage is not None
    late = [c.choices[0].delta.model_extra for c in chunks if c.choices]
    [noted] = [extra["annotations"] for extra in late if extra and "annotations" in extra]
    assert noted[0]["url_citation"]["title"] == CAPITALS["Brevia"]


def test_stream_contract_on_the_wire(shared: Served) -> None:
    body = {"model": "ragpool-low", "messages": ask("Corvane"), "stream": True}
    with shared.http.stream("POST", "/v1/chat/completions", json=body) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in response.iter_lines() if line]
    assert all(line.startswith("data: ") for line in lines)
    assert lines[-1] == "data: [DONE]"
    chunks = [json.loads(line[6:]) for line in lines[:-1]]
    assert all(c["object"] == "chat.completion.chunk" and "usage" not in c for c in chunks)
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert [c["choices"][0]["finish_reason"] for c in chunks] == [None] * (len(chunks) - 1) + ["stop"]


def test_stream_and_whole_say_the_same(shared: Served) -> None:
    shared.chat.words = f"{FOUNDER} founded it [1], in 1999 [9]. So it is [2]."
    body = {"model": "ragpool-low", "messages": ask("Ardona")}
    whole = shared.http.post("/v1/chat/completions", json=body).json()["choices"][0]["message"]
    events = shared.events("/v1/chat/completions", {**body, "stream": True})
    deltas = [e["choices"][0]["delta"] for _, e in events if e]
    assert "".join(d.get("content", "") for d in deltas) == whole["content"]
    assert [d["annotations"] for d in deltas if "annotations" in d] == (
        [whole["annotations"]] if whole["annotations"] else []
    )
    assert "[9]" not in whole["content"]
    assert "[unverified]" in whole["content"]


def test_langchain_invokes_and_streams(shared: Served) -> None:
    chat = ChatOpenAI(base_url=f"{shared.url}/v1", api_key="none", model="ragpool-low", max_retries=0)  # type: ignore[arg-type]
    assert chat.invoke(question("Brevia")).text == FOUNDERS[CAPITALS["Brevia"]]
    pieces = list(chat.stream(question("Brevia")))
    assert "".join(p.text for p in pieces) == FOUNDERS[CAPITALS["Brevia"]]


def test_inline_sources(shared: Served) -> None:
    body = {"model": "ragpool-low", "messages": ask("Ardona"), "inline_sources": True}
    content = shared.http.post("/v1/chat/completions", json=body).json()["choices"][0]["message"]["content"]
    first, _, sources = content.partition("\n\nSources:\n")
    assert first.startswith(f"{FOUNDER} [")
    assert sources.startswith(f"{first[len(FOUNDER) + 1 :]} {CAPITALS['Ardona']} http")


def test_models_are_efforts(client: openai.OpenAI) -> None:
    names = [m.id for m in client.models.list()]
    assert {"ragpool-low", "ragpool-medium", "ragpool-high", "ragpool-high:single"} <= set(names)
    assert client.models.retrieve("ragpool-low").owned_by == "ragpool"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-4")


def test_single_is_one_search(shared: Served) -> None:
    for body in ({"model": "ragpool-low:single"}, {"model": "ragpool-low", "method": "single"}):
        done = shared.http.post("/v1/chat/completions", json={**body, "messages": ask("Ardona")}).json()
        pool = shared.http.get(f"/v1/pools/{done['ragpool']['run_id']}").json()
        assert [e["event"] for e in pool["events"]].count("pooled") == 1


def test_what_the_documents_do_not_say(shared: Served) -> None:
    asked = {"role": "user", "content": "Who was the founder of the capital of Nowhere?"}
    done = shared.http.post("/v1/chat/completions", json={"model": "ragpool-low", "messages": [asked]}).json()
    message = done["choices"][0]["message"]
    assert message["content"].startswith("The documents do not answer this.")
    assert "NOT FOUND" not in message["content"]
    assert message["annotations"] == []
    assert done["ragpool"]["status"] == "insufficient"


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"tools": []}, "tools"),
        ({"temperature": 1.5}, "temperature"),
        ({"n": 2}, "n"),
        ({"max_tokens": 5}, "max_tokens"),
        ({"response_format": {"type": "json_object"}}, "response_format.type"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "messages"),
        ({"messages": [{"role": "user", "content": "  "}]}, "messages"),
        ({"messages": [{"role": "user", "content": "x" * 5000}]}, "messages"),
        ({"conversation": "../x"}, "conversation"),
    ],
)
def test_what_is_not_supported_is_said(shared: Served, change: dict[str, Any], param: str) -> None:
    body = {"model": "ragpool-low", "messages": ask("Ardona"), **change}
    response = shared.http.post("/v1/chat/completions", json=body)
    error = response.json()["error"]
    assert (response.status_code, error["type"], error["param"]) == (400, "invalid_request_error", param)


def test_errors_have_openai_form_and_class(client: openai.OpenAI, shared: Served) -> None:
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="gpt-4", messages=ask("Ardona"))  # type: ignore[arg-type]
    with pytest.raises(openai.BadRequestError) as raised:
        client.chat.completions.create(model="ragpool-low", messages=ask("Ardona"), seed=1)  # type: ignore[arg-type]
    assert raised.value.param == "seed"
    assert shared.http.get("/v1/nothing").json()["error"]["type"] == "not_found_error"
    assert shared.http.get("/v1/chat/completions").status_code == 405
    image = [{"type": "image_url", "image_url": {"url": "data:"}}]
    body = {"model": "ragpool-low", "messages": [{"role": "user", "content": image}]}
    assert shared.http.post("/v1/chat/completions", json=body).status_code == 400
    assert shared.http.post("/v1/chat/completions", content=b"{").status_code == 400


def test_a_model_that_fails(shared: Served, client: openai.OpenAI) -> None:
    shared.chat.failures += [ConnectionError("no route to 10.1.2.3")] * 9
    with pytest.raises(openai.APIStatusError) as raised:
        client.chat.completions.create(model="ragpool-low", messages=ask("Ardona"))  # type: ignore[arg-type]
    assert raised.value.status_code in (500, 502, 503)
    shared.chat.failures[:] = [ConnectionError("no route to 10.1.2.3")] * 9
    stream = client.chat.completions.create(model="ragpool-low", messages=ask("Ardona"), stream=True)  # type: ignore[arg-type]
    with pytest.raises(openai.APIError):
        list(stream)
    shared.chat.failures.clear()


def test_a_conversation_shares_its_evidence_and_follow_ups_stand_alone(
    client: openai.OpenAI, shared: Served
) -> None:
    messages: list[Any] = ask("Ardona")
    first = client.chat.completions.create(model="ragpool-low", messages=messages)
    messages += [
        {"role": "assistant", "content": first.choices[0].message.content},
        {"role": "user", "content": "Which town had he as the founder of the capital of Ardona?"},
    ]
    second = client.chat.completions.create(model="ragpool-low", messages=messages)
    one, two = first.model_extra["ragpool"], second.model_extra["ragpool"]  # type: ignore[index]
    assert one["conversation"] == two["conversation"]
    turns = shared.http.get(f"/v1/conversations/{one['conversation']}").json()["turns"]
    assert [t["asked"] for t in turns] == [m["content"] for m in messages if m["role"] == "user"]
    assert FOUNDER in turns[1]["question"]
    pool = shared.rag.pools.pool(two["run_id"])
    assert {e.passage_id for e in pool.admitted} >= {
        e.passage_id for e in shared.rag.pools.pool(one["run_id"]).admitted
    }


def test_a_conversation_by_name(shared: Served) -> None:
    body = {"model": "ragpool-low", "messages": ask("Corvane")}
    named = [
        shared.http.post("/v1/chat/completions", json={**body, "metadata": {"conversation": "talk-7"}}),
        shared.http.post("/v1/chat/completions", json=body, headers={"X-Conversation-Id": "talk-7"}),
        shared.http.post("/v1/chat/completions", json={**body, "conversation": "talk-7"}),
    ]
    assert {r.headers["x-conversation-id"] for r in named} == {"talk-7"}
    assert len(shared.http.get("/v1/conversations/talk-7").json()["turns"]) == 3


def test_unknown_earlier_messages_make_the_same_conversation_each_time(shared: Served) -> None:
    earlier = [
        {"role": "user", "content": "Hello?"},
        {"role": "assistant", "content": "Hello from elsewhere."},
    ]
    body = {"model": "ragpool-low", "messages": [*earlier, *ask("Corvane")]}
    names = {
        shared.http.post("/v1/chat/completions", json=body).headers["x-conversation-id"] for _ in range(2)
    }
    assert len(names) == 1
    assert names.pop().startswith("d-")
