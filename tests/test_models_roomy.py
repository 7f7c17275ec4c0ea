"""The cache with room at its end: what transformers' own holds, to the bit, and nobody else's memory written to."""

from __future__ import annotations

import copy

import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from ragpool.models.roomy import ROOM, RoomyLayer, roomy_cache

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(1, 40)),
        st.tuples(st.just("crop"), st.integers(1, 30)),
        st.tuples(st.just("try"), st.integers(1, 6)),
        st.tuples(st.just("repeat"), st.just(2)),
        st.tuples(st.just("select"), st.just(0)),
    ),
    max_size=20,
)


@given(STEPS)
def test_any_use_gives_what_transformers_own_layer_gives(steps: list[tuple[str, int]]) -> None:
    ours, plain = RoomyLayer(), DynamicLayer()
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    batch, fresh = 1, 0
    for what, number in [("add", 3), *steps]:
        if what == "add":
            states = torch.arange(batch * 2 * number * 4).view(batch, 2, number, 4) + float(fresh)
            fresh += 1000
            ours.update(states, -states)
            plain.update(states, -states)
        elif what == "try":  # some more than stay, and nobody saw them
            tried = torch.full((batch, 2, 6, 4), -1.0)
            for layer in (ours, plain):
                layer.update(tried, tried)
            ours.take_back(number)
            plain.crop(-number)
        elif what == "crop" and number < ours.get_seq_length():
            ours.crop(-number)
            plain.crop(-number)
        elif what == "repeat" and batch < 4:
            batch *= number
            ours.batch_repeat_interleave(number)
            plain.batch_repeat_interleave(number)
        elif what == "select":
            batch = 1
            ours.batch_select_indices(torch.tensor([0]))
            plain.batch_select_indices(torch.tensor([0]))
        assert torch.equal(ours.keys, plain.keys)
        assert torch.equal(ours.values, plain.values)
        seen.append((ours.keys, plain.keys.clone()))
    for held, then in seen:  # whoever kept a view sees what it saw
        assert torch.equal(held, then)


def test_tokens_are_added_in_place() -> None:
    layer = RoomyLayer()
    layer.update(torch.zeros(1, 2, 10, 4), torch.zeros(1, 2, 10, 4))
    place = layer.keys.data_ptr()
    for _ in range(ROOM):
        layer.update(torch.ones(1, 2, 1, 4), torch.ones(1, 2, 1, 4))
        assert layer.keys.data_ptr() == place
    layer.update(torch.ones(1, 2, 1, 4), torch.ones(1, 2, 1, 4))
    assert layer.keys.data_ptr() != place
    assert layer.get_seq_length() == 11 + ROOM


def test_tokens_that_are_taken_back_are_written_over_and_what_others_hold_is_not() -> None:
    layer = RoomyLayer()
    layer.update(torch.zeros(1, 2, 10, 4), torch.zeros(1, 2, 10, 4))
    kept = layer.keys
    layer.update(torch.ones(1, 2, 5, 4), torch.ones(1, 2, 5, 4))
    layer.take_back(5)
    layer.update(2 * torch.ones(1, 2, 1, 4), 2 * torch.ones(1, 2, 1, 4))
    assert layer.keys.data_ptr() == kept.data_ptr()
    assert layer.keys[0, 0, :, 0].tolist() == [0.0] * 10 + [2.0]
    branch = RoomyLayer()  # from a prefix that another layer's room holds
    branch.lazy_initialization(kept, kept)
    branch.keys, branch.values = kept, kept
    branch.take_back(1)
    branch.update(3 * torch.ones(1, 2, 1, 4), 3 * torch.ones(1, 2, 1, 4))
    assert branch.keys[0, 0, :, 0].tolist() == [0.0] * 9 + [3.0]
    assert not kept.any()
    assert layer.keys[0, 0, :, 0].tolist() == [0.0] * 10 + [2.0]


def test_a_copy_and_its_original_grow_apart() -> None:
    layer = RoomyLayer()
    layer.update(torch.zeros(1, 2, 10, 4), torch.zeros(1, 2, 10, 4))
    other = copy.copy(layer)
    other.update(torch.ones(1, 2, 1, 4), torch.ones(1, 2, 1, 4))
    layer.update(2 * torch.ones(1, 2, 1, 4), 2 * torch.ones(1, 2, 1, 4))
    assert float(other.keys[0, 0, -1, 0]) == 1
    assert float(layer.keys[0, 0, -1, 0]) == 2


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_a_model_computes_the_same_to_the_bit(attention: str) -> None:
    model = tiny.llama()
    model.set_attn_implementation(attention)
    ours, plain = roomy_cache(model.config), DynamicCache(config=model.config)
    with torch.inference_mode():
        for ids in ([[5, 6, 7, 8]], [[9]], [[10]], [[11, 12]]):
            one = model(torch.tensor(ids), past_key_values=ours).logits
            other = model(torch.tensor(ids), past_key_values=plain).logits
            assert torch.equal(one, other)
