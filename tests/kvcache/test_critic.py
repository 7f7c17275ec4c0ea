"""What CRITIC (arXiv 2504.01281) has beside its criteria, and where we do otherwise: docs/kv.md names these tests.

Its attention criterion stands in test_selectors.py (test_row_sums_of_attention_say_nothing).
"""

from __future__ import annotations

from dataclasses import replace

import torch
from families import layout, model
from hypothesis import given
from hypothesis import strategies as st
from test_evicted import NEW
from transformers import DynamicCache

from ragpool.kvcache import Budget, EvictedCache, KVChoice, Signals, compressed
from ragpool.kvcache.auto import LEAST, MOST, START, automatic
from ragpool.kvcache.budget import FLOOR
from ragpool.kvcache.compress import read
from ragpool.kvcache.criteria import Criteria, key_gradients
from ragpool.kvcache.decoding import RECENT, Thinner


def test_criteria_are_scaled_before_they_are_weighed() -> None:
    """As they come, the gradient of this model is a thousandth of the attention: no weight would tell what it weighs."""
    made, prompt = model(), layout()
    cache = DynamicCache(config=made.config)
    probe = read(made, prompt, cache)
    with torch.inference_mode():
        signals = Signals.of(cache, probe)
    signals = replace(signals, gradient=key_gradients(made, prompt, cache))
    assert signals.gradient is not None
    first = prompt.context_end - (signals.length - signals.window)
    attention = signals.layers[0].attention(first, signals.window).sum(dim=2).mean(dim=1)
    raw = float(attention.amax() / signals.gradient[0].amax())

    alone = {
        name: Criteria(**({"attention": 0.0, "entropy": 0.0, "gradient": 0.0} | {name: 1.0}))
        .select(prompt, signals, 1)
        .layers[0]
        for name in ("attention", "entropy", "gradient")
    }

    assert not 0.5 < raw < 2
    for scores in alone.values():
        assert float(scores.amin()) == 0.0
        torch.testing.assert_close(scores.amax(dim=-1), torch.ones(len(scores)))


def test_the_entropy_of_a_row_is_the_same_for_all_that_could_be_evicted() -> None:
    """It belongs to the token that looks. That of a column tells positions apart."""
    made, prompt = model(), layout()
    cache = DynamicCache(config=made.config)
    probe = read(made, prompt, cache)
    with torch.inference_mode():
        signals = Signals.of(cache, probe)
    rows = signals.layers[0].attention(0, signals.window)
    of_rows = -(rows * rows.clamp(min=1e-12).log()).sum(dim=-1)
    columns = Criteria(attention=0.0, entropy=1.0, gradient=0.0).select(prompt, signals, 1).layers[0]

    assert of_rows.shape[-1] == signals.window  # one number a query, none for a position
    assert columns.shape[-1] == signals.length
    assert float(columns[:, : prompt.context_end].std()) > 0


@given(st.integers(1, 5000), st.integers(0, 200), st.integers(1, 1000))
def test_the_minimum_kept_holds_for_tokens_but_a_ratio_is_taken_at_its_word(
    length: int, after: int, tokens: int
) -> None:
    """A floor under a ratio would leave prompts up to four times as long whole at 75 %, without saying so."""
    kept = Budget(tokens=tokens).keep(length, after)
    assert kept >= min(length, FLOOR, kept + 1) or kept == length
    assert kept == min(length, max(tokens, FLOOR, after + 1))
    assert Budget(ratio=0.75).keep(length, after) == min(length, max(round(length / 4), after + 1))


def test_compression_starts_at_a_length_of_the_prompt_not_at_a_step_of_decoding() -> None:
    """Whether a prompt is compressed is known before it is read; below the start it is whole to the bit."""
    made, prompt = model(), layout()
    short = compressed(made, prompt, KVChoice("critic", 0.75, start=len(prompt) + 1))
    long = compressed(made, prompt, KVChoice("critic", 0.75, start=len(prompt)))
    plain = DynamicCache(config=made.config)
    ids = torch.tensor([[*prompt.ids, *NEW[0].tolist()]])

    with torch.inference_mode():
        ours = made(ids, past_key_values=short.cache).logits
        whole = made(ids, past_key_values=plain).logits
    assert short.plan is None
    assert torch.equal(ours, whole)
    assert long.plan is not None
    assert long.plan.kept < len(prompt)


def test_a_short_prompt_is_compressed_later_when_its_answer_grows_past_the_start() -> None:
    """The delay of decoding: with ``every`` a whole cache may grow to ``start`` tokens, and is cut back to that then."""
    made, prompt = model(), layout()
    start = len(prompt) + 24
    whole = DynamicCache(config=made.config)
    read(made, prompt, whole)
    choice = KVChoice("snapkv", 0.5, start=start, every=8)
    thinner = Thinner.of(made, whole, choice, len(prompt) - prompt.context_end)

    held = []
    for _ in range(40):
        with torch.inference_mode(), thinner.watching():
            made(torch.tensor([[5]]), past_key_values=thinner.cache)
        held.append(thinner.cache.layers[0].held)
    assert isinstance(thinner.cache, EvictedCache)
    assert start > RECENT
    assert max(held) == start + 7
    assert held[-1] < len(prompt) + 39


@given(st.integers(1, 100_000), st.integers(0, 1 << 40), st.integers(0, 1 << 40))
def test_less_memory_evicts_more_between_two_bounds_and_nothing_below_the_start(
    length: int, free: int, other: int
) -> None:
    """The ratio follows the memory that is free, but never to where the answer is lost, and never for a short prompt."""
    less, more = (automatic(length, 46_080, memory) for memory in sorted((free, other)))

    if length < START:
        assert {less.method, more.method} == {"off"}
    else:
        assert less.ratio is not None
        assert more.ratio is not None
        assert LEAST <= more.ratio <= less.ratio <= MOST
