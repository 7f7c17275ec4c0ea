from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from families import FAMILIES, after, gemma2, layout, left_padded, model
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import DynamicCache, PreTrainedModel

from ragpool.errors import ModelError
from ragpool.kvcache import Budget, Critic, EvictedCache, KeepPlan, PromptLayout, Signals
from ragpool.kvcache.compress import read
from ragpool.kvcache.critic import together
from ragpool.kvcache.evicted import compacted, cropped, evict
from ragpool.kvcache.selectors import KNorm, Random, SnapKV
from ragpool.kvcache.signals import probed

NEW = torch.tensor([[5, 9, 17, 40]])


def prefilled(made: PreTrainedModel, prompt: PromptLayout) -> DynamicCache:
    cache = DynamicCache(config=made.config)
    with torch.inference_mode():
        made(torch.tensor([prompt.ids]), past_key_values=cache)
    return cache


def random_plan(cache: DynamicCache, kept: int, seed: int = 0) -> KeepPlan:
    """Any positions, other ones in every layer and head; the last 8 always."""
    torch.manual_seed(seed)
    length = cache.get_seq_length()
    indices = []
    for layer in cache.layers:
        scores = torch.rand(1, layer.keys.shape[1], length)
        scores[..., -8:] = 2
        indices.append(scores.topk(kept, dim=-1).indices.sort(dim=-1).values)
    return KeepPlan("test", length, kept, tuple(range(len(indices))), tuple(indices))


class Masked:
    """The reference: a full cache in which each head may see the planned positions only, by a mask in eager attention."""

    def __init__(self, made: PreTrainedModel, plan: KeepPlan) -> None:
        self.made = made
        self.allowed = [
            torch.zeros(plan.length, dtype=torch.bool).repeat(i.shape[1], 1) for i in plan.indices
        ]
        for allowed, index in zip(self.allowed, plan.indices, strict=True):
            for head, kept in zip(allowed, index[0], strict=True):
                head[kept[kept >= 0]] = True

    def logits(self, cache: DynamicCache, ids: torch.Tensor) -> torch.Tensor:
        from transformers import AttentionInterface

        def attention(module, query, key, value, attention_mask, scaling, **_):  # type: ignore[no-untyped-def]
            groups = query.shape[1] // key.shape[1]
            allowed = self.allowed[module.layer_idx]
            length, new = allowed.shape[1], query.shape[2]
            seen = torch.ones(key.shape[1], new, key.shape[2], dtype=torch.bool)
            seen[:, :, :length] = allowed[:, None]
            seen &= torch.arange(key.shape[2]) <= (key.shape[2] - new + torch.arange(new))[:, None]
            key, value = (x.repeat_interleave(groups, dim=1) for x in (key, value))
            scores = query @ key.transpose(2, 3) * scaling
            scores = scores.masked_fill(~seen.repeat_interleave(groups, dim=0)[None], float("-inf"))
            return (scores.softmax(-1) @ value).transpose(1, 2), None

        AttentionInterface.register("ragpool_masked", attention)
        before = self.made.config._attn_implementation
        self.made.config._attn_implementation = "ragpool_masked"
        try:
            with torch.inference_mode():
                return self.made(ids, past_key_values=cache).logits
        finally:
            self.made.config._attn_implementation = before


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", FAMILIES)
def test_an_evicted_cache_equals_a_masked_full_one(family: str, attention: str) -> None:
    made, prompt = model(family, attention).double(), layout()  # float32 logits round by 1e-5 themselves
    cache = prefilled(made, prompt)
    plan = random_plan(cache, 60)
    expected = Masked(made, plan).logits(cropped(cache, plan.length), NEW)

    with torch.inference_mode():
        together_ = made(NEW, past_key_values=evict(cache, plan)).logits
        one_by_one = evict(cache, plan)
        steps = [made(NEW[:, i : i + 1], past_key_values=one_by_one).logits for i in range(NEW.shape[1])]

    torch.testing.assert_close(together_, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(torch.cat(steps, dim=1), expected, atol=1e-5, rtol=1e-5)


@given(kept=st.integers(9, 150), seed=st.integers(0, 99))
@settings(max_examples=15)
def test_any_plan_equals_its_mask(kept: int, seed: int) -> None:
    made, prompt = model("llama").double(), layout()
    cache = prefilled(made, prompt)
    plan = random_plan(cache, kept, seed)

    with torch.inference_mode():
        logits = made(NEW, past_key_values=evict(cache, plan)).logits

    expected = Masked(made, plan).logits(cropped(cache, plan.length), NEW)
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)


