from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from families import FAMILIES, QUESTION, layout, model, pieces
from hypothesis import given
from hypothesis import strategies as st
from tiny import tokenizer
from transformers import DynamicCache, PreTrainedModel

from ragpool.errors import ModelError
from ragpool.kvcache import (
    METHODS,
    Budget,
    Critic,
    HeadTable,
    Kind,
    KVChoice,
    Piece,
    PromptLayout,
    Signals,
    compressed,
)
from ragpool.kvcache.choice import METHOD_NAMES
from ragpool.kvcache.compress import latest_prefix, read
from ragpool.kvcache.criteria import Criteria, key_gradients
from ragpool.kvcache.evicted import cropped
from ragpool.kvcache.heads import middle, position_attention, sentence_attention
from ragpool.kvcache.lexical import bm25, lexical, telling, words
from ragpool.kvcache.rag import CriticRag
from ragpool.kvcache.selectors import H2O, Expected, Importance, KNorm, SnapKV, Streaming, Tova

TEXTS = st.lists(st.lists(st.sampled_from("abcde"), min_size=1, max_size=6), min_size=1, max_size=6)


def signals_of(
    made: PreTrainedModel, prompt: PromptLayout, needs: str = "all"
) -> tuple[DynamicCache, Signals]:
    cache = DynamicCache(config=made.config)
    probe = read(made, prompt, cache, needs)
    with torch.inference_mode():
        return cache, Signals.of(cache, probe)


@pytest.mark.parametrize("family", FAMILIES)
def test_collected_attention_is_the_models_own(family: str) -> None:
    made, prompt = model(family, "eager"), layout()
    _, signals = signals_of(made, prompt)

    with torch.inference_mode():
        shown = made(torch.tensor([prompt.ids[:-1]]), output_attentions=True).attentions
        for layer, expected in zip(signals.layers, shown, strict=True):
            ours = layer.attention(0, signals.window).flatten(0, 1)
            torch.testing.assert_close(ours, expected[0], atol=1e-5, rtol=1e-4)


def test_queries_of_several_passes_are_those_of_one() -> None:
    made, prompt = model(), layout()
    _, whole = signals_of(made, prompt, "window")
    cache = DynamicCache(config=made.config)
    with torch.inference_mode():
        made(torch.tensor([prompt.ids[:100]]), past_key_values=cache)
        resumed = Signals.of(cache, read(made, prompt, cache))

    assert resumed.window == whole.window == len(prompt) - 1 - latest_prefix(prompt)
    for ours, theirs in zip(resumed.layers, whole.layers, strict=True):
        torch.testing.assert_close(ours.queries, theirs.queries, atol=1e-5, rtol=1e-5)


def test_a_cache_that_hides_the_question_is_refused() -> None:
    made, prompt = model(), layout()
    cache, _ = signals_of(made, prompt)

    with pytest.raises(ModelError, match=f"crop it to {latest_prefix(prompt)} or less"):
        read(made, prompt, cache)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_keeps_what_it_may_not_evict_and_no_more_than_asked(method: str) -> None:
    made, prompt = model(), layout()
    done = compressed(made, prompt, KVChoice(method, 0.5, start=0))

    assert done.plan is not None
    assert done.plan.kept == round((len(prompt) - 1) * 0.5)
    assert done.logical_length == len(prompt) - 1
    after = torch.arange(prompt.context_end, len(prompt) - 1)
    held = [row[row >= 0] for index in done.plan.indices for row in index[0]]
    assert sum(map(len, held)) == done.plan.kept * len(held) == done.plan.kept * 4
    assert all((row.diff() > 0).all() and torch.isin(after, row).all() for row in held)
    if method != "critic-rag":  # which alone lets heads keep unequal numbers
        assert {len(row) for row in held} == {done.plan.kept}
    with torch.inference_mode():
        made(torch.tensor([done.ids[done.logical_length :]]), past_key_values=done.cache)


def test_names_and_registry_agree() -> None:
    assert set(METHOD_NAMES) == {*METHODS, "reprefill"}


