"""POST /v1/chat/completions and GET /v1/models, as OpenAI's clients expect them."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from sse_starlette import EventSourceResponse
from starlette.concurrency import run_in_threadpool

from ragpool.events import Answered, Token
from ragpool.serve.conversations import ID_PATTERN, checked_id
from ragpool.serve.engine import Ask, Job
from ragpool.serve.errors import from_error, invalid, missing, responses
from ragpool.serve.followup import Exchange
from ragpool.serve.prose import Note, Prose, linked, notes, source_list
from ragpool.serve.services import Owner, Parts, Services, until_gone
from ragpool.serve.wire import frame
from ragpool.settings import Effort, Method
from ragpool.types import Answer, StopReason

router = APIRouter(tags=["OpenAI"])

EFFORTS: tuple[Effort, ...] = ("low", "medium", "high")
MODELS: dict[str, tuple[Effort, Method]] = {
    **{f"ragpool-{effort}": (effort, "ragpool") for effort in EFFORTS},
    **{f"ragpool-{effort}:single": (effort, "single") for effort in EFFORTS},
}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class TextPart(BaseModel):
    """The only kind of content part there is here."""

    model_config = ConfigDict(strict=True)
    type: Literal["text"]
    text: str


class Message(BaseModel):
    """A message of the conversation. What clients send back of our own (annotations, ...) is left aside."""

    model_config = ConfigDict(extra="ignore", strict=True)
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]

    @property
    def text(self) -> str:
        return self.content if isinstance(self.content, str) else "\n".join(p.text for p in self.content)


class StreamOptions(_Strict):
    include_usage: bool = False
    include_obfuscation: Literal[False] | None = None


class TextFormat(_Strict):
    type: Literal["text"]


class ChatRequest(_Strict):
    """What is honoured. Parameters of OpenAI that would change nothing here are refused, not ignored."""

    model: str = Field(
        description="ragpool-low, ragpool-medium or ragpool-high; with :single one search only",
        json_schema_extra={
            "enum": list(MODELS)
        },  # for readers of the document; another name is a 404 as OpenAI's
    )
    messages: Annotated[list[Message], Field(min_length=1)]
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    inline_sources: bool = Field(False, description="append [n] marks and a list of sources to the text")
    method: Literal["ragpool", "single"] | None = Field(
        None, description="the loop, or one search; over the model's"
    )
    conversation: str | None = Field(
        None,
        pattern=ID_PATTERN,
        description="whose evidence is shared; also metadata.conversation or X-Conversation-Id",
    )
    metadata: dict[str, str] | None = None
    user: str | None = None
    # accepted with the value that they have here anyway
    n: Literal[1] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Literal[1] | None = None
    presence_penalty: Literal[0] | None = None
    frequency_penalty: Literal[0] | None = None
    logprobs: Literal[False] | None = None
    store: Literal[False] | None = None
    response_format: TextFormat | None = None
    service_tier: Literal["auto", "default"] | None = None


class UrlCitation(BaseModel):
    start_index: int
    end_index: int
    title: str
    url: str


class Annotation(BaseModel):
    type: Literal["url_citation"] = "url_citation"
    url_citation: UrlCitation


class AssistantMessage(BaseModel):
    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None
    annotations: list[Annotation]


class Choice(BaseModel):
    index: int = 0
    message: AssistantMessage
    logprobs: None = None
    finish_reason: Literal["stop", "length"]


class TokenUsage(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class RunNote(BaseModel):
    """What OpenAI's form has no place for."""

    conversation: str
    run_id: str
    status: str
    stop_reason: str
    missing: list[str]
    warnings: list[str]


class ChatCompletion(BaseModel):
    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: TokenUsage
    ragpool: RunNote


class Model(BaseModel):
    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "ragpool"


class ModelList(BaseModel):
    object: Literal["list"] = "list"
    data: list[Model]


@router.get("/v1/models", responses=responses())
def models(parts: Parts, owner: Owner) -> ModelList:
    """The efforts as models."""
    return ModelList(data=[Model(id=name, created=parts.started) for name in MODELS])


@router.get("/v1/models/{model}", responses=responses(404))
def model(model: str, parts: Parts, owner: Owner) -> Model:
    """One of them."""
    if model not in MODELS:
        raise missing(f"model {model[:80]!r}")
    return Model(id=model, created=parts.started)


@router.post(
    "/v1/chat/completions",
    response_model=ChatCompletion,
    responses={
        **responses(404, 502, 504),
        200: {"description": "The answer; with stream: true as server-sent events (chat.completion.chunk)"},
    },
)
async def chat_completions(
    request: Request,
    response: Response,
    body: ChatRequest,
    parts: Parts,
    owner: Owner,
    x_conversation_id: Annotated[str | None, Header()] = None,
) -> Any:
    """Answer the last user message over the documents, with what the conversation has found before."""
    ask = await _ask(body, parts, owner, x_conversation_id)
    reply = _Reply(body, ask.conversation, parts, str(request.base_url))
    job = parts.engine.submit(ask)
    if body.stream:
        headers = {"X-Conversation-Id": ask.conversation}
        return EventSourceResponse(reply.chunks(job), sep="\n", send_timeout=30, headers=headers)
    response.headers["X-Conversation-Id"] = ask.conversation
    return await until_gone(request, lambda: reply.whole(job))


