"""Local models with a compressed KV cache: completions, streams, chats."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
from langchain_core.messages import AIMessageChunk

from ragpool.cli.common import settings_from
from ragpool.cli.render import plan_lines
from ragpool.errors import ModelError, SettingsError
from ragpool.kvcache import METHOD_NAMES, EvictedCache, KVChoice, PromptLayout, compressed
from ragpool.kvcache.decoding import thinned
from ragpool.kvcache.selectors import SnapKV
from ragpool.kvcache.signals import fingerprint
from ragpool.models import LocalChat, LocalModel, kv_choice, load_chat, with_kv
from ragpool.settings import KVSettings, ModelSettings

PROMPT = (
    "Rules.\n<<<ab12 1>>>\nLark: A brig. It lies at Ennis. It is old.\n<<<ab12 2>>>\n"
    "Ennis: A port. It has two piers. Rain falls.\n<<<ab12 end>>>\n\nQuestion: Where does the Lark lie?\nAnswer:"
)
HALF = KVChoice("snapkv", 0.5, start=0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def model(folder: Path) -> LocalModel:
    return LocalModel.load(str(folder), ModelSettings())


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_every_method_writes_the_same_streamed_again_and_together(model: LocalModel, method: str) -> None:
    choice = KVChoice(method, 0.5, start=0)
    whole = model.complete(PROMPT, max_new_tokens=16, kv=choice)
    assert whole.plan is not None
    assert whole.plan.method == method
    assert whole.plan.kept < 0.6 * whole.prompt_tokens
    assert model.last_plan is whole.plan
    stream = model.stream(PROMPT, max_new_tokens=16, kv=choice)
    assert "".join(stream) == whole.text
    assert stream.completion.logprob == pytest.approx(whole.logprob, abs=1e-4)
    assert [c.text for c in model.complete_batch([PROMPT, PROMPT], max_new_tokens=16, kv=choice)] == [
        whole.text,
        whole.text,
    ]


def test_the_context_is_read_once_for_several_questions_and_stays_whole(
    model: LocalModel, folder: Path
) -> None:
    other = PROMPT.replace("Where does the Lark lie?", "How many piers?")
    model.complete(PROMPT, max_new_tokens=4, kv=HALF)
    second = model.complete(other, max_new_tokens=16, kv=HALF)
    fresh = LocalModel.load(str(folder), ModelSettings(prefix_memory=0))
    assert second.reused_tokens > len("Rules.") + 32
    assert second.text == fresh.complete(other, max_new_tokens=16, kv=HALF).text
    whole = model.complete(other, max_new_tokens=16)
    assert whole.reused_tokens > 0
    assert whole.text == fresh.complete(other, max_new_tokens=16).text


@pytest.mark.parametrize(
    "choice",
    [KVChoice(), KVChoice("critic-rag", 0.0, start=0), KVChoice("critic-rag", 0.75), KVChoice("auto")],
)
def test_what_evicts_nothing_changes_nothing(model: LocalModel, choice: KVChoice) -> None:
    plain = model.complete(PROMPT, max_new_tokens=16)
    with_choice = model.complete(PROMPT, max_new_tokens=16, kv=choice)
    assert with_choice == plain
    assert with_choice.plan is None
    assert model.last_plan is None


def test_the_cache_is_cut_back_while_the_answer_is_written(model: LocalModel) -> None:
    """The same text as with ``thinned`` around a loop of forward passes."""
    import torch

    once = KVChoice("snapkv", 0.35, start=0)
    written = model.complete(PROMPT, max_new_tokens=40, kv=replace(once, every=8))
    layout = PromptLayout.parse(model.tokenizer, PROMPT)
    done = compressed(model._model, layout, once)
    cache = done.cache
    assert isinstance(cache, EvictedCache)
    tokens: list[int] = []
    with torch.inference_mode():
        output = model._model(torch.tensor([done.ids[done.logical_length :]]), past_key_values=cache)
        protect = (layout.context_end, len(layout))
        with thinned(model._model, cache, SnapKV(), every=8, protect=protect):
            while len(tokens) < 40 and tokens[-1:] != [model.tokenizer.eos_token_id]:
                tokens.append(int(output.logits[0, -1].argmax()))
                output = model._model(torch.tensor([tokens[-1:]]), past_key_values=cache)
    assert model.tokenizer.decode(tokens, skip_special_tokens=True) == written.text
    assert written.text != model.complete(PROMPT, max_new_tokens=40, kv=once).text


@pytest.mark.parametrize("method", [*METHOD_NAMES, "auto"])
def test_every_method_goes_on_compressing(model: LocalModel, method: str) -> None:
    choice = KVChoice(method, None if method == "auto" else 0.5, start=0, every=4)
    written = model.complete(PROMPT, max_new_tokens=24, kv=choice)
    stream = model.stream(PROMPT, max_new_tokens=24, kv=choice)
    other = model.stream(PROMPT, max_new_tokens=24, kv=HALF)  # its passes are no business of the first one's
    taken = [next(other), *(piece for pair in zip(stream, other, strict=False) for piece in pair)]
    assert taken
    assert stream.completion.text == written.text


def test_a_prompt_below_start_grows_to_it_first(model: LocalModel) -> None:
    tokens = model.count_tokens(PROMPT)
    plain = model.complete(PROMPT, max_new_tokens=24)
    late = KVChoice("knorm", 0.5, start=tokens + 24, every=4)
    assert model.complete(PROMPT, max_new_tokens=24, kv=late).text == plain.text
    early = KVChoice("knorm", 0.0, start=tokens, every=4)
    assert model.complete(PROMPT, max_new_tokens=24, kv=early).plan is None
    assert model.complete(PROMPT, max_new_tokens=24, kv=early).text != plain.text


async def test_a_chat_says_what_was_kept(model: LocalModel) -> None:
    chat = LocalChat(local=model, max_tokens=12, kv=HALF)
    message = PROMPT[PROMPT.index("<<<") :]
    reply = chat.invoke(message)
    streamed = AIMessageChunk("")
    for chunk in chat.stream(message):
        streamed += chunk
    for one in (reply, streamed, await chat.ainvoke(message)):
        assert one.content == reply.content
        assert one.response_metadata["kv"]["method"] == "snapkv"
        assert 0 < one.response_metadata["kv"]["ratio"] < 0.6
    assert "kv" not in chat.invoke(message, kv=None).response_metadata


def test_adapters_are_in_use_while_the_prompt_is_read(model: LocalModel, tmp_path: Path) -> None:
    model.load_adapter("one", tiny.save_lora(tmp_path / "one", 1))
    plain, adapted, again = (
        model.complete(PROMPT, max_new_tokens=12, adapter=name, kv=HALF).text for name in (None, "one", None)
    )
    assert plain == again != adapted


def test_a_plan_is_shown_with_the_kept_sentences_highlighted(model: LocalModel) -> None:
    plan = model.complete(PROMPT, max_new_tokens=1, kv=KVChoice("critic-rag", 0.25, start=0)).plan
    assert plan is not None
    head, *lines = plan_lines(plan)

    assert f"critic-rag: {plan.kept} of {plan.length} positions kept" in head
    assert [" ".join(s.text.split()) in line for s, line in zip(plan.sentences, lines, strict=True)] == [
        True
    ] * 6
    assert ["black on green" in line for line in lines] == [s.whole for s in plan.sentences]
    assert 0 < sum(s.whole for s in plan.sentences) < 6
    assert "stayed whole" in next(iter(plan_lines(None)))


def test_a_wrong_choice_is_an_error_of_one_line() -> None:
    for text in ("critic-rag:1.5", "crtic:0.5", "critic-rag:", "critic-rag:0t", "snapkv+0", "snapkv+"):
        with pytest.raises(SettingsError) as caught:
            KVChoice.parse(text)
        assert "\n" not in str(caught.value)


def test_a_choice_is_written_as_it_is_read() -> None:
    for text in ("off", "auto", "critic-rag:0.75", "snapkv:512t", "snapkv:0.5+64", "tova:512t+16", "auto+32"):
        assert str(KVChoice.parse(text)) == text
    assert str(KVChoice("knorm", 0.5, int8=True)) == "knorm:0.5 int8"
    with pytest.raises(SettingsError, match="not both"):
        KVChoice("knorm", 0.5, int8=True, every=8)


def test_settings_reach_the_chat_model(model: LocalModel) -> None:
    chat = LocalChat(local=model)
    assert with_kv(chat, KVSettings()) is chat
    wanted = KVSettings(method="critic-rag", tokens=512, start=2048, int8=True)
    compressing = with_kv(chat, wanted)
    assert isinstance(compressing, LocalChat)
    assert compressing.kv == kv_choice(wanted) == KVChoice("critic-rag", tokens=512, start=2048, int8=True)
    assert compressing.local is model
    assert chat.kv is None
    again = KVSettings(method="critic-rag", ratio=0.5, every=64)
    assert kv_choice(again) == KVChoice("critic-rag", 0.5, every=64)
    assert settings_from(None, kv="critic-rag:0.5+64").generator.kv == again.model_copy(update={"start": 0})


def test_head_tables_of_ones_own_go_before_the_shipped_ones(model: LocalModel, tmp_path: Path) -> None:
    choice = KVChoice("critic-rag", 0.5, start=0, heads=tmp_path)
    plain = model.complete(PROMPT, max_new_tokens=4, kv=choice).plan  # an empty folder changes nothing
    shape = fingerprint(model._model.config)
    table = {"model": "mine", "fingerprint": shape, "heads": [[0, 2]]}
    (tmp_path / "other.json").write_text(json.dumps({**table, "fingerprint": "0" * 12}), encoding="utf-8")
    (tmp_path / "mine.json").write_text(json.dumps(table), encoding="utf-8")
    own = model.complete(PROMPT, max_new_tokens=4, kv=choice).plan
    assert plain is not None
    assert own is not None
    assert [s.score for s in own.sentences] != [s.score for s in plain.sentences]
    assert kv_choice(KVSettings(method="critic-rag"), tmp_path) == KVChoice("critic-rag", heads=tmp_path)
    (tmp_path / "broken.json").write_text("{", encoding="utf-8")
    with pytest.raises(ModelError, match="ragpool train heads"):
        model.complete(PROMPT, max_new_tokens=4, kv=choice)


def test_a_model_behind_an_api_has_no_cache_to_compress() -> None:
    remote = load_chat(ModelSettings(chat="openai:m@http://127.0.0.1:9/v1"))
    assert with_kv(remote, KVSettings(method="auto")) is remote
    with pytest.raises(SettingsError, match="needs a local model"):
        with_kv(remote, KVSettings(method="snapkv"))