def test_snapkv_equals_its_definition() -> None:
    made, prompt = model(), layout()
    _, signals = signals_of(made, prompt)
    scores = SnapKV(window=16).select(prompt, signals, 1).layers[0]
    before = signals.length - 16

    weights = signals.layers[0].attention(signals.window - 16, signals.window)  # [2, 2, 16, length]
    mean = weights.mean(dim=(1, 2))[:, :before]
    for position in (0, 40, before - 1):
        near = torch.arange(position - 2, position + 3)
        inside = near[(near >= 0) & (near < before)]
        # the average counts five places, those past the ends as zero
        torch.testing.assert_close(scores[:, position], mean[:, inside].sum(dim=1) / 5)
    assert scores[:, before:].isinf().all()


def test_h2o_sums_every_query_and_keeps_recent_tokens() -> None:
    made, prompt = model(), layout()
    _, signals = signals_of(made, prompt)
    scores = H2O().select(prompt, signals, 40).layers[0]

    expected = signals.layers[0].attention(0, signals.window).sum(dim=2).mean(dim=1)
    torch.testing.assert_close(scores[:, :-20], expected[:, :-20])
    assert scores[:, -20:].isinf().all()


def test_tova_streaming_and_norms() -> None:
    made, prompt = model(), layout()
    _, signals = signals_of(made, prompt)
    last = signals.layers[0].attention(signals.window - 1, signals.window).mean(dim=(0, 1, 2))

    torch.testing.assert_close(Tova().select(prompt, signals, 1).layers[0][0, :-1], last[:-1])
    assert Streaming().select(prompt, signals, 1).layers[0][0].argsort(descending=True)[:5].tolist()[4] == (
        signals.length - 1
    )
    keys = signals.layers[0].keys
    torch.testing.assert_close(KNorm().select(prompt, signals, 1).layers[0], -keys.norm(dim=-1))


def test_expected_attention_turns_queries_by_the_mean_of_future_positions() -> None:
    made, prompt = model(), layout()
    _, signals = signals_of(made, prompt)
    turn = Expected(future=7)._mean_rotation(signals)

    vector = torch.randn(16)
    frequencies = made.model.rotary_emb.inv_freq
    expected = torch.zeros(16)
    for place in range(signals.length, signals.length + 7):
        angle = torch.cat([place * frequencies] * 2)
        expected += (vector * angle.cos() + torch.cat([-vector[8:], vector[:8]]) * angle.sin()) / 7
    torch.testing.assert_close(turn @ vector, expected, atol=1e-4, rtol=1e-3)


def test_row_sums_of_attention_say_nothing() -> None:
    """Why critic sums columns: the rows that CRITIC prints are softmaxes, each sums to 1."""
    made, prompt = model(), layout()
    _, signals = signals_of(made, prompt)
    weights = signals.layers[0].attention(0, signals.window)

    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(weights.shape[:-1]))
    assert weights.sum(dim=-2).std() > 0.1


def test_the_gradient_is_what_a_finite_difference_says() -> None:
    made, prompt = model().double(), layout()
    cache, _ = signals_of(made, prompt)
    first = prompt.context_end
    gradients = key_gradients(made, prompt, cache)

    def loss(scale: float, head: int, position: int) -> float:
        context = cropped(cache, first)
        context.layers[0].keys = context.layers[0].keys.clone()
        context.layers[0].keys[0, head, position] *= scale
        with torch.inference_mode():
            ids = torch.tensor([prompt.ids[first : len(prompt) - 1]])
            logits = made(ids, past_key_values=context).logits[0]
        return float(torch.nn.functional.cross_entropy(logits[:-1], ids[0, 1:]))

    position = int(gradients[0][1].argmax())
    slope = (loss(1.0001, 1, position) - loss(0.9999, 1, position)) / 0.0002
    assert float(gradients[0][1, position]) == pytest.approx(abs(slope), rel=0.01)
    assert (gradients[0][:, first:] == 0).all()