async def _ask(body: ChatRequest, parts: Services, owner: str, header: str | None) -> Ask:
    if body.model not in MODELS:
        raise missing(f"model {body.model[:80]!r}; there are {', '.join(MODELS)}")
    effort, method = MODELS[body.model]
    configured = parts.rag.settings.models.temperature
    if body.temperature is not None and body.temperature != configured:
        raise invalid(
            f"temperature: the server answers with {configured}; leave it out", "temperature", "unsupported_value"
        )  # fmt: skip
    question, earlier = _conversation(body.messages, parts)
    named = body.conversation or (body.metadata or {}).get("conversation") or header
    if named:
        conversation = checked_id(named)
    else:
        conversation = await run_in_threadpool(parts.conversations.find, owner, earlier)
    exchanges = tuple(Exchange(asked, clean(said)) for asked, said in earlier)
    return Ask(
        question, owner, conversation, effort, body.method or method, parts.options.deadline, exchanges
    )


def _conversation(messages: list[Message], parts: Services) -> tuple[str, list[tuple[str, str]]]:
    """The question, and the earlier (question, answer) pairs. What is neither (system messages) is no evidence."""
    options = parts.options
    if len(messages) > options.messages:
        raise invalid(f"messages: at most {options.messages}; send the last ones", "messages")
    if messages[-1].role != "user":
        raise invalid("messages: the last one is the user's question", "messages")
    question = messages[-1].text.strip()
    if not question:
        raise invalid("messages: the question is empty", "messages")
    if len(question) > options.question_chars:
        raise invalid(
            f"messages: the question is longer than {options.question_chars} characters", "messages"
        )
    pairs: list[tuple[str, str]] = []
    asked = ""
    for message in messages[:-1]:
        if len(message.text) > options.message_chars:
            raise invalid(f"messages: one is longer than {options.message_chars} characters", "messages")
        if message.role == "user":
            asked = message.text.strip()
        elif message.role == "assistant" and asked:
            pairs.append((asked, message.text))
            asked = ""
    return question, pairs


def clean(said: str) -> str:
    """An earlier answer of ours without what was appended for people."""
    text = re.split(r"\n\n(?:Sources:|Not complete\.)", said)[0]
    return re.sub(r"\s*\[(?:\d{1,3}|unverified)\]", "", text).strip()


class _Reply:
    """One answer in OpenAI's form, whole or in chunks."""

    def __init__(self, body: ChatRequest, conversation: str, parts: Services, base: str) -> None:
        self._body = body
        self._conversation = conversation
        self._link = linked(base)
        self._id = f"chatcmpl-{uuid.uuid4().hex}"
        self._created = int(time.time())
        self._usage = bool(body.stream_options and body.stream_options.include_usage)
        self._prose = Prose()

    async def whole(self, job: Job) -> ChatCompletion:
        answer = await self._answer(job)
        content, found = self._prose.text, notes(self._prose.text, answer, self._link)
        if self._body.inline_sources:
            content += source_list(found)
        message = AssistantMessage(content=content, annotations=[_annotation(n) for n in found])
        return ChatCompletion(
            id=self._id,
            created=self._created,
            model=self._body.model,
            choices=[Choice(message=message, finish_reason=_finish(answer))],
            usage=_usage(answer),
            ragpool=self._note(answer),
        )

    async def _answer(self, job: Job) -> Answer:
        answer: Answer | None = None
        async for event in job.events():
            if isinstance(event, Token):
                self._prose.feed(event.text)
            elif isinstance(event, Answered):
                answer = event.answer
        assert answer is not None  # a run ends with Answered, or with an error
        self._prose.finish(answer)
        return answer

    async def chunks(self, job: Job) -> AsyncIterator[bytes]:
        """Server-sent events: role, text, annotations, finish, usage when asked for, [DONE]; or an error."""
        yield self._chunk({"role": "assistant", "content": ""})
        try:
            async for event in job.events():
                if isinstance(event, Token):
                    if text := self._prose.feed(event.text):
                        yield self._chunk({"content": text})
                elif isinstance(event, Answered):
                    for chunk in self._last(event.answer):
                        yield chunk
        except Exception as error:  # noqa: BLE001 - the status is sent already: the error is the last event
            yield frame(from_error(error).body)
            return
        yield b"data: [DONE]\n\n"

    def _last(self, answer: Answer) -> list[bytes]:
        rest = self._prose.finish(answer)
        found = notes(self._prose.text, answer, self._link)
        if self._body.inline_sources:
            rest += source_list(found)
        last = [self._chunk({"content": rest})] if rest else []
        if found:
            last.append(self._chunk({"annotations": [_annotation(n).model_dump() for n in found]}))
        last.append(self._chunk({}, _finish(answer), ragpool=self._note(answer).model_dump()))
        if self._usage:
            last.append(self._event(choices=[], usage=_usage(answer).model_dump()))
        return last

    def _chunk(self, delta: dict[str, Any], finish: str | None = None, **more: Any) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        nothing = {"usage": None} if self._usage else {}
        return self._event(choices=[choice], **nothing, **more)

    def _event(self, **fields: Any) -> bytes:
        head = {
            "id": self._id,
            "object": "chat.completion.chunk",
            "created": self._created,
            "model": self._body.model,
        }
        return frame({**head, **fields})

    def _note(self, answer: Answer) -> RunNote:
        ignored = any(m.role in ("system", "developer") for m in self._body.messages)
        return RunNote(
            conversation=self._conversation,
            run_id=answer.run_id,
            status=answer.status.value,
            stop_reason=answer.stop_reason.value,
            missing=list(answer.missing),
            warnings=["system messages have no effect: answers come from the documents"] if ignored else [],
        )


def _annotation(note: Note) -> Annotation:
    return Annotation(
        url_citation=UrlCitation(
            start_index=note.start, end_index=note.end, title=note.title, url=note.url
        )
    )  # fmt: skip


def _finish(answer: Answer) -> Literal["stop", "length"]:
    return "length" if answer.stop_reason is StopReason.DEADLINE else "stop"


def _usage(answer: Answer) -> TokenUsage:
    usage = answer.usage
    return TokenUsage(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        total_tokens=usage.tokens,
    )
