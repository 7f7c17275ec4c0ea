from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from families import layout, model
from hypothesis import given
from hypothesis import strategies as st
from test_evicted import NEW
from tiny import tokenizer
from transformers import DynamicCache

from ragpool.errors import ModelError, SettingsError
from ragpool.kvcache import (
    Budget,
    EvictedCache,
    HeadTable,
    KVChoice,
    PoolCache,
    Stamp,
    compressed,
    load_cache,
    nbytes,
    save_cache,
)
from ragpool.kvcache.auto import automatic
from ragpool.kvcache.choice import METHOD_NAMES
from ragpool.kvcache.decoding import thinned
from ragpool.kvcache.reprefill import shortened
from ragpool.kvcache.selectors import KNorm, SnapKV

STAMP = Stamp("model@1", "layout@1", tuple(range(7)))


@given(st.sampled_from(METHOD_NAMES), st.integers(0, 99))
def test_a_choice_is_read_as_it_is_written(method: str, percent: int) -> None:
    choice = KVChoice.parse(f"{method}:{percent / 100}")

    assert (choice.method, choice.ratio) == (method, percent / 100)
    assert KVChoice.parse(str(choice)) == choice


def test_other_ways_to_write_a_choice() -> None:
    assert KVChoice.parse("critic-rag").evicted == 0.75
    assert KVChoice.parse("snapkv:512t", start=0).tokens == 512
    assert str(KVChoice.parse("snapkv:512t")) == "snapkv:512t"
    assert str(KVChoice()) == str(KVChoice.parse("off")) == "off"
    assert str(KVChoice.parse("auto")) == "auto"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("critik:0.5", "no KV-cache method is called 'critik'"),
        ("critic-rag:1.5", "less than 1"),
        ("critic-rag:", "METHOD:RATIO"),
        ("critic-rag:0t", "at least 1"),
    ],
)
def test_a_wrong_choice_says_what_is_right(text: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        KVChoice.parse(text)


def test_a_budget_is_one_of_three() -> None:
    assert Budget(ratio=0.75).keep(1000, 10) == 250
    assert Budget(tokens=10).keep(1000, 10) == 300
    assert Budget(tokens=10, floor=1).keep(1000, 20) == 21
    assert Budget(mass=0.5, floor=1).keep(4, 0, [1.0, 5.0, 1.0, 3.0]) == 1
    assert Budget(ratio=0.0).keep(7, 1) == 7
    for wrong in ({}, {"ratio": 0.5, "tokens": 3}, {"ratio": 1.0}, {"mass": 0.0}):
        with pytest.raises(SettingsError):
            Budget(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("choice", ["off", "critic-rag:0", "auto"])
def test_nothing_evicted_is_bit_identical(choice: str) -> None:
    made, prompt = model(), layout()
    done = compressed(made, prompt, KVChoice.parse(choice, start=0))
    with torch.inference_mode():
        ours = made(
            torch.tensor([done.ids[done.logical_length :]]), past_key_values=done.cache, logits_to_keep=1
        )
        full = made(torch.tensor([prompt.ids]), logits_to_keep=1)

    assert done.plan is None
    assert torch.equal(ours.logits, full.logits)


def test_a_short_prompt_stays_whole() -> None:
    assert compressed(model(), layout(), KVChoice("snapkv", 0.5)).plan is None


def test_a_cache_of_the_prefix_is_extended_and_gives_the_same() -> None:
    made, prompt = model(), layout()
    choice = KVChoice("critic-rag", 0.5, start=0)
    fresh = compressed(made, prompt, choice)
    warm = DynamicCache(config=made.config)
    with torch.inference_mode():
        made(torch.tensor([prompt.ids[:100]]), past_key_values=warm)
    resumed = compressed(made, prompt, choice, cache=warm)

    assert warm.get_seq_length() == len(prompt) - 1
    assert fresh.plan is not None
    assert resumed.plan is not None
    assert all(torch.equal(a, b) for a, b in zip(fresh.plan.indices, resumed.plan.indices, strict=True))
    assert isinstance(resumed.cache, EvictedCache)
    assert fresh.seconds.keys() == {"prefill", "score", "evict"}


def test_eight_bits_at_rest() -> None:
    made, prompt = model(), layout()
    plain = compressed(made, prompt, KVChoice("snapkv", 0.5, start=0))
    packed = compressed(made, prompt, KVChoice("snapkv", 0.5, start=0, int8=True))

    # scales: 2 bytes for each 16 values here, for each 64 in a real head
    assert nbytes(packed.cache) < 0.45 * nbytes(plain.cache)


def test_reprefill_is_the_short_prompt() -> None:
    made, prompt = model(), layout()
    done = compressed(made, prompt, KVChoice("reprefill", 0.3, start=0), tokenizer=tokenizer())

    assert done.plan is not None
    assert done.plan.kept == len(done.ids) <= round(len(prompt) * 0.7)
    text = tokenizer().decode(done.ids)
    for sentence in done.plan.sentences:
        assert (sentence.text.strip() in text) == sentence.whole
    titles = {prompt.title_of(sentence.passage) for sentence in done.plan.sentences if sentence.whole}
    assert titles
    assert all(f"{title}:" in text for title in titles)
    assert prompt.question_text.strip() in text
    with pytest.raises(ModelError, match="tokenizer"):
        compressed(made, prompt, KVChoice("reprefill", 0.5, start=0))


def test_reprefill_takes_scores_and_keeps_titles_with_their_sentences() -> None:
    prompt = layout()
    short, plan = shortened(tokenizer(), prompt, 180, [0, 0, 0, 0, 0, 9])

    assert [s.whole for s in plan.sentences][-1]
    assert "[3] Quell: The town has two mills." in short.text
    everything, _ = shortened(tokenizer(), prompt, len(prompt))
    assert everything.text == prompt.text


def test_automatic_goes_by_length_and_memory() -> None:
    assert automatic(1000, 1, 1 << 40).method == "off"
    assert automatic(8000, 1000, 1 << 40).ratio == 0.5
    assert automatic(8000, 1000, 16_000_000).ratio == 0.5
    assert automatic(8000, 1000, 8_000_000).ratio == 0.75
    assert automatic(8000, 1000, 0).ratio == 0.9


def test_thinning_keeps_the_size_while_generate_goes_on() -> None:
    made, prompt = model(), layout()
    done = compressed(made, prompt, KVChoice("snapkv", 0.5, start=0))
    assert isinstance(done.cache, EvictedCache)
    size = done.cache.layers[0].held
    ids = torch.tensor([done.ids])
    with (
        torch.inference_mode(),
        thinned(made, done.cache, SnapKV(window=8), every=10, protect=prompt.question),
    ):
        made.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            past_key_values=done.cache,
            max_new_tokens=36,
            min_new_tokens=36,
            do_sample=False,
        )

    layer = done.cache.layers[0]
    assert size <= layer.held < size + 10
    assert layer.get_seq_length() == len(prompt) + 35
    question = torch.arange(*prompt.question)
    assert all(torch.isin(question, row).all() for row in layer.all_positions()[0])


def test_thinning_equals_a_plan_made_by_hand() -> None:
    made, prompt = model(), layout()
    caches = [compressed(made, prompt, KVChoice("snapkv", 0.5, start=0)).cache for _ in range(2)]
    with torch.inference_mode():
        with thinned(made, caches[0], KNorm(), every=4):  # type: ignore[arg-type]
            made(NEW, past_key_values=caches[0])
        made(NEW, past_key_values=caches[1])
    thin, thick = caches[0].layers[1], caches[1].layers[1]

    assert thin.held == thick.held - 4
    scores = -thick.keys[0].norm(dim=-1)
    scores[:, -32:] = float("inf")
    places = scores.topk(thin.held).indices.sort().values
    torch.testing.assert_close(thin.all_positions()[0], thick.all_positions()[0].gather(1, places))


def small_cache(dtype: torch.dtype = torch.float32) -> DynamicCache:
    cache = DynamicCache()
    torch.manual_seed(0)
    for number in range(2):
        cache.update(torch.randn(1, 2, 7, 4).to(dtype), torch.randn(1, 2, 7, 4).to(dtype), number)
    return cache


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_saved_cache_comes_back_in_half_precision(tmp_path: Path, dtype: torch.dtype) -> None:
    cache, path = small_cache(dtype), tmp_path / "deep" / "pool.kv"
    save_cache(cache, path, STAMP)
    found = load_cache(path, STAMP)

    assert found is not None
    for ours, theirs in zip(found.layers, cache.layers, strict=True):
        assert ours.keys.dtype == dtype
        torch.testing.assert_close(
            ours.keys, theirs.keys.half().to(dtype) if dtype == torch.float32 else theirs.keys
        )
    assert path.stat().st_size < nbytes(cache) * (0.5 if dtype == torch.float32 else 1) + 1200
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    "other",
    [
        Stamp("model@2", "layout@1", STAMP.ids),
        Stamp("model@1", "layout@2", STAMP.ids),
        Stamp("model@1", "layout@1", (*STAMP.ids[:-1], 99)),
        Stamp("model@1", "layout@1", STAMP.ids, "adapter@1"),
    ],
)
def test_a_cache_of_something_else_is_not_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, other: Stamp
) -> None:
    save_cache(small_cache(), tmp_path / "pool.kv", STAMP)

    with caplog.at_level(logging.WARNING):
        assert load_cache(tmp_path / "pool.kv", other) is None
    assert "is of another" in caplog.text
    assert other.key != STAMP.key


