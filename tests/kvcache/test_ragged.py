"""Caches in which each head holds its own number of positions, against masks of full caches."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from families import FAMILIES, after, gemma2, layout, left_padded, model
from hypothesis import given, settings
from hypothesis import strategies as st
from test_evicted import NEW, Masked, prefilled, random_plan
from transformers import DynamicCache, PreTrainedModel, TextIteratorStreamer

from ragpool.errors import ModelError
from ragpool.kvcache import Budget, Critic, KeepPlan, KVChoice, PromptLayout, Signals, compressed, nbytes
from ragpool.kvcache.compress import read
from ragpool.kvcache.critic import together
from ragpool.kvcache.decoding import thinned
from ragpool.kvcache.evicted import EvictedCache, compacted, cropped, evict
from ragpool.kvcache.packed import HqqLayer, Int8Layer, quantised
from ragpool.kvcache.ragged import RaggedLayer, evict_unequal
from ragpool.kvcache.selectors import KNorm, Selector, SnapKV

COUNTS = ((60, 9), (25, 40))  # positions that the two heads of each layer keep


def unequal_plan(
    cache: DynamicCache, counts: tuple[tuple[int, ...], ...] = COUNTS, seed: int = 0
) -> KeepPlan:
    """Any positions; the last 8 always."""
    most = max(max(layer) for layer in counts)
    plan = random_plan(cache, most, seed)
    indices = []
    for index, layer in zip(plan.indices, counts, strict=True):
        index = index.clone()
        for head, count in enumerate(layer):
            index[:, head, : most - count] = -1
        indices.append(index[..., most - max(layer) :])
    heads = sum(len(layer) for layer in counts)
    return replace(plan, indices=tuple(indices), kept=sum(map(sum, counts)) // heads)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", FAMILIES)
def test_it_equals_a_masked_full_cache(family: str, attention: str) -> None:
    made, prompt = model(family, attention).double(), layout()
    cache = prefilled(made, prompt)
    plan = unequal_plan(cache)
    expected = Masked(made, plan).logits(cropped(cache, plan.length), NEW)

    with torch.inference_mode():
        at_once = made(NEW, past_key_values=evict_unequal(cache, plan, made)).logits
        grown = evict_unequal(cache, plan, made)
        parts = [made(part, past_key_values=grown).logits for part in NEW.split([1, 2, 1], dim=1)]

    torch.testing.assert_close(at_once, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(torch.cat(parts, dim=1), expected, atol=1e-5, rtol=1e-5)


@given(counts=st.tuples(*[st.tuples(st.integers(8, 150), st.integers(8, 150))] * 2), seed=st.integers(0, 99))
@settings(max_examples=15)
def test_any_numbers_equal_their_mask(counts: tuple[tuple[int, int], ...], seed: int) -> None:
    made, prompt = model().double(), layout()
    cache = prefilled(made, prompt)
    plan = unequal_plan(cache, counts, seed)

    with torch.inference_mode():
        logits = made(NEW, past_key_values=evict_unequal(cache, plan, made)).logits

    expected = Masked(made, plan).logits(cropped(cache, plan.length), NEW)
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)


def test_soft_capped_scores_are_capped() -> None:
    made, prompt = gemma2(window=4 * len(layout())), layout()
    for module in made.modules():
        if hasattr(module, "sliding_window"):
            module.sliding_window = None
    made.config.layer_types = ["full_attention"] * 2
    for layer in made.model.layers:
        layer.attention_type = "full_attention"
    cache = prefilled(made, prompt)
    everything = unequal_plan(cache, ((len(prompt), len(prompt)),) * 2)

    with torch.inference_mode():
        ours = made(NEW, past_key_values=evict_unequal(cache, everything, made)).logits
        full = made(NEW, past_key_values=cache).logits

    torch.testing.assert_close(ours, full, atol=1e-4, rtol=1e-4)


def test_nothing_is_padded() -> None:
    made, prompt = model(), layout()
    cache = prefilled(made, prompt)
    kept = evict_unequal(cache, unequal_plan(cache), made)

    assert nbytes(kept) * 4 * len(prompt) == nbytes(cache) * sum(map(sum, COUNTS))


@pytest.mark.parametrize("family", FAMILIES)
def test_generate_and_streaming(family: str) -> None:
    from tiny import tokenizer

    made, prompt = model(family), layout()
    cache = cropped(prefilled(made, prompt), len(prompt) - 1)
    plan = unequal_plan(cache)
    ids = torch.tensor([prompt.ids])
    by_hand = evict_unequal(cache, plan, made)
    expected = []
    token = ids[:, -1:]
    with torch.inference_mode():
        for _ in range(6):
            token = made(token, past_key_values=by_hand).logits[:, -1].argmax(-1, keepdim=True)
            expected.append(int(token))
        streamer = TextIteratorStreamer(tokenizer(), skip_prompt=True)
        written = made.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            past_key_values=evict_unequal(cache, plan, made),
            max_new_tokens=6,
            do_sample=False,
            eos_token_id=[],
            streamer=streamer,
        )

    assert written[0, len(prompt) :].tolist() == expected
    assert "".join(streamer) == tokenizer().decode(expected)


def test_other_caches_are_read_as_before() -> None:
    made, prompt = model(), layout()
    cache = prefilled(made, prompt)
    kept = evict_unequal(cache, unequal_plan(cache), made)
    with torch.inference_mode():
        before = model()(NEW, past_key_values=cropped(cache, len(prompt))).logits
        made(NEW, past_key_values=kept)
        after = made(NEW, past_key_values=cropped(cache, len(prompt))).logits

    assert torch.equal(before, after)
    assert made.config._attn_implementation == "sdpa"


def test_a_failed_pass_leaves_the_models_attention_as_it_was() -> None:
    made, prompt = model(), layout()
    cache = prefilled(made, prompt)
    kept = evict_unequal(cache, unequal_plan(cache), made)
    mask = torch.zeros(1, 1, 4, len(prompt) + 4)

    with torch.inference_mode(), pytest.raises(ModelError, match="four dimensions"):
        made(NEW, past_key_values=kept, attention_mask=mask)
    assert made.config._attn_implementation == "sdpa"


def test_crop_repeat_and_select() -> None:
    made, prompt = model(), layout()
    cache = prefilled(made, prompt)
    kept = evict_unequal(cache, unequal_plan(cache), made)
    other = kept.copy()
    with torch.inference_mode():
        first = made(NEW, past_key_values=kept).logits
        assert other.get_seq_length() == len(prompt)
        kept.crop(-4)
        assert kept.get_seq_length() == len(prompt)
        kept.batch_repeat_interleave(2)
        held = nbytes(kept)
        both = made(NEW.repeat(2, 1), past_key_values=kept).logits
        kept.batch_select_indices(torch.tensor([1]))
        kept.reorder_cache(torch.tensor([0, 0]))

    torch.testing.assert_close(both, first.repeat(2, 1, 1), atol=1e-5, rtol=1e-5)
    assert kept.layers[0].keys.shape[0] == 2
    assert held == nbytes(other)  # rows share the prompt
    with pytest.raises(ModelError, match="only the 4 tokens"):
        kept.crop(-5)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_a_left_padded_batch_equals_its_rows(attention: str) -> None:
    made = model("llama", attention)
    prompts = [layout(), layout("Question: Who?")]
    lengths = [len(p) for p in prompts]
    width, batch = max(lengths), left_padded(prompts)
    cache = DynamicCache(config=made.config)
    with torch.inference_mode():
        made(**batch, past_key_values=cache)
        alone = [prefilled(made, p) for p in prompts]
        plans = [unequal_plan(alone[0]), unequal_plan(alone[1], ((12, 70), (9, 8)), seed=1)]
        plan = together(plans, lengths)
        logits = made(**after(batch, NEW), past_key_values=evict_unequal(cache, plan, made)).logits
        for row, (own, held) in enumerate(zip(plans, alone, strict=True)):
            expected = made(NEW, past_key_values=evict_unequal(held, own, made)).logits[0]
            torch.testing.assert_close(logits[row], expected, atol=2e-4, rtol=1e-3)

    for row, length in enumerate(lengths):
        assert all(int(index[row][index[row] >= 0].min()) >= width - length for index in plan.indices)


@pytest.mark.parametrize("way", [Int8Layer, HqqLayer])
def test_what_is_held_can_be_packed(way: type[Int8Layer] | type[HqqLayer]) -> None:
    if way is HqqLayer:
        pytest.importorskip("hqq", reason="the optional package hqq is not installed")
    made, prompt = model(), layout()
    with torch.no_grad():
        for weights in made.parameters():
            if weights.dim() == 2:
                weights.mul_(1 / 3)  # scores as trained models have them (test_packed.py)
    cache = prefilled(made, prompt)
    plain = evict_unequal(cache, unequal_plan(cache, ((150, 60), (128, 100))), made)
    packed = quantised(plain, way)

    with torch.inference_mode():
        expected = made(NEW, past_key_values=plain.copy()).logits.log_softmax(-1)
        logits = made(NEW, past_key_values=packed).logits.log_softmax(-1)

    assert (expected.exp() * (expected - logits)).sum(-1).mean() < 1e-4
    packed.crop(-4)
    assert nbytes(packed) < 0.4 * nbytes(plain)
    with pytest.raises(ModelError, match="only the 0 tokens"):
        packed.crop(-1)


@pytest.mark.parametrize("selector", [SnapKV(window=8), KNorm()])
def test_it_is_cut_back_while_decoding(selector: Selector) -> None:
    made, prompt = model(), layout()
    cache = prefilled(made, prompt)
    plan = unequal_plan(cache, ((90, 60), (50, 70)))
    kept = evict_unequal(cache, plan, made)
    protect = (len(prompt) - 8, len(prompt))
    with torch.inference_mode(), thinned(made, kept, selector, every=8, protect=protect):
        for number in range(20):
            made(torch.tensor([[5 + number]]), past_key_values=kept)

    assert kept.get_seq_length() == len(prompt) + 20
    for layer, counts in zip(kept.layers, ((90, 60), (50, 70)), strict=True):
        for count, (keys, values, positions) in zip(counts, layer.held_by(), strict=True):
            assert count <= len(keys) == len(values) == len(positions) < count + 8
            assert set(range(*protect)) <= set(positions.tolist())
            assert positions.tolist() == sorted(set(positions.tolist()))
            assert int(positions[-1]) == len(prompt) + 19


def informed(made: PreTrainedModel, prompt: PromptLayout, choice: str) -> EvictedCache:
    done = compressed(made, prompt, KVChoice.parse(choice, start=0))
    assert done.plan is not None
    assert isinstance(done.cache, EvictedCache)
    return done.cache


def test_critic_rag_keeps_unequal_numbers_of_the_same_sum() -> None:
    made, prompt = model(), layout()
    full = len(prompt) - 1
    kept = informed(made, prompt, "critic-rag:0.5")

    assert all(isinstance(layer, RaggedLayer) for layer in kept.layers)
    counts = [count for layer in kept.layers for count in layer.rows[0].counts]
    assert len(set(counts)) > 1
    assert sum(counts) == 4 * round(full / 2)


def test_other_methods_keep_equal_numbers() -> None:
    kept = informed(model(), layout(), "snapkv:0.5")

    assert not any(isinstance(layer, RaggedLayer) for layer in kept.layers)


def test_what_cannot_be_is_refused() -> None:
    made, prompt = model(), layout()
    cache = prefilled(made, prompt)
    plan = unequal_plan(cache)
    critic = Critic(SnapKV(), Budget(ratio=0.5))

    with pytest.raises(ModelError, match="pass the model"):
        critic.apply(cache, plan)
    with pytest.raises(ModelError, match="make the plan from this cache"):
        critic.apply(cropped(cache, 50), plan, made)
    with pytest.raises(ModelError, match="unequal numbers"):
        compacted(critic.apply(cache, plan, made), made.model.rotary_emb.inv_freq)
    with pytest.raises(ModelError, match="sliding window"):
        critic.apply(cache, replace(plan, layers=(1,), indices=plan.indices[1:]), made)


def test_one_row_has_one_plan_whatever_its_form() -> None:
    """Equal numbers give the usual layers, by ``apply`` as by ``evict``."""
    made, prompt = model(), layout()
    cache = DynamicCache(config=made.config)
    signals = Signals.of(cache, read(made, prompt, cache))
    critic = Critic(SnapKV(), Budget(ratio=0.5))
    plan = critic.plan(prompt, signals)

    assert not plan.unequal
    ours, theirs = critic.apply(cache, plan), evict(cache, plan)
    assert all(torch.equal(a.keys, b.keys) for a, b in zip(ours.layers, theirs.layers, strict=True))
