"""What is kept in 8 bits: our own packing, and hqq's where the package is there."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from families import layout, model
from test_evicted import NEW, prefilled, random_plan

from ragpool.errors import ModelError, SettingsError
from ragpool.kvcache import KVChoice, compressed, nbytes
from ragpool.kvcache.evicted import evict
from ragpool.kvcache.packed import HqqLayer, Int8Layer, PackedLayer, quantised

HQQ = importlib.util.find_spec("hqq") is not None
needs_hqq = pytest.mark.skipif(not HQQ, reason="the optional package hqq is not installed")
WAYS = [Int8Layer, pytest.param(HqqLayer, marks=needs_hqq)]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("scale", "bound"),
    [
        # The families' weights make attention scores with a deviation of 6 (so that heads differ): rounding a key by
        # 1/254 of its largest value then moves a score by some hundredths. Over seeds the divergence is .001 to .0018.
        (1.0, 3e-3),
        (1 / 3, 1e-4),  # scores with a deviation of about 1, as trained models have them
    ],
)
def test_eight_bits_are_a_quarter_and_close(scale: float, bound: float, way: type[PackedLayer]) -> None:
    made, prompt = model("llama"), layout()
    with torch.no_grad():
        for weights in made.parameters():
            if weights.dim() == 2:
                weights.mul_(scale)
    cache = prefilled(made, prompt)
    plan = random_plan(cache, 128)
    plain, packed = evict(cache, plan), quantised(evict(cache, plan), way)

    with torch.inference_mode():
        expected = made(NEW, past_key_values=plain).logits.log_softmax(-1)
        logits = made(NEW, past_key_values=packed).logits.log_softmax(-1)

    assert packed.get_seq_length() == plain.get_seq_length()
    divergence = (expected.exp() * (expected - logits)).sum(-1).mean()
    assert divergence < bound
    assert nbytes(packed) < 0.4 * nbytes(
        plain
    )  # the families' heads are 16 wide: scales weigh more than with 64
    packed.crop(-2)
    assert packed.get_seq_length() == len(prompt) + 2
    with pytest.raises(ModelError, match="8-bit"):
        packed.crop(-10)


@pytest.mark.parametrize("way", WAYS)
def test_rows_of_a_packed_batch_are_repeated_and_selected(way: type[PackedLayer]) -> None:
    made, prompt = model("llama"), layout()
    cache = prefilled(made, prompt)
    kept = evict(cache, random_plan(cache, 64))
    packed = quantised(kept, way)
    packed.batch_repeat_interleave(3)
    packed.batch_select_indices(torch.tensor([2, 0]))

    with torch.inference_mode():
        alone = made(NEW, past_key_values=quantised(kept, way)).logits
        together = made(NEW.repeat(2, 1), past_key_values=packed).logits
    torch.testing.assert_close(together, alone.expand_as(together), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("hqq", [False, pytest.param(True, marks=needs_hqq)])
def test_a_choice_packs_what_is_kept(hqq: bool) -> None:
    made, prompt = model(), layout()
    done = compressed(made, prompt, KVChoice("snapkv", 0.5, start=0, int8=True, hqq=hqq))

    assert {type(layer) for layer in done.cache.layers} == {HqqLayer if hqq else Int8Layer}


def test_hqq_is_eight_bits_too_and_is_written_and_refused_as_such() -> None:
    assert KVChoice("snapkv", 0.5, hqq=True).int8
    assert str(KVChoice("snapkv", 0.5, hqq=True)) == "snapkv:0.5 hqq"
    with pytest.raises(SettingsError, match="8 bits"):
        KVChoice("snapkv", 0.5, hqq=True, every=8)


@pytest.mark.skipif(HQQ, reason="the package is installed")
def test_without_the_package_the_error_says_how_to_get_it() -> None:
    with pytest.raises(ModelError, match="pip install hqq"):
        compressed(model(), layout(), KVChoice("snapkv", 0.5, start=0, hqq=True))
