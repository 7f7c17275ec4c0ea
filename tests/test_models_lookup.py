"""Prompt lookup: drafts are what followed the last time, and decoding with them writes what decoding one by one does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st

from ragpool import prompts
from ragpool.kvcache import KVChoice
from ragpool.models import Completion, LocalModel, lookup
from ragpool.models.lookup import MATCH, MOST, draft
from ragpool.models.request import Options

CORPUS = Path(__file__).parent.parent / "corpora" / "zembrissa"
RULES = "Answer from the passages below and from nothing else.\n"
PASSAGES = "The Lark is a brig of Port Ennis.\nPort Ennis lies on Mora.\nMora is an isle.\n"
PROMPTS = [
    RULES + PASSAGES + "Where is the Lark based?",
    RULES + PASSAGES + "Whose is the isle?",
    "the ship",
    "a",
    "the mother of the queen of the north",
]
LAID_OUT = (
    "Rules.\n<<<ab12 1>>>\nLark: A brig. It lies at Ennis. It is old.\n<<<ab12 2>>>\n"
    "Ennis: A port. It has two piers.\n<<<ab12 end>>>\n\nQuestion: Where does the Lark lie?\nAnswer:"
)


@pytest.fixture
def model() -> LocalModel:
    """A random model that often repeats itself: of what it has read, the last token counts most."""
    llama = tiny.llama(3)
    with torch.no_grad():
        for layer in llama.model.layers:
            layer.self_attn.o_proj.weight.mul_(0.01)
    return LocalModel(llama, tiny.tokenizer(), "parrot@0")


@contextmanager
def one_by_one() -> Iterator[None]:
    """Inside the block, drafts are empty."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lookup, "MOST", 0)
        yield


@contextmanager
def passes(model: LocalModel) -> Iterator[list[int]]:
    """How many tokens each forward pass inside the block reads."""
    widths: list[int] = []
    forward = model._forward

    def counted(inputs: torch.Tensor, **options: Any) -> torch.Tensor:
        widths.append(inputs.shape[1])
        return forward(inputs, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "_forward", counted)
        yield widths


def same(drafted: Completion, plain: Completion) -> None:
    assert drafted.text == plain.text
    assert drafted.finish_reason == plain.finish_reason
    assert drafted.usage == plain.usage
    assert drafted.logprob == pytest.approx(plain.logprob, abs=1e-4)


# ---- drafts


@given(st.lists(st.integers(0, 3), max_size=40), st.integers(-1, 8))
def test_a_draft_is_what_followed_the_same_tokens_the_last_time(ids: list[int], most: int) -> None:
    text = "".join(map(str, ids))
    before = text[:-1].rfind(text[-MATCH:]) if len(text) > MATCH else -1
    expected = text[before + MATCH :][: max(most, 0)] if before >= 0 else ""
    assert "".join(map(str, draft(ids, most))) == expected


def test_a_draft_has_a_bounded_length() -> None:
    ids = [*range(20), 7, 8, 9]
    assert draft(ids) == [10, 11, 12, 13, 14][:MOST]
    assert draft(ids, 2) == [10, 11]
    assert draft([*ids, 30]) == []


# ---- a model that repeats itself


@pytest.mark.parametrize("prompt", PROMPTS)
def test_the_tokens_are_those_that_transformers_generates(model: LocalModel, prompt: str) -> None:
    inputs = model.tokenizer(prompt, return_tensors="pt", return_token_type_ids=False)
    written = model._model.generate(**inputs, max_new_tokens=60, do_sample=False, pad_token_id=1)
    tokens = written[0, inputs["input_ids"].shape[1] :].tolist()
    with passes(model) as widths:
        completion = model.complete(prompt, max_new_tokens=60)
    assert completion.text == model.tokenizer.decode(tokens, skip_special_tokens=True)
    assert completion.completion_tokens == len(tokens)
    assert completion.finish_reason == ("stop" if tokens[-1] == 1 else "length")
    assert max(widths[1:]) > 1
    assert len(widths) <= len(tokens) - 10  # of the drafts many were right
    assert sum(widths[1:]) > len(tokens)  # and some were not


def test_limits_and_stop_strings_inside_a_draft(model: LocalModel) -> None:
    """Every limit, and every pair of letters as a stop string: many of them end inside an accepted draft."""
    prompt = PROMPTS[1]
    whole = model.complete(prompt, max_new_tokens=40)
    pairs = sorted({whole.text[at : at + 2] for at in range(len(whole.text) - 1)})
    cases: list[Options] = [{"max_new_tokens": limit} for limit in range(1, 41)]
    cases += [{"max_new_tokens": 40, "stop": [pair]} for pair in pairs]
    inside = 0
    for options in cases:
        with passes(model) as widths:
            drafted = model.complete(prompt, **options)
        with one_by_one():
            same(drafted, model.complete(prompt, **options))
        inside += drafted.finish_reason == "stop" and widths[-1] > 1
    assert inside > 1


@pytest.mark.parametrize("prompt", PROMPTS)
def test_the_pieces_of_a_stream_are_the_same(model: LocalModel, prompt: str) -> None:
    pieces = list(model.stream(prompt, max_new_tokens=40, stop=["Q"]))
    with one_by_one():
        assert pieces == list(model.stream(prompt, max_new_tokens=40, stop=["Q"]))


