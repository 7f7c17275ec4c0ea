"""What likely answers look at: where they come from, and that one tree says what each alone would."""

from __future__ import annotations

import pytest
import torch
from families import FAMILIES, gemma2, layout, model, pieces
from tiny import tokenizer
from transformers import DynamicCache, PreTrainedModel

from ragpool.kvcache import Budget, Critic, KVChoice, PromptLayout, Signals, compressed, probed
from ragpool.kvcache.answers import LONGEST, TREE, Candidate, candidates, looked_at
from ragpool.kvcache.compress import read
from ragpool.kvcache.evicted import cropped
from ragpool.kvcache.rag import CriticRag


def signals_of(made: PreTrainedModel, prompt: PromptLayout) -> tuple[DynamicCache, Signals]:
    cache = DynamicCache(config=made.config)
    probe = read(made, prompt, cache)
    with torch.inference_mode():
        return cache, Signals.of(cache, probe)


def said(candidate: Candidate) -> str:
    return str(tokenizer().decode(list(candidate.ids))).strip()


def test_names_and_numbers_of_the_best_sentences_are_likely_answers() -> None:
    prompt = PromptLayout.build(tokenizer(), pieces("Question: Who was Mira Tann?"))
    scores = [0.0] * 6
    scores[2] = 1.0
    found = candidates(prompt, scores)

    text = prompt.pieces[prompt.sentences[2]].text
    assert found
    assert found[0].weight == 1.0
    assert said(found[0]) in text
    assert all(len(answer.ids) <= LONGEST for answer in found)
    assert len(found) == len({answer.ids for answer in found})
    assert len({answer.ids[:end] for answer in found for end in range(1, len(answer.ids))}) <= TREE
    assert not any(said(answer) in ("Mira", "Tann", "Mira Tann") for answer in found)


def test_where_a_number_is_asked_for_numbers_come_first() -> None:
    prompt = PromptLayout.build(tokenizer(), pieces("Question: When was it built?"))
    found = candidates(prompt, [0.5] * 6)
    digits = [any(c.isdigit() for c in said(answer)) for answer in found]

    assert any(digits)
    assert digits == sorted(digits, reverse=True)


def test_what_the_question_names_is_an_answer_where_it_asks_which_of_two() -> None:
    def names(question: str) -> list[str]:
        prompt = PromptLayout.build(tokenizer(), pieces(f"Question: {question}"))
        return [said(answer) for answer in candidates(prompt, [0.5] * 6)]

    assert names("Which is older, Quell or Oss?")[:2] == ["Oss", "Quel"]
    assert not {"Oss", "Quel"} & set(names("Is Quell older than Oss?"))


def test_a_layout_without_character_places_offers_none() -> None:
    prompt = layout()
    bare = PromptLayout(prompt.ids, prompt.pieces, prompt.spans)

    assert candidates(bare, [1.0] * 6) == []


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_one_tree_says_what_each_answer_alone_would(family: str, attention: str) -> None:
    made, prompt = model(family, attention), layout()
    cache, signals = signals_of(made, prompt)
    answers = [Candidate((40, 41, 42), 1.0), Candidate((40, 50), 0.5), Candidate((60,), 0.25)]

    with torch.inference_mode():
        together = looked_at(made, prompt, signals, answers)
        alone = []
        for answer in answers:
            ids = torch.tensor([[prompt.ids[-1], *answer.ids[:-1]]])
            with probed(made, None) as probe:
                made(ids, past_key_values=cropped(cache, signals.length))
            rows = []
            for layer in signals.layers:
                queries = probe.queries[layer.index][0].view(2, 2, ids.shape[1], -1)
                logits = queries @ layer.keys.transpose(1, 2)[:, None] * layer.scaling
                rows.append(answer.weight * logits.softmax(-1).mean(dim=(1, 2)))
            alone.append(rows)

    assert together is not None
    assert cache.get_seq_length() == signals.length
    for number, ours in enumerate(together):
        peaks = torch.stack([rows[number] for rows in alone]).amax(dim=0)
        torch.testing.assert_close(ours, peaks / peaks.sum(dim=-1, keepdim=True), atol=1e-5, rtol=1e-4)


def test_models_with_sliding_windows_do_without() -> None:
    made, prompt = gemma2(64), layout()
    _, signals = signals_of(made, prompt)

    with torch.inference_mode():
        assert looked_at(made, prompt, signals, [Candidate((40, 41), 1.0)]) is None
    done = compressed(made, prompt, KVChoice("critic-rag", 0.5, start=0))
    assert done.plan is not None


def test_heads_keep_their_own_positions_and_the_same_sentences() -> None:
    made, prompt = model(), layout()
    cache, signals = signals_of(made, prompt)
    done = compressed(made, prompt, KVChoice("critic-rag", 0.4, start=0))
    without = Critic(CriticRag(), Budget(ratio=0.4)).plan(prompt, signals)

    assert done.plan is not None
    assert [s.whole for s in done.plan.sentences] == [s.whole for s in without.sentences]
    assert done.plan.kept == without.kept
    assert not all(
        torch.equal(row, done.plan.indices[0][0, 0]) for index in done.plan.indices for row in index[0]
    )
    assert cache.get_seq_length() == signals.length