@given(st.integers(0, 10_000), st.binary(min_size=1, max_size=4))
def test_damage_anywhere_is_noticed(
    tmp_path_factory: pytest.TempPathFactory, at: int, written: bytes
) -> None:
    path = tmp_path_factory.mktemp("damaged") / "pool.kv"
    save_cache(small_cache(), path, STAMP)
    data = bytearray(path.read_bytes())
    at %= len(data)
    before = bytes(data)
    data[at : at + len(written)] = written
    path.write_bytes(bytes(data))

    found = load_cache(path, STAMP)

    if found is not None:  # bytes that were the same, or the case of a letter in the header's names
        sound = load_cache_of(before, path)
        assert all(torch.equal(a.keys, b.keys) for a, b in zip(found.layers, sound.layers, strict=True))


def load_cache_of(data: bytes, path: Path) -> DynamicCache:
    path.write_bytes(data)
    found = load_cache(path, STAMP)
    assert found is not None
    return found


def test_a_cut_file_and_a_missing_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "pool.kv"
    assert load_cache(path, STAMP) is None
    assert caplog.text == ""
    save_cache(small_cache(), path, STAMP)
    path.write_bytes(path.read_bytes()[:-10])

    assert load_cache(path, STAMP) is None
    assert "checksum" in caplog.text


