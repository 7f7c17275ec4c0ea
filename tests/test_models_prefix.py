"""The prefix cache: what is read once and re-used gives what reading everything gives."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import DynamicCache, MistralConfig, MistralForCausalLM

from ragpool.models import LocalChat, LocalModel, load_chat, local, prefix_files
from ragpool.models.prefix import SHORTEST, PrefixCache, plain_layers
from ragpool.models.prefix_files import PrefixFiles
from ragpool.plan import adapter_folder
from ragpool.settings import ModelSettings

RULES = (
    "Answer from the passages below and from nothing else.\n"  # longer than SHORTEST characters, so tokens
)
PASSAGES = ["The Lark is a brig of Port Ennis.\n", "Port Ennis lies on Mora.\n", "Mora is an isle.\n"]
QUESTIONS = ["Where is the Lark based?", "Whose is the isle?"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def model(folder: Path) -> LocalModel:
    return LocalModel.load(str(folder), ModelSettings())


@pytest.fixture
def forgetful(folder: Path) -> LocalModel:
    return LocalModel.load(str(folder), ModelSettings(prefix_memory=0))


def prompt(passages: int, question: int = 0) -> str:
    return RULES + "".join(PASSAGES[:passages]) + QUESTIONS[question]


def test_growing_prompts_read_only_what_is_new(model: LocalModel, forgetful: LocalModel) -> None:
    for passages in range(len(PASSAGES) + 1):
        grown, fresh = (m.complete(prompt(passages), max_new_tokens=24) for m in (model, forgetful))
        assert grown.text == fresh.text
        assert grown.logprob == pytest.approx(fresh.logprob, abs=1e-4)
        shared = len(prompt(passages - 1)) - len(QUESTIONS[0]) if passages else 0
        assert shared - 8 < grown.reused_tokens <= shared + 2  # "th" is one token
        assert fresh.reused_tokens == 0
    assert (
        len(model.prefixes) == 2
    )  # of the four prompts the longest, and the first: much of it was its question


@pytest.mark.parametrize("block", [local.BLOCK, 16, 7])
def test_a_second_question_has_the_logits_of_a_fresh_one(
    model: LocalModel, forgetful: LocalModel, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(local, "BLOCK", block)
    ends = [" yes", " no", "n", " a longer one"]
    for question in (0, 1, 0):
        assert model.score(prompt(3, question), ends) == pytest.approx(
            forgetful.score(prompt(3, question), ends), abs=1e-4
        )
        assert model.complete(prompt(3, question)).text == forgetful.complete(prompt(3, question)).text


def test_the_same_prompt_again_gives_exactly_the_same(model: LocalModel) -> None:
    first, again = (model.complete(prompt(2), max_new_tokens=12) for _ in range(2))
    assert (first.reused_tokens, again.reused_tokens) == (0, first.prompt_tokens)
    assert first.logprob == again.logprob
    shorter = model.complete(prompt(2)[:-4], max_new_tokens=12)
    assert shorter.reused_tokens == shorter.prompt_tokens - 1  # the last one is read for what follows it


def test_keys_that_are_shared_by_query_heads_give_the_same_bits_as_repeated_ones(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []
    for shared in ("1", "0"):
        monkeypatch.setenv("TRANSFORMERS_SDPA_FORCE_GQA", shared)
        model = LocalModel.load(str(folder), ModelSettings())
        model.complete(prompt(3), max_new_tokens=1)
        written.append(model.complete(prompt(3, 1), max_new_tokens=16))
    assert written[0] == written[1]
    monkeypatch.delenv("TRANSFORMERS_SDPA_FORCE_GQA")
    LocalModel.load(str(folder), ModelSettings())
    assert os.environ["TRANSFORMERS_SDPA_FORCE_GQA"] == "1"  # on a CPU


def test_adapters_do_not_share(folder: Path, tmp_path: Path, forgetful: LocalModel) -> None:
    model = LocalModel.load(str(folder), ModelSettings())
    for m in (model, forgetful):
        m.load_adapter("one", tiny.save_lora(tmp_path / "one", 1))
    for adapter in (None, "one", None, "one"):
        for question in (0, 1):
            fast = model.complete(prompt(3, question), adapter=adapter, max_new_tokens=16)
            slow = forgetful.complete(prompt(3, question), adapter=adapter, max_new_tokens=16)
            assert fast.text == slow.text
            assert fast.logprob == pytest.approx(slow.logprob, abs=1e-4)
    assert len(model.prefixes) == 2


def test_a_batch_reads_its_common_beginning_once(model: LocalModel, forgetful: LocalModel) -> None:
    prompts = [prompt(3, 0), prompt(3, 1), prompt(3) + " And then?"]
    together = model.complete_batch(prompts, max_new_tokens=20)
    for text, completion in zip(prompts, together, strict=True):
        alone = forgetful.complete(text, max_new_tokens=20)
        assert completion.text == alone.text
        assert completion.usage == alone.usage
        assert completion.logprob == pytest.approx(alone.logprob, abs=1e-4)
    assert model.complete(prompt(3, 1)).reused_tokens >= len(prompt(3)) - len(QUESTIONS[0]) - 8
    assert all(c.reused_tokens > SHORTEST for c in model.complete_batch(prompts, max_new_tokens=2))


def test_sampling_in_a_batch_follows_the_seed(model: LocalModel) -> None:
    prompts = [prompt(1, 0), prompt(1, 1)]
    together = model.complete_batch(prompts, max_new_tokens=12, temperature=1.0, seed=5)
    alone = [model.complete(p, max_new_tokens=12, temperature=1.0, seed=5) for p in prompts]
    assert [c.text for c in together] == [c.text for c in alone]


def test_memory_is_bounded_and_the_oldest_goes_first(model: LocalModel) -> None:
    model.complete(prompt(3), max_new_tokens=1)
    size = model.prefixes.bytes
    keys = tiny.LAYERS * 2 * tiny.KV_HEADS * (tiny.WIDTH // tiny.HEADS) * 4  # bytes of a token, float32
    assert size == pytest.approx(keys * len(prompt(3)), rel=0.1)
    model.prefixes.limit = int(2.5 * size)
    others = [letter * len(prompt(3)) for letter in "xyz"]
    for text in others[:2]:
        model.complete(text, max_new_tokens=1)
        assert model.prefixes.bytes <= model.prefixes.limit
    assert model.complete(prompt(3), max_new_tokens=1).reused_tokens == 0
    assert model.complete(others[1], max_new_tokens=1).reused_tokens > 0  # used last, so it stays
    model.complete(others[2], max_new_tokens=1)
    assert model.complete(others[1], max_new_tokens=1).reused_tokens > 0
    model.prefixes.clear()
    assert (len(model.prefixes), model.prefixes.bytes) == (0, 0)


def test_what_does_not_fit_is_not_kept(forgetful: LocalModel) -> None:
    for _ in range(2):
        assert forgetful.complete(prompt(3), max_new_tokens=1).reused_tokens == 0
    assert len(forgetful.prefixes) == 0


def test_a_call_is_cancelled_between_two_blocks_of_its_prompt(
    model: LocalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "BLOCK", 16)
    stream = model.stream(prompt(3))
    assert [next(stream), next(stream)] == ["", ""]
    stream.close()
    assert list(stream) == []
    assert len(model.prefixes) == 0


def test_sliding_windows_are_read_afresh() -> None:
    """A window forgets tokens, so its cache cannot be cut back to where two prompts part."""
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=len(tiny.tokenizer()),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        sliding_window=40,
        max_position_embeddings=256,
    )
    model = LocalModel(MistralForCausalLM(config), tiny.tokenizer(), "mistral@0")
    assert [model.complete(prompt(3, q), max_new_tokens=8).reused_tokens for q in (0, 1, 0)] == [0, 0, 0]


@given(st.lists(st.lists(st.integers(0, 1), min_size=30, max_size=60), min_size=1, max_size=6))
def test_find_gives_the_longest_common_prefix(prompts: list[list[int]]) -> None:
    cache = PrefixCache(limit=10**6)
    for ids in prompts:
        keys = torch.tensor(ids, dtype=torch.float32)[None, None, :, None]
        filled = DynamicCache(config=tiny.llama().config)
        for layer in range(tiny.LAYERS):
            filled.update(keys, keys + 1, layer)
        found = cache.find(ids, "")
        assert not found.tokens or SHORTEST - 1 <= found.tokens <= len(ids)
        for k, v in found.layers:
            assert torch.equal(k, keys[..., : found.tokens, :])
            assert torch.equal(v, keys[..., : found.tokens, :] + 1)
        cache.put(ids, "", plain_layers(filled), torch.zeros(3))
        assert cache.find(ids, "other").tokens == 0
        if len(ids) >= SHORTEST:
            assert cache.find(ids, "").tokens == len(ids)


# ---- on disk


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files for prompts as short as the tiny model's."""
    for name, tokens in (("OPENING", 24), ("SHORTEST", 48), ("_NEWS", 16)):
        monkeypatch.setattr(prefix_files, name, tokens)