def test_each_criterion_counts_by_its_weight() -> None:
    made, prompt = model(), layout()
    cache, signals = signals_of(made, prompt)
    signals = replace(signals, gradient=key_gradients(made, prompt, cache))

    def ranking(**weights: float) -> torch.Tensor:
        return Criteria(**weights).select(prompt, signals, 1).layers[0]

    attention = ranking(attention=1, entropy=0, gradient=0)
    gradient = ranking(attention=0, entropy=0, gradient=1)
    torch.testing.assert_close(ranking(attention=0.5, entropy=0, gradient=0.5), (attention + gradient) / 2)
    entropy = ranking(attention=0, entropy=1, gradient=0)
    assert 0 <= float(entropy.min()) <= float(entropy.max()) <= 1


@pytest.mark.parametrize("ratio", [0.1, 0.2, 0.3])
def test_critic_rag_keeps_whole_sentences_with_their_titles(ratio: float) -> None:
    made, prompt = model(), layout()
    _, signals = signals_of(made, prompt, "window")
    plan = Critic(CriticRag(), Budget(ratio=ratio)).plan(prompt, signals)
    whole = [i for i, s in zip(prompt.sentences, plan.sentences, strict=True) if s.whole]

    assert whole
    assert all(
        torch.equal(index[0, 0], plan.indices[0][0, 0]) for index in plan.indices
    )  # the same everywhere
    assert all(torch.equal(index[0, 0], index[0, 1]) for index in plan.indices)
    passages = {prompt.pieces[i].passage for i in whole}
    for number, (piece, (start, end)) in enumerate(zip(prompt.pieces, prompt.spans, strict=True)):
        always = piece.passage is None or number in whole
        framed = piece.kind is not Kind.SENTENCE and piece.passage in passages
        if always or framed:
            wanted = torch.arange(start, min(end, signals.length))
            assert all(torch.isin(wanted, row).all() for index in plan.indices for row in index[0])
    for sentence in plan.sentences:
        assert (sentence.share >= 0.999) or not sentence.whole
    assert ">>" in plan.text()
    assert plan.summary()["sentences"] == 6


def test_without_likely_answers_critic_rag_keeps_telling_words_in_every_head() -> None:
    """What a second hop needs stands too far down to be kept whole; its words need not."""
    made, prompt = model(), layout()
    _, signals = signals_of(made, prompt, "window")
    plan = Critic(CriticRag(), Budget(ratio=0.4)).plan(prompt, signals)

    kept = []
    for sentence, index in sorted(
        zip(plan.sentences, prompt.sentences, strict=True), key=lambda p: -p[0].score
    ):
        start, _ = prompt.spans[index]
        wanted = torch.tensor(
            [start + n for a, b in telling(sentence.text) for n in range(a, b)]
        )  # a token a character
        kept.append(all(torch.isin(wanted, row).all() for layer in plan.indices for row in layer[0]))
    assert kept == sorted(kept, reverse=True)
    assert sum(s.whole for s in plan.sentences) < sum(kept) < len(kept)


def test_telling_words_are_those_an_answer_could_have() -> None:
    text = "She was born in Quell, at 24 O'Neil's land-grant university."
    assert [text[a:b] for a, b in telling(text)] == [
        "born",
        "Quell",
        "24",
        "O'Neil's",
        "land-grant",
        "university",
    ]


def test_critic_rag_gives_up_titles_when_there_is_no_room_for_them() -> None:
    made, prompt = model(), layout()
    _, signals = signals_of(made, prompt, "window")
    tight = len(prompt) - 1 - prompt.context_end + 40

    plan = Critic(CriticRag(), Budget(tokens=tight, floor=1)).plan(prompt, signals)

    assert plan.kept == tight


