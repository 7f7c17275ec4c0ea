"""Structured output: whatever the model would rather say, its replies follow the schema."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Literal, TypedDict

import pytest
import tiny
from langchain_core.exceptions import OutputParserException
from langchain_core.messages import AIMessage
from pydantic import BaseModel, Field

from ragpool.errors import MissingExtraError, SettingsError
from ragpool.models import LocalChat, LocalModel, local_model
from ragpool.settings import ModelSettings


class Person(BaseModel):
    """A person."""

    name: str = Field(max_length=24)
    born: int = Field(ge=0, le=2100)
    kind: Literal["writer", "painter", "other"]


class Verdict(TypedDict):
    """Whether the evidence is enough."""

    complete: bool
    missing: str


ANSWERS: dict[str, Any] = {
    "title": "answers",
    "type": "object",
    "properties": {
        "answers": {
            "type": "array",
            "items": {"type": "string", "maxLength": 12},
            "minItems": 1,
            "maxItems": 3,
        },
        "sure": {"type": "boolean"},
    },
    "required": ["answers", "sure"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LocalModel:
    return LocalModel.load(str(tiny.save(tmp_path_factory.mktemp("tiny"))), ModelSettings())


@pytest.fixture
def chat(model: LocalModel) -> LocalChat:
    return LocalChat(local=model, max_tokens=180)


@pytest.fixture(scope="module")
def smollm() -> LocalChat:
    local = local_model(ModelSettings())
    assert local is not None
    return LocalChat(local=local, max_tokens=120)


QUESTIONS = ["Who wrote the book?", "Name a painter born in 1840.", "Is the evidence enough?", "<|im_end|> {"]


@pytest.mark.model
@pytest.mark.parametrize("question", QUESTIONS)
def test_a_real_model_follows_three_schemas(smollm: LocalChat, question: str) -> None:
    person = smollm.with_structured_output(Person).invoke(question)
    assert isinstance(person, Person)
    short = {"title": "verdict", "type": "object", "properties": {"complete": {"type": "boolean"}},
             "required": ["complete"], "additionalProperties": False}  # fmt: skip
    assert isinstance(smollm.with_structured_output(short).invoke(question)["complete"], bool)
    found = smollm.with_structured_output(ANSWERS).invoke(question)
    assert 1 <= len(found["answers"]) <= 3
    assert all(isinstance(answer, str) and len(answer) <= 12 for answer in found["answers"])
    assert isinstance(found["sure"], bool)


@pytest.mark.model
def test_a_batch_follows_the_schema_row_by_row_and_is_the_same_as_one_by_one(smollm: LocalChat) -> None:
    asked = smollm.with_structured_output(ANSWERS)
    together = asked.batch(QUESTIONS)
    assert together == [asked.invoke(question) for question in QUESTIONS]


@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_a_model_that_knows_nothing_follows_too(chat: LocalChat, temperature: float) -> None:
    asked = chat.model_copy(update={"temperature": temperature, "seed": 4})
    for question in QUESTIONS:
        person = asked.with_structured_output(Person).invoke(question)
        assert person.kind in ("writer", "painter", "other")
        assert 0 <= person.born <= 2100


async def test_streams_and_async_calls_follow_as_well(chat: LocalChat) -> None:
    bound = chat.bind(
        response_format={"type": "json_schema", "json_schema": {"name": "answers", "schema": ANSWERS}}
    )
    once = json.loads(str(bound.invoke("hello").content))
    assert json.loads("".join(str(piece.content) for piece in bound.stream("hello"))) == once
    reply = await bound.ainvoke("hello")
    assert json.loads(str(reply.content)) == once
    assert reply.response_metadata["finish_reason"] == "stop"


def test_json_object_is_any_object(chat: LocalChat) -> None:
    reply = chat.bind(response_format={"type": "json_object"}, max_tokens=40).invoke("hello")
    assert str(reply.content).startswith("{")


def test_raw_replies_and_what_does_not_parse(chat: LocalChat) -> None:
    raw = chat.with_structured_output(ANSWERS, include_raw=True).invoke("hello")
    assert isinstance(raw["raw"], AIMessage)
    assert raw["parsed"] == json.loads(str(raw["raw"].content))
    assert raw["parsing_error"] is None
    cut = (
        chat.model_copy(update={"max_tokens": 3})
        .with_structured_output(Person, include_raw=True)
        .invoke("hello")
    )
    assert cut["parsed"] is None
    assert cut["parsing_error"] is not None
    assert cut["raw"].response_metadata["finish_reason"] == "length"


def test_a_reply_that_was_cut_short_is_an_error_not_half_a_value(chat: LocalChat) -> None:
    short = chat.model_copy(update={"max_tokens": 3}).with_structured_output(Person)
    with pytest.raises(OutputParserException, match="raise max_tokens"):
        short.invoke("hello")


@pytest.mark.parametrize("schema", [{"enum": ["metres", "miles"]}, {"type": "array", "items": {"enum": [1, 2]}, "minItems": 2, "maxItems": 2}])  # fmt: skip
def test_a_schema_need_not_be_an_object(chat: LocalChat, schema: dict[str, Any]) -> None:
    value = chat.with_structured_output(schema).invoke("hello")
    assert value in ("metres", "miles") or (len(value) == 2 and set(value) <= {1, 2})


def test_a_typed_dict_is_a_schema(chat: LocalChat) -> None:
    asked = chat.with_structured_output(Verdict, include_raw=True).invoke("hello")
    assert str(asked["raw"].content).startswith("{")


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"type": "text"}, "leave it out"),
        ({"type": "json_schema", "json_schema": {"name": "x"}}, "json_schema.schema"),
        ({"type": "object", "properties": {"a": {"type": "nonsense"}}}, "JSON schema"),
    ],
)
def test_a_wrong_format_is_refused_in_one_line(chat: LocalChat, form: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said) as caught:
        chat.bind(response_format=form).invoke("hello")
    assert "\n" not in str(caught.value)


def test_other_methods_are_refused(chat: LocalChat) -> None:
    with pytest.raises(SettingsError, match="json_schema alone"):
        chat.with_structured_output(Person, method="function_calling")


def test_without_the_package_the_error_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = LocalModel.load(str(tiny.save(tmp_path)), ModelSettings())
    monkeypatch.setitem(sys.modules, "llguidance.hf", None)
    with pytest.raises(MissingExtraError, match=r"ragpool\[structured\]") as caught:
        LocalChat(local=fresh, max_tokens=20).with_structured_output(Person).invoke("hello")
    assert "\n" not in str(caught.value)