def load(folder: Path) -> LocalModel:
    return LocalModel.load(str(folder), ModelSettings())


@pytest.mark.usefixtures("short")
def test_the_next_process_goes_on_warm(folder: Path, tmp_path: Path) -> None:
    for passages in (1, 3):
        load(folder).complete(prompt(passages), prefix_folder=tmp_path)
    (file,) = tmp_path.iterdir()
    written = file.stat().st_mtime_ns
    for question in (0, 1):
        warm, cold = load(folder), load(folder)
        completion = warm.complete(prompt(3, question), prefix_folder=tmp_path)
        fresh = cold.complete(prompt(3, question))
        assert completion.text == fresh.text
        assert completion.logprob == pytest.approx(fresh.logprob, abs=0.02)  # float16
        assert completion.reused_tokens > len(prompt(3)) - len(QUESTIONS[0]) - 8
        warm.complete(prompt(3, question) + "?", prefix_folder=tmp_path)  # too little new to write
    keys = tiny.LAYERS * 2 * tiny.KV_HEADS * (tiny.WIDTH // tiny.HEADS) * 2
    assert keys * 100 < file.stat().st_size < keys * 256 + 4096
    assert file.stat().st_mtime_ns >= written
    assert [f.suffix for f in tmp_path.iterdir()] == [".prefix"]


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "foreign", "text"])
def test_a_file_that_cannot_be_used_is_ignored_and_said(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    expected = load(folder).complete(prompt(3), prefix_folder=tmp_path / "files")
    (file,) = (tmp_path / "files").iterdir()
    data = bytearray(file.read_bytes())
    if damage == "foreign":  # a sound file of another model, under this one's name
        other = load(tiny.save(tmp_path / "other", seed=5))
        other.complete(prompt(3), prefix_folder=tmp_path / "theirs")
        (theirs,) = (tmp_path / "theirs").iterdir()
        assert theirs.name != file.name
        data = bytearray(theirs.read_bytes())
    elif damage == "flipped":
        data[len(data) // 2] ^= 1
    else:
        data = {"cut": data[:-5], "empty": bytearray(), "text": bytearray(b"x" * 100)}[damage]
    file.write_bytes(data)
    with caplog.at_level("WARNING", logger="ragpool"):
        completion = load(folder).complete(prompt(3), prefix_folder=tmp_path / "files")
    assert completion == expected
    assert completion.reused_tokens == 0
    (record,) = caplog.records
    assert ("another model" if damage == "foreign" else "damaged") in record.getMessage()
    assert (
        load(folder).complete(prompt(3), prefix_folder=tmp_path / "files").reused_tokens > 0
    )  # written again


@pytest.mark.usefixtures("short")
def test_a_folder_that_cannot_be_written_is_said(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    occupied = tmp_path / "file"
    occupied.write_text("no folder")
    with caplog.at_level("WARNING", logger="ragpool"):
        completion = load(folder).complete(prompt(3), prefix_folder=occupied)
    assert completion == load(folder).complete(prompt(3))
    assert "could not be written" in caplog.text


@pytest.mark.usefixtures("short")
def test_the_folder_keeps_to_its_bytes(tmp_path: Path) -> None:
    files = PrefixFiles(tmp_path, "m@0", limit=33_000)
    layers = [(torch.ones(1, 2, 60, 16), torch.ones(1, 2, 60, 16))] * 2
    for number in range(6):
        ids = [number] * 60
        files.save(ids, "", layers)
        os.utime(files.file(ids, ""), (number + 1, number + 1))
    kept = [number for number in range(6) if files.load([number] * 60, "") is not None]
    assert kept == [4, 5]
    assert files.load([5] * 60, "reader@0") is None


def test_load_chat_hands_the_folder_on(folder: Path, tmp_path: Path) -> None:
    chat = load_chat(ModelSettings(chat=str(folder), prefix_folder=tmp_path))
    assert isinstance(chat, LocalChat)
    assert chat.prefix_folder == tmp_path


# ---- which layers adapters leave alone


def _cache(model: LocalModel, text: str, adapter: str | None) -> DynamicCache:
    cache = DynamicCache(config=model._model.config)
    ids = torch.tensor([model.tokenizer(text)["input_ids"]])
    model._forward(ids, adapter=adapter, cache=cache)
    return cache


@pytest.mark.model
def test_layers_that_no_adapter_touches_have_the_same_keys_and_values() -> None:
    """Both shipped adapters begin at layer 12, so the layers before it could be shared; from there on nothing can."""
    model = LocalModel.load("embedded", ModelSettings())
    for name in ("plan", "reader"):
        model.load_adapter(name, adapter_folder(name))
    base, plan, reader = (_cache(model, prompt(3), name) for name in (None, "plan", "reader"))
    for number, layers in enumerate(zip(base.layers, plan.layers, reader.layers, strict=True)):
        same = [torch.equal(layers[0].keys, other.keys) for other in layers[1:]]
        same += [torch.equal(layers[0].values, other.values) for other in layers[1:]]
        assert all(same) if number < 12 else not any(same)


@pytest.mark.model
def test_the_embedded_model_writes_the_same_with_and_without(local_model: LocalModel) -> None:
    fresh = LocalModel.load("embedded", ModelSettings(prefix_memory=0))
    facts = [f"The {name} sails from {port}. " for name, port in zip("ABCDEFGH", "STUVWXYZ", strict=True)]
    for number in range(2, 9):
        text = "".join(facts[:number]) * 6
        chat = [{"role": "user", "content": f"{text}\nWhich ship sails from {'STUVWXYZ'[number - 1]}?"}]
        asked = local_model.render(chat)
        fast, slow = (m.complete(asked, max_new_tokens=16) for m in (local_model, fresh))
        assert fast.text == slow.text
        assert fast.logprob == pytest.approx(slow.logprob, abs=1e-4)
        ends = [" yes", " no", " A"]
        assert local_model.score(asked, ends) == pytest.approx(fresh.score(asked, ends), abs=1e-4)
    assert fast.reused_tokens > 0