def test_a_stream_stops_between_two_tokens_of_a_draft(model: LocalModel) -> None:
    with passes(model) as widths:
        stream = model.stream(PROMPTS[0], max_new_tokens=60)
        while max(widths[1:], default=1) == 1:
            next(stream)
        next(stream)
        stream.close()
        assert list(stream) == []
        taken = len(widths)
    assert len(widths) == taken
    whole = model.complete(PROMPTS[0], max_new_tokens=60)
    with one_by_one():
        same(whole, model.complete(PROMPTS[0], max_new_tokens=60))


def test_log_probabilities_are_listed_for_drafted_tokens_too(model: LocalModel) -> None:
    with passes(model) as widths:
        drafted = model.complete(PROMPTS[0], max_new_tokens=40, top_logprobs=3)
    assert max(widths[1:]) > 1
    with one_by_one():
        plain = model.complete(PROMPTS[0], max_new_tokens=40, top_logprobs=3)
    same(drafted, plain)
    assert drafted.logprobs is not None
    assert plain.logprobs is not None
    for one, other in zip(drafted.logprobs, plain.logprobs, strict=True):
        assert (one.token, [token for token, _ in one.top]) == (
            other.token,
            [token for token, _ in other.top],
        )
        assert [p for _, p in one.top] == pytest.approx([p for _, p in other.top], abs=1e-4)


def test_rejected_drafts_leave_the_kept_prefix_alone(model: LocalModel) -> None:
    """Streams that grow from one prefix, in turn and one after the other, write what fresh ones write."""
    prompts = [PROMPTS[0], PROMPTS[1], PROMPTS[0] + " And then?", PROMPTS[0]]
    with one_by_one():
        fresh = []
        for prompt in prompts:
            model.prefixes.clear()
            fresh.append(model.complete(prompt, max_new_tokens=40))
    model.prefixes.clear()
    with passes(model) as widths:
        model.complete(prompts[0], max_new_tokens=40)
    assert sum(width - 1 for width in widths[1:]) > 40 - len(widths)  # some were rejected
    ids = model.tokenizer(prompts[0])["input_ids"]
    kept = model.prefixes.find(ids, "").layers
    before = [(keys.clone(), values.clone()) for keys, values in kept]
    for prompt, plain in zip(prompts, fresh, strict=True):
        again = model.complete(prompt, max_new_tokens=40)
        same(again, plain)
        assert again.reused_tokens > 0
    streams = [model.stream(prompt, max_new_tokens=40) for prompt in prompts]
    for _ in range(41):
        for stream in streams:
            next(stream, "")
    for stream, plain in zip(streams, fresh, strict=True):
        same(stream.completion, plain)
    for layer, (keys, values) in zip(kept, before, strict=True):
        assert torch.equal(layer[0], keys)
        assert torch.equal(layer[1], values)


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0.5, "seed": 1},
        {"schema": '{"type": "array", "items": {"enum": ["xyz"]}, "minItems": 9}'},
        {"kv": KVChoice("snapkv", 0.5, start=0)},
        {"kv": KVChoice("knorm", 0.0, start=0, every=4)},
    ],
)
def test_no_drafts_where_they_would_not_be_exact(model: LocalModel, options: Options) -> None:
    if "schema" in options:
        pytest.importorskip("llguidance")
    with passes(model) as widths:
        completion = model.complete(LAID_OUT, max_new_tokens=60, **options)
        drafted = len(widths)
        model.complete(LAID_OUT, max_new_tokens=60)
    assert max(widths[drafted + 1 :]) > 1  # here it does
    del widths[drafted:]
    assert completion.completion_tokens > 9
    assert set(widths[1 - completion.completion_tokens :]) == {1}


# ---- the embedded model


def answer_prompt(model: LocalModel, passages: list[str], question: str) -> str:
    """As ChatGenerator writes it, with the same delimiter each time."""
    nonce = "lantern"
    shown = "\n".join(f"<<<{nonce} {n}>>>\n{text}" for n, text in enumerate(passages, start=1))
    text = prompts.load("answer").fill(nonce=nonce, passages=f"{shown}\n<<<{nonce} end>>>", question=question)
    return model.render([{"role": "user", "content": text}])


@pytest.mark.model
def test_the_embedded_model_writes_the_same_with_and_without_drafts(local_model: LocalModel) -> None:
    rows, asked = (
        [json.loads(line) for line in (CORPUS / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]
        for name in ("documents", "questions")
    )
    told = {row["id"]: f"{row['title']}: {row['text'][:200]}" for row in rows}
    copying = [q for q in asked if q["evidence"]][::8][:12]
    given = [answer_prompt(local_model, [told[i] for i in q["evidence"][:2]], q["question"]) for q in copying]
    assert len(given) == 12
    given += [
        local_model.render([{"role": "user", "content": text}])
        for text in ("What is the capital of France?", "Write a line about the sea.", "Count to five.")
    ]
    fewer = 0
    for prompt in given:
        with passes(local_model) as widths:
            drafted = local_model.complete(prompt, max_new_tokens=14)
        with one_by_one():
            same(drafted, local_model.complete(prompt, max_new_tokens=14))
        fewer += drafted.completion_tokens - sum(width <= 1 + MOST for width in widths) - 1
    assert fewer > 12  # passes, of up to 195