def test_sentence_attention_follows_the_question() -> None:
    made, prompt = model(), layout()
    _, signals = signals_of(made, prompt)
    scores = sentence_attention(prompt, signals, [(0, 0), (1, 3)])

    assert scores.shape == (2, 6)
    torch.testing.assert_close(scores.sum(dim=-1), torch.ones(2))
    start, end = prompt.spans[prompt.sentences[2]]
    first, last = prompt.question
    weights = signals.layers[1].attention(first, last).flatten(0, 1)[3]
    peaks = torch.stack(
        [weights[:, slice(*prompt.spans[i])].amax(-1) for i in prompt.sentences], dim=-1
    ).mean(0)
    torch.testing.assert_close(scores[1, 2], peaks[2] / peaks.sum())
    assert end > start


def test_position_attention_is_that_of_the_heads() -> None:
    made, prompt = model(), layout()
    _, signals = signals_of(made, prompt)
    shares = position_attention(prompt, signals, [(0, 1), (1, 2)])

    peaks = [
        layer.attention(prompt.question[0], signals.window).flatten(0, 1)[head].amax(dim=0)
        for layer, head in zip(signals.layers, (1, 2), strict=True)
    ]
    torch.testing.assert_close(shares, sum(p / p.sum() for p in peaks) / 2)


def test_without_a_table_the_middle_heads_are_asked() -> None:
    made, prompt = model(), layout()
    _, signals = signals_of(made, prompt)

    assert middle(signals) == ((1, 0), (1, 1), (1, 2), (1, 3))
    assert HeadTable.shipped(signals.fingerprint) is None


@given(TEXTS, st.lists(st.sampled_from("abcdef"), max_size=4))
def test_bm25_scores_only_texts_that_share_a_word(texts: list[list[str]], query: list[str]) -> None:
    scores = bm25(query, texts)

    assert len(scores) == len(texts)
    for score, text in zip(scores, texts, strict=True):
        assert (score > 0) == bool(set(query) & set(text))


def test_the_title_speaks_for_its_sentences() -> None:
    made = PromptLayout.build(tokenizer(), pieces("Question: When was Mira Tann born?"))
    scores = lexical(made)

    assert max(range(6), key=scores.__getitem__) == 2
    assert words("The mills of Velm, 1801") == ["mill", "velm", "1801"]


def test_the_second_hop_reads_the_title_of_a_good_sentence() -> None:
    """Its text alone would lead nowhere: "It aired in 1999" names nothing that the song's passage shares."""
    told = (
        ("Groovy Ghost by Korn", "It aired in October 1999 on television."),
        ("Freak", "A song by the band Korn."),
        ("Blind", "A song by the band Oss."),
        ("Clay", "A soil that holds water."),
    )
    made = [
        Piece(kind, text, number)
        for number, (title, sentence) in enumerate(told)
        for kind, text in ((Kind.TITLE, f"{title}: "), (Kind.SENTENCE, f"{sentence} "))
    ]
    question = Piece(Kind.QUESTION, "Question: What debuted in the episode of October 1999?")
    scores = lexical(PromptLayout.build(tokenizer(), [*made, question]))

    assert sorted(range(4), key=lambda i: -scores[i])[:2] == [0, 1]
    assert scores[1] > scores[2] == pytest.approx(scores[3])


def test_a_selector_of_ones_own() -> None:
    class First:
        def select(self, layout: PromptLayout, signals: Signals, keep: int) -> Importance:
            ahead = -torch.arange(signals.length, dtype=torch.float32)
            return Importance(tuple(ahead.expand(2, -1) for _ in signals.layers))

    made, prompt = model(), layout()
    _, signals = signals_of(made, prompt)
    plan = Critic(First(), Budget(tokens=120, floor=1)).plan(prompt, signals)

    head = 120 - (signals.length - prompt.context_end)
    assert plan.indices[0][0, 0, :head].tolist() == list(range(head))
    assert QUESTION in prompt.text


def test_a_budget_of_mass_keeps_as_few_as_hold_it() -> None:
    made, prompt = model(), layout()
    _, signals = signals_of(made, prompt)
    little = Critic(SnapKV(window=16), Budget(mass=0.3, floor=1)).plan(prompt, signals)
    much = Critic(SnapKV(window=16), Budget(mass=0.99, floor=1)).plan(prompt, signals)

    assert little.kept < much.kept <= signals.length