def test_keeping_everything_is_bit_identical() -> None:
    made, prompt = model("llama"), layout()
    cache = prefilled(made, prompt)
    all_of_it = evict(cache, random_plan(cache, len(prompt)))

    with torch.inference_mode():
        ours = made(NEW, past_key_values=all_of_it).logits
        full = made(NEW, past_key_values=cache).logits

    assert torch.equal(ours, full)


def test_the_full_cache_stays_as_it_is() -> None:
    made, prompt = model("llama"), layout()
    cache = prefilled(made, prompt)
    before = [layer.keys.clone() for layer in cache.layers]

    kept = evict(cache, random_plan(cache, 40))
    with torch.inference_mode():
        made(NEW, past_key_values=kept)

    assert cache.get_seq_length() == len(prompt)
    assert all(torch.equal(a, layer.keys) for a, layer in zip(before, cache.layers, strict=True))


@pytest.mark.parametrize("family", FAMILIES)
def test_generate_takes_the_full_ids_and_feeds_only_what_is_missing(family: str) -> None:
    made, prompt = model(family), layout()
    cache = cropped(prefilled(made, prompt), len(prompt) - 1)
    plan = random_plan(cache, 60)
    ids = torch.tensor([prompt.ids])
    by_hand = evict(cache, plan)
    expected = []
    token = ids[:, -1:]
    with torch.inference_mode():
        for _ in range(6):
            token = made(token, past_key_values=by_hand).logits[:, -1].argmax(-1, keepdim=True)
            expected.append(int(token))
        written = made.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            past_key_values=evict(cache, plan),
            max_new_tokens=6,
            do_sample=False,
            eos_token_id=[],
        )

    assert written[0, len(prompt) :].tolist() == expected


def test_generate_streams_from_an_evicted_cache() -> None:
    from tiny import tokenizer
    from transformers import TextIteratorStreamer

    made, prompt = model("llama"), layout()
    cache = cropped(prefilled(made, prompt), len(prompt) - 1)
    ids = torch.tensor([prompt.ids])
    streamer = TextIteratorStreamer(tokenizer(), skip_prompt=True)
    with torch.inference_mode():
        written = made.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            past_key_values=evict(cache, random_plan(cache, 60)),
            max_new_tokens=6,
            do_sample=False,
            streamer=streamer,
        )

    assert "".join(streamer) == tokenizer().decode(written[0, len(prompt) :])


def test_crop_repeat_and_select() -> None:
    made, prompt = model("llama"), layout()
    cache = prefilled(made, prompt)
    plan = random_plan(cache, 60)
    kept = evict(cache, plan)
    with torch.inference_mode():
        first = made(NEW, past_key_values=kept).logits
        kept.crop(-4)
        assert kept.get_seq_length() == len(prompt)
        kept.batch_repeat_interleave(2)
        both = made(NEW.repeat(2, 1), past_key_values=kept).logits
        kept.batch_select_indices(torch.tensor([1]))

    torch.testing.assert_close(both, first.repeat(2, 1, 1), atol=1e-5, rtol=1e-5)
    assert kept.layers[0].keys.shape[0] == 1
    assert kept.layers[0].all_positions().shape == (1, 2, 64)
    with pytest.raises(ModelError, match="cannot be cropped"):
        kept.crop(-60)


def test_a_copy_grows_on_its_own() -> None:
    made, prompt = model("llama"), layout()
    cache = prefilled(made, prompt)
    kept = evict(cache, random_plan(cache, 60))
    other = kept.copy()

    with torch.inference_mode():
        made(NEW, past_key_values=other)

    assert isinstance(other, EvictedCache)
    assert (kept.get_seq_length(), other.get_seq_length()) == (len(prompt), len(prompt) + 4)


def test_a_plan_of_another_length_is_refused() -> None:
    made, prompt = model("llama"), layout()
    cache = prefilled(made, prompt)

    with pytest.raises(ModelError, match="make the plan from this cache"):
        evict(cropped(cache, 50), random_plan(cache, 20))


