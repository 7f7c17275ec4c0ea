"""Heads that copy keep the names of all sentences: where answers go on, which heads look there, what is worth it."""

from __future__ import annotations

import torch
from families import layout, model, pieces
from tiny import tokenizer
from transformers import DynamicCache

from ragpool.kvcache import Budget, Critic, PromptLayout, Signals
from ragpool.kvcache.answers import Candidate
from ragpool.kvcache.compress import read
from ragpool.kvcache.copying import copying, worth_copying
from ragpool.kvcache.layout import Kind, Piece
from ragpool.kvcache.rag import CriticRag


def tokens_of(prompt: PromptLayout, text: str) -> list[list[int]]:
    """The tokens of ``text`` wherever it stands in the context (one a character)."""
    found = [at for at in range(len(prompt.text)) if prompt.text.startswith(text, at)]
    places = [[prompt.starts.index(at + n) for n in range(len(text))] for at in found]
    return [place for place in places if place[0] < prompt.context_end]


def told(*sentences: str) -> PromptLayout:
    made = [Piece(Kind.SENTENCE, f"{sentence} ", 1) for sentence in sentences]
    return PromptLayout.build(tokenizer(), [*made, Piece(Kind.QUESTION, "\nQuestion: Who?")])


def test_a_head_copies_by_what_it_looks_at_of_the_rest_of_answers() -> None:
    prompt = layout()
    places = tokens_of(prompt, "Mira Tann")
    assert len(places) == 2
    answer = Candidate(tuple(prompt.ids[at] for at in places[0]), 1.0)
    looked = torch.zeros(2, len(prompt) - 1)
    for first, *rest in places:
        looked[0, rest] = 0.25
        looked[1, first] = 0.5  # where it begins is no copying

    (heads,) = copying(prompt, [looked], [answer])

    torch.testing.assert_close(heads, torch.tensor([0.25, 0.0]))
    assert copying(prompt, [looked], [Candidate(answer.ids[:1], 1.0)])[0].tolist() == [0, 0]


def test_names_are_worth_their_sentences_share_of_the_best_score() -> None:
    prompt = told("Mira Tann kept bees.", "It is by Quell.")
    worth = worth_copying(prompt, [0.5, 1.0])

    (mira,), (quell,) = tokens_of(prompt, "Mira Tann"), tokens_of(prompt, "Quell")
    assert worth[quell].tolist() == [0.5, 1, 1, 1, 1]
    assert worth[mira].tolist() == [0.25, *[0.5] * 8]
    assert worth[tokens_of(prompt, "kept bees")[0]].sum() == 0


def test_what_follows_the_same_token_is_worth_something_once() -> None:
    prompt = told("Mira Tann kept bees.", "Mira Tann kept hens.")
    worth = worth_copying(prompt, [0.5, 1.0])
    first, second = tokens_of(prompt, "Mira Tann")

    assert worth[first[3:]].sum() == 0  # single characters: three of them lead to the next
    assert worth[second].gt(0).all()


def test_without_places_of_tokens_no_name_is_known() -> None:
    prompt = layout()
    bare = PromptLayout(prompt.ids, prompt.pieces, prompt.spans)

    assert worth_copying(bare, [1.0] * 6).sum() == 0


def test_a_head_that_copies_keeps_names_that_no_other_needs() -> None:
    made, prompt = model(), PromptLayout.build(tokenizer(), pieces())
    with torch.inference_mode():
        cache = DynamicCache(config=made.config)
        signals = Signals.of(cache, read(made, prompt, cache))
        informed = CriticRag().informed(made, prompt, signals)
    assert informed.copying is not None
    first, *rest = informed.copying
    heads = Signals(**vars(informed) | {"copying": (torch.tensor([1.0, 0.0]), *rest)})
    plan = Critic(CriticRag(), Budget(ratio=0.6)).plan(prompt, heads)

    assert len(first) == 2
    worth = worth_copying(prompt, informed.sentences or ())
    kept = [float(worth[row[row < prompt.context_end]].sum()) for row in plan.indices[0][0]]
    assert kept[0] > kept[1]