def test_a_pool_cache_grows_asks_and_goes_back(tmp_path: Path) -> None:
    made, prompt = model(), layout()
    context = prompt.ids[: prompt.context_end]
    pool = PoolCache(made)
    pool.append(context[:50])
    pool.append(context[50:])
    signals = pool.ask(prompt.ids[prompt.context_end :])

    assert signals.length == len(prompt)
    assert signals.window == len(prompt) - prompt.context_end
    pool.crop(len(context))
    assert pool.ids == context
    assert pool.shared(prompt.ids) == len(context)
    assert pool.shared((5, *context)) == 0

    pool.save(tmp_path / "pool.kv", "model@1", "layout@1")
    again = PoolCache(made)
    assert again.load(tmp_path / "pool.kv", "model@1", "layout@1", context)
    assert not again.load(tmp_path / "pool.kv", "model@2", "layout@1", context)
    assert again.nbytes == pool.nbytes
    ours, fresh = again.append(NEW[0].tolist()), pool.append(NEW[0].tolist())
    torch.testing.assert_close(ours, fresh, atol=0.05, rtol=0.05)
    pool.crop(0)
    assert len(pool) == 0
    with pytest.raises(ModelError, match="no tokens"):
        pool.append([])
    with pytest.raises(ModelError, match="cannot crop"):
        pool.crop(3)


def test_a_table_of_heads_is_read_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "heads.json"
    path.write_text('{"model": "m", "fingerprint": "f", "heads": [[1, 2]]}', encoding="utf-8")

    assert HeadTable.read(path) == HeadTable("m", "f", ((1, 2),))
    path.write_text("{}", encoding="utf-8")
    with pytest.raises(ModelError, match="no table of heads"):
        HeadTable.read(path)