def test_a_compacted_cache_of_a_gapless_one_is_the_same() -> None:
    """Keys are turned from where they were to where they are: without a gap by nothing, with one by the gap."""
    made, prompt = model("llama"), layout()
    cache = prefilled(made, prompt)
    plan = random_plan(cache, 60)
    frequencies = made.model.rotary_emb.inv_freq
    kept = evict(cache, plan)
    short = compacted(kept, frequencies)

    assert short.get_seq_length() == 60
    for layer, index in enumerate(plan.indices):
        positions = index[0]
        turn = (torch.arange(60) - positions)[..., None].float() * frequencies
        turn = torch.cat([turn, turn], dim=-1)
        keys = kept.layers[layer].keys[0]
        half = torch.cat([-keys[..., 8:], keys[..., :8]], dim=-1)
        torch.testing.assert_close(short.layers[layer].keys[0], keys * turn.cos() + half * turn.sin())
    everything = evict(cache, random_plan(cache, len(prompt)))
    torch.testing.assert_close(compacted(everything, frequencies).layers[0].keys, cache.layers[0].keys)


def test_sliding_layers_stay_as_they_are() -> None:
    made, prompt = gemma2(window=64), layout()
    cache = DynamicCache(config=made.config)
    probe = read(made, prompt, cache)
    with torch.inference_mode():
        plan = Critic(SnapKV(), Budget(ratio=0.5)).plan(prompt, Signals.of(cache, probe))
    kept = evict(cache, plan)

    assert plan.layers == (1,)
    assert kept.layers[0].keys.shape[2] == 63
    assert kept.layers[1].keys.shape[2] == plan.kept
    with torch.inference_mode():
        all_of_it = evict(cache, replace(random_plan_of(cache, 1), layers=(1,)))
        ours = made(NEW, past_key_values=all_of_it).logits
        full = made(NEW, past_key_values=cache).logits
        made(NEW, past_key_values=kept)
    torch.testing.assert_close(ours, full, atol=1e-5, rtol=1e-5)


def random_plan_of(cache: DynamicCache, layer: int) -> KeepPlan:
    length = cache.get_seq_length()
    everything = torch.arange(length).expand(1, cache.layers[layer].keys.shape[1], -1)
    return KeepPlan("test", length, length, (layer,), (everything,))


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_a_left_padded_batch_keeps_no_pads_and_equals_its_rows(attention: str) -> None:
    made = model("llama", attention)
    prompts = [layout(), layout("Question: Who?")]
    lengths = [len(p) for p in prompts]
    width, batch = max(lengths), left_padded(prompts)
    cache = DynamicCache(config=made.config)
    with torch.inference_mode():
        with probed(made, 64) as probe:
            made(**batch, past_key_values=cache)
        for selector in (KNorm(), SnapKV(window=16), Random()):
            critic = Critic(selector, Budget(tokens=90, floor=1))
            signals = [Signals.of(cache, probe, row=r, pads=width - n) for r, n in enumerate(lengths)]
            plans = [critic.plan(p, s) for p, s in zip(prompts, signals, strict=True)]
            plan = together(plans, lengths)

            for row, length in enumerate(lengths):
                assert all(int(index[row].min()) >= width - length for index in plan.indices)
            logits = made(**after(batch, NEW), past_key_values=evict(cache, plan)).logits
            for row, prompt in enumerate(prompts):
                alone = evict(prefilled(made, prompt), plans[row])
                expected = made(NEW, past_key_values=alone).logits[0]
                torch.testing.assert_close(logits[row], expected, atol=2e-4, rtol=1e-3)


def test_a_short_row_of_a_batch_keeps_all_it_has() -> None:
    made, prompts = model("llama"), [layout(), layout("Question: Who?")]
    caches = [prefilled(made, p) for p in prompts]
    lengths = [len(p) for p in prompts]
    short = lengths[1]
    plans = [random_plan(caches[0], short + 20), random_plan(caches[1], short)]

    plan = together(plans, lengths)

    pads = lengths[0] - short
    assert plan.kept == short + 20
    assert all((index[1, :, 20:] == torch.arange(pads, lengths[0])).all() for index in plan.indices)
    # what fills the row up are its last pads, where the batch's mask has zeros
    assert all((index[1, :, :20] < pads).all() for index in plan.indices)
